"""Intervals that contain a new rating with a given probability."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arguments import format_argument, is_number
from recsys_mf.errors import ConfigError

F32 = NDArray[np.float32]


def check_probability(probability: float) -> None:
    """Raise ConfigError for a probability outside (0, 1), or so near to 1 that it rounds to 1."""
    if not (is_number(probability) and 0 < probability < 1 and (1 + float(probability)) / 2 < 1):
        fix = "give a number between 0 and 1"
        raise ConfigError("probability out of range", seen=format_argument(probability), fix=fix)


def normal_quantile(probability: float) -> float:
    """z with P(|x| < z) = probability for a standard normal x."""
    from statistics import NormalDist

    return NormalDist().inv_cdf((1 + probability) / 2)


def normal_bounds(
    means: NDArray[Any], variances: NDArray[Any], probability: float, rating_range: tuple[float, float]
) -> tuple[F32, F32]:
    """means ± z √variances float32[b] each, z the normal quantile of the probability, clipped to the range."""
    half = np.sqrt(variances) * normal_quantile(probability)
    lower, upper = (np.clip(bound, *rating_range).astype(np.float32) for bound in (means - half, means + half))
    return lower, upper


def find_shortest_runs(probabilities: F32, least: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last of the fewest neighbouring columns of every row [b, L] that sum to at least `least`."""
    below = np.concatenate(
        [np.zeros((len(probabilities), 1)), np.cumsum(probabilities, axis=1, dtype=np.float64)], axis=1
    )
    first, last = np.zeros(len(below), np.int64), np.full(len(below), probabilities.shape[1] - 1)
    open_ = np.ones(len(below), np.bool_)
    for length in range(1, probabilities.shape[1]):
        masses = below[:, length:] - below[:, :-length]
        best = masses.argmax(axis=1)
        found = open_ & (np.take_along_axis(masses, best[:, None], axis=1)[:, 0] >= least)
        first[found], last[found] = best[found], best[found] + length - 1
        open_ &= ~found
    return first, last
