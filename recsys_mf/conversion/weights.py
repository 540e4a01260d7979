"""Weights of ratings of every type as numbers above 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.conversion.arrow import arrow_column, decoded, filled, refuse_nulls
from recsys_mf.conversion.origin import Origin
from recsys_mf.conversion.ratings import rating_numbers
from recsys_mf.errors import DataError

LEAST = float(np.finfo(np.float32).tiny)
"""The smallest weight: float32 has few digits for smaller numbers."""

_MOST = float(np.finfo(np.float32).max)
_MOST_RATIO = 2.0**52
"""The largest weight over the median: next to a larger one, sums in float64 lose most of the other ratings."""

_GIVE = "give a finite number above 0"


def rating_weights(weights: Any, origin: Origin) -> NDArray[np.float32]:
    """A column of weights as float32[n], finite and above 0.

    weights : as in `arrow_column`: numbers of every type, and numbers stored as text, for which there is a notice
    Raises DataError with the row and the value for a null, text that is not a number, NaN, infinity, a number below 0
    or beyond float32 (1.2e-38 to 3.4e38), for one so large that the other ratings do not count next to it, and for 0,
    since a rating that does not count should be left out; with the name of the column if it has another type.
    """
    column = decoded(arrow_column(weights, origin))
    refuse_nulls(column, origin, "null weight", _GIVE)
    numbers: NDArray[np.float64] = filled(rating_numbers(column, origin, "weight"), np.float64)
    with np.errstate(over="ignore", under="ignore"):
        found = numbers.astype(np.float32)
    if not are_weights(found):
        raise fault_in_weights(numbers, origin)
    _refuse_outlier(found, origin)
    return found


def _refuse_outlier(weights: NDArray[np.float32], origin: Origin) -> None:
    """Raise DataError if the largest weight is too large for the others; small ones do no harm."""
    if not len(weights) or float(weights.max()) <= _MOST_RATIO * float(weights.min()):  # without the median, in general
        return
    row, most = int(np.argmax(weights)), _MOST_RATIO * float(np.median(weights))
    seen = float(weights[row])
    if seen > most:
        fix = f"give at most {most:.2g}, or leave the row out"
        raise origin.fault("weight is so large that most other ratings do not count", fix, row=row, seen=seen)


def are_weights(weights: NDArray[np.float32]) -> bool:
    """Whether all are finite and above 0."""
    return not len(weights) or bool(weights.min() >= LEAST and weights.max() <= _MOST)


def is_weight(numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Which numbers are finite and above 0."""
    found: NDArray[np.bool_] = (numbers >= LEAST) & (numbers <= _MOST)
    return found


def fault_in_weights(weights: NDArray[Any], origin: Origin) -> DataError:
    """The error of the first weight that is not valid."""
    row = int(np.argmin(is_weight(weights)))
    seen = float(weights[row])
    if seen == 0:
        return origin.fault("weight is 0", "leave the row out, or give a number above 0", row=row, seen=seen)
    if seen < 0:
        return origin.fault("weight is below 0", _GIVE, row=row, seen=seen)
    if not np.isfinite(seen):
        return origin.fault("weight is not finite", _GIVE, row=row, seen=seen)
    return origin.fault("weight is beyond float32", "give a number from 1.2e-38 to 3.4e38", row=row, seen=seen)
