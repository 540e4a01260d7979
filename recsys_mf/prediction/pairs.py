"""The predictions of a model for pairs: ratings, intervals that contain a new one, and the probabilities of levels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import ConfigError, DataError
from recsys_mf.kernels.backend import PredictionKernels
from recsys_mf.kernels.cpu.prediction import CPU, are_indices
from recsys_mf.kernels.operands import FactorModel, NoiseTables, Pairs, RatingScale, SampleTables
from recsys_mf.models import Factorization, Model, Posterior
from recsys_mf.prediction.intervals import check_probability, find_shortest_runs, normal_bounds

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Times = NDArray[np.int64] | None


class Predictions(NamedTuple):
    """The predictions for b pairs, in rating units; None for what was not requested.

    values float32[b] : predicted ratings
    lower, upper float32[b] : ends of the intervals
    distribution float32[b, L] : probabilities of the levels of the scale, which sum to one
    means, deviations [b] : of the normal distribution whose quantiles are the ends of the intervals before clipping;
        None for a model of levels
    """

    values: F32
    lower: F32 | None = None
    upper: F32 | None = None
    distribution: F32 | None = None
    means: F32 | None = None
    deviations: NDArray[np.float64] | None = None


def predict(
    model: Model,
    users: NDArray[Any],
    items: NDArray[Any],
    times: Times = None,
    *,
    probability: float | None = None,
    distribution: bool = False,
    backend: PredictionKernels = CPU,
) -> Predictions:
    """Predictions for pairs of dense indices int32[b], -1 for unknown, at times int64[b] (seconds), in one pass.

    Factorization:  r̂_ui = μ + b_u + b_i + p_u · q_i, clipped to the range of the training ratings; at any time
    Posterior:      r̂_ui = the mean over samples s of μ + σ m_s, each clipped; of an ordinal one Σ_l v_l P(l), with P
                    the mean over samples of the probabilities of the levels v

    For an unknown user, item or time the prior mean is used; in a factorisation its bias and factors are 0.

    probability : adds intervals that contain a new rating with this probability. They are m ± z √variance, clipped to
        the range, with z the normal quantile. For a committee the variance is that of `MemberSpread`, plus the variance
        of the biases for an unknown user or item. For a posterior m is the mean before clipping, and the variance is
        that between samples plus that of the noise, which may be personal. For an ordinal model the interval is the
        shortest run of neighbouring levels that has the probability; of equally short runs, the most probable
    distribution : adds the probabilities of the levels of an ordinal model
    backend : `kernels.predictor(device, threads)`; it may keep the tables of a model between calls
    Raises DataError if the lengths differ, and for an index that the model does not have; ConfigError for a
    probability outside (0, 1), and for intervals or a distribution of a model that has none.
    """
    if probability is not None:
        check_probability(probability)
        if not has_intervals(model):
            fix = "train a committee with validation rows, or with a solver that samples: gibbs"
            raise ConfigError("the model has no intervals", seen="a plain factorisation", fix=fix)
    if distribution and not (isinstance(model, Posterior) and model.is_ordinal):
        fix = "train with --solver gibbs --likelihood ordinal"
        raise ConfigError("the model has no probabilities of ratings", seen=_kind(model), fix=fix)
    users, items = _checked(users, items, model)
    if isinstance(model, Factorization):
        return _of_factorization(model, users, items, probability, backend)
    if times is not None and len(times) != len(users):
        seen = f"{len(users)} and {len(times)}"
        raise DataError("users and times differ in length", seen=seen, fix="give a time per pair")
    pairs = Pairs(users, items, model.scale.bins.indices(times))
    if not model.is_ordinal:
        return _of_moments(model, pairs, probability, backend)
    probabilities = backend.predict_levels(samples_of(model), pairs, model.thresholds, model.noises)
    found = Predictions(probabilities @ model.scale.levels, distribution=probabilities if distribution else None)
    if probability is None:
        return found
    first, last = find_shortest_runs(probabilities, probability)
    return found._replace(lower=model.scale.levels[first], upper=model.scale.levels[last])


def has_intervals(model: Model) -> bool:
    """Whether a model has intervals: a posterior, and a committee whose spread was calibrated on validation rows."""
    if isinstance(model, Posterior):
        return True
    return model.spread is not None and model.spread.noise is not None


def takes_times(model: Model) -> bool:
    """Whether what a model predicts depends on the time of the rating."""
    return isinstance(model, Posterior) and len(model.scale.bins) > 0


def moments(
    model: Model, users: I32, items: I32, backend: PredictionKernels, *, with_variances: bool
) -> tuple[F32, NDArray[np.float64] | None]:
    """Mean and variance of a new rating for pairs of dense indices, not clipped, at an average time; [b] each.

    For an ordinal model these are of its distribution of levels. Variances are None if they are not requested, and for
    a factorisation without intervals.
    """
    if isinstance(model, Factorization):
        means = backend.predict(_parameters(model, (-np.inf, np.inf)), Pairs(users, items))
        return means, _variances(model, users, items) if with_variances else None
    pairs = Pairs(users, items, model.scale.bins.indices(None))
    if not model.is_ordinal:
        _, means, variances = sample_moments(model, pairs, backend)
        return means, variances + noise_variances(model, pairs, backend) if with_variances else None
    probabilities = backend.predict_levels(samples_of(model), pairs, model.thresholds, model.noises)
    means, levels = probabilities @ model.scale.levels, model.scale.levels.astype(np.float64)
    return means, np.maximum(probabilities @ levels**2 - means.astype(np.float64) ** 2, 0.0)


def sample_moments(model: Posterior, pairs: Pairs, backend: PredictionKernels) -> tuple[F32, F32, NDArray[np.float64]]:
    """Over the samples, for every pair: mean of the clipped predictions, mean and variance of the unclipped."""
    scale = RatingScale(model.scale.mean, model.scale.deviation, model.rating_range)
    return backend.predict_samples(samples_of(model), pairs, scale)


def samples_of(model: Posterior) -> SampleTables:
    """The tables of a posterior as the kernels take them."""
    noise = None if model.noise is None else NoiseTables(model.noise.users, model.noise.items, model.noise.units)
    return SampleTables(model.user_rows, model.item_rows, model.context_rows, model.scales, model.offsets, noise)


def noise_variances(model: Posterior, pairs: Pairs, backend: PredictionKernels) -> NDArray[np.float64] | float:
    """The variance of a rating about m_s, mean over samples, in squared rating units: one per pair [b] if the noise is
    personal, else one number.
    """
    if model.noise is None:
        return model.noise_variance
    return backend.predict_noise(samples_of(model), pairs, model.noises) * model.scale.deviation**2


def _of_factorization(
    model: Factorization, users: I32, items: I32, probability: float | None, backend: PredictionKernels
) -> Predictions:
    values = backend.predict(_parameters(model, model.rating_range), Pairs(users, items))
    variances = None if probability is None else _variances(model, users, items)
    if probability is None or variances is None:
        return Predictions(values)
    bounds = normal_bounds(values, variances, probability, model.rating_range)
    return Predictions(values, *bounds, means=values, deviations=np.sqrt(variances))


def _parameters(model: Factorization, rating_range: tuple[float, float]) -> FactorModel:
    return FactorModel(
        model.mean, model.user_bias, model.item_bias, model.user_factors, model.item_factors, rating_range
    )


def _variances(model: Factorization, users: I32, items: I32) -> NDArray[np.float64] | None:
    """Variance of a new rating of pairs, if the model is a committee whose spread was calibrated; else None."""
    spread = model.spread
    if spread is None or spread.noise is None or spread.weight is None:
        return None
    variances = spread.noise + spread.weight * spread.products(users, items)
    for rows, bias in ((users, model.user_bias), (items, model.item_bias)):
        variances += np.where(rows < 0, bias.var(dtype=np.float64), 0.0)
    return variances


def _of_moments(model: Posterior, pairs: Pairs, probability: float | None, backend: PredictionKernels) -> Predictions:
    values, means, variances = sample_moments(model, pairs, backend)
    if probability is None:
        return Predictions(values)
    variances += noise_variances(model, pairs, backend)
    bounds = normal_bounds(means, variances, probability, model.rating_range)
    return Predictions(values, *bounds, means=means, deviations=np.sqrt(variances))


def _kind(model: Model) -> str:
    return "a factorisation" if isinstance(model, Factorization) else "likelihood gaussian"


def _checked(users: NDArray[Any], items: NDArray[Any], model: Model) -> tuple[I32, I32]:
    """The indices as the kernels take them; checked, because the kernels do not check them."""
    if len(users) != len(items):
        seen, fix = f"{len(users)} and {len(items)}", "give as many of one as of the other"
        raise DataError("users and items differ in length", seen=seen, fix=fix)
    return check_indices(users, model.n_users, "users"), check_indices(items, model.n_items, "items")


def check_indices(indices: NDArray[Any], size: int, where: str) -> I32:
    """The indices int32[b] as the kernels take them. Raises DataError for one outside -1 to size - 1."""
    indices = np.ascontiguousarray(indices, np.int32)
    if not are_indices(indices, size):
        seen = f"{indices.min()} to {indices.max()}"
        raise DataError("index out of range", where=where, seen=seen, fix=f"stay within -1 to {size - 1}")
    return indices
