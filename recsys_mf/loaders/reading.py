"""From a source to Ratings: recognise the columns, check each, encode the ids."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.columns import empty, rest
from recsys_mf.errors import ConfigError, DataError, nearest
from recsys_mf.loaders.parquet import ParquetSource
from recsys_mf.loaders.source import IDS, Columns, FileSource, Ids, Source, recognise
from recsys_mf.loaders.text import TextSource
from recsys_mf.ratings import Duplicates, Ratings
from recsys_mf.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa


LOADERS: dict[str, type[FileSource]] = {"parquet": ParquetSource, "text": TextSource}
"""Every format of a table on disk; the first that claims a file reads it."""


def open_source(path: str | Path) -> FileSource:
    """The source at a path, by what the file holds.

    path : a file, a folder or hive tree of Parquet files, or a glob of Parquet files
    Raises DataError where there is no such file, and for a .parquet file that is none.
    """
    where = str(path)
    if not where or (not Path(where).exists() and not glob.glob(where)):
        raise DataError("no such file", where=where, fix="give a file, a folder of Parquet files or a glob")
    head = b""
    if Path(where).is_file():
        with Path(where).open("rb") as file:
            head = file.read(16)
    return next(loader(where) for loader in LOADERS.values() if loader.claims(where, head))


def read_ratings(
    path: str | Path,
    *,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    time_column: str | None = None,
    ids: Ids = "auto",
    duplicates: Duplicates = "error",
) -> Ratings:
    """Ratings from a table on disk.

    path : Parquet (a file, a folder of part files, a hive-partitioned tree, a glob), or text: CSV, TSV, MovieLens
        u.data and ratings.dat, plain or compressed
    user_column, … : names of the columns; by default recognised (user_id, userId, user; item_id, movieId, movie_id,
        item; rating, score, value; timestamp, time, date). The time column is optional, and "none" leaves it out
    ids : "integer" or "string" to read them so; "auto" takes the type the file has, and in text files integers
        where every id is one
    duplicates : where a (user, item) pair occurs again: "error", "last" row kept, or "mean"

    Times are integers or numbers (seconds since 1970-01-01 UTC), dates or datetimes (UTC where they have no zone).
    Raises DataError naming the file, column, row (counted from 0) and value for: a missing column, a null id, a
    null, infinite, NaN or non-numeric rating, an empty table, duplicate pairs, and a file that cannot be read.
    """
    given = {"user": user_column, "item": item_column, "rating": rating_column, "time": time_column}
    return assembled(open_source(path), given, ids=ids, duplicates=duplicates)


def assembled(source: Source, given: Mapping[str, str | None], *, ids: Ids, duplicates: Duplicates) -> Ratings:
    """Ratings from a source. The columns are taken one at a time, so that one lies raw in memory at once.

    given : as in `recognise`
    """
    if ids not in IDS:
        raise ConfigError("unknown kind of ids", where="ids", seen=ids, fix=nearest(ids, IDS))
    columns = recognise(source, given)
    raw = source.read(list(wanted(columns)), [columns.user, columns.item] if ids == "string" else [])
    user_vocabulary, users = _encoded(source, columns.user, next(raw), ids)
    item_vocabulary, items = _encoded(source, columns.item, next(raw), ids)
    values = rating_values(source, columns.rating or "", next(raw))
    times = None if columns.time is None else time_seconds(source, columns.time, next(raw))
    _release_unused()
    table = Ratings(users, items, values, times, user_vocabulary, item_vocabulary)
    rest()
    return table.without_duplicates(duplicates, where=source.where)


def _encoded(source: Source, name: str, column: pa.ChunkedArray, ids: Ids) -> tuple[Vocabulary, NDArray[np.int32]]:
    if not len(column):
        raise DataError("no ratings in the table", where=source.where, fix="give at least one row")
    return Vocabulary.encode(checked_ids(source, name, column, ids), where=_at(source, name))


def wanted(columns: Columns) -> tuple[str, ...]:
    """The names in the order user, item, rating, time, without those that are not there."""
    return tuple(name for name in (columns.user, columns.item, columns.rating, columns.time) if name)


def checked_ids(source: Source, name: str, column: Any, ids: Ids, start: int = 0) -> Any:
    """A column of ids, read as integers or strings where that was asked for; Arrow array or chunked array.

    start : row of the source at which the column starts, for messages
    Raises DataError for a null id, and for one that is no integer where integers were asked for.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    _no_nulls(source, name, column, "null id", "drop the row or give it an id", start)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if ids == "string":
        return column.cast(pa.large_string())
    if ids == "integer" and not pa.types.is_integer(kind):
        try:
            return column.cast(kind).cast(pa.int64())
        except pa.ArrowInvalid:
            texts = column.cast(pa.large_string())
            whole = pc.match_substring_regex(texts, r"^\s*[+-]?\d{1,18}$")
            row = _first(pc.invert(whole))
            fault = at_fault(source, name, row, column, "id is not an integer", "read the ids as strings", start)
            raise fault from None
    return column


