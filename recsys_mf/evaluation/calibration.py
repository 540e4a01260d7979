"""Calibration: how well the predictive distributions of a model fit ratings that it has not seen.

    CRPS       ∫ (F(x) - 1{x ≥ r})² dx of the distribution function F and the rating r, in rating units: for a model
               that is always certain, the absolute error; less for one that knows how uncertain it is
    log score  -log P(r) of a model of levels, in nats

Both are means over the pairs, lower is better, and no other distribution is expected to score better than the true one.
F is the distribution of the intervals: over the levels of an ordinal model; for other models, a normal distribution,
with its mass beyond the range of the ratings moved to the ends of the range.

Gneiting, Raftery: Strictly proper scoring rules, prediction, and estimation, JASA 102(477), 2007.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.models import Model, Posterior
from recsys_mf.prediction import Predictions
from recsys_mf.ratings import Ratings

F64 = NDArray[np.float64]

_TINY = 1e-12
_LEAST = 1e-9  # lower limit of probabilities whose logarithm is taken: smaller ones are rounding errors of float32


@dataclass(frozen=True)
class Third:
    """The pairs of a third of the users; covered, pit : as in `report.Coverage`; width : as in `Calibration`."""

    n_pairs: int
    covered: float
    pit: float
    width: float


@dataclass(frozen=True)
class Calibration:
    """Scores of the predictive distributions of a model.

    width : mean width of the intervals, in rating units
    crps, log_score : as in the docstring of the module; log_score is None if the model has no levels, or lacks the
        level of some rating
    thirds : for personal noise, the users with test pairs, from the third with the least noise to that with the most
    """

    width: float
    crps: float
    log_score: float | None
    thirds: tuple[Third, ...] = ()

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """From the plain values of a report."""
        return cls(**{**mapping, "thirds": tuple(Third(**third) for third in mapping["thirds"])})


def calibration(model: Model, predicted: Predictions, pairs: Ratings) -> Calibration | None:
    """The scores of predictions with intervals of the pairs of a table; None if the model has no intervals."""
    if predicted.lower is None or predicted.upper is None:
        return None
    values = pairs.values.astype(np.float64)
    widths = predicted.upper.astype(np.float64) - predicted.lower
    if predicted.distribution is not None and isinstance(model, Posterior):
        levels = model.scale.levels.astype(np.float64)
        crps = crps_of_levels(predicted.distribution.astype(np.float64), levels, values)
        log_score = _log_score(predicted.distribution, levels, values)
    else:
        assert predicted.means is not None
        assert predicted.deviations is not None
        crps, log_score = crps_of_normal(predicted.means, predicted.deviations, model.rating_range, values), None
    thirds = _thirds(model, pairs, *inside(model, predicted, pairs.values), widths)
    return Calibration(float(widths.mean()), float(crps.mean()), log_score, thirds)


def inside(model: Model, predicted: Predictions, values: NDArray[np.float32]) -> tuple[NDArray[np.bool_], F64]:
    """For every rating, whether it is between the bounds, and which share of it is inside an interval that cuts the
    predictive distribution exactly (`report.Coverage`), [n] each.
    """
    assert predicted.lower is not None
    assert predicted.upper is not None
    covered = (predicted.lower <= values) & (values <= predicted.upper)
    bounds = None if predicted.distribution is None else transform_bounds(model, predicted, values)
    return covered, covered.astype(np.float64) if bounds is None else find_shares(*bounds, PROBABILITY)


def transform_bounds(model: Model, predicted: Predictions, values: NDArray[np.float32]) -> tuple[F64, F64] | None:
    """Where each rating lies in its predictive distribution F: F just below it and at it, float64[n] each.

    For a model of levels these differ, for a normal distribution they are equal; None for a model without intervals.
    """
    if predicted.distribution is not None and isinstance(model, Posterior):
        below = np.cumsum(predicted.distribution, axis=1, dtype=np.float64)
        levels = np.clip(np.searchsorted(model.scale.levels, values), 0, below.shape[1] - 1)
        rows = np.arange(len(values))
        return np.where(levels > 0, below[rows, levels - 1], 0.0), below[rows, levels]
    if predicted.means is None or predicted.deviations is None:
        return None
    from scipy.special import ndtr

    at = ndtr((values.astype(np.float64) - predicted.means) / np.maximum(predicted.deviations, _TINY))
    return at, at


def find_shares(low: F64, high: F64, probability: float) -> F64:
    """Share of each rating that is inside the central interval of a probability, from `transform_bounds`, [n].

    Within a level the randomised transform is uniform on (low, high). Instead of drawing from it, this takes the share
    of (low, high) that is inside the interval.
    """
    edge = (1 - probability) / 2
    width = high - low
    part = np.clip(np.minimum(high, 1 - edge) - np.maximum(low, edge), 0, None)
    shares: F64 = np.where(width > _TINY, part / np.maximum(width, _TINY), (edge <= high) & (high <= 1 - edge))
    return shares


PROBABILITY = 0.9
"""Nominal probability of the intervals that are scored."""


def crps_of_normal(means: NDArray[Any], deviations: F64, rating_range: tuple[float, float], values: F64) -> F64:
    """CRPS [n] of normal distributions, with their mass beyond the range moved to its ends.

    ∫ Φ² from a to b is G(b) - G(a) with G(z) = z Φ(z)² + 2 φ(z) Φ(z) - Φ(√2 z) / √π.
    """
    from scipy.special import ndtr

    def integral(z: F64) -> F64:
        density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
        below = ndtr(z)
        found: F64 = z * below**2 + 2 * density * below - ndtr(np.sqrt(2) * z) / np.sqrt(np.pi)
        return found

    deviations = np.maximum(deviations, _TINY)
    at = np.clip(values, *rating_range)
    low, high, z = ((x - means.astype(np.float64)) / deviations for x in (*rating_range, at))
    scores: F64 = deviations * (integral(z) - integral(low) + integral(-z) - integral(-high)) + np.abs(values - at)
    return scores


def crps_of_levels(probabilities: F64, levels: F64, values: F64) -> F64:
    """CRPS [n] of distributions [n, L] over ascending levels [L]."""
    below = np.cumsum(probabilities, axis=1)[:, :-1]
    at = np.clip(values, levels[0], levels[-1])
    # The gap above each level, split into the part below the rating and the part above it.
    under = np.clip(at[:, None] - levels[:-1], 0, np.diff(levels))
    over = np.diff(levels) - under
    scores: F64 = (below**2 * under + (1 - below) ** 2 * over).sum(axis=1) + np.abs(values - at)
    return scores


def _log_score(probabilities: NDArray[np.float32], levels: F64, values: F64) -> float | None:
    places = np.minimum(np.searchsorted(levels, values), len(levels) - 1)
    if not (levels[places] == values).all():
        return None
    chosen = probabilities[np.arange(len(values)), places].astype(np.float64)
    return float(-np.log(np.maximum(chosen, _LEAST)).mean())


def _thirds(model: Model, pairs: Ratings, covered: NDArray[np.bool_], pit: F64, widths: F64) -> tuple[Third, ...]:
    """The thirds of the users; empty for common noise, and for fewer than three users."""
    if not isinstance(model, Posterior) or model.noise is None:
        return ()
    users = np.unique(pairs.users[pairs.users >= 0])
    if len(users) < len(_NAMES):
        return ()
    noise = np.log(model.noise.factors("user")[users]).mean(axis=1)
    number = np.full(model.n_users + 1, -1)  # the last is that of an unknown user
    number[users[np.argsort(noise, kind="stable")]] = np.arange(len(users)) * len(_NAMES) // len(users)
    of_pair = number[pairs.users]
    parts = (of_pair == third for third in range(len(_NAMES)))
    return tuple(
        Third(int(part.sum()), *(float(figures[part].mean()) for figures in (covered, pit, widths))) for part in parts
    )


_NAMES = ("least", "middle", "most")
"""The thirds."""
