"""Numbers in text: fields without a value, and what a comma in a number separates.

A comma separates decimals (3,5) if numbers have commas and none has a point. It may separate thousands instead if it is
followed by three digits, after one to three that do not start with a zero: 1,250 but not 0,125 or 1250,125. A column in
which all commas are of this kind is ambiguous, unless another column, or a semicolon as the delimiter, shows what a
comma means, and this one has no integer of 100 or more without a comma, which numbers rounded to three decimals hardly
are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from recsys_mf.errors import DataError

MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "-", "?"}
"""Fields without a value, in lower case."""

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)
_POINT, _COMMA = re.compile(r"[+-]?\d*\.\d+"), re.compile(r"[+-]?\d*,\d+")
_LARGE = re.compile(r"[+-]?[1-9]\d\d+")
THOUSANDS = r"[+-]?[1-9]\d{0,2}(,\d{3})+"
"""A number whose commas may separate thousands, as a pattern of Python and of Arrow."""
_THOUSANDS = re.compile(THOUSANDS)


def is_number(text: str) -> bool:
    """Whether a field is a number, with a point or a comma before the decimals."""
    return _NUMBER.fullmatch(text) is not None


def decimal_sign(rows: Sequence[Sequence[str]]) -> str:
    """A comma if numbers have one and none has a point; between commas, only numbers in quotes can."""
    fields = [field for row in rows for field in row]
    commas = any(map(_COMMA.fullmatch, fields))
    return "," if commas and not any(map(_POINT.fullmatch, fields)) else "."


def ambiguous_columns(rows: Sequence[Sequence[str]], delimiter: str) -> Mapping[int, str]:
    """The indices of the columns of numbers whose commas may separate thousands or decimals, each with such a number.

    rows : of a table whose decimal sign is a comma
    """
    columns = [
        [row[index] for row in rows if index < len(row) and row[index].lower() not in MISSING]
        for index in range(max(map(len, rows), default=0))
    ]
    is_shown = delimiter == ";" or any(
        "," in field and is_number(field) and not _THOUSANDS.fullmatch(field) for c in columns for field in c
    )
    found = {}
    for index, fields in enumerate(columns):
        commas = [field for field in fields if "," in field]
        if not commas or not all(map(_THOUSANDS.fullmatch, commas)):
            continue
        single = next((field for field in commas if field.count(",") == 1), None)
        is_clear = is_shown and not any(map(_LARGE.fullmatch, fields))
        if single and not is_clear and all(is_number(field) for field in fields if field not in commas):
            found[index] = single
    return found


def comma_fault(where: str, seen: str) -> DataError:
    """An error that says that the commas of a column are ambiguous.

    seen : a number with one comma
    """
    fix = f"write such numbers as {seen.replace(',', '')} or {seen.replace(',', '.')}"
    return DataError("a comma may separate thousands or decimals", where=where, seen=repr(seen), fix=fix)
