"""Times of every type as whole seconds since 1970."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped
from recsys_mf.conversion.arrow import arrow_column, as_text, decoded, filled, first_refused, is_text, refuse_nulls
from recsys_mf.conversion.origin import Origin

if TYPE_CHECKING:
    import pyarrow as pa

UNITS = {"seconds": 1, "milliseconds": 1000, "microseconds": 10**6, "nanoseconds": 10**9}
"""Units of numeric times, and how many make a second."""

_TICKS = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}  # per second, for Arrow's units
_ORDINARY = 10**11  # seconds: the year 5138
_LATEST = 253_402_300_799  # seconds: the end of the year 9999
_MAX_NANOSECONDS = 2**63 - 1  # nanoseconds: the year 2262
_MIXED = 0.01  # share of times that would be ordinary in a smaller unit, above which units are mixed
_FRACTIONS = "fractions of a second are left out; of equal times the later row counts as newer"
_FIX = "give seconds since 1970, ISO dates or datetimes, or leave the times out with --time-column none"


def time_seconds(values: Any, origin: Origin, unit: str | None = None) -> tuple[NDArray[np.int64], str]:
    """A column of times as int64[n] whole seconds since 1970-01-01 UTC, and the unit of numbers in it.

    values : as in `arrow_column`. Dates and datetimes of every unit; numbers; text: ISO dates and datetimes with or
        without a zone, or numbers. Times without a zone are UTC
    unit : a key of UNITS: the unit of the numbers; None to find it from all of them

    Numbers are seconds if none is above 1e11 (the year 5138). Otherwise the median of the non-zero numbers decides: up
    to 1e11 they are seconds, up to 1e14 milliseconds (1e11 milliseconds are March 1973), up to 1e17 microseconds, and
    above that nanoseconds; a notice says if they are not seconds. Fractions are rounded down, also before 1970, and
    a notice says so. Raises DataError with the row and the value for a null, text that is not a time, NaN and
    infinity, a time beyond the year 9999 or 64 bits, and seconds among times of a smaller unit; with the name of a
    column of another type.
    """
    import pyarrow as pa

    column = decoded(arrow_column(values, origin))
    fix = "give a time, or leave the times out with --time-column none"
    refuse_nulls(column, origin, "null time", fix)
    raw = column
    if is_text(column.type):
        column = _parsed(as_text(column, origin), origin)
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _checked(raw, filled(column.cast(pa.int64()), np.int64), _TICKS[kind.unit], origin), unit or "seconds"
    if pa.types.is_date32(kind):
        return filled(column.cast(pa.int32()), np.int64) * 86_400, unit or "seconds"
    if pa.types.is_date64(kind):
        return _checked(raw, filled(column.cast(pa.int64()), np.int64), 1000, origin), unit or "seconds"
    numbers = _numbers(raw, column, origin)
    if unit is None and _largest(numbers) <= _ORDINARY:
        return _floored(numbers, 1, origin), "seconds"
    unit = unit or _recognised(numbers, origin)
    return _checked(raw, numbers, UNITS[unit], origin), unit


def _numbers(raw: pa.ChunkedArray, column: pa.ChunkedArray, origin: Origin) -> NDArray[Any]:
    """The values of a column of numbers as int64, uint64 or float64."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_null(kind):  # so it has no rows
        return np.empty(0, np.int64)
    if pa.types.is_integer(kind):
        return filled(column, np.uint64 if pa.types.is_uint64(kind) else np.int64)
    if not (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise origin.fault("times must be numbers, dates or text", _FIX, seen=f"type {kind}")
    numbers = filled(column.cast(pa.float64()), np.float64)
    if not np.isfinite(numbers).all():
        raise origin.fault_in(raw, int((~np.isfinite(numbers)).argmax()), "time is not finite", _FIX)
    return numbers


def _largest(numbers: NDArray[Any]) -> float:
    return max(numbers.max().item(), -numbers.min().item()) if len(numbers) else 0


def _recognised(numbers: NDArray[Any], origin: Origin) -> str:
    """The unit of numeric times, some of which are too large for ordinary seconds."""
    sizes = np.abs(numbers.astype(np.float64))
    middle = float(np.median(sizes[sizes > 0]))
    unit = next((name for name, ticks in UNITS.items() if middle <= _ORDINARY * ticks), "nanoseconds")
    if unit == "seconds":
        return unit
    smaller = UNITS[unit] // 1000  # for times in the next larger unit, of the years 1985 to 2096
    mixed = (sizes > 5e8 * smaller) & (sizes < 4e9 * smaller)
    if mixed.mean() > _MIXED:
        seen = f"{numbers[mixed.argmax()]}, but most are {unit}"
        raise origin.fault("times have different units", _FIX, row=int(mixed.argmax()), seen=seen)
    origin.note(f"times are read as {unit}, because of their size")
    return unit


def _checked(raw: pa.ChunkedArray, numbers: NDArray[Any], ticks: int, origin: Origin) -> NDArray[np.int64]:
    """Numbers as whole seconds, with this many ticks per second."""
    limit = min(_LATEST * ticks, _MAX_NANOSECONDS)
    if _largest(numbers) > limit:
        beyond = (numbers > limit) | (numbers < -limit)
        raise origin.fault_in(raw, int(beyond.argmax()), "time is beyond the year 9999 or 64 bits", _FIX)
    return _floored(numbers, ticks, origin)


def _floored(numbers: NDArray[Any], ticks: int, origin: Origin) -> NDArray[np.int64]:
    """Numbers with this many ticks per second as whole seconds, rounded down."""
    if numbers.dtype.kind != "f" and ticks == 1:
        return numbers.astype(np.int64, copy=False)
    whole = np.floor(numbers / ticks) if numbers.dtype.kind == "f" else numbers // ticks
    if any((numbers[part] != whole[part] * ticks).any() for part in mapped.parts(len(numbers))):
        origin.note(_FRACTIONS)
    return whole.astype(np.int64, copy=False)


_NUMBER = r"^[+-]?[0-9]{1,19}(\.[0-9]*)?$"


def _parsed(texts: pa.ChunkedArray, origin: Origin) -> pa.ChunkedArray:
    """Text as numbers if all are numbers, else as timestamps."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(texts)
    number = pc.match_substring_regex(trimmed, _NUMBER).to_numpy()
    if number.all():
        try:
            return trimmed.cast(pa.int64())
        except pa.ArrowInvalid:  # with a fraction, or a plus
            return trimmed.cast(pa.float64())
    # Without its fraction a time is rounded down, before 1970 too.
    if pc.any(pc.match_substring_regex(trimmed, r":[0-9]{2}[.,]0*[1-9]")).as_py():
        origin.note(_FRACTIONS)
    plain = pc.replace_substring_regex(pc.utf8_upper(trimmed), r"(:[0-9]{2})[.,][0-9]+", r"\1")
    plain = pc.replace_substring_regex(plain, r" ?(UTC|GMT)$", "Z")
    plain = pc.replace_substring_regex(plain, r" ([+-][0-9]{2}(:?[0-9]{2})?)$", r"\1")
    zoned = pc.match_substring_regex(plain, r"[T ].*(Z|[+-][0-9]{2}(:?[0-9]{2})?)$").to_numpy()
    seconds = np.empty(len(plain), np.int64)
    for rows, zone in ((zoned & ~number, "UTC"), (~zoned & ~number, None)):
        part, kind = plain.filter(pa.array(rows)), pa.timestamp("s", zone)
        try:
            seconds[rows] = part.cast(kind).cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            row = int(np.flatnonzero(rows)[first_refused(part, lambda some, kind=kind: some.cast(kind))])  # type: ignore[misc]
            raise origin.fault_in(texts, row, "text is not a time", _FIX) from None
    if number.any():
        raise origin.fault_in(texts, int(number.argmax()), "this time is a number, but others are text", _FIX)
    return pa.chunked_array([pa.array(seconds, pa.timestamp("s"))])
