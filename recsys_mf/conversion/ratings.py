"""Ratings of every type as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.conversion.arrow import arrow_column, as_text, decoded, filled, first_refused, is_text, refuse_nulls
from recsys_mf.conversion.origin import Origin

if TYPE_CHECKING:
    import pyarrow as pa


def rating_values(values: Any, origin: Origin) -> NDArray[np.float32]:
    """A column of ratings as float32[n].

    values : as in `arrow_column`. Numbers of every type; truth values, read as 1 and 0, and numbers stored as text;
        for both there is a notice
    Raises DataError with the row and the value for a null, text that is not a number, NaN, infinity and a number beyond
    float32 (3.4e38); with the name of the column if it has another type.
    """
    column = decoded(arrow_column(values, origin))
    refuse_nulls(column, origin, "null rating", "give a finite number")
    ratings: NDArray[np.float32] = filled(rating_numbers(column, origin), np.float32)
    if not all_finite(ratings):
        row = int((~np.isfinite(ratings)).argmax())
        fix = "give a finite number within float32, up to 3.4e38"
        raise origin.fault_in(column, row, "rating is not finite", fix)
    return ratings


def rating_numbers(column: pa.ChunkedArray, origin: Origin, what: str = "rating") -> pa.ChunkedArray:
    """A decoded column of ratings as Arrow integers or floats; nulls stay. Raises DataError as `rating_values`.

    what : what the numbers are, for messages; truth values are accepted only for ratings
    """
    import pyarrow as pa

    kind = column.type
    if is_text(kind):
        return _parsed(as_text(column, origin), origin, what)
    if pa.types.is_boolean(kind) and what == "rating":
        origin.note("true and false are read as ratings 1 and 0")
        return column.cast(pa.uint8())
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_null(kind):
        return column.cast(pa.float64())
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise origin.fault(f"{what}s are not numbers", "give numbers", seen=f"type {kind}")
    return column


def _parsed(texts: pa.ChunkedArray, origin: Origin, what: str) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    def converted(part: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.utf8_trim_whitespace(part).cast(pa.float64())

    try:
        numbers = converted(texts)
    except pa.ArrowInvalid:
        row = first_refused(texts, converted)
        raise origin.fault_in(texts, row, f"{what} is text, not a number", "give numbers") from None
    if origin.typed:
        origin.note(f"numbers stored as text are read as {what}s")
    return numbers


def all_finite(values: NDArray[np.float32]) -> bool:
    """Whether no value is NaN or infinite: one pass without a temporary array if the sum of squares is finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.dot(values, values)
    return bool(np.isfinite(squares) or np.isfinite(values).all())
