"""Saving: a run is written in a temporary folder and renamed when it is complete; it replaces only an older run."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_mf import strict_json
from recsys_mf.arguments import instance
from recsys_mf.arrays import mapped
from recsys_mf.models import Fit, RatedPairs
from recsys_mf.outputs import FolderKind, check_folder, written_folder
from recsys_mf.run import Run
from recsys_mf.storage import Place, place
from recsys_mf.store.layout import (
    BASELINES,
    FACTS,
    FOLDED,
    FORMAT,
    ITEMS,
    MODEL,
    OPTIONAL,
    RATED,
    REPORT,
    REQUIRED,
    USERS,
    VERSION,
    WRITTEN,
    sealed,
)
from recsys_mf.vocabulary import Vocabulary

_GROUP = 1 << 25  # ratings that are written at a time
_RUN = FolderKind("a run", FACTS, FORMAT, WRITTEN)


class _Report(Protocol):
    def to_mapping(self) -> dict[str, Any]: ...


def check_free(directory: str | Place, *, force: bool = False) -> None:
    """Raise ArtifactError if a run cannot be written there; leaves no files behind.

    directory : a folder, or its address
    force : an existing run may be replaced if its directory holds no other files; nothing else may be replaced
    """
    check_folder(place(directory), _RUN, force=force)


def save(
    run: Run,
    directory: str | Place,
    *,
    force: bool = False,
    report: _Report | None = None,
    keep_rated: bool = True,
) -> None:
    """Write a run, and the report on it, as a directory.

    directory : a folder, or an address such as s3://bucket/run: a run is made on this machine, then sent, run.json last
    force : replace an existing run
    keep_rated : store the ratings that the run was trained on: `training.continued` and `evaluate` use them
    Raises ArtifactError as `check_free` does, also for files that have appeared since, and if the disk is full. An
    existing run stays until the new one is complete, at an address until it is complete on this machine; a link is
    followed. If sending fails, the error says where the run is kept.
    """
    instance(run, "run", Run, "give what `train` or `load` returns")
    there = place(directory)
    check_free(there, force=force)
    with written_folder(there, _RUN, force=force) as aside, _system_errors_of_safetensors():
        _write(run, aside, report, keep_rated=keep_rated)


@contextlib.contextmanager
def _system_errors_of_safetensors() -> Iterator[None]:
    """Turns errors of the operating system that safetensors reports as its own into an OSError."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = errno.ENOSPC if os.strerror(errno.ENOSPC) in str(error) else errno.EIO
        raise OSError(number, str(error)) from error


def _write(run: Run, directory: Path, report: _Report | None, *, keep_rated: bool) -> None:
    from safetensors.numpy import save_file

    facts: dict[str, Any] = {
        "fit": described_fit(run.fit),
        "baselines": {label: described_fit(fit) for label, fit in run.baselines.items()},
        "baseline": run.baseline,
        "users_fingerprint": run.user_vocabulary.fingerprint,
        "items_fingerprint": run.item_vocabulary.fingerprint,
        "provenance": run.provenance,
    }
    model = run.fit.model.arrays()
    others = {
        f"{label}/{name}": array for label, fit in run.baselines.items() for name, array in fit.model.arrays().items()
    }
    run_id = _identity(facts, model, others)
    save_file(model, directory / MODEL, metadata={"run": run_id})
    save_file(others, directory / BASELINES, metadata={"run": run_id})
    users, items = (None, None) if run.folded is None else (run.folded.users, run.folded.items)
    _write_vocabulary(run.user_vocabulary, _columns(run.user_counts, users), directory / USERS, run_id)
    _write_vocabulary(run.item_vocabulary, _columns(run.item_counts, items), directory / ITEMS, run_id)
    if keep_rated and run.rated is not None:
        _write_rated(run.rated, directory / RATED, run_id)
    if report is not None:
        (directory / REPORT).write_bytes(strict_json.to_text(report.to_mapping()).encode() + b"\n")
    parts = {name: _part(directory / name) for name in (*REQUIRED, *OPTIONAL) if (directory / name).exists()}
    head = {"format": FORMAT, "version": VERSION, "run": run_id, "parts": parts}
    (directory / FACTS).write_bytes(sealed(head | facts))


def described_fit(fit: Fit) -> dict[str, Any]:
    """A fit as plain values, with the facts of its model that are not arrays; the arrays are those of its model."""
    plain = {field.name: getattr(fit, field.name) for field in fields(fit) if field.name != "model"}
    return plain | {"model": {"kind": fit.model.kind} | fit.model.facts()}


def _identity(facts: dict[str, Any], *arrays: dict[str, NDArray[Any]]) -> str:
    """The name of a run, in all of its files; it depends only on models and ids, so a seed gives the same bytes."""
    models = [facts["fit"]["model"], {label: fit["model"] for label, fit in facts["baselines"].items()}]
    ids = facts["users_fingerprint"], facts["items_fingerprint"]
    digest = hashlib.sha256(strict_json.to_text([models, ids]).encode())
    for group in arrays:
        for name, array in group.items():
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def _columns(counts: NDArray[np.int64], folded: NDArray[np.bool_] | None) -> dict[str, NDArray[Any]]:
    """What is stored of every user or item; whether it was folded in only if some were."""
    ratings: dict[str, NDArray[Any]] = {"ratings": np.asarray(counts, np.int64)}
    return ratings if folded is None or not folded.any() else ratings | {FOLDED: folded}


def _write_vocabulary(vocabulary: Vocabulary, columns: dict[str, NDArray[Any]], path: Path, run_id: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"id": vocabulary.entries} | columns, metadata={"run": run_id})
    pq.write_table(table, path, compression="zstd")


def _write_rated(rated: RatedPairs, path: Path, run_id: str) -> None:
    """The ratings of every user, and the items as steps from one to the next: small numbers, which compress well."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"steps": pa.int32(), "ratings": pa.float32()}
    schema = pa.schema({name: pa.large_list(kind) for name, kind in kinds.items()}, metadata={"run": run_id})
    with pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=["ratings.list.element"],
        column_encoding={"steps.list.element": "BYTE_STREAM_SPLIT"},
    ) as writer:  # fmt: skip
        for users in mapped.groups(rated.starts, _GROUP):
            starts = rated.starts[users.start : users.stop + 1]
            entries = slice(starts[0], starts[-1])
            starts = starts - starts[0]
            steps = np.diff(rated.items[entries], prepend=np.int32(-1))
            first = starts[:-1][np.diff(starts) > 0]
            steps[first] = rated.items[entries][first] + 1
            lists = [pa.LargeListArray.from_arrays(starts, column) for column in (steps, rated.values[entries])]
            writer.write_table(pa.table(lists, schema=schema))
            mapped.release_pages()


def _part(path: Path) -> dict[str, Any]:
    """The entry of a file in run.json. A reader that does not know a part refuses the run if the part is required."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size, "required": path.name in REQUIRED}
