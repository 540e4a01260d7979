"""Text tables: CSV and similar, MovieLens, LIBMF, the Netflix Prize; compressed or not, in one file or in parts."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recsys_mf.errors import DataError, ReadingNotice
from recsys_mf.loaders.numerals import THOUSANDS, comma_fault
from recsys_mf.loaders.parts import Part
from recsys_mf.loaders.source import is_recognised
from recsys_mf.loaders.text_part import EmptyError, OtherTypeError, TextPart
from recsys_mf.loaders.words import clipped, listed

if TYPE_CHECKING:
    import pyarrow as pa

_INTEGER, _PADDED = r"^[+-]?\d+$", r"^(\+|-?0\d)"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_COMMA = r"^[+-]?\d*,?\d+$"


class TextSource:
    """A text table on disk; its dialect is found from its lines (see `dialect`). Empty fields are nulls.

    where : its name, for messages
    parts : the files that make it up, one after another
    encoding : of the text; None to find it (see `charset`)
    """

    typed = False

    def __init__(self, where: str, parts: Sequence[Part], encoding: str | None = None) -> None:
        self.where = where
        self._files = [TextPart(part, encoding) for part in parts]

    def allow_single_column(self) -> None:
        """Take a text without a delimiter as a table of one column; by default it is refused."""
        for file in self._files:
            file.single_column = True

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Columns: those of the header, or user_id, item_id, rating, timestamp, column_4, …

        Raises DataError if a part is not a text table, if it is a matrix, and if parts disagree.
        """
        named = next((file for file in self._files if file.dialect.header), self._files[0])
        for file in self._files:
            dialect = file.dialect
            if dialect.header and sorted(dialect.names) != sorted(named.dialect.names):
                seen = f"{listed(dialect.names, 60)}, but {named.part.where} has {listed(named.dialect.names, 60)}"
                raise DataError(
                    "the parts have different columns", where=file.part.where, seen=seen, fix="read them separately"
                )
            if not dialect.header and len(dialect.names) != len(named.dialect.names):
                seen = f"{len(dialect.names)}, but {named.part.where} has {len(named.dialect.names)}"
                raise DataError(
                    "the parts have different columns", where=file.part.where, seen=seen, fix="read them separately"
                )
            if dialect.is_matrix and not dialect.header:
                raise self._matrix(file)
        return named.dialect.names

    @property
    def header(self) -> bool:
        """Whether a line holds the names."""
        return any(file.dialect.header for file in self._files)

    def doubt(self, what: str) -> DataError | None:
        """An error that says what the table may be if it lacks rating columns; None if that is not known.

        what : the fault that was found
        """
        file = self._files[0]
        if file.dialect.is_matrix:
            return self._matrix(file)
        if self.header and not any(map(is_recognised, self.names)):
            example = ",".join(("user_id", "item_id", "rating", "timestamp")[: max(2, min(len(self.names), 4))])
            return DataError(
                what,
                where=self.where,
                seen=f"columns {listed(self.names, 60)}",
                fix=f"if the first line is data, put a line of column names above it: {example}; "
                "if it holds the names, say which column is which: --user-column, --item-column, …",
            )
        return None

    def read(
        self, names: Sequence[str], texts: Sequence[str] = (), ids: Sequence[str] = ()
    ) -> Iterator[pa.ChunkedArray]:
        """The columns; numbers and times are recognised, and a column of integers and text is text.

        texts : those of names to be read as text
        ids : those of names that hold ids, read as integers if every one is written like an integer, else as text
        """
        import pyarrow as pa

        for name in names:
            if self.names.count(name) > 1:
                raise DataError("two columns of the same name", where=self.where, seen=repr(name), fix="rename one")
        self._say_encoding()
        padded = any(file.survey.has_padding for file in self._files)
        self._refuse_ambiguous(name for name in names if name not in texts and name not in ids)
        types: dict[str, Any] = dict.fromkeys(ids, pa.large_string() if padded else pa.int64())
        types |= dict.fromkeys(texts, pa.large_string())
        columns = self._columns(names, types)
        for name in names:
            column = columns.pop(name)
            if name in texts:
                yield column
            elif name in ids:
                yield _as_ids(column)
            else:
                between = self._files[0].dialect.delimiter
                yield column if between == "," else _with_decimal_comma(column, self._column(name))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All columns as text, so that they can be written again as they are."""
        import pyarrow as pa
        import pyarrow.csv as arrow

        self._say_encoding()
        for file in self._files:
            places = file.places(self.names)
            types = dict.fromkeys(map(str, places), pa.large_string())
            try:
                with (
                    file.faults(types),
                    file.opened() as stream,
                    arrow.open_csv(stream, **file.options(places, types)) as rows,
                ):
                    for batch in rows:
                        yield pa.RecordBatch.from_arrays(batch.columns, names=list(self.names))
            except EmptyError:
                continue

    def place(self, row: int) -> str:
        """The row and its line in the file."""
        index = row
        for file in self._files:
            line = file.line(index)
            if line > 0:
                of = f" of {file.part.where}" if len(self._files) > 1 else ""
                return f"row {row} (line {line}{of})"
            index += line
        return f"row {row}"

    def _refuse_ambiguous(self, names: Iterable[str]) -> None:
        """Raise DataError if the commas in a column of numbers may separate thousands or decimals."""
        places = {name: index for index, name in enumerate(self.names)}
        for name in names:
            for file in self._files:
                seen = file.dialect.ambiguous.get(file.places(self.names)[places[name]])
                if seen is not None:
                    raise comma_fault(self._column(name), seen)

    def _column(self, name: str) -> str:
        return f"{self.where}, column {clipped(name)}"

    def _columns(self, names: Sequence[str], types: dict[str, Any]) -> dict[str, pa.ChunkedArray]:
        """The columns of all parts. A column is text if a value does not have the expected type."""
        import pyarrow as pa

        while True:
            try:
                tables = [file.table(self.names, names, types) for file in self._files]
                schemas = [table.schema for table in tables]
                mixed = next(
                    (name for name in names if not _agree([schema.field(name).type for schema in schemas])), None
                )
            except OtherTypeError as other:
                mixed = other.column
            if mixed is None:
                whole = pa.concat_tables(tables, promote_options="permissive")
                return {name: whole.column(name) for name in names}
            types[mixed] = pa.large_string()

    def _say_encoding(self) -> None:
        """Warn of what the owner may not know about the bytes, once for all parts."""
        for remark in dict.fromkeys(remark for file in self._files for remark in file.remarks()):
            warnings.warn(f"{self.where}: {remark}", ReadingNotice, stacklevel=4)

    def _matrix(self, file: TextPart) -> DataError:
        rows, columns = file.count_rows(), len(file.dialect.names)
        return DataError(
            f"a matrix of {rows} rows × {columns} columns of numbers, not a table of ratings",
            where=file.part.where,
            fix="read it with numpy or pandas and give it to recsys_mf.from_matrix; if it is a table of ratings, "
            "put a line of column names above it",
        )


def _as_ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Integers if all are written in the standard way; other numbers as numbers; else text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_large_string(column.type) or not len(column):
        return column
    if pc.any(pc.match_substring_regex(column, _PADDED)).as_py():
        return column
    if pc.all(pc.match_substring_regex(column, _INTEGER)).as_py():
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            return column
    is_number = pc.all(pc.match_substring_regex(column, _NUMBER)).as_py()
    return column.cast(pa.float64()) if is_number else column


def _agree(types: Sequence[pa.DataType]) -> bool:
    """Whether columns of these types can be joined without a loss: all numbers, or of one type except for nulls."""
    import pyarrow as pa

    kinds = {kind for kind in types if not pa.types.is_null(kind)}
    return len(kinds) <= 1 or kinds <= {pa.int64(), pa.float64()}


def _with_decimal_comma(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """A column as numbers if it is text and every value is a number with a decimal comma; else unchanged.

    Raises DataError if all of its commas may separate thousands.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    commas, thousands = pc.match_substring(column, ","), pc.match_substring_regex(column, f"^{THOUSANDS}$")
    decimals = pc.match_substring_regex(column, _COMMA)
    if not pc.all(pc.or_(decimals, thousands)).as_py():
        return column
    ambiguous = pc.and_(decimals, thousands)
    if pc.any(ambiguous).as_py() and pc.all(pc.equal(commas, thousands)).as_py():
        raise comma_fault(where, column.filter(ambiguous)[0].as_py())
    if not pc.all(decimals).as_py():
        return column
    return pc.replace_substring(column, ",", ".").cast(pa.float64())
