"""Text tables: CSV, TSV, MovieLens u.data (tabs, no header) and ratings.dat (`::`, no header)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recsys_mf.errors import DataError
from recsys_mf.loaders.source import is_recognised

if TYPE_CHECKING:
    import pyarrow as pa

_DELIMITERS = ("::", "\t", ",", ";", "|")  # the first that the first line holds
_HEADERLESS = ("user_id", "item_id", "rating", "timestamp")
_BLOCK = 1 << 22  # bytes parsed at a time


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    delimiter : between fields; `::` is read as `:` with an empty field between
    names : of the columns; those of MovieLens where the file has no header
    header : whether the first line holds the names
    """

    delimiter: str
    names: tuple[str, ...]
    header: bool


class TextSource:
    """A text table on disk, plain or compressed (by its suffix: .gz, .bz2, .zst).

    The first line is a header when it holds a name that is recognised, or no number. Empty fields are nulls.
    """

    typed = False

    def __init__(self, where: str) -> None:
        self.where = where

    @staticmethod
    def claims(where: str, head: bytes) -> bool:
        """Every file; the first line tells more."""
        return True

    @property
    def names(self) -> tuple[str, ...]:
        """Columns: those of the header, or user_id, item_id, rating, timestamp, column_4, …"""
        return self.dialect.names

    @cached_property
    def dialect(self) -> Dialect:
        """What the first line tells. Raises DataError where it is not a table of text."""
        import pyarrow as pa

        try:
            with pa.input_stream(self.where, compression="detect") as stream:
                head = stream.read(1 << 16)
            line = head.decode("utf-8-sig", errors="strict" if len(head) < 1 << 16 else "ignore").split("\n")[0]
        except (UnicodeDecodeError, OSError) as error:
            raise _unreadable(self.where, error) from None
        if not line.strip() or "\0" in line:
            raise DataError(
                "no ratings in the table" if not head.strip() else "not a text table",
                where=self.where,
                seen=repr(line[:40]),
                fix="give lines of user, item, rating",
            )
        return _sniffed(line.rstrip("\r"), self.where)

    def read(self, names: Sequence[str], texts: Sequence[str] = ()) -> Iterator[pa.ChunkedArray]:
        """The columns; numbers and times are recognised, and a column of integers and text is text."""
        import pyarrow as pa
        import pyarrow.csv as csv

        types = dict.fromkeys(texts, pa.large_string())
        while True:
            try:
                table = csv.read_csv(self.where, **self._options(names, types))
                break
            except pa.ArrowInvalid as error:
                column = self._column_in_doubt(error)
                if column is None or column in types:
                    raise _unreadable(self.where, self._exactly(names, error)) from None
                types[column] = pa.large_string()  # a later value is no number: the caller judges the text
            except OSError as error:
                raise _unreadable(self.where, error) from None
        for name in names:
            yield table.column(name)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All columns as text, so that they can be written again as they are."""
        import pyarrow as pa
        import pyarrow.csv as csv

        try:
            types = dict.fromkeys(self.names, pa.large_string())
            with csv.open_csv(self.where, **self._options(self.names, types)) as reader:
                yield from reader
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(self.where, error) from None

    def place(self, row: int) -> str:
        """The row and the line of the file it stands in."""
        return f"row {row} (line {row + 1 + self.dialect.header})"

    def _options(self, names: Sequence[str], types: dict[str, Any]) -> dict[str, Any]:
        import pyarrow.csv as csv

        dialect = self.dialect
        fields = list(dialect.names)
        if dialect.delimiter == "::":
            fields = [part for number, name in enumerate(dialect.names) for part in (name, f"\0{number}")][:-1]
        return {
            "read_options": csv.ReadOptions(column_names=fields, skip_rows=int(dialect.header), block_size=_BLOCK),
            "parse_options": csv.ParseOptions(delimiter=dialect.delimiter[0], quote_char=_quote(dialect)),
            "convert_options": csv.ConvertOptions(
                include_columns=list(names), column_types=types, null_values=[""], strings_can_be_null=True
            ),
        }

    def _exactly(self, names: Sequence[str], error: BaseException) -> BaseException:
        """The error of a read by one thread, which knows the row."""
        import pyarrow as pa
        import pyarrow.csv as csv

        options = self._options(names, dict.fromkeys(names, pa.large_string()))
        options["read_options"].use_threads = False
        try:
            csv.read_csv(self.where, **options)
        except pa.ArrowInvalid as by_row:
            exact: BaseException = by_row
            return exact
        return error

    def _column_in_doubt(self, error: BaseException) -> str | None:
        """The column of which Arrow says that a value does not convert to the type its first values had."""
        number = re.match(r"In CSV column #(\d+).*conversion error", str(error), re.DOTALL)
        if number is None:
            return None
        return self.names[int(number[1]) // (2 if self.dialect.delimiter == "::" else 1)]


def _quote(dialect: Dialect) -> str | bool:
    return False if dialect.delimiter in ("::", "\t") else '"'


def _sniffed(line: str, where: str) -> Dialect:
    delimiter = next((text for text in _DELIMITERS if text in line), None)
    if delimiter is None:
        raise DataError(
            "no delimiter in the first line",
            where=where,
            seen=repr(line[:40]),
            fix="separate the fields by a comma, a tab or '::'",
        )
    fields = [field.strip().strip('"') for field in line.split(delimiter)]
    if any(map(_is_number, fields)) and not any(map(is_recognised, fields)):
        more = tuple(f"column_{number}" for number in range(len(_HEADERLESS), len(fields)))
        return Dialect(delimiter, (_HEADERLESS + more)[: len(fields)], header=False)
    repeated = next((field for field in fields if fields.count(field) > 1), None)
    if repeated is not None:
        raise DataError("two columns of the same name", where=where, seen=repr(repeated), fix="rename one")
    return Dialect(delimiter, tuple(fields), header=True)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _unreadable(where: str, error: BaseException) -> DataError:
    reason = str(error).splitlines()[0]
    return DataError("cannot be read as a text table", where=where, seen=reason, fix="mend or write it again")
