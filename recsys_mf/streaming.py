"""Prediction of a file of pairs: rows stream in, get their prediction, and stream out in the same order."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from recsys_mf import memory
from recsys_mf.arguments import instance
from recsys_mf.conversion import Ids
from recsys_mf.errors import ConfigError, DataError, IdMismatchWarning
from recsys_mf.kernels import predictor
from recsys_mf.kernels.backend import PredictionKernels
from recsys_mf.loaders.opening import open_source
from recsys_mf.loaders.pairs import PairReader
from recsys_mf.loaders.source import NO_COLUMN, name_columns, recognise
from recsys_mf.loaders.writing import TABLES, open_table
from recsys_mf.mismatch import UnknownIds
from recsys_mf.models import Posterior
from recsys_mf.outputs import check_output, written_output
from recsys_mf.prediction import check_probability, has_intervals, predict, takes_times
from recsys_mf.run import KNOWN, Run
from recsys_mf.storage import Place, place

if TYPE_CHECKING:
    import pyarrow as pa


class PairReading(TypedDict, total=False):
    """Keywords that say how a table of pairs is read."""

    user_column: str | None
    item_column: str | None
    time_column: str | None
    encoding: str | None
    ids: Ids


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is predicted for every pair, and where.

    interval : probability; adds columns `lower` and `upper`, which contain a new rating with this probability, if the
        model has intervals
    distribution : adds a column for every rating of the scale, `p_1` and so on, with its probability, if the model
        is ordinal
    device : "cpu", "cuda" or "auto", which is CUDA if available
    threads : number of CPU threads to predict on; None for all available
    """

    interval: float | None = None
    distribution: bool = False
    device: str = "auto"
    threads: int | None = None


