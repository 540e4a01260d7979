"""Prediction of a file of pairs: rows stream in, get their prediction, and stream out in the same order."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import ConfigError, DataError
from recsys_mf.kernels import predictor
from recsys_mf.loaders.reading import checked_ids, open_source, time_seconds
from recsys_mf.loaders.source import Columns, FileSource, Ids, recognise
from recsys_mf.models import Posterior, Run
from recsys_mf.models.run import KNOWN

if TYPE_CHECKING:
    import pyarrow as pa


class _Writer(Protocol):
    def write_batch(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


def predict_file(
    run: Run,
    pairs: str | Path,
    output: str | Path,
    *,
    user_column: str | None = None,
    item_column: str | None = None,
    time_column: str | None = None,
    interval: float | None = None,
    distribution: bool = False,
    force: bool = False,
    device: str = "auto",
    threads: int | None = None,
    watch: Callable[[int], None] = lambda rows: None,
) -> dict[str, int]:
    """Write the rows of a table with the columns `prediction` and `known` added, in order, in constant memory.

    pairs : Parquet or text with a row per (user, item) pair, and any other columns; as in `loaders.read_ratings`
    output : .parquet, .csv or .tsv, written aside and renamed when it is whole
    time_column : seconds, dates or datetimes, for a model that was trained with times; recognised by its name.
        Where there is none, such a model predicts for an average time
    interval : probability; adds columns `lower` and `upper` that hold a new rating with it, where the model has
        intervals
    distribution : adds a column for every rating of the scale, `p_1` and so on, with its probability, where the model
        is ordinal
    force : replace an output that is there
    device : "cpu", "cuda" or "auto": CUDA where it is there
    threads : threads of the CPU to predict on, all that are granted where None
    watch : told the number of rows of every batch
    Returns how many pairs had "both" ids, the "user", the "item" or "neither" known. An unknown id gets the model's
    fallback. Raises DataError for a null id, for integer ids where the model has strings or the reverse, and for a
    table that has a column of these names; ConfigError for another suffix, an output that is there, and an interval
    or a distribution of a model that has none; DeviceError for CUDA where there is none.
    """
    output = Path(output)
    if output.suffix not in (".parquet", ".csv", ".tsv"):
        raise ConfigError("unknown kind of output", where=str(output), fix="name it .parquet, .csv or .tsv")
    if output.exists() and not force:
        raise ConfigError("there already", where=str(output), fix="give another name, or --force")
    if not output.absolute().parent.is_dir():
        raise ConfigError("no such folder", where=str(output.absolute().parent), fix="make it first")
    source = open_source(pairs)
    columns = recognise(source, {"user": user_column, "item": item_column, "time": time_column}, rated=False)
    added = _added(run, interval, distribution=distribution)
    for name in added:
        if name in source.names:
            raise DataError(f"there is a column '{name}' already", where=source.where, fix="rename it")
    run = run.on(predictor(device, threads))
    counts = np.zeros(len(KNOWN), np.int64)
    with _aside(output) as path, contextlib.ExitStack() as stack:
        write: Callable[[pa.RecordBatch], Future[None]] | None = None
        written: Future[None] | None = None
        done = 0
        for batch in source.batches():
            predicted, known = _predicted(run, source, columns, batch, done, interval, added)
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
    return dict(zip(KNOWN, counts.tolist(), strict=True))


def _predicted(
    run: Run,
    source: FileSource,
    columns: Columns,
    batch: pa.RecordBatch,
    start: int,
    interval: float | None,
    names: tuple[str, ...],
) -> tuple[pa.RecordBatch, NDArray[np.int8]]:
    """The batch, which starts at a row of the source, with its columns more; and known int8[b]."""
    import pyarrow as pa

    sides = ((columns.user, run.user_vocabulary), (columns.item, run.item_vocabulary))
    kinds: list[Ids] = ["auto" if source.typed else "integer" if side.is_integer else "string" for _, side in sides]
    ids = (checked_ids(source, name, batch[name], kind, start) for (name, _), kind in zip(sides, kinds, strict=True))
    users, items, known = run.indices(*ids, where=source.where)
    times = None
    if run.model.takes_times and columns.time is not None:
        times = time_seconds(source, columns.time, pa.chunked_array([batch[columns.time]]), start)
    figures: list[NDArray[np.float32]] = []
    if interval is not None:
        figures.extend(run.model.predict_interval(users, items, times, probability=interval))
    else:
        figures.append(run.model.predict(users, items, times))
    if len(names) > len(figures) + 1 and isinstance(run.model, Posterior):
        figures.extend(run.model.predict_distribution(users, items, times).T)
    words = pa.DictionaryArray.from_arrays(pa.array(known), pa.array(KNOWN)).cast(pa.string())
    added = [*map(pa.array, map(np.ascontiguousarray, figures)), words]
    return pa.RecordBatch.from_arrays([*batch.columns, *added], names=[*batch.schema.names, *names]), known


def _added(run: Run, interval: float | None, *, distribution: bool) -> tuple[str, ...]:
    """Names of the columns that are added, in order."""
    names = ["prediction"]
    if interval is not None:
        if not run.model.has_intervals:
            fix = "train a committee with validation rows, or with a solver that samples: gibbs"
            raise ConfigError("the model has no intervals", where="--interval", seen=run.fit.solver, fix=fix)
        names += ["lower", "upper"]
    if distribution:
        if not (isinstance(run.model, Posterior) and run.model.is_ordinal):
            seen = f"{run.fit.solver}, likelihood {run.fit.settings.get('likelihood', 'none')}"
            fix = "train with --solver gibbs --likelihood ordinal"
            raise ConfigError("the model has no probabilities of ratings", where="--distribution", seen=seen, fix=fix)
        names += [f"p_{level:g}" for level in run.model.scale.levels]
    return *names, "known"


@contextlib.contextmanager
def _writing(path: Path, suffix: str, schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], Future[None]]]:
    """Writes a batch in a thread of its own, while the next is predicted."""
    with contextlib.closing(_opened(path, suffix, schema)) as writer, ThreadPoolExecutor(1) as pool:
        yield lambda batch: pool.submit(writer.write_batch, batch)


def _opened(path: Path, suffix: str, schema: pa.Schema) -> _Writer:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if suffix == ".parquet":
        # Predictions hardly repeat: to look for a dictionary of them takes longer than all the rest.
        repeating = [field.name for field in schema if not pa.types.is_floating(field.type)]
        writer: _Writer = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=repeating)
        return writer
    return _TextWriter(path, "," if suffix == ".csv" else "\t", schema)


class _TextWriter:
    """CSV or TSV; fields are quoted in the batches where one of them needs it."""

    def __init__(self, path: Path, delimiter: str, schema: pa.Schema) -> None:
        self._file = path.open("wb")
        self._delimiter = delimiter
        names = (f'"{name.replace(chr(34), chr(34) * 2)}"' if _special(name) else name for name in schema.names)
        self._file.write((delimiter.join(names) + "\n").encode())

    def write_batch(self, batch: pa.RecordBatch) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.csv as csv

        texts = [c for c in batch.columns if pa.types.is_string(c.type) or pa.types.is_large_string(c.type)]
        quoted = any(pc.any(pc.match_substring_regex(column, _SPECIAL)).as_py() for column in texts)
        style = "needed" if quoted else "none"
        options = csv.WriteOptions(include_header=False, delimiter=self._delimiter, quoting_style=style)
        csv.write_csv(batch, self._file, options)

    def close(self) -> None:
        self._file.close()


_SPECIAL = '[",\\t\\r\\n]'


def _special(name: str) -> bool:
    return any(mark in name for mark in '",\t\r\n')


@contextlib.contextmanager
def _aside(output: Path) -> Iterator[Path]:
    """A path beside the output that takes its name when all went well, and is removed when not."""
    handle, name = tempfile.mkstemp(prefix=f".{output.name}-", dir=output.absolute().parent)
    os.close(handle)
    path = Path(name)
    try:
        yield path
        path.chmod(0o644)
        path.rename(output)
    finally:
        path.unlink(missing_ok=True)
