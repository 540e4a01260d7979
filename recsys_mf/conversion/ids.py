"""Ids of every type as integers or text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from recsys_mf.conversion.arrow import arrow_column, as_text, decoded, first, first_refused, is_text, refuse_nulls
from recsys_mf.conversion.origin import Origin, format_value
from recsys_mf.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

Ids = Literal["auto", "integer", "string"]
IDS: tuple[Ids, ...] = ("auto", "integer", "string")
Kind = Literal["auto", "integer", "string", "as written"]
"""How ids are read: as asked; or "as written" beside integer ids that are known, so that 0042 is refused, not 42."""

_EXACT = 2**53  # beyond it float64 cannot hold every integer
_INTEGER, _PADDED = r"^[+-]?[0-9]+$", r"^(\+|-?0[0-9])"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_TOO_LARGE, _AS_LARGE = "id beyond 64-bit integers", "read the ids with --ids string"
_SMALLER = "give ids as in training, which are integers of 64 bits"
_AS_STRINGS = "store them as integers or text, or read them with --ids string (ids='string')"


def id_column(values: Any, origin: Origin, ids: Kind = "auto") -> pa.ChunkedArray:
    """A column of ids as Arrow int64 (int32 stays as it is) or large_string, without nulls.

    values : as in `arrow_column`
    ids : "integer" or "string" to read them as such; "auto" decides by the type:

    - integers of any width, and floats and decimals that are whole numbers (a notice says so), are integers; if
      one is beyond 64-bit integers, all are text
    - text and bytes in UTF-8 are text, unchanged; an empty text is a valid id
    - truth values, dates, datetimes, times of day and UUIDs are text: true, 2020-01-31, 2020-01-31 23:59:59

    "as written" is for ids that are looked up among integers: as "auto", but a text table must hold integers, written
    without leading zeros or a plus sign, or whole floats; and no other type becomes text.

    Raises DataError with the row and the value for a null, a fraction, a float beyond 2⁵³ (its last digits are lost)
    and bytes that are not text; with the name of the column if it has another type.
    """
    import pyarrow as pa

    column = decoded(arrow_column(values, origin))
    refuse_nulls(column, origin, "null id", "drop the row or give it an id")
    kind = column.type
    if pa.types.is_null(kind):  # so it has no rows
        return column.cast(pa.large_string() if ids == "string" else pa.int64())
    if is_text(kind):
        texts = as_text(column, origin)
        if ids == "integer" or (ids == "as written" and not origin.typed):
            return _parsed(texts, origin, ids)
        if ids == "auto" and not origin.typed:
            _note_text(texts, origin)
        return texts
    if pa.types.is_integer(kind):
        return _of_integers(column, origin, ids)
    if pa.types.is_floating(kind):
        return _of_floats(column, origin, ids)
    if pa.types.is_decimal(kind):
        return _of_decimals(column, origin, ids)
    if _is_written(kind):
        if ids == "integer":
            raise origin.fault(
                "ids of this type cannot be read as integers", "leave out --ids integer", seen=f"type {kind}"
            )
        if ids == "as written" and len(column):
            what = f"ids of type {kind}, but the training ids are integers"
            raise origin.fault_in(column, 0, what, "give integers")
        return _written(column)
    fix = "store them as integers or text; --ids cannot convert this type"
    raise origin.fault("ids must be integers or text", fix, seen=f"type {kind}")


def _parsed(texts: pa.ChunkedArray, origin: Origin, ids: Kind) -> pa.ChunkedArray:
    """Text as int64: digits, with or without a minus sign; of a text table also whole floats, as pandas writes them.

    ids : "integer", or "as written" to refuse leading zeros and a plus sign
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    refused = r"^(\+|-?0[0-9xX])" if ids == "as written" else r"^-?0[xX]"

    def converted(part: pa.ChunkedArray) -> pa.ChunkedArray:
        if pc.any(pc.match_substring_regex(part, refused)).as_py():
            raise pa.ArrowInvalid("not written like an integer")
        return part.cast(pa.int64())

    try:
        return converted(texts)
    except pa.ArrowInvalid:
        pass
    if origin.typed:
        raise _not_an_integer(texts, first_refused(texts, converted), origin, ids)
    faults = pc.invert(pc.match_substring_regex(texts, _NUMBER))
    if ids == "as written":
        faults = pc.or_(faults, pc.match_substring_regex(texts, _PADDED))
    if pc.any(faults).as_py():
        raise _not_an_integer(texts, first(faults), origin, ids)
    is_whole = pc.match_substring_regex(texts, _INTEGER)
    whole = pc.if_else(is_whole, pc.replace_substring_regex(texts, r"^\+", ""), "0")
    try:
        integers = converted(whole)
    except pa.ArrowInvalid:
        raise _not_an_integer(texts, first_refused(whole, converted), origin, ids) from None
    return integers if pc.all(is_whole).as_py() else _of_floats(texts.cast(pa.float64()), origin, ids)


