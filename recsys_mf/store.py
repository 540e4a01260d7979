"""Store: a run as a directory of safetensors, Parquet and JSON files; nothing in it can run code.

    run.json                settings, history, provenance, fingerprints of the vocabularies, format and version
    model.safetensors       the arrays of the model, by the names they have in its class
    baselines.safetensors   the same for every baseline, under "label/name"
    users.parquet, items.parquet   id and number of training ratings; the row number is the dense index
    report.json             the report that was printed, where there is one

The directory is written aside and renamed, so it is whole or not there. A loaded run predicts the same bits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import ArtifactError, RecsysError
from recsys_mf.models import Factorization, Fit, Model, Posterior, Run
from recsys_mf.models.run import as_of_today
from recsys_mf.vocabulary import Vocabulary

FORMAT, VERSION = "recsys_mf run", 3

_MODELS: dict[str, type[Model]] = {kind.kind: kind for kind in (Factorization, Posterior)}
_PARTS = ("model.safetensors", "baselines.safetensors", "users.parquet", "items.parquet")


class _Report(Protocol):
    def to_mapping(self) -> dict[str, Any]: ...


def check_free(directory: str | Path, *, force: bool = False) -> None:
    """Raise ArtifactError when a run cannot be written there: something stands there, or the parent is missing.

    force : a run that stands there may be replaced; anything else may not
    """
    directory = Path(directory)
    if not directory.absolute().parent.is_dir():
        raise ArtifactError("no such folder", where=str(directory.absolute().parent), fix="make it first")
    if not directory.exists():
        return
    is_run = (directory / "run.json").is_file()
    is_empty = directory.is_dir() and not any(directory.iterdir())
    if not (is_run or is_empty):
        raise ArtifactError("there already, and no run", where=str(directory), fix="give another directory")
    if is_run and not force:
        raise ArtifactError("there is a run already", where=str(directory), fix="give another directory, or --force")


def save(run: Run, directory: str | Path, *, force: bool = False, report: _Report | None = None) -> None:
    """Write a run, and the report on it, as a directory.

    force : replace a run that stands there
    Raises ArtifactError as `check_free` does. What stood there stays until the new one is whole.
    """
    directory = Path(directory).absolute()
    check_free(directory, force=force)
    aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        _write(run, aside, report)
        aside.chmod(0o777 & ~_umask())
        if directory.exists():
            old = aside.with_name(f"{aside.name}-old")
            directory.rename(old)
            aside.rename(directory)
            shutil.rmtree(old)
        else:
            aside.rename(directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load(directory: str | Path) -> Run:
    """The run of a directory, bit for bit as it was saved.

    Raises ArtifactError naming the file, and the field, when the directory is missing, foreign, of another version,
    incomplete or changed since it was written.
    """
    directory = Path(directory)
    facts = _facts(directory)
    for part in _PARTS:
        _check_part(directory / part, facts["files"].get(part))
    with _named(directory / "run.json"):
        users, user_counts = _vocabulary(directory / "users.parquet", facts["users_fingerprint"])
        items, item_counts = _vocabulary(directory / "items.parquet", facts["items_fingerprint"])
        shape = len(users), len(items)
        fit = _fit(facts["fit"], _tensors(directory / "model.safetensors"), "", shape, directory / "model.safetensors")
        path = directory / "baselines.safetensors"
        tensors = _tensors(path)
        baselines = {
            label: _fit(entry, tensors, f"{label}/", shape, path) for label, entry in facts["baselines"].items()
        }
        return Run(
            fit=fit,
            baselines=baselines,
            baseline=facts["baseline"],
            user_vocabulary=users,
            item_vocabulary=items,
            user_counts=user_counts,
            item_counts=item_counts,
            provenance=facts["provenance"],
        )


def load_provenance(directory: str | Path) -> Mapping[str, Any]:
    """The record of a run (`recsys_mf.provenance`), from run.json alone. Raises ArtifactError as `load` does."""
    provenance: Mapping[str, Any] = _facts(Path(directory))["provenance"]
    return provenance


def _write(run: Run, directory: Path, report: _Report | None) -> None:
    from safetensors.numpy import save_file

    save_file(run.fit.model.arrays(), directory / "model.safetensors")
    others = {
        f"{label}/{name}": array for label, fit in run.baselines.items() for name, array in fit.model.arrays().items()
    }
    save_file(others, directory / "baselines.safetensors")
    _write_vocabulary(run.user_vocabulary, run.user_counts, directory / "users.parquet")
    _write_vocabulary(run.item_vocabulary, run.item_counts, directory / "items.parquet")
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "fit": _described(run.fit),
        "baselines": {label: _described(fit) for label, fit in run.baselines.items()},
        "baseline": run.baseline,
        "users_fingerprint": run.user_vocabulary.fingerprint,
        "items_fingerprint": run.item_vocabulary.fingerprint,
        "files": {part: _digest(directory / part) for part in _PARTS},
        "provenance": run.provenance,
    }
    (directory / "run.json").write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n")
    if report is not None:
        text = json.dumps(report.to_mapping(), indent=2, allow_nan=False)
        (directory / "report.json").write_text(text + "\n")


def _described(fit: Fit) -> dict[str, Any]:
    """A fit as plain values, with what its model has besides arrays."""
    plain = {field.name: getattr(fit, field.name) for field in fields(fit) if field.name != "model"}
    return plain | {"model": {"kind": fit.model.kind} | fit.model.facts()}


def _write_vocabulary(vocabulary: Vocabulary, counts: NDArray[np.int64], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": vocabulary.entries, "ratings": counts}), path, compression="zstd")


def _facts(directory: Path) -> dict[str, Any]:
    path = directory / "run.json"
    if not path.is_file():
        what = "not a run directory" if directory.exists() else "no such directory"
        raise ArtifactError(what, where=str(directory), fix="give a directory that `recsys-mf train` wrote")
    try:
        facts = json.loads(path.read_text())
    except ValueError as error:
        raise ArtifactError("damaged", where=str(path), seen=error, fix="train the run again") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        seen = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
        raise ArtifactError("not a run of recsys_mf", where=f"{path}, field format", seen=seen, fix=f"it is {FORMAT!r}")
    if facts.get("version") != VERSION:
        seen, fix = facts.get("version"), f"this release reads version {VERSION}: train the run again"
        raise ArtifactError("a run of another version", where=f"{path}, field version", seen=seen, fix=fix)
    missing = [key for key in ("fit", "baselines", "files", "provenance") if not isinstance(facts.get(key), dict)]
    if missing:
        raise ArtifactError("damaged", where=f"{path}, field {missing[0]}", seen="not there", fix="train the run again")
    return facts


def _check_part(path: Path, digest: str | None) -> None:
    if not path.is_file():
        raise ArtifactError("a file of the run is missing", where=str(path), fix="train the run again")
    found = _digest(path)
    if found != digest:
        fix = f"run.json has {digest}: restore it or train the run again"
        raise ArtifactError("changed since the run was written", where=str(path), seen=f"SHA-256 {found}", fix=fix)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """A missing or wrong field of run.json as an ArtifactError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError("damaged", where=str(path), seen=repr(error), fix="train the run again") from error


