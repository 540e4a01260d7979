"""Writing: a run becomes a folder of rows with their ids and a file of facts, written aside and renamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recsys_mf import __version__, memory, strict_json
from recsys_mf.arguments import choice, instance
from recsys_mf.exporting.agreement import measure_agreement
from recsys_mf.exporting.formats import FORMATS, Rows
from recsys_mf.exporting.scores import Scores, scores_of
from recsys_mf.outputs import FolderKind, check_folder, written_folder
from recsys_mf.prediction.inner import InnerRows, inner_rows
from recsys_mf.run import Run
from recsys_mf.storage import Place, place

FACTS = "export.json"
_ALL_FILES = sorted({FACTS}.union(*(entry.files for entry in FORMATS.values())))
KIND = FolderKind("an export", FACTS, "recsys_mf export", tuple(_ALL_FILES))
VERSION = 1


def check_export(directory: str | Place, format: str, *, force: bool = False) -> None:  # noqa: A002 (as it is typed)
    """Raise ConfigError for a format that does not exist or lacks its library, ArtifactError if the directory cannot
    be written: only an export is replaced, and only with force.
    """
    FORMATS[choice(format, "--format", FORMATS)].check()
    check_folder(place(directory), KIND, force=force)


def export(
    run: Run,
    directory: str | Place,
    *,
    format: str = "parquet",  # noqa: A002 (as it is typed)
    rank: int | None = None,
    force: bool = False,
) -> Mapping[str, Any]:
    """Write the factors of a run with the biases folded in, so that a plain inner product is its score:

        x_u = (p_u, 1, c + b_u),    y_i = (q_i, b_i, 1),    x_u · y_i = c + b_u + b_i + p_u · q_i

    which for a factorisation is the predicted rating before it is clipped. A sampled model is exported as the mean of
    its samples at a rank, and it is measured how well that ranks items like the model itself.

    format : "parquet", tables of id and vector; "npz", arrays; "faiss", the tables and a flat index of the items
    rank : of a sampled model, by default at most 64; of others None
    force : replace an existing export
    Returns what the file export.json says. Raises ConfigError and ArtifactError as `check_export` does, and ConfigError
    for a rank out of range.
    """
    instance(run, "run", Run, "give what `train` or `load` returns")
    check_export(directory, format, force=force)
    scores = scores_of(run.model, rank)
    rows = inner_rows(scores.model)
    facts = _facts(run, scores, rows, format)
    sides = {
        "users": Rows(run.user_vocabulary.entries, rows.of_users(np.arange(run.model.n_users, dtype=np.int32))),
        "items": Rows(run.item_vocabulary.entries, rows.items),
    }
    with (
        memory.guarded("exporting", fix="free some memory"),
        written_folder(place(directory), KIND, force=force) as aside,
    ):
        FORMATS[format].write(aside, sides)
        (aside / FACTS).write_text(strict_json.to_text(facts) + "\n", encoding="utf-8")
    return facts


def _facts(run: Run, scores: Scores, rows: InnerRows, format_name: str) -> dict[str, Any]:
    """What a reader of the rows should know."""
    agreement = None if scores.is_exact else measure_agreement(run.model, scores.model)
    return {
        "format": KIND.format,
        "version": VERSION,
        "recsys_mf": __version__,
        "files": list(FORMATS[format_name].files),
        "model": run.model.kind,
        "solver": run.fit.solver,
        "score": scores.meaning,
        "formula": "x . y = c + b_u + b_i + p_u . q_i, with x = (p_u, 1, c + b_u) and y = (q_i, b_i, 1)",
        "unknown_user": "x = (0, ..., 0, 1, c)",
        "rank": scores.model.rank,
        "dimensions": rows.items.shape[1],
        "constant": rows.constant,
        "rating_range": list(run.model.rating_range),
        "users": run.model.n_users,
        "items": run.model.n_items,
        "train_fingerprint": run.provenance["train_fingerprint"],
        "agreement": None if agreement is None else agreement._asdict(),
    }
