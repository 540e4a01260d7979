"""How a text table is written: its delimiter, quotes, decimal sign and line of names, found from its first lines.

The delimiter is the one that splits the lines into equally many fields. If several do, it is the one whose first line
holds more recognised names, then as many names as there are fields, then the one whose fields look most like values.
Blanks come last.

The first line holds the names if one of them is recognised, or if it holds no value (a number, a date, a text that
occurs below it or has the same pattern as all texts below it: `u1` above `u2`).

A table without names is a matrix, not ratings, if it has five columns or more that are all numbers (except for a first
column of row labels), unless the fourth holds seconds since 1970; if its first two columns hold fractions; or, with
four columns, if the fourth holds only numbers that the first three hold too, as times never would. Three columns of
whole numbers are users, items and ratings.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recsys_mf.errors import DataError
from recsys_mf.loaders.foreign import refuse_foreign_line
from recsys_mf.loaders.numerals import MISSING, ambiguous_columns, decimal_sign, is_number
from recsys_mf.loaders.quotes import Quotes, QuoteScan
from recsys_mf.loaders.rewriting import BLANKS, BY_MOVIE, SEPARATOR
from recsys_mf.loaders.source import is_recognised
from recsys_mf.loaders.words import clipped

_DELIMITERS = ("::", "\t", ",", ";", "|", BLANKS)  # if several fit equally well, the first is taken
_HEADERLESS = ("user_id", "item_id", "rating", "timestamp")
_MATRIX = 5  # this many columns of numbers without names are not a table of ratings
_SECONDS = 1e8  # a fourth column of larger numbers holds times
_COMMENTS = ("#", "%")
_DATE = re.compile(r"\d{4}[-/.]\d\d?[-/.]\d\d?([T ]\d\d?:\d\d.*)?|\d\d?[./-]\d\d?[./-]\d{4}.*|\d\d?:\d\d(:\d\d)?.*")


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    delimiter : between fields: one character, `::`, or BLANKS for runs of them
    quotes : how fields are quoted
    names : of the columns; user_id, item_id, rating, timestamp, column_4, … if the file has none
    header : whether a line holds the names
    skipped : lines before the first row: empty ones, comments, the names
    decimal : the sign before the fraction of a number
    is_matrix : whether it is a matrix of numbers, a row in a line, not a table of ratings
    ambiguous : places of columns whose commas may separate thousands or decimals, each with such a number
    """

    delimiter: str
    quotes: Quotes
    names: tuple[str, ...]
    header: bool
    skipped: int
    decimal: str
    is_matrix: bool
    ambiguous: Mapping[int, str] = field(default_factory=dict)

    @property
    def separator(self) -> str:
        """The delimiter, or what is written in place of one that is longer than a character."""
        return {"::": SEPARATOR, BLANKS: SEPARATOR, BY_MOVIE: ","}.get(self.delimiter, self.delimiter)


def dialect_of(
    text: str, where: str, *, whole: bool, single_column: bool = False, header: bool | None = None
) -> Dialect:
    """The dialect of a table that starts with this text.

    whole : False if the text may end within a line
    single_column : whether a text without a delimiter is a table of one column
    header : whether the first line holds the names; None if it is to be found out
    Raises DataError for a text without lines, without a delimiter, and for formats that are not a table.
    """
    lines = list(io.StringIO(text, newline=""))
    if not whole and len(lines) > 1:
        lines.pop()
    refuse_foreign_line(lines, where)
    skipped = _head(lines)
    lines = lines[skipped:]
    if not lines:
        raise DataError("no ratings in the table", where=where, fix="give lines of user, item, rating")
    cut = _best(lines, whole=whole)
    if cut is None and single_column:
        cut = _cut(lines, "\t", whole=whole, least=1)
    if cut is None:
        raise DataError(
            "no delimiter in the first line",
            where=where,
            seen=repr(clipped(lines[0].strip(), 40)),
            fix="separate the fields with a comma, a tab or '::'",
        )
    first, body = cut.rows[0], cut.rows[1:]
    header = _is_header(first, body) if header is None else header
    rows = body if header else _without_empty_ends(cut.rows)
    twice = next((name for name in first if header and first.count(name) > 1 and is_recognised(name)), None)
    if twice is not None:
        raise DataError("two columns of the same name", where=where, seen=repr(twice), fix="rename one")
    names = _named(first, body, cut.width) if header else _unnamed(cut.width, max(map(len, rows)))
    decimal = decimal_sign(rows)
    return Dialect(
        cut.delimiter,
        cut.quotes,
        names,
        header,
        skipped + (cut.first_lines if header else 0),
        decimal,
        (_is_named_matrix(names, rows) if header else _is_bare_matrix(rows)),
        ambiguous_columns(rows, cut.delimiter) if decimal == "," else {},
    )