def _vocabulary(path: Path, fingerprint: str) -> tuple[Vocabulary, NDArray[np.int64]]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    vocabulary = Vocabulary(table["id"].combine_chunks())
    if vocabulary.fingerprint != fingerprint:
        fix = "the ids are not those of the run: train it again"
        raise ArtifactError("another vocabulary", where=str(path), seen=vocabulary.fingerprint, fix=fix)
    return vocabulary, table["ratings"].to_numpy()


def _tensors(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ArtifactError("damaged", where=str(path), seen=error, fix="train the run again") from None


def _fit(
    entry: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], prefix: str, shape: tuple[int, int], path: Path
) -> Fit:
    facts = entry["model"]
    if facts["kind"] not in _MODELS:
        fix = f"this release reads: {', '.join(_MODELS)}"
        raise ArtifactError("unknown kind of model", where=f"{path.with_name('run.json')}", seen=facts["kind"], fix=fix)
    arrays = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
    for name, array in arrays.items():
        rows = {"user": shape[0], "item": shape[1]}.get(name.split("_")[0], len(array))
        if len(array) != rows:
            fix = f"the vocabulary has {rows} ids"
            raise ArtifactError("shape does not match", where=f"{path}, {prefix}{name}", seen=array.shape, fix=fix)
    known = as_of_today(entry)
    rest = {name: known[name] for name in (field.name for field in fields(Fit)) if name != "model"}
    try:
        model = _MODELS[facts["kind"]].from_parts(arrays, facts)
    except RecsysError as error:
        raise ArtifactError("damaged", where=str(path), seen=error, fix="train the run again") from None
    return Fit(model=model, **rest | {"history": tuple(rest["history"])})


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
