"""Reading: a Parquet tree or a DataFrame as Ratings, with the same row numbers as on a single machine.

Spark reads the table, in tasks that write its columns into the storage in the order of the rows; the driver reads the
columns from there one by one, with the same checks as for any other source.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from recsys_mf import errors
from recsys_mf.arguments import is_path
from recsys_mf.conversion import Ids
from recsys_mf.duplicates import Duplicates
from recsys_mf.errors import ConfigError, DataError, RecsysError
from recsys_mf.loaders.reading import assembled
from recsys_mf.loaders.source import name_columns
from recsys_mf.ratings import Ratings
from recsys_mf.spark.crew import reason
from recsys_mf.spark.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa

_ROW, _FILE = "_recsys_mf_row", "_recsys_mf_file"
_CHUNK = 1 << 20  # rows of a file in the storage
_PARTITION = 33  # bits of a monotonically increasing id that count rows in a partition
_TOLD = re.compile(r"recsys_mf\.errors\.(\w+): (.+)")


class SparkSource:
    """A table that Spark reads (`loaders.source.Source`).

    where : its name, for messages; frame : its columns and the number of every row; n_rows : the number of rows
    storage, folder : where tasks write the columns
    """

    typed = True

    def __init__(self, where: str, frame: Any, n_rows: int, storage: Storage, folder: str) -> None:
        self.where, self._frame, self._n_rows, self._storage, self._folder = where, frame, n_rows, storage, folder
        self.names = tuple(name for name in frame.columns if name not in (_ROW, _FILE))

    def read(
        self, names: Sequence[str], texts: Sequence[str] = (), ids: Sequence[str] = ()
    ) -> Iterator[pa.ChunkedArray]:
        """The columns one after another; all of them are written into the storage first."""
        import pyarrow as pa
        from pyspark.sql import functions as fn

        chunks = -(-self._n_rows // _CHUNK)
        wanted = list(dict.fromkeys(names))
        columns = [fn.col(_quoted(name)).alias(f"c{place}") for place, name in enumerate(wanted)]
        frame = self._frame.select(fn.col(_ROW).alias("row"), *columns)
        chunk = fn.floor(fn.col("row") / _CHUNK)
        frame = frame.repartition(chunks, chunk).sortWithinPartitions("row")
        write = partial(_write, self._storage, self._folder, _CHUNK)
        with translated(self.where):
            written = frame.mapInArrow(write, "chunk long, n long").collect()
        if len(written) != chunks or sum(row["n"] for row in written) != self._n_rows:
            seen = f"{sum(row['n'] for row in written):,} rows in {len(written)} parts"
            what, fix = f"the table changed while its {self._n_rows:,} rows were read", "read a table that stays"
            raise DataError(what, where=self.where, seen=seen, fix=fix)
        for name in names:
            place = wanted.index(name)
            parts = [self._storage.get_column(f"{self._folder}/{chunk}", f"c{place}") for chunk in range(chunks)]
            yield pa.chunked_array([array for part in parts for array in part.chunks], parts[0].type if parts else None)

    def place(self, row: int) -> str:
        """The row's number."""
        return f"row {row}"


def read(
    session: Any, source: Any, storage: Storage, *, order_by: str | Sequence[str] | None = None,
    ids: Ids = "auto", duplicates: Duplicates = "error", **columns: str | None,
) -> Ratings:  # fmt: skip
    """Ratings of a table that Spark reads.

    source : the path or URI of a Parquet file or tree, or a DataFrame
    order_by : names of columns that order the rows of a DataFrame, which has no order of its own; no two rows may be
        equal in all of them
    ids, duplicates, columns : as in `read_ratings`
    Raises ConfigError for a DataFrame without an order, and what `read_ratings` raises.
    """
    given = name_columns(columns)
    if is_path(source):
        if order_by is not None:
            fix = "leave it out: files have an order"
            raise ConfigError("only a DataFrame takes an order", where="order_by", seen=order_by, fix=fix)
        where = str(source)
        frame, n_rows = _of_tree(session, where)
    else:
        where = "DataFrame"
        frame, n_rows = _of_frame(source, order_by)
    if not n_rows:
        raise DataError("no ratings in the table", where=where, fix="give at least one row")
    try:
        found = SparkSource(where, frame, n_rows, storage, "read")
        return assembled(found, given, ids=ids, duplicates=duplicates)
    finally:
        frame.unpersist()
        storage.remove("read")