def quote_scan(delimiter: str) -> QuoteScan:
    """A scan for the quotes of a table with this delimiter."""
    return QuoteScan(ord(delimiter[-1]))


@dataclass(frozen=True)
class _Cut:
    """Lines cut at a delimiter."""

    delimiter: str
    quotes: Quotes
    rows: list[list[str]]
    first_lines: int  # of the file that the first row takes
    width: int  # fields of most rows
    agreement: float  # share of the rows that have as many


def _head(lines: Sequence[str]) -> int:
    """How many lines come before the table: empty ones, and comments unless ids start with that sign too."""
    starts = Counter(line[0] for line in lines if line.strip())
    skipped = 0
    for line in lines:
        sign = line[:1]
        is_comment = sign in _COMMENTS and not _names_in(line) and starts[sign] < max(2, 0.5 * starts.total())
        is_comment &= re.match(r"#n/a\W", line, re.IGNORECASE) is None  # a missing entry
        is_comment |= sign in _COMMENTS and line[1:2] in (" ", "\t", sign) and not _names_in(line)
        if line.strip(" \t\r\n\ufeff") and not is_comment:
            break
        skipped += 1
    return skipped


def _names_in(line: str) -> bool:
    return sum(is_recognised(name.strip(' "\r\n#%')) for name in re.split(r"::|[\t,;|]", line)) > 1


def _best(lines: Sequence[str], *, whole: bool) -> _Cut | None:
    cuts = [cut for delimiter in _DELIMITERS if (cut := _cut(lines, delimiter, whole=whole)) is not None]
    even = [cut for cut in cuts if cut.agreement == 1]
    if even:
        return max(even, key=lambda cut: (*_fit_of_names(cut), -_blemishes(cut, even), cut.delimiter != BLANKS))
    strong = [cut for cut in cuts if cut.delimiter != BLANKS] or cuts
    return max(strong, key=lambda cut: (_recognised(cut.rows[0]), cut.agreement), default=None)


def _cut(lines: Sequence[str], delimiter: str, *, whole: bool, least: int = 2) -> _Cut | None:
    """The lines split at a delimiter; None if most lines then have fewer than the least number of fields."""
    prepared, char = lines, delimiter
    if delimiter == "::":
        prepared, char = [line.replace("::", SEPARATOR) for line in lines], SEPARATOR
    elif delimiter == BLANKS:
        prepared = [line.strip().replace("\t", " ") + "\n" for line in lines]
    if least > 1 and not any(char in line.strip() for line in prepared[:2]):
        return None
    scan = quote_scan(char)
    scan.feed("".join(prepared).encode("utf-8", "replace"))
    quotes = scan.finish(whole=whole)
    reader = row_reader(prepared, char, quotes)
    rows: list[list[str]] = []
    first_lines = 0
    try:
        for row in reader:
            if any(field.strip() for field in row):
                rows.append([field.strip() for field in row])
                first_lines = first_lines or reader.line_num
    except csv.Error:
        return None
    if not whole and len(rows) > 2:
        rows.pop()  # it may be incomplete
    if not rows:
        return None
    widths = Counter(map(len, rows[1:] or rows))
    width, count = widths.most_common(1)[0]
    if width < least:
        return None
    agreement = count / widths.total()
    if abs(len(rows[0]) - width) > 1:  # a name may be missing, above row names or before a delimiter at the end
        agreement *= 0.99
    return _Cut(delimiter, quotes, rows, first_lines, width, agreement)


def row_reader(lines: Iterable[str], separator: str, quotes: Quotes) -> Any:
    """Python's reader of rows for a dialect; its `line_num` is the number of lines taken."""
    if quotes == "none":
        return csv.reader(lines, delimiter=separator, skipinitialspace=True, quoting=csv.QUOTE_NONE, quotechar=None)
    escape = "\\" if quotes == "escaped" else None
    return csv.reader(
        lines, delimiter=separator, skipinitialspace=True, escapechar=escape, doublequote=quotes == "doubled"
    )


def _fit_of_names(cut: _Cut) -> tuple[int, bool]:
    """How well the first line fits the others: how many of its names are recognised, and whether none is missing."""
    return _recognised(cut.rows[0]), len(cut.rows[0]) == cut.width


