"""Interval: predictions with bounds that hold a new rating with a given probability."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arguments import format_argument, is_number
from recsys_mf.errors import ConfigError

F32 = NDArray[np.float32]


class Interval(NamedTuple):
    """Predictions and the bounds of their intervals, float32[b] each, in rating units."""

    predictions: F32
    lower: F32
    upper: F32


def check_probability(probability: float) -> None:
    """Raises ConfigError for a probability outside (0, 1), or as near to 1 as rounding is."""
    if not (is_number(probability) and 0 < probability < 1 and (1 + float(probability)) / 2 < 1):
        fix = "give a number between 0 and 1"
        raise ConfigError("probability out of range", seen=format_argument(probability), fix=fix)


def normal_interval(
    predictions: F32, means: NDArray[Any], variances: NDArray[Any], probability: float,
    rating_range: tuple[float, float],
) -> Interval:  # fmt: skip
    """means ± z √variances, z the normal quantile of the probability, clipped to the range; beside the predictions."""
    from statistics import NormalDist

    half = np.sqrt(variances) * NormalDist().inv_cdf((1 + probability) / 2)
    lower, upper = (np.clip(bound, *rating_range).astype(np.float32) for bound in (means - half, means + half))
    return Interval(predictions, lower, upper)
