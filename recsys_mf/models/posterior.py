"""Posterior: samples of a factorisation; predictions are their mean, and their spread says how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arguments import whole
from recsys_mf.errors import ConfigError, DataError
from recsys_mf.kernels import Predictor
from recsys_mf.kernels.cpu_predict import CPU
from recsys_mf.models import schema
from recsys_mf.models.averaging import merged_products
from recsys_mf.models.factorization import Factorization, checked_pairs
from recsys_mf.models.interval import Interval, check_probability, normal_interval
from recsys_mf.models.schema import Array
from recsys_mf.ratings import Ratings

F32 = NDArray[np.float32]

_LARGEST = 32767  # of int16
_DAY = 86400
_SIDES = ("user", "item", "context")  # in the order of the rows of scales
_SPREAD_PAIRS = 20_000  # that the variance between samples is taken over
_ARRAYS = {
    "user_rows": Array(np.int16, ("m", "S", "k + 1")),
    "item_rows": Array(np.int16, ("n", "S", "k + 1")),
    "context_rows": Array(np.int16, ("c", "S", "k + 1")),
    "scales": Array(np.float32, (len(_SIDES), "S"), "non-negative"),
    "offsets": Array(np.float32, ("S",)),
    "noises": Array(np.float32, ("S",), "non-negative"),
    "thresholds": Array(np.float32, ("S", "L - 1"), "ascending"),
}
_SCALE_ARRAYS = {
    "bins": Array(np.int64, ("c",), "strictly ascending"),
    "levels": Array(np.float32, ("L",), "strictly ascending"),
}


@dataclass(frozen=True, eq=False)
class Bins:
    """Bins of time that occur in train.

    numbers int64[c] : ascending; bin j holds the seconds from numbers[j] · seconds on
    seconds : width of a bin
    """

    numbers: NDArray[np.int64]
    seconds: int

    @classmethod
    def of(cls, times: NDArray[np.int64], days: float) -> Self:
        """The bins that occur among the times (seconds), each that many days wide."""
        seconds = max(1, round(days * _DAY))
        return cls(np.unique(times // seconds), seconds)

    @classmethod
    def none(cls) -> Self:
        """No bins: a model without time."""
        return cls(np.zeros(0, np.int64), _DAY)

    def __len__(self) -> int:
        return len(self.numbers)

    def indices(self, times: NDArray[np.int64] | None) -> NDArray[np.int32]:
        """Bin of every time int32[b], -1 where train has none; [0] where there are no bins or no times."""
        if not len(self) or times is None:
            return np.zeros(0, np.int32)
        wanted = times // self.seconds
        places = np.minimum(np.searchsorted(self.numbers, wanted), len(self) - 1)
        return np.where(self.numbers[places] == wanted, places, -1).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Scale:
    """What a posterior's samples are on the scale of.

    mean μ, deviation σ : of the training ratings, in rating units, for a model of standardised ratings; 0 and 1 for an
        ordinal one, whose scale is that of its thresholds
    bins : time bins of the contexts, none where the model has no time
    rating_range : smallest and largest training rating
    levels float32[L] : the distinct ratings in ascending order for an ordinal model, else none
    """

    mean: float
    deviation: float
    bins: Bins
    rating_range: tuple[float, float]
    levels: F32 = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass(frozen=True, eq=False)
class Sample:
    """One draw of all tables on the scale of the sampler, moved so that a row of zeros is the prior mean.

        m_ui = offset + b_u + b_i + w_t + p_u · q_i + p_u · a_t + q_i · a_t

    users [m, k + 1], items [n, k + 1], contexts [c, k + 1] : (factors, bias)
    noise : standard deviation of a rating, or latent rating, about m
    thresholds [L - 1] : of an ordinal model
    """

    users: F32
    items: F32
    contexts: F32
    offset: float
    noise: float
    thresholds: NDArray[Any]

    @classmethod
    def centred(
        cls, tables: tuple[F32, F32, F32], means: tuple[F32, F32, F32], noise: float, thresholds: NDArray[Any]
    ) -> Self:
        """The draw with these rows, less their prior means [k + 1]; every pair is predicted as before.

        With x = x' + μ in every table, p·q + p·a + q·a is the same form in x', plus p'·(μ_q + μ_a) and the like,
        which move into the biases, plus the products of the means, which move into the offset.
        """
        total = np.sum(means, axis=0)
        users, items, contexts = (_moved(rows - mean, total - mean) for rows, mean in zip(tables, means, strict=True))
        products = (total[:-1] @ total[:-1] - sum(mean[:-1] @ mean[:-1] for mean in means)) / 2
        return cls(users, items, contexts, float(total[-1] + products), noise, thresholds)


@dataclass(frozen=True, eq=False)
class Rounded:
    """A draw as a posterior keeps it, in half the bytes.

    tables : rows int16 of users, items and contexts, in units of 1/65,534 of their span, units [3]
    offset, noise, thresholds : as of the `Sample`
    """

    tables: tuple[NDArray[np.int16], ...]
    units: tuple[np.float32, ...]
    offset: float
    noise: float
    thresholds: NDArray[Any]

    @classmethod
    def of(cls, sample: Sample) -> Self:
        """The draw rounded."""
        tables = sample.users, sample.items, sample.contexts
        tiny = np.finfo(np.float32).tiny
        units = tuple(np.maximum(np.float32(np.abs(rows).max(initial=0) / _LARGEST), tiny) for rows in tables)
        rounded = tuple(np.rint(rows / unit).astype(np.int16) for rows, unit in zip(tables, units, strict=True))
        return cls(rounded, units, sample.offset, sample.noise, sample.thresholds)


@dataclass(frozen=True, eq=False)
class Posterior:
    """The mean over samples s of what each predicts:

        m_s = o_s + b_u + b_i + w_t + p_u · q_i + p_u · a_t + q_i · a_t
        r̂_ui = mean of μ + σ m_s, each clipped to the range of the training ratings
        r̂_ui = mean of Σ_l v_l P_s(l),  P_s(l) = Φ((τ_{l+1} - m_s) / n_s) - Φ((τ_l - m_s) / n_s), for an ordinal model

    scale : μ, σ, the time bins and the levels v
    user_rows int16[m, S, k + 1], item_rows int16[n, S, k + 1], context_rows int16[c, S, k + 1] : (factors, bias) of
        every sample in units of its scale, the samples of a row together
    scales float32[3, S] : of users, items, contexts
    offsets float32[S] : o_s; noises float32[S] : n_s, standard deviation of a rating about m_s, in units of σ
    thresholds float32[S, L - 1] : τ, [S, 0] where the model is not ordinal
    engine : what it predicts with, None for the CPU; no part of the model

    An unknown user, item or time (-1, or no times given) has its prior mean in every sample. Raises SolveError when
    a parameter is not finite, DataError when the arrays do not go together or are out of order.
    """

    kind: ClassVar[str] = "posterior"

    scale: Scale
    user_rows: NDArray[np.int16]
    item_rows: NDArray[np.int16]
    context_rows: NDArray[np.int16]
    scales: F32
    offsets: F32
    noises: F32
    thresholds: F32
    engine: Predictor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, wanted in _ARRAYS.items():
            array = np.ascontiguousarray(getattr(self, name), wanted.dtype).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        sizes = schema.check_arrays(self.arrays(), _ARRAYS | _SCALE_ARRAYS)
        cuts = max(0, sizes["L"] - 1)
        if not (sizes["S"] and sizes["k + 1"]):
            raise DataError("no samples", where="user_rows", seen=self.user_rows.shape, fix="a model has one or more")
        if sizes["L - 1"] != cuts:
            fix = f"{sizes['L']} levels have {cuts}"
            raise DataError("shape does not match", where="thresholds", seen=self.thresholds.shape, fix=fix)
        schema.check_number(self.scale.mean, "mean")
        schema.check_number(self.scale.deviation, "deviation", above=0)
        schema.check_order(self.rating_range, "rating_range")

    @classmethod
    def of(cls, samples: Sequence[Sample], scale: Scale) -> Self:
        """The model of these samples; rows are rounded to 1/65,534 of the span of their sample."""
        return cls.stacked([Rounded.of(sample) for sample in samples], scale)

    @classmethod
    def stacked(cls, samples: Sequence[Rounded], scale: Scale) -> Self:
        """The model of these samples."""
        users, items, contexts = (
            np.stack([sample.tables[place] for sample in samples], axis=1) for place in range(len(_SIDES))
        )
        offsets, noises, thresholds = (
            np.array([getattr(sample, name) for sample in samples], np.float32)
            for name in ("offset", "noise", "thresholds")
        )
        units = np.array([sample.units for sample in samples], np.float32).T
        return cls(scale, users, items, contexts, units, offsets, noises, thresholds)

    @property
    def rank(self) -> int:
        """k, the number of columns of the factors of a sample."""
        return int(self.user_rows.shape[2]) - 1

    @property
    def n_samples(self) -> int:
        """S."""
        return len(self.offsets)

    @property
    def n_users(self) -> int:
        """m, the number of users the model knows."""
        return len(self.user_rows)

    @property
    def n_items(self) -> int:
        """n, the number of items the model knows."""
        return len(self.item_rows)

    @property
    def rating_range(self) -> tuple[float, float]:
        """Smallest and largest training rating."""
        return self.scale.rating_range

    @property
    def takes_times(self) -> bool:
        """Whether predictions depend on the time of the rating."""
        return len(self.scale.bins) > 0

    @property
    def has_intervals(self) -> bool:
        """True: the samples say how sure a prediction is."""
        return True

    @property
    def is_ordinal(self) -> bool:
        """Whether the model gives a probability to every level of the scale."""
        return len(self.scale.levels) > 0

    @cached_property
    def noise_variance(self) -> float:
        """Mean over samples of the variance of a rating about m_s, in squared rating units (latent, where ordinal)."""
        return float(np.mean(self.noises.astype(np.float64) ** 2)) * self.scale.deviation**2

    def on(self, engine: Predictor) -> Self:
        """The same model, predicting with another engine; what is stored of it does not tell."""
        return replace(self, engine=engine)

    def predict(self, users: NDArray[Any], items: NDArray[Any], times: NDArray[np.int64] | None = None) -> F32:
        """Predicted ratings float32[b] of pairs of dense indices int32[b] at times int64[b] (seconds).

        Raises DataError when their lengths differ, and for an index that the model does not have.
        """
        if self.is_ordinal:
            return self._probabilities(users, items, times) @ self.scale.levels
        return self._moments(users, items, times)[0]

    def predict_interval(
        self, users: NDArray[Any], items: NDArray[Any], times: NDArray[np.int64] | None = None, *,
        probability: float = 0.9,
    ) -> Interval:  # fmt: skip
        """Predictions, and intervals that hold a new rating of the pair with this probability.

        m ± z √(variance of the samples' predictions + noise variance), m their mean unclipped and z the normal
        quantile, clipped to the range; for an ordinal model the fewest neighbouring levels that have the probability,
        of several as few those that have the most.
        Raises ConfigError for a probability outside (0, 1).
        """
        check_probability(probability)
        if self.is_ordinal:
            probabilities = self._probabilities(users, items, times)
            first, last = _shortest_runs(probabilities, probability)
            levels = self.scale.levels
            return Interval(probabilities @ levels, levels[first], levels[last])
        predictions, means, variances = self._moments(users, items, times)
        variances += self.noise_variance
        return normal_interval(predictions, means, variances, probability, self.rating_range)

    def predict_distribution(
        self, users: NDArray[Any], items: NDArray[Any], times: NDArray[np.int64] | None = None
    ) -> F32:
        """Probabilities of the levels of the scale, float32[b, L], that sum to one.

        Raises ConfigError for a model that is not ordinal.
        """
        if not self.is_ordinal:
            fix = "train with the likelihood ordinal"
            raise ConfigError("the model has no probabilities of ratings", seen="likelihood gaussian", fix=fix)
        return self._probabilities(users, items, times)

    def compress(self, rank: int, train: Ratings) -> Factorization | Posterior:
        """The posterior mean as one factorisation of this rank: the mean of p_u · q_i, cut to its truncated SVD sample
        by sample (`averaging`), beside the means of the biases.

        Where there are time terms or thresholds it is a Posterior of one sample, which keeps them: thresholds are
        averaged, p_u · a_t and q_i · a_t cut like p_u · q_i to a rank of their own, a quarter of this, and its noise
        has the variance between samples of m at the pairs of train added. Otherwise it is a plain Factorization.
        A rank above the lesser number of users and items is that number. Raises ConfigError for a rank below 1.
        """
        wanted = whole(rank, "compress", 1)
        rank = min(wanted, self.n_users, self.n_items)
        P, Q = self._mean_product("user", "item", rank)
        offset = float(self.offsets.mean(dtype=np.float64))
        biases = [self._mean_bias(side) for side in ("user", "item", "context")]
        mean, deviation, root = self.scale.mean, np.float32(self.scale.deviation), np.sqrt(self.scale.deviation)
        if not (self.is_ordinal or self.takes_times):
            b_u, b_i = (bias * deviation for bias in biases[:2])
            factors = (P * np.float32(root), Q * np.float32(root))
            return Factorization(mean + offset * float(deviation), b_u, b_i, *factors, self.rating_range)
        of_time = min(-(-wanted // 4), len(self.scale.bins))
        (P_t, A_u), (Q_t, A_i) = (self._mean_product(side, "context", of_time) for side in ("user", "item"))
        tables = (
            _wide(P, P_t, np.zeros_like(P_t), biases[0]),
            _wide(Q, np.zeros_like(Q_t), Q_t, biases[1]),
            _wide(np.zeros((len(A_u), rank), np.float32), A_u, A_i, biases[2]),
        )
        noise = float(np.sqrt(np.mean(self.noises.astype(np.float64) ** 2) + self._spread(train)))
        return Posterior.of([Sample(*tables, offset, noise, self.thresholds.mean(axis=0))], self.scale)

    def _mean_product(self, left: str, right: str, rank: int) -> tuple[F32, F32]:
        """Factors of that rank of the mean over samples of the products of the factors of two tables."""
        if not rank:
            return self._rows(left, 0)[:, :0], self._rows(right, 0)[:, :0]
        average: tuple[F32, F32] | None = None
        for s in range(self.n_samples):
            one = self._rows(left, s)[:, :-1], self._rows(right, s)[:, :-1]
            average = merged_products(average or one, one, s + 1, rank)
        assert average is not None
        return average

    def _mean_bias(self, side: str) -> F32:
        """Mean over samples of the biases of a table."""
        total = np.zeros(len(getattr(self, f"{side}_rows")))
        for s in range(self.n_samples):
            total += self._rows(side, s)[:, -1]
        return (total / self.n_samples).astype(np.float32)

    def _rows(self, side: str, s: int) -> F32:
        """The rows (factors, bias) of a table in a sample."""
        rows: F32 = getattr(self, f"{side}_rows")[:, s] * self.scales[_SIDES.index(side), s]
        return rows

    def _spread(self, train: Ratings) -> float:
        """Mean over pairs of train of the variance of m between samples, in squared units of σ."""
        pairs = train.select(np.arange(0, len(train), max(1, len(train) // _SPREAD_PAIRS)))
        variances = (self.engine or CPU).predict_samples(
            0.0, 1.0, self.user_rows, self.item_rows, self.context_rows, self.scales, self.offsets,
            *self._indices(pairs.users, pairs.items, pairs.times), self.rating_range,
        )[2]  # fmt: skip
        return float(variances.mean(dtype=np.float64))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The parameters by name."""
        scale = {"bins": self.scale.bins.numbers, "levels": self.scale.levels}
        return {name: getattr(self, name) for name in _ARRAYS} | scale

    def facts(self) -> dict[str, Any]:
        """What else the model is made of, as plain values."""
        return {
            "mean": self.scale.mean,
            "deviation": self.scale.deviation,
            "bin_seconds": self.scale.bins.seconds,
            "rating_range": list(self.rating_range),
        }

    @classmethod
    def from_parts(cls, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Self:
        """The model with the `arrays()` and `facts()` of another.

        Raises DataError for what is missing, of another type or shape, or out of order; SolveError as the class does.
        """
        schema.check_types(arrays, _ARRAYS | _SCALE_ARRAYS)
        bins = Bins(arrays["bins"], schema.whole_number(facts, "bin_seconds", low=1))
        mean, deviation = schema.number(facts, "mean"), schema.number(facts, "deviation", above=0)
        scale = Scale(mean, deviation, bins, schema.ordered_pair(facts, "rating_range"), arrays["levels"])
        parameters: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
        return cls(scale, **parameters)

    def _moments(
        self, users: NDArray[Any], items: NDArray[Any], times: NDArray[np.int64] | None
    ) -> tuple[F32, F32, NDArray[np.float64]]:
        """Over the samples, for every pair: mean of the clipped predictions, mean and variance of the unclipped."""
        return (self.engine or CPU).predict_samples(
            self.scale.mean, self.scale.deviation, self.user_rows, self.item_rows, self.context_rows, self.scales,
            self.offsets, *self._indices(users, items, times), self.rating_range,
        )  # fmt: skip

    def _probabilities(self, users: NDArray[Any], items: NDArray[Any], times: NDArray[np.int64] | None) -> F32:
        """Mean over the samples of the probabilities of the levels, [b, L]."""
        return (self.engine or CPU).predict_levels(
            self.user_rows, self.item_rows, self.context_rows, self.scales, self.offsets, self.thresholds, self.noises,
            *self._indices(users, items, times),
        )  # fmt: skip

    def _indices(
        self, users: NDArray[Any], items: NDArray[Any], times: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Indices of users, items and time bins as the kernels take them."""
        if times is not None and len(times) != len(users):
            raise DataError(
                "users and times differ in length", seen=f"{len(users)} and {len(times)}", fix="give a time per pair"
            )
        return *checked_pairs(users, items, self.n_users, self.n_items), self.scale.bins.indices(times)


def _shortest_runs(probabilities: F32, least: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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


def _wide(*columns: F32) -> F32:
    """Factors side by side, and the bias [rows] as the last column."""
    return np.hstack([*columns[:-1], columns[-1][:, None]])


def _moved(centred: F32, others: F32) -> F32:
    """Centred rows [r, k + 1] with their products with the means of the other tables added to the biases."""
    centred[:, -1] += centred[:, :-1] @ others[:-1]
    return centred


def stride(draws: int, samples: int) -> int:
    """Every how many draws one is kept, so that of `draws` at most `samples` are: a power of two.

    Those kept of more draws are among those kept of fewer: draws can be dropped as they come.
    """
    return 1 << max(0, (-(-draws // samples) - 1).bit_length())
