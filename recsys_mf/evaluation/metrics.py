"""Error metrics of predicted ratings with their 95 % intervals, and the paired bootstrap of differences.

Every metric is a function g of a mean of losses over the test pairs. With e = r̂ - r in rating units:

    RMSE = √(mean of e²)    g(M) = √M      g'(M) = 1 / (2 √M)
    MAE  = mean of |e|      g(M) = M       g'(M) = 1

The mean M of n losses of standard deviation s has the standard error s / √n, so by the delta method g(M) has
the standard error |g'(M)| s / √n, and its interval is g(M) ± 1.96 of that. If pairs have weights w the mean is
M = Σ w l / Σ w, a ratio of two means, of standard error √(n / (n - 1) Σ w² (l - M)²) / Σ w.

The errors of two models on the same pairs are correlated, so the interval of their difference is much narrower than
their two intervals suggest. It is computed by resampling pairs and scoring both models on every resample
(Efron, Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13); see `PairedBootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import sorting
from recsys_mf.errors import DataError

Vector = NDArray[np.float64]

Z = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution: half-width of a 95 % interval in standard errors."""

_GROUPS = 1000
_RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A figure and the ends of its 95 % interval, in rating units."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Metric:
    """g(mean of losses).

    loss : losses float64[n] of errors float64[n]
    of_mean : g, elementwise
    slope : g' at a mean loss above zero
    """

    loss: Callable[[Vector], Vector]
    of_mean: Callable[[Any], Any]
    slope: Callable[[float], float]

    def estimate(self, errors: Vector, weights: Vector | None = None) -> Estimate:
        """The metric of errors float64[n], with weights [n] or None, and its delta-method interval, truncated at zero.

        Raises DataError for fewer than two errors: one says nothing about its own spread.
        """
        n = len(errors)
        if n < 2:
            raise DataError("an error interval needs at least two test pairs", seen=n, fix="give more test pairs")
        losses = self.loss(errors)
        if weights is None:
            mean, deviation = float(losses.mean()), float(losses.std(ddof=1)) / math.sqrt(n)
        else:
            total = float(weights.sum())
            mean = float(weights @ losses) / total
            deviation = math.sqrt(n / (n - 1)) * float(np.linalg.norm(weights * (losses - mean))) / total
        value = float(self.of_mean(mean))
        reach = Z * self.slope(mean) * deviation if mean > 0 else 0.0
        return Estimate(value, max(0.0, value - reach), value + reach)


METRICS: dict[str, Metric] = {
    "rmse": Metric(loss=np.square, of_mean=np.sqrt, slope=lambda mean: 0.5 / math.sqrt(mean)),
    "mae": Metric(loss=np.abs, of_mean=lambda mean: mean, slope=lambda mean: 1.0),
}
"""Every metric of a report by its name there, in the order of its columns."""


def find_errors(predictions: NDArray[np.float32], ratings: NDArray[np.float32]) -> Vector:
    """r̂ - r, float64[n]."""
    return np.subtract(predictions, ratings, dtype=np.float64)


class PairedBootstrap:
    """Resamples of n test pairs, the same for every model that is compared.

    The pairs are divided at random into G = min(n, 1000) groups whose sizes differ by at most one, and groups
    are resampled with multinomial weights: O(n) for the group sums of a model, then G x 1000 products instead
    of n x 1000. For n <= 1000 every group is a single pair and this is the ordinary bootstrap.

    For larger n it has the same limit. An ordinary resample of n losses has a mean of variance s² / n, with s²
    the variance of the losses. The mean of n / G losses taken at random has variance s² G / n, so the mean of G
    resampled group means has the variance (s² G / n) / G = s² / n on average over the partition: the same. Both
    means are normal in the limit and g is smooth, so differences of g have the same limiting distribution too.
    Grouping adds only the noise of a variance estimated from G groups: about 1 / √(2 G) = 2 % of the width.

    weights : of the pairs, float64[n], or None; a resample then has the mean Σ w l / Σ w over its pairs
    """

    def __init__(self, n: int, rng: np.random.Generator, weights: Vector | None = None) -> None:
        count = min(n, _GROUPS)
        self._groups = np.resize(np.arange(count, dtype=np.int16), n)
        rng.shuffle(self._groups)
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES).astype(np.float64)
        sizes = sorting.sums(self._groups, count, weights)
        self._shares = drawn / (drawn @ sizes)[:, None]  # [resamples, groups]
        self.weights = weights

    def score(self, metric: Metric, errors: Vector) -> Scored:
        """The metric of errors float64[n], on the pairs and on every resample of them."""
        losses = metric.loss(errors)
        weighted = losses if self.weights is None else losses * self.weights
        sums = sorting.sums(self._groups, self._shares.shape[1], weighted)
        return Scored(metric.estimate(errors, self.weights), metric.of_mean(self._shares @ sums))


@dataclass(frozen=True, eq=False)
class Scored:
    """A metric of one model on the test pairs, and on the 1000 resamples that all models share.

    resampled : float64[1000], one value per resample
    """

    estimate: Estimate
    resampled: Vector

    def minus(self, baseline: Scored) -> Estimate:
        """The difference from a baseline scored by the same bootstrap, with its percentile interval."""
        low, high = np.quantile(self.resampled - baseline.resampled, [0.025, 0.975])
        return Estimate(self.estimate.value - baseline.estimate.value, float(low), float(high))
