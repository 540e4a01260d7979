"""A file of a text table: its dialect and encoding, its rows, and its columns by Arrow's reader."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recsys_mf.errors import DataError
from recsys_mf.loaders.charset import Utf8, found_encoding
from recsys_mf.loaders.dialect import Dialect, dialect_of, row_reader
from recsys_mf.loaders.parts import HEAD, Part, reading
from recsys_mf.loaders.rewriting import BY_MOVIE, Rewrite, Rewritten, rewrite_fields, rewrite_netflix
from recsys_mf.loaders.survey import Survey, survey
from recsys_mf.loaders.words import clipped

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCKS = (1 << 22, 1 << 26, 1 << 30)  # bytes parsed at a time; the next size if a row is longer
_NETFLIX = re.compile(r"\s*\d+:[ \t]*\r?\n\s*\d+(,[^\r\n]*)?\r?(\n|\Z)")


class EmptyError(Exception):
    """There are no rows."""


class _LongRowError(Exception):
    """A row is longer than what is parsed at a time."""


class OtherTypeError(Exception):
    """A value of a column is not of the type that was given."""

    def __init__(self, column: str) -> None:
        self.column = column


class TextPart:
    """A part of a text table: its dialect, and its bytes in a form that Arrow can read."""

    def __init__(self, part: Part, encoding: str | None) -> None:
        self.part = part
        self.single_column = False
        self._given = encoding

    @cached_property
    def dialect(self) -> Dialect:
        """The dialect, as the first lines show it."""
        text, whole = self._start
        if _NETFLIX.match(text):
            return _netflix(text)
        return dialect_of(text, self.part.where, whole=whole, single_column=self.single_column)

    @cached_property
    def survey(self) -> Survey:
        """The facts that only a pass over all bytes finds."""
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
        """The wanted columns, of the columns with these names. Raises OtherTypeError if a value has another type."""
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
            except EmptyError:
                return pa.table({name: pa.array([], types.get(name, pa.null())) for name in wanted})
            except OtherTypeError as other:
                raise OtherTypeError(wanted[picked.index(int(other.column))]) from None
        raise DataError("a line of more than a gigabyte", where=self.part.where, fix="repair its quotes")

    def places(self, names: Sequence[str]) -> list[int]:
        """The positions of the columns with these names in this part."""
        own = self.dialect.names
        return [own.index(name) for name in names] if self.dialect.header and own != names else list(range(len(names)))

    def options(self, places: Sequence[int], types: dict[str, Any], block: int = _BLOCKS[0]) -> dict[str, Any]:
        """The options of Arrow's reader; columns are named by their positions."""
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
        """Turns errors of Arrow and of decompression about this part into errors of this package.

        types : given to columns, by their positions
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
            return OtherTypeError(column[1])
        if "Empty CSV" in reason:
            return EmptyError()
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
        """The number of lines that are not empty."""
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
        """Its bytes in a form that Arrow can read, from the start."""
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
        """The text of the first lines, and whether that is the whole file."""
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