def predict_file(
    run: Run,
    pairs: str | Path,
    output: str | Place,
    wanted: Wanted = Wanted(),
    *,
    force: bool = False,
    watch: Callable[[int], None] = lambda rows: None,
    **reading: Unpack[PairReading],
) -> dict[str, int]:
    """Write the rows of a table with the columns `prediction` and `known` added, in order, in constant memory.

    pairs : a table with a row per (user, item) pair, and any other columns; as in `loaders.read_ratings`
    output : .parquet, .csv or .tsv, written under a temporary name and renamed when it is complete
    wanted : intervals and probabilities in addition to the predictions; the device
    force : replace an existing output
    watch : called with the number of rows of every batch
    reading : user_column, item_column and time_column, the names of the columns, by default recognised; encoding, as
        in `loaders.read_ratings` (text is written in UTF-8); ids, "integer" or "string" to read them so ("auto" reads
        them as in the model). A time column is for a model that was trained with times; the unit of numbers is that
        of the first batch of rows. Without times, such a model predicts for an average time
    Returns how many pairs had "both" ids, the "user", the "item" or "neither" known. An unknown id gets the model's
    fallback; if over 90 % of the pairs have one, an IdMismatchWarning says how their ids differ. Raises DataError
    for a null id, for strings if the model has integers, and for a table that already has a column of these names;
    ConfigError for another suffix, an output that exists, and an interval or a distribution of a model that has none;
    DeviceError if CUDA is not available.
    """
    instance(run, "run", Run, "give what train returned, or load(directory)")
    interval, distribution = wanted.interval, wanted.distribution
    if interval is not None:
        check_probability(interval)
    rest = dict(reading)
    encoding, ids = cast(str | None, rest.pop("encoding", None)), cast(Ids, rest.pop("ids", "auto"))
    given = name_columns(cast(dict[str, str | None], rest), ("user", "item", "time"))
    time_column = given["time"]
    if time_column not in (None, NO_COLUMN) and not takes_times(run.model):
        what, fix = (
            "the model was trained without times",
            "leave the option out, or train with --solver gibbs and times",
        )
        raise ConfigError(what, where="--time-column", seen=time_column, fix=fix)
    output = place(output)
    check_output(output, "output", TABLES, force=force)
    source = open_source(pairs, encoding)
    columns = recognise(source, given, rated=False)
    added = _added(run, interval, distribution=distribution)
    for name in added:
        if name in source.names:
            raise DataError(f"the table already has a column '{name}'", where=source.where, fix="rename it")
    backend = predictor(wanted.device, wanted.threads)
    reader = PairReader(source, columns, ids, run, timed=takes_times(run.model))
    unknown = UnknownIds(run.user_vocabulary, run.item_vocabulary)
    as_read = output.suffix == ".parquet" and not source.typed
    batches = _Batches(run, reader, unknown, added, as_read, interval, distribution, backend)
    counts = np.zeros(len(KNOWN), np.int64)
    what, fix = "predicting", "free some memory, or compress the model (--compress in train)"
    guard = memory.guarded(what, fix=fix)
    with guard, written_output(output, force=force) as path, contextlib.ExitStack() as stack:
        write: Callable[[pa.RecordBatch], Future[None]] | None = None
        written: Future[None] | None = None
        done = 0
        for batch in source.batches():
            predicted, known = batches.predicted(batch, done)
            counts += np.bincount(known, minlength=len(KNOWN))
            if write is None:
                write = stack.enter_context(_writing(path, output.suffix, predicted.schema))
            if written is not None:
                written.result()
            written = write(predicted)
            done += len(batch)
            watch(len(batch))
        if written is not None:
            written.result()
        if not done:
            raise DataError("no pairs in the table", where=source.where, fix="give at least one row")
    mismatch = unknown.message("this table")
    if mismatch:
        warnings.warn(mismatch, IdMismatchWarning, stacklevel=2)
    return dict(zip(KNOWN, counts.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class _Batches:
    """Predicts batch after batch of one table.

    names : of the columns that are added, in order; as_read : whether ids are kept with the types they were read in
    probability, distribution : as in `prediction.predict`
    """

    run: Run
    reader: PairReader
    unknown: UnknownIds
    names: tuple[str, ...]
    as_read: bool
    probability: float | None
    distribution: bool
    backend: PredictionKernels

    def predicted(self, batch: pa.RecordBatch, start: int) -> tuple[pa.RecordBatch, NDArray[np.int8]]:
        """A batch with the added columns, and known int8[b]; start : the row of the table where the batch starts."""
        import pyarrow as pa

        ids = self.reader.ids(batch, start)
        batch = self.reader.with_ids(batch, ids) if self.as_read else batch
        users, items, known = self.run.indices(*ids, where=self.reader.where)
        columns = (lambda rows, column=column: column.take(rows).combine_chunks() for column in ids)
        self.unknown.add(users, items, *columns)
        found = predict(
            self.run.model, users, items, self.reader.times(batch, start),
            probability=self.probability, distribution=self.distribution, backend=self.backend,
        )  # fmt: skip
        figures = [found.values, *(bound for bound in (found.lower, found.upper) if bound is not None)]
        if found.distribution is not None:
            figures.extend(found.distribution.T)
        words = pa.DictionaryArray.from_arrays(pa.array(known), pa.array(KNOWN)).cast(pa.string())
        added = [*map(pa.array, map(np.ascontiguousarray, figures)), words]
        return pa.RecordBatch.from_arrays([*batch.columns, *added], names=[*batch.schema.names, *self.names]), known


def _added(run: Run, interval: float | None, *, distribution: bool) -> tuple[str, ...]:
    """Names of the columns that are added, in order."""
    names = ["prediction"]
    if interval is not None:
        if not has_intervals(run.model):
            fix = "train with --solver gibbs, or several runs (members) and validation rows"
            raise ConfigError("the model has no intervals", where="--interval", seen=run.fit.solver, fix=fix)
        names += ["lower", "upper"]
    if distribution:
        if not (isinstance(run.model, Posterior) and run.model.is_ordinal):
            seen = f"{run.fit.solver}, likelihood {run.fit.details.likelihood or 'none'}"
            fix = "train with --solver gibbs --likelihood ordinal"
            raise ConfigError("the model has no probabilities of ratings", where="--distribution", seen=seen, fix=fix)
        names += [f"p_{level:g}" for level in run.model.scale.levels]
    return *names, "known"


@contextlib.contextmanager
def _writing(path: Path, suffix: str, schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], Future[None]]]:
    """Writes a batch in another thread while the next batch is predicted."""
    with contextlib.closing(open_table(path, suffix, schema)) as writer, ThreadPoolExecutor(1) as pool:
        yield lambda batch: pool.submit(writer.write_batch, batch)