def rating_values(source: Source, name: str, column: pa.ChunkedArray) -> NDArray[np.float32]:
    """A column of ratings as float32[n]. Raises DataError for a null, NaN or infinite rating, and for text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    _no_nulls(source, name, column, "null rating", "give a finite number")
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        number = pc.match_substring_regex(column, r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$")
        row = _first(pc.invert(number)) if not pc.all(number).as_py() else 0
        raise at_fault(source, name, row, column, f"rating is text, not a number (column type {kind})", "give numbers")
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise DataError("ratings of this type", where=_at(source, name), seen=kind, fix="give numbers")
    values = _filled(column.cast(pa.float64()) if pa.types.is_decimal(kind) else column, np.float32)
    if not np.isfinite(np.dot(values, values)) and not np.isfinite(values).all():  # one pass where all is well
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise at_fault(source, name, row, column, "rating is not finite", "give a finite number")
    return values


def time_seconds(source: Source, name: str, column: pa.ChunkedArray, start: int = 0) -> NDArray[np.int64]:
    """A column of times as int64[n] seconds since 1970-01-01 UTC.

    start : row of the source at which the column starts, for messages
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    _no_nulls(
        source, name, column, "null time", "give a time, or leave the column out with the time column 'none'", start
    )
    kind = column.type
    if (
        pa.types.is_string(kind) or pa.types.is_large_string(kind)
    ) and not source.typed:  # a text file read as it stands
        number = pc.match_substring_regex(column, r"^[+-]?\d{1,18}(\.\d*)?$")
        if pc.all(number).as_py():
            column = column.cast(pa.float64())
            kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("s", kind.tz), safe=False).cast(pa.int64())
    elif pa.types.is_date(kind):
        column = column.cast(pa.timestamp("s")).cast(pa.int64())
    elif pa.types.is_floating(kind):
        numbers = column.to_numpy()
        if not np.isfinite(numbers).all():
            row = int(np.flatnonzero(~np.isfinite(numbers))[0])
            raise at_fault(source, name, row, column, "time is not finite", "give seconds since 1970", start)
        column = pa.chunked_array([np.floor(numbers).astype(np.int64)])
    elif not pa.types.is_integer(kind):
        fix = "store seconds since 1970 or datetimes, or leave the column out with the time column 'none'"
        raise at_fault(source, name, 0, column, f"times of type {kind}", fix, start)
    return _filled(column, np.int64)


def _filled(column: pa.ChunkedArray, dtype: Any) -> NDArray[Any]:
    """The column as a NumPy array of this type, chunk by chunk: no second copy."""
    values = empty(len(column), dtype)
    start = 0
    for chunk in column.chunks:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            values[start : start + len(chunk)] = chunk.to_numpy(zero_copy_only=False)
        start += len(chunk)
    return values


def _release_unused() -> None:
    """Hand what Arrow keeps of freed columns back to the system."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def _at(source: Source, name: str) -> str:
    return f"{source.where}, column {name}"


def _no_nulls(source: Source, name: str, column: pa.ChunkedArray, what: str, fix: str, start: int = 0) -> None:
    if column.null_count:
        where = f"{_at(source, name)}, {source.place(start + _first(column.is_null()))}"
        raise DataError(what, where=where, seen=f"null, {column.null_count} in the column", fix=fix)


def _first(flags: Any) -> int:
    """Place of the first True in an Arrow array or chunked array."""
    import pyarrow.compute as pc

    return int(pc.index(flags, True).as_py())


def at_fault(source: Source, name: str, row: int, column: Any, what: str, fix: str, start: int = 0) -> DataError:
    """An error that names the source, the column, the row and the value there.

    row : of the column, which starts at row `start` of the source
    """
    seen = repr(column[row].as_py())
    return DataError(what, where=f"{_at(source, name)}, {source.place(start + row)}", seen=seen, fix=fix)
