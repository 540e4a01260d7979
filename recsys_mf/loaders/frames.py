"""Tables in memory: pandas, Arrow, any object with an Arrow stream, a dict of columns, a list of dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, cast

from recsys_mf.conversion import Ids, Origin, arrow_column
from recsys_mf.duplicates import Duplicates
from recsys_mf.errors import DataError
from recsys_mf.loaders.reading import Vocabularies, assembled
from recsys_mf.loaders.source import ColumnNames, name_columns
from recsys_mf.ratings import Ratings

if TYPE_CHECKING:
    import pyarrow as pa


class FrameSource:
    """A table in memory, as in `from_frame`; where : the argument, for messages."""

    typed = True

    def __init__(self, frame: Any, where: str = "frame") -> None:
        self.where = where
        try:
            named = _named_columns(frame)
        except DataError as error:
            raise DataError(error.what, where=where, seen=error.seen, fix=error.fix) from None
        self.names = tuple(str(name) for name, _ in named)  # pandas may call a column by a number
        self._columns = [column for _, column in named]

    def read(
        self, names: Sequence[str], texts: Sequence[str] = (), ids: Sequence[str] = ()
    ) -> Iterator[pa.ChunkedArray]:
        """The columns; NaN in a pandas column is a null."""
        for name in names:
            yield arrow_column(self._columns[self.names.index(name)], Origin(f"{self.where}, column {name}"))

    def place(self, row: int) -> str:
        """The row's number."""
        return f"row {row}"


def from_frame(
    frame: Any,
    *,
    ids: Ids = "auto",
    duplicates: Duplicates = "error",
    like: Vocabularies | None = None,
    **columns: Unpack[ColumnNames],
) -> Ratings:
    """Ratings from a table in memory with a row per rating; other arguments and errors are as in `read_ratings`.

    frame : a pandas frame, whose named index levels also count as columns; an Arrow table; any object with an Arrow
        stream (Polars, DuckDB, Ibis); a mapping of names to columns; a list of mappings, one per row; a NumPy array
        with named fields
    """
    given = name_columns(cast(dict[str, str | None], columns))
    return assembled(FrameSource(frame), given, ids=ids, duplicates=duplicates, like=like)


def _named_columns(frame: Any) -> list[tuple[Any, Any]]:
    """Names and columns of a table. Raises DataError if it is not a table."""
    import pyarrow as pa

    if _is_pandas(frame):
        levels = [(name, frame.index.get_level_values(n)) for n, name in enumerate(frame.index.names)]
        columns = [(name, frame.iloc[:, n]) for n, name in enumerate(frame.columns)]
        return columns + [(name, level) for name, level in levels if name is not None and name not in frame.columns]
    if isinstance(frame, pa.Table | pa.RecordBatch):
        return list(zip(frame.schema.names, frame.columns, strict=True))
    if hasattr(frame, "iloc"):
        raise _no_table(frame, type(frame).__name__)
    if hasattr(frame, "__arrow_c_stream__") or hasattr(frame, "__arrow_c_array__"):
        try:
            return _named_columns(pa.table(frame))
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise _no_table(frame, f"{type(frame).__name__}: {str(error)[:100]}") from None
    if isinstance(frame, Mapping):
        return list(frame.items())
    fields = getattr(getattr(frame, "dtype", None), "names", None)
    if fields:
        return [(name, frame[name]) for name in fields]
    if isinstance(frame, list | tuple) and frame and all(isinstance(row, Mapping) for row in frame):
        names = dict.fromkeys(name for row in frame for name in row)
        return [(name, [row.get(name) for row in frame]) for name in names]
    raise _no_table(frame, type(frame).__name__)


def _is_pandas(frame: Any) -> bool:
    return hasattr(frame, "iloc") and hasattr(frame, "columns")


def _no_table(frame: Any, seen: str) -> DataError:
    fix = "give a pandas, Polars or Arrow table, or columns by name"
    if isinstance(frame, str) or hasattr(frame, "__fspath__"):
        fix = "use read_ratings for files"
    elif isinstance(frame, Ratings):
        fix = "it is a Ratings table already: use it directly"
    elif hasattr(frame, "iloc"):
        fix = "give a frame: series.reset_index()"
    elif hasattr(frame, "tocoo") or len(getattr(frame, "shape", ())) == 2:
        fix = "use from_matrix for matrices"
    return DataError("not a table", where="frame", seen=seen, fix=fix)