def _not_an_integer(texts: pa.ChunkedArray, row: int, origin: Origin, ids: Kind) -> DataError:
    """The error that says why a text is not the id of an integer."""
    text = texts[row].as_py()
    what, fix = "id is not an integer", "give integers; text needs --ids string, in training too"
    if ids == "as written" and re.match(_INTEGER, text) and re.match(_PADDED, text):
        what = "id with leading zeros or a plus sign; the training ids are integers"
        fix = "write it as in training, or read it with --ids integer (ids='integer')"
    elif re.match("^-?[0-9]+$", text):
        what, fix = _TOO_LARGE, _SMALLER if ids == "as written" else _AS_LARGE
    return origin.fault_in(texts, row, what, fix)


def _note_text(texts: pa.ChunkedArray, origin: Origin) -> None:
    """Say that ids of a text table, which are all digits, are read as text."""
    import pyarrow.compute as pc

    if not len(texts) or not re.match(_INTEGER, texts[0].as_py()):
        return
    if not pc.all(pc.match_substring_regex(texts, _INTEGER)).as_py():
        return
    found = pc.match_substring_regex(texts, _PADDED)
    what = "ids with leading zeros or a sign are read as text; --ids integer reads integers"
    if not pc.any(found).as_py():
        found, what = pc.greater(pc.utf8_length(texts), 18), "ids beyond 64-bit integers are read as text"
    origin.note(f"{what} (saw {format_value(texts[first(found)])})")


def _of_integers(column: pa.ChunkedArray, origin: Origin, ids: Kind) -> pa.ChunkedArray:
    import pyarrow as pa

    if ids == "string":
        return column.cast(pa.large_string())
    if column.type == pa.int32():
        return column
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return _beyond(column, column.cast(pa.large_string()), origin, ids)


def _beyond(column: pa.ChunkedArray, texts: pa.ChunkedArray, origin: Origin, ids: Kind) -> pa.ChunkedArray:
    """The texts of whole numbers, some of which are beyond 64-bit integers."""
    import pyarrow as pa

    if ids in ("integer", "as written"):
        row = first_refused(column, lambda part: part.cast(pa.int64()))
        raise origin.fault_in(column, row, _TOO_LARGE, _AS_LARGE if ids == "integer" else _SMALLER)
    origin.note("ids beyond 64-bit integers: all are read as text")
    return texts


def _of_floats(column: pa.ChunkedArray, origin: Origin, ids: Kind) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = column.cast(pa.float64())
    values = numbers.to_numpy()
    if np.isnan(values).any():
        raise origin.fault_in(column, int(np.isnan(values).argmax()), "null id", "drop the row or give it an id")
    if np.isinf(values).any() and ids != "string":
        raise origin.fault_in(column, int(np.isinf(values).argmax()), "an infinite id", "drop the row or give it an id")
    fraction, lossy = np.floor(values) != values, np.abs(values) > _EXACT
    if ids == "string":
        exact = pa.array(np.where(fraction | lossy, 0, values).astype(np.int64)).cast(pa.large_string())
        return pa.chunked_array(
            [pc.if_else(pa.array(fraction | lossy), numbers.cast(pa.large_string()).combine_chunks(), exact)]
        )
    if fraction.any():
        raise origin.fault_in(column, int(fraction.argmax()), "id is not a whole number", _AS_STRINGS)
    if lossy.any():
        what = "a float id beyond 2^53 has lost its last digits"
        raise origin.fault_in(column, int(lossy.argmax()), what, _AS_STRINGS)
    _note_whole(column, origin)
    return numbers.cast(pa.int64())


def _note_whole(column: pa.ChunkedArray, origin: Origin) -> None:
    if len(column):
        origin.note(f"whole numbers of type {column.type} are read as integer ids")


def _of_decimals(column: pa.ChunkedArray, origin: Origin, ids: Kind) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if ids != "string":
        row = first(pc.not_equal(pc.floor(column), column)) if column.type.scale > 0 else -1
        if row >= 0:
            raise origin.fault_in(column, row, "id is not a whole number", _AS_STRINGS)
        if column.type.scale > 0:
            _note_whole(column, origin)
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            pass
    plain = column if column.type.scale >= 0 else column.cast(pa.decimal256(76, 0))
    texts = _without_zeros(plain.cast(pa.large_string()))
    return texts if ids == "string" else _beyond(column, texts, origin, ids)


def _without_zeros(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers or times without zeros at the end of their fraction: 17.50 is 17.5 and 17.00 is 17."""
    import pyarrow.compute as pc

    shorter = pc.replace_substring_regex(texts, r"(\.[0-9]*?)0+(Z?)$", r"\1\2")
    return pc.replace_substring_regex(shorter, r"\.(Z?)$", r"\1")


def _is_written(kind: pa.DataType) -> bool:
    """Whether values of this type have one usual form as text."""
    import pyarrow as pa

    return bool(
        pa.types.is_boolean(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind)
    )


def _written(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Truth values, dates and times as text, the same for every unit; a time with a zone in UTC, with Z."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_date64(kind):
        column = column.cast(pa.date32())
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        column = column.cast(pa.timestamp(kind.unit, "UTC"))
    texts = column.cast(pa.large_string())
    return texts if pa.types.is_boolean(kind) or pa.types.is_date(kind) else _without_zeros(texts)
