"""Text tables: CSV and its kin, MovieLens, LIBMF, the Netflix Prize; plain or packed, in one file or in parts."""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recsys_mf.errors import DataError, ReadingNotice
from recsys_mf.loaders.charset import Utf8, found_encoding
from recsys_mf.loaders.dialect import Dialect, dialect_of, row_reader
from recsys_mf.loaders.parts import HEAD, Part, reading
from recsys_mf.loaders.rewriting import BY_MOVIE, Rewrite, Rewritten, rewrite_fields, rewrite_netflix
from recsys_mf.loaders.source import is_recognised
from recsys_mf.loaders.survey import Survey, survey
from recsys_mf.loaders.words import clipped, listed

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCKS = (1 << 22, 1 << 26, 1 << 30)  # bytes parsed at a time; the next size if a row is longer
_NETFLIX = re.compile(r"\s*\d+:[ \t]*\r?\n\s*\d+(,[^\r\n]*)?\r?(\n|\Z)")
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
        self._files = [_File(part, encoding) for part in parts]

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
        """An error that says what the table may be if it lacks rating columns; None if there is nothing to say.

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
        ids : those of names that hold ids, read as integers if every one is written as an integer is, else as text
        """
        import pyarrow as pa

        for name in names:
            if self.names.count(name) > 1:
                raise DataError("two columns of the same name", where=self.where, seen=repr(name), fix="rename one")
        self._say_encoding()
        padded = any(file.survey.has_padding for file in self._files)
        types: dict[str, Any] = dict.fromkeys(ids, pa.large_string() if padded else pa.int64())
        types |= dict.fromkeys(texts, pa.large_string())
        columns = self._columns(names, types)
        for name in names:
            column = columns.pop(name)
            if name in texts:
                yield column
            elif name in ids:
                yield self._as_ids(name, column)
            else:
                yield _with_decimal_comma(column) if self._files[0].dialect.delimiter != "," else column

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
            except _EmptyError:
                continue

    def place(self, row: int) -> str:
        """The row and its line in the file."""
        place = row
        for file in self._files:
            line = file.line(place)
            if line > 0:
                of = f" of {file.part.where}" if len(self._files) > 1 else ""
                return f"row {row} (line {line}{of})"
            place += line
        return f"row {row}"

    def _columns(self, names: Sequence[str], types: dict[str, Any]) -> dict[str, pa.ChunkedArray]:
        """The columns of all parts. A column whose values do not have the type they should have is text."""
        import pyarrow as pa

        while True:
            try:
                tables = [file.table(self.names, names, types) for file in self._files]
                schemas = [table.schema for table in tables]
                mixed = next(
                    (name for name in names if not _agree([schema.field(name).type for schema in schemas])), None
                )
            except _OtherTypeError as other:
                mixed = other.column
            if mixed is None:
                whole = pa.concat_tables(tables, promote_options="permissive")
                return {name: whole.column(name) for name in names}
            types[mixed] = pa.large_string()

    def _as_ids(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Integers if all are written in the standard way; other numbers as numbers; else text."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not pa.types.is_large_string(column.type) or not len(column):
            return column
        padded = pc.match_substring_regex(column, _PADDED)
        if pc.all(pc.match_substring_regex(column, _INTEGER)).as_py():
            if pc.any(padded).as_py():
                self._say_text(
                    name,
                    column,
                    padded,
                    "ids with leading zeros or a sign are read as text; --ids integer reads integers",
                )
                return column
            try:
                return column.cast(pa.int64())
            except pa.ArrowInvalid:
                long = pc.greater(pc.utf8_length(column), 18)
                self._say_text(name, column, long, "ids beyond 64-bit integers are read as text")
                return column
        numbers = pc.all(pc.match_substring_regex(column, _NUMBER)).as_py() and not pc.any(padded).as_py()
        return column.cast(pa.float64()) if numbers else column

    def _say_text(self, name: str, column: pa.ChunkedArray, found: pa.ChunkedArray, what: str) -> None:
        import pyarrow.compute as pc

        example = column[pc.index(found, True).as_py()].as_py()
        warnings.warn(
            f"{self.where}, column {clipped(name)}: {what} (saw {clipped(example)!r})",
            ReadingNotice,
            stacklevel=4,
        )

    def _say_encoding(self) -> None:
        """Warn of what the owner may not know about the bytes, once for all parts."""
        for remark in dict.fromkeys(remark for file in self._files for remark in file.remarks()):
            warnings.warn(f"{self.where}: {remark}", ReadingNotice, stacklevel=4)

    def _matrix(self, file: _File) -> DataError:
        rows, columns = file.count_rows(), len(file.dialect.names)
        return DataError(
            f"a matrix of {rows} rows × {columns} columns of numbers, not a table of ratings",
            where=file.part.where,
            fix="read it with numpy or pandas and give it to recsys_mf.from_matrix; if it is a table of ratings, "
            "put a line of column names above it",
        )


class _EmptyError(Exception):
    """There are no rows."""


class _LongRowError(Exception):
    """A row is longer than what is parsed at a time."""


class _OtherTypeError(Exception):
    """A value of a column is not of the type that was given."""

    def __init__(self, column: str) -> None:
        self.column = column


class _File:
    """A part of a text table: its dialect, and its bytes as Arrow takes them."""

    def __init__(self, part: Part, encoding: str | None) -> None:
        self.part = part
        self.single_column = False
        self._given = encoding

    @cached_property
    def dialect(self) -> Dialect:
        """What the first lines tell."""
        text, whole = self._start
        if _NETFLIX.match(text):
            return _netflix(text)
        return dialect_of(text, self.part.where, whole=whole, single_column=self.single_column)

    @cached_property
    def survey(self) -> Survey:
        """What all bytes tell."""
        with self.faults({}), self._text(lenient=False) as file:
            return survey(file, self.dialect.delimiter)

    @property
    def lenient(self) -> bool:
        """Whether some bytes are of another encoding than the text."""
        return self._given is None and not self.survey.is_utf8

    def remarks(self) -> Iterator[str]:
        """What the owner may not know about the bytes."""
        if self.lenient:
            yield (
                "some bytes are not UTF-8 and are read as Windows-1252 "
                "(if that is wrong, give the encoding: --encoding, encoding= in Python)"
            )
        elif self._encoding != "utf-8" and not self._given:
            yield f"read as {self._encoding.upper()}"
        if self.part.packing == "xz":
            yield "xz files are slow to read; gzip and zstd are faster"

    def table(self, names: Sequence[str], wanted: Sequence[str], types: dict[str, Any]) -> pa.Table:
        """The wanted ones of the columns with these names. Raises _OtherTypeError if a value does not have its type."""
        import pyarrow as pa
        import pyarrow.csv as arrow

        places = self.places(names)
        picked = [places[names.index(name)] for name in wanted]
        by_place = {str(place): types[name] for place, name in zip(picked, wanted, strict=True) if name in types}
        for block in _BLOCKS:
            try:
                with self.faults(by_place), self.opened() as stream:
                    table = arrow.read_csv(stream, **self.options(picked, by_place, block))
                    return table.rename_columns(list(wanted))
            except _LongRowError:
                continue
            except _EmptyError:
                return pa.table({name: pa.array([], types.get(name, pa.null())) for name in wanted})
            except _OtherTypeError as other:
                raise _OtherTypeError(wanted[picked.index(int(other.column))]) from None
        raise DataError("a line of more than a gigabyte", where=self.part.where, fix="repair its quotes")

    def places(self, names: Sequence[str]) -> list[int]:
        """The positions of the columns with these names in this part."""
        own = self.dialect.names
        return [own.index(name) for name in names] if self.dialect.header and own != names else list(range(len(names)))

    def options(self, places: Sequence[int], types: dict[str, Any], block: int = _BLOCKS[0]) -> dict[str, Any]:
        """How Arrow is to read it; columns are called by their places."""
        import pyarrow.csv as arrow

        dialect, quotes = self.dialect, self.survey.quotes
        return {
            "read_options": arrow.ReadOptions(
                column_names=[str(place) for place in range(len(dialect.names))], block_size=block
            ),
            "parse_options": arrow.ParseOptions(
                delimiter=dialect.separator,
                quote_char=False if quotes == "none" else '"',
                escape_char="\\" if quotes == "escaped" else False,
                newlines_in_values=quotes != "none",
            ),
            "convert_options": arrow.ConvertOptions(
                include_columns=[str(place) for place in places],
                column_types=types,
                null_values=[""],
                strings_can_be_null=True,
                decimal_point=dialect.decimal,
            ),
        }

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """The stream of its rows."""
        with self._prepared() as file:
            if hasattr(file, "seekable") and file.seekable():
                file.seek(file.tell() + self._before)
            else:
                file.read(self._before)
            yield file

    @contextmanager
    def faults(self, types: dict[str, Any]) -> Iterator[None]:
        """Turns errors of Arrow and of unpackers about this part into errors of this package.

        types : given to columns, by their places
        """
        import pyarrow as pa

        try:
            with reading(self.part.where):
                yield
        except UnicodeDecodeError as error:
            seen = f"byte {error.object[error.start]:#04x}"
            fix = "give the right encoding, or leave it out to have it detected"
            raise DataError(f"not {error.encoding}", where=self.part.where, seen=seen, fix=fix) from None
        except pa.ArrowInvalid as error:
            raise self._told(str(error), types) from None

    def _told(self, reason: str, types: dict[str, Any]) -> Exception:
        import pyarrow as pa

        column = re.match(r"In CSV column #(\d+).*conversion error", reason, re.DOTALL)
        if column is not None and types.get(column[1]) != pa.large_string():
            return _OtherTypeError(column[1])
        if "Empty CSV" in reason:
            return _EmptyError()
        if "straddling" in reason or "block size" in reason:
            return _LongRowError()
        uneven = self._uneven()
        if uneven is None:
            fix = "repair it or write it again"
            return DataError("cannot be read as a text table", where=self.part.where, seen=clipped(reason), fix=fix)
        (line, fields), width = uneven, len(self.dialect.names)
        text = self.dialect.separator.join(fields)
        return DataError(
            f"cannot be read as a text table: a line has {len(fields)} fields, but the table has {width}",
            where=f"{self.part.where}, line {line}",
            seen=repr(clipped(text)),
            fix="repair the line; text that contains the delimiter must be in quotes",
        )

    def count_rows(self) -> int:
        """How many lines hold something."""
        return sum(1 for _ in self.rows())

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The line in which a row starts and its fields, one row after another, by Python's reader."""
        dialect = self.dialect
        with self.opened() as stream:
            text = io.TextIOWrapper(stream, "utf-8", "replace", newline="")
            reader = row_reader(text, dialect.separator, self.survey.quotes)
            line = dialect.skipped + 1
            for row in reader:
                if row:
                    yield line, row
                line = dialect.skipped + reader.line_num + 1

    def line(self, row: int) -> int:
        """The line in which a row starts, counted from 1; minus the number of rows if there is no such row."""
        lines = self._lines_of_netflix() if self.dialect.delimiter == BY_MOVIE else (line for line, _ in self.rows())
        number = 0
        for number, line in enumerate(lines, 1):
            if number > row:
                return line
        return -number

    def _uneven(self) -> tuple[int, list[str]] | None:
        """The first row with more or fewer fields than there are names."""
        try:
            return next((row for row in self.rows() if len(row[1]) != len(self.dialect.names)), None)
        except csv.Error:
            return None

    @cached_property
    def _before(self) -> int:
        """Bytes before the first row."""
        with self._prepared() as file:
            head = file.read(HEAD)
        lines = re.compile(rb"(?:[^\r\n]*(?:\r\n|\r|\n)){%d}" % self.dialect.skipped).match(head)
        return len(head) if lines is None else lines.end()

    def _rewrite(self) -> Rewrite | None:
        """The change to the lines that Arrow needs before it can read them."""
        dialect = self.dialect
        if dialect.delimiter == BY_MOVIE:
            return rewrite_netflix()
        if dialect.separator != dialect.delimiter or self.survey.has_blanks:
            return rewrite_fields(dialect.delimiter, self.survey.quotes)
        return None

    def _prepared(self) -> Any:
        """Its bytes as Arrow takes them, from the start."""
        file = self._text(lenient=self.lenient)
        rewrite = self._rewrite()
        return file if rewrite is None else io.BufferedReader(Rewritten(file, rewrite, self.survey.quotes), HEAD)

    def _text(self, *, lenient: bool) -> Any:
        """Its bytes in UTF-8, without a byte order mark."""
        encoding = self._encoding
        file = self.part.open()
        if encoding != "utf-8" or lenient or self._given:
            return io.BufferedReader(Utf8(file, encoding, lenient=lenient), HEAD)
        if self._head.startswith(codecs.BOM_UTF8):
            file.read(len(codecs.BOM_UTF8))
        return file

    @cached_property
    def _head(self) -> bytes:
        return self.part.head()

    @property
    def _encoding(self) -> str:
        return self._given or found_encoding(self._head)

    @cached_property
    def _start(self) -> tuple[str, bool]:
        """The text of the first lines, and whether that is all."""
        head = self._head
        whole = len(head) < HEAD
        if not head.strip():
            raise DataError(
                "no ratings in the table: the file is empty", where=self.part.where, fix="give at least one row"
            )
        file = Utf8(io.BytesIO(head if whole else head[:-4]), self._encoding, lenient=self._given is None)
        with self.faults({}):
            try:
                text = file.read().decode("utf-8", "replace")
            except UnicodeDecodeError:
                if whole:
                    raise
                text = head.decode(self._encoding, "replace")
        if _is_binary(text):
            raise DataError(
                "not a text table", where=self.part.where, seen=f"bytes {clipped(repr(head[:12]))}",
                fix="give text, Parquet or JSON lines",
            )  # fmt: skip
        return text, whole

    def _lines_of_netflix(self) -> Iterator[int]:
        with self._text(lenient=self.lenient) as file:
            for number, line in enumerate(io.TextIOWrapper(file, "utf-8", "replace"), 1):
                if line.strip() and not line.strip().endswith(":"):
                    yield number


def _netflix(text: str) -> Dialect:
    """Rows of the Netflix Prize: after the movie's line, user, rating and date; without ratings in its test sets."""
    fields = text.split(":", 1)[1].split()[0].split(",")
    names = {3: ("user_id", "rating", "timestamp"), 2: ("user_id", "timestamp")}.get(len(fields), ("user_id",))
    return Dialect(BY_MOVIE, "none", ("item_id", *names), header=False, skipped=0, decimal=".", is_matrix=False)


def _is_binary(text: str) -> bool:
    """Whether a text holds zero bytes, or more control characters than one in a hundred."""
    controls = re.findall(r"[\x01-\x08\x0e-\x1a\x1c-\x1e]", text)
    return "\0" in text or len(controls) > len(text) / 100


def _agree(types: Sequence[pa.DataType]) -> bool:
    """Whether columns of these types are one column without a loss: numbers, or nulls and a type."""
    import pyarrow as pa

    kinds = {kind for kind in types if not pa.types.is_null(kind)}
    return len(kinds) <= 1 or kinds <= {pa.int64(), pa.float64()}


def _with_decimal_comma(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text of which every value is a number with a decimal comma, as numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    if not pc.all(pc.match_substring_regex(column, _COMMA)).as_py():
        return column
    return pc.replace_substring(column, ",", ".").cast(pa.float64())
