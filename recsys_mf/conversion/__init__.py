"""Conversion: a column from any source becomes ids, ratings, times or weights, or an error names the row and the fix.

All data enter the package through the same four functions: from files, frames, matrices and arrays; in training,
inspection, evaluation and prediction.
"""

from recsys_mf.conversion.arrow import arrow_column, decoded, filled
from recsys_mf.conversion.ids import IDS, Ids, Kind, id_column
from recsys_mf.conversion.origin import Origin
from recsys_mf.conversion.ratings import rating_numbers, rating_values
from recsys_mf.conversion.times import time_seconds
from recsys_mf.conversion.weights import is_weight, rating_weights

__all__ = [
    "IDS",
    "Ids",
    "Kind",
    "Origin",
    "arrow_column",
    "decoded",
    "filled",
    "id_column",
    "is_weight",
    "rating_numbers",
    "rating_values",
    "rating_weights",
    "time_seconds",
]