def _of_tree(session: Any, name: str) -> tuple[Any, int]:
    """The rows of a tree of Parquet files, numbered in the order of their paths.

    name : a local path, or any other name that Spark can read
    """
    from pyspark.sql import functions as fn

    where = f"file://{os.path.abspath(name)}" if os.path.exists(name) else name
    with translated(name):
        frame = _located(session.read.option("recursiveFileLookup", "true").parquet(where))
        counted = frame.groupBy(_FILE).count().collect()
        if any("=" in _below(where, row[_FILE]) for row in counted):  # keys of a hive tree are columns
            frame = _located(session.read.parquet(where))
        firsts, n_rows = [], 0
        for file in sorted(counted, key=lambda row: unquote(row[_FILE])):
            firsts.append((file[_FILE], n_rows))
            n_rows += file["count"]
        if len(firsts) > 1:
            offsets = session.createDataFrame(firsts, f"{_FILE} string, _recsys_mf_first long")
            frame = frame.join(fn.broadcast(offsets), _FILE).withColumn(_ROW, fn.col(_ROW) + fn.col("_recsys_mf_first"))
            frame = frame.drop("_recsys_mf_first")
    return frame, n_rows


def _located(frame: Any) -> Any:
    """The frame with the file of every row, and its number there."""
    from pyspark.sql import functions as fn

    place = fn.col("_metadata")
    return frame.withColumn(_FILE, place["file_path"]).withColumn(_ROW, place["row_index"])


def _below(where: str, file: str) -> str:
    """The folders between the one that was given and a file."""
    folder = unquote(file).rpartition("/")[0]
    return folder.rpartition(where.removeprefix("file://").rstrip("/"))[2]


def _of_frame(frame: Any, order_by: str | Sequence[str] | None) -> tuple[Any, int]:
    """The rows of a DataFrame, numbered in the order of some columns."""
    from pyspark.sql import functions as fn

    if not hasattr(frame, "mapInArrow"):
        fix = "give a DataFrame of Spark, or the path of a Parquet tree"
        raise ConfigError("not a table of Spark", where="source", seen=type(frame).__name__, fix=fix)
    if not order_by:
        fix = "name columns that give the rows an order: order_by='timestamp', or order_by=['user_id', 'item_id']"
        raise ConfigError("a DataFrame has no order of its rows", where="order_by", seen=order_by, fix=fix)
    names = [order_by] if isinstance(order_by, str) else list(order_by)
    for name in names:
        if name not in frame.columns:
            raise DataError(f"no column '{name}'", where="order_by", fix=errors.nearest(name, frame.columns))
    keys = [fn.col(_quoted(name)) for name in names]
    with translated("DataFrame"):
        tie = frame.groupBy(*keys).count().where("count > 1").head()
        if tie is not None:
            fix = "name more columns, so that no two rows are equal in all of them"
            raise DataError("rows are equal in what orders them", where="order_by", seen=list(tie)[:-1], fix=fix)
        placed = frame.orderBy(*keys).withColumn(_ROW, fn.monotonically_increasing_id()).persist()
        part = fn.shiftright(_ROW, _PARTITION).alias("part")
        counts = {row["part"]: row["count"] for row in placed.groupBy(part).count().collect()}
        first, n_rows = [], 0
        for number in range(max(counts, default=0) + 1):
            first.append(n_rows)
            n_rows += counts.get(number, 0)
        firsts = fn.element_at(fn.array(*map(fn.lit, first)), fn.shiftright(_ROW, _PARTITION).cast("int") + 1)
        within = fn.col(_ROW).bitwiseAND(fn.lit((1 << _PARTITION) - 1))
        return placed.withColumn(_ROW, firsts.cast("long") + within), n_rows


def _write(storage: Storage, folder: str, size: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Write the rows, which come in order, in chunks of a size, as one table per chunk."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    number = -1

    def written() -> pa.RecordBatch:
        table = pa.Table.from_batches(held).drop_columns(["row"])
        storage.put_table(f"{folder}/{number}", table.combine_chunks())
        held.clear()
        return pa.RecordBatch.from_pydict({"chunk": [number], "n": [len(table)]})

    for batch in batches:
        while len(batch):
            chunk = batch.column("row")[0].as_py() // size
            inside = (chunk + 1) * size - batch.column("row")[0].as_py()
            if chunk != number and held:
                yield written()
            number = chunk
            held.append(batch.slice(0, min(inside, len(batch))))
            batch = batch.slice(min(inside, len(batch)))
    if held:
        yield written()


@contextlib.contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn errors of Spark into errors of this package: the one that a task raised, or otherwise a DataError."""
    try:
        with quiet():
            yield
    except RecsysError:
        raise
    except Exception as error:
        told = _TOLD.search(str(error))
        kind: Callable[..., RecsysError] = getattr(errors, told[1], DataError) if told else DataError
        if told:
            raise kind(told[2]) from error
        if "PATH_NOT_FOUND" in str(error):
            raise DataError("no such file or folder", where=where, fix="check the path") from error
        fix = "give a Parquet file or tree whose files have the same columns"
        raise DataError("cannot be read by Spark", where=where, seen=reason(error), fix=fix) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, pyspark does not warn that it was made for an older pandas; pandas is not used."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        yield


def _quoted(name: str) -> str:
    """The name of a column, quoted for Spark."""
    return "`" + name.replace("`", "``") + "`"