def _recognised(fields: Sequence[str]) -> int:
    return sum(map(is_recognised, fields))


def _blemishes(cut: _Cut, others: Sequence[_Cut]) -> float:
    """Share of the fields that another delimiter would split and that are not a value as they are."""
    delimiters = [other.delimiter for other in others if other.delimiter != cut.delimiter]

    def is_blemished(field: str) -> bool:
        if _is_value(field):
            return False
        strong = any(delimiter in field for delimiter in delimiters if delimiter != BLANKS)
        return strong or (BLANKS in delimiters and len(field.split()) > 1 and all(map(_is_value, field.split())))

    fields = [field for row in cut.rows[:1000] for field in row]
    return sum(map(is_blemished, fields)) / len(fields)


def _is_value(text: str) -> bool:
    return is_number(text) or _DATE.fullmatch(text) is not None


def _is_header(first: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    if any(map(is_recognised, first)):
        return True
    if any(map(_is_value, first)):
        return False
    columns = [[row[index] for row in body if index < len(row)] for index in range(len(first))]
    if any(column and all(map(_is_value, column)) for column in columns):
        return True
    repeats = any(field and field in column for field, column in zip(first, columns, strict=True))
    alike = body and all(
        re.search(r"\d", field) and {_shape(other) for other in column} == {_shape(field)}
        for field, column in zip(first, columns, strict=True)
    )
    return not (repeats or alike)


def _shape(text: str) -> str:
    """The pattern of a text, the same for u17 and ann4."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", text))


def _unnamed(width: int, filled: int) -> tuple[str, ...]:
    """The names of MovieLens; other columns, and those that are empty at the end, get numbers."""
    named = _HEADERLESS[:filled]
    return named + tuple(f"column_{index}" for index in range(len(named), width))


def _without_empty_ends(rows: list[list[str]]) -> list[list[str]]:
    """The rows without the empty fields after a delimiter at the end of every line."""
    filled = max(index for row in rows for index, field in enumerate(row, 1) if field)
    return [row[:filled] for row in rows]


def _named(first: Sequence[str], body: Sequence[Sequence[str]], width: int) -> tuple[str, ...]:
    """The names, one for every field of the rows: R writes none above row names, others end lines by a delimiter."""
    names = [first[0].lstrip("#% "), *first[1:]]
    if len(names) == width - 1:
        ends = all(not row[-1] for row in body if len(row) == width)
        names = [*names, ""] if ends else ["", *names]
    elif len(names) == width + 1 and not names[-1]:
        names.pop()
    return tuple(name or f"column_{index}" for index, name in enumerate(names))


def _numbers(rows: Sequence[Sequence[str]], index: int) -> list[float] | None:
    """The numbers of a column, without those that are missing; None if it holds anything else."""
    fields = [row[index] for row in rows if index < len(row) and row[index].lower() not in MISSING]
    if not all(map(is_number, fields)):
        return None
    return [float(field.replace(",", ".")) for field in fields]


def _is_bare_matrix(rows: Sequence[Sequence[str]]) -> bool:
    width = max(map(len, rows))
    labels = [str(number) for number in range(width)]
    if width > 2 and not rows[0][0] and rows[0][1:] in (labels[:-1], labels[1:]):
        return True  # columns called by their numbers, as pandas writes them
    columns = [_numbers(rows, index) for index in range(width)]
    if width < 3 or any(column is None for column in columns[1:]):
        return False
    users, items, ratings, *more = ([] if column is None else column for column in columns)
    if any(number % 1 for number in users) or any(number % 1 for number in items):
        return True
    if columns[0] is None:  # text, then numbers: user, item, rating and times, or row labels and a matrix
        return width >= _MATRIX and not _are_seconds(more[0])
    if width == 4:
        return bool(more[0]) and len(rows) > 2 and set(more[0]) <= {*users, *items, *ratings} and max(more[0]) <= 100
    return width >= _MATRIX and not _are_seconds(more[0])


def _are_seconds(numbers: Sequence[float]) -> bool:
    return bool(numbers) and min(numbers) >= _SECONDS


def _is_named_matrix(names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether at most the first column has a recognised name, and all other columns hold numbers."""
    if len(names) < 4 or not rows or _recognised(names) > 1 or _recognised(names[1:]):
        return False
    return all(_numbers(rows, index) is not None for index in range(1, len(names)))
