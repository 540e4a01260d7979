"""Test rows with their predictions, as a table that other programs can score; `--predictions FILE` writes it.

    user_id, item_id, rating, timestamp, weight   as they were read, including unknown ids; timestamp and weight if
                   there are any
    prediction     float32, the same numbers that the report scores
    lower, upper   the 90 % interval, if the model has intervals
    known          which ids the model knows: both, user, item or neither
    fold           in cross-validation, the fold whose model predicted the row, from 1

The rows are in the order of their source.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped
from recsys_mf.errors import ConfigError
from recsys_mf.evaluation.scoring import predict_ratings
from recsys_mf.kernels import predictor
from recsys_mf.kernels.backend import Backend
from recsys_mf.loaders.writing import TABLES, open_table
from recsys_mf.outputs import check_output, written_output
from recsys_mf.ratings import Ratings
from recsys_mf.run import KNOWN, Run
from recsys_mf.storage import Place

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class PredictedRows:
    """Rows as they were read, and what a model predicts for them.

    predictions : float32[n]; known : int8[n], an index into KNOWN
    bounds : float32[2, n], lower and upper; None for a model without intervals
    folds : int64[n], from 1; None without cross-validation
    """

    rows: Ratings
    predictions: NDArray[np.float32]
    known: NDArray[np.int8]
    bounds: NDArray[np.float32] | None
    folds: NDArray[np.int64] | None = None


def predict_rows(
    run: Run, rows: Ratings, *, device: str | Backend = "auto", threads: int | None = None
) -> PredictedRows:
    """What the model of a run predicts for rows under any vocabularies, as `evaluate` scores it.

    Raises DataError when ids are integers on one side and strings on the other.
    """
    pairs = rows.reindexed(run.user_vocabulary, run.item_vocabulary)
    found = predict_ratings(run.model, pairs, predictor(device, threads))
    bounds = None if found.lower is None or found.upper is None else np.stack([found.lower, found.upper])
    known = (pairs.users >= 0).astype(np.int8) + np.int8(2) * (pairs.items >= 0).astype(np.int8)
    return PredictedRows(rows, found.values, known, bounds)


def join_folds(rows: Ratings, folds: NDArray[np.int64], parts: Sequence[PredictedRows]) -> PredictedRows:
    """The rows of a table, each with what was predicted in the fold that tested it; bounds if every fold has them.

    folds : `splits.fold_numbers` of the rows; parts : per fold, its test rows in source order
    """
    places = np.argsort(np.argsort(folds, kind="stable"), kind="stable")  # of every row in the concatenated parts
    bounds = [part.bounds for part in parts if part.bounds is not None]
    return PredictedRows(
        rows,
        np.concatenate([part.predictions for part in parts])[places],
        np.concatenate([part.known for part in parts])[places],
        np.concatenate(bounds, axis=1)[:, places] if len(bounds) == len(parts) else None,
        folds + 1,
    )


def check_predictions(path: Place, *, force: bool, held_out: bool) -> None:
    """Raise ConfigError if predictions cannot be written there, or if nothing is held out to predict."""
    if not held_out:
        fix = "hold ratings out, or give --test or --folds"
        raise ConfigError("there are no test rows to predict", where="--predictions", seen="--hold-out 0", fix=fix)
    check_output(path, "output", TABLES, force=force)


def write_predictions(predicted: PredictedRows, path: Place, *, force: bool) -> None:
    """Write .parquet, .csv or .tsv; the file is complete or absent."""
    with written_output(path, force=force) as aside, contextlib.ExitStack() as stack:
        write = None
        for batch in _batches(predicted):
            if write is None:
                writer = open_table(aside, path.suffix, batch.schema)
                write = stack.enter_context(contextlib.closing(writer)).write_batch
            write(batch)
        stack.close()


def _batches(predicted: PredictedRows) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    rows = predicted.rows
    for part in mapped.parts(len(rows)):
        table = {
            "user_id": rows.user_vocabulary.ids(rows.users[part]),
            "item_id": rows.item_vocabulary.ids(rows.items[part]),
            "rating": rows.values[part],
        }
        if rows.times is not None:
            table["timestamp"] = rows.times[part]
        if rows.weights is not None:
            table["weight"] = rows.weights[part]
        table["prediction"] = predicted.predictions[part]
        if predicted.bounds is not None:
            table |= {"lower": predicted.bounds[0, part], "upper": predicted.bounds[1, part]}
        known = pa.DictionaryArray.from_arrays(pa.array(predicted.known[part]), pa.array(KNOWN))
        table["known"] = known.cast(pa.string())
        if predicted.folds is not None:
            table["fold"] = predicted.folds[part]
        arrays = [column if isinstance(column, pa.Array) else pa.array(column) for column in table.values()]
        yield pa.RecordBatch.from_arrays(arrays, names=list(table))
