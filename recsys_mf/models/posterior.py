"""Posterior: samples of a factorisation; predictions are their mean, and their spread says how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import ConfigError, DataError, SolveError
from recsys_mf.kernels import cpu
from recsys_mf.models.averaging import merged
from recsys_mf.models.factorization import Factorization, checked_pairs

F32 = NDArray[np.float32]

_LARGEST = 32767  # of int16
_DAY = 86400
_ARRAYS = ("user_rows", "item_rows", "context_rows", "scales", "offsets", "noises")


class Interval(NamedTuple):
    """Predictions and the bounds of their intervals, float32[b] each, in rating units."""

    predictions: F32
    lower: F32
    upper: F32


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
class Sample:
    """One draw of all tables on the standardised scale, moved so that a row of zeros is the prior mean.

        r'_ui = offset + b_u + b_i + w_t + p_u · q_i + p_u · a_t + q_i · a_t

    users [m, k + 1], items [n, k + 1], contexts [c, k + 1] : (factors, bias)
    noise : standard deviation of a rating about r'
    """

    users: F32
    items: F32
    contexts: F32
    offset: float
    noise: float

    @classmethod
    def centred(cls, tables: tuple[F32, F32, F32], means: tuple[F32, F32, F32], noise: float) -> Self:
        """The draw with these rows, less their prior means [k + 1]; every pair is predicted as before.

        With x = x' + μ in every table, p·q + p·a + q·a is the same form in x', plus p'·(μ_q + μ_a) and the like,
        which move into the biases, plus the products of the means, which move into the offset.
        """
        total = np.sum(means, axis=0)
        users, items, contexts = (_moved(rows - mean, total - mean) for rows, mean in zip(tables, means, strict=True))
        products = (total[:-1] @ total[:-1] - sum(mean[:-1] @ mean[:-1] for mean in means)) / 2
        return cls(users, items, contexts, float(total[-1] + products), noise)


@dataclass(frozen=True, eq=False)
class Posterior:
    """r̂_ui = mean over samples s of μ + σ (o_s + b_u + b_i + w_t + p_u · q_i + p_u · a_t + q_i · a_t), each clipped
    to the range of the training ratings.

    mean μ, deviation σ : of the training ratings, in rating units
    user_rows int16[m, S, k + 1], item_rows int16[n, S, k + 1], context_rows int16[c, S, k + 1] : (factors, bias) of
        every sample in units of its scale, the samples of a row together
    scales float32[3, S] : of users, items, contexts
    offsets float32[S] : o_s; noises float32[S] : standard deviation of a rating about its prediction, in units of σ
    bins : time bins of the contexts, none where the model has no time
    rating_range : smallest and largest training rating

    An unknown user, item or time (-1, or no times given) has its prior mean in every sample. Raises SolveError when
    a parameter is not finite.
    """

    kind: ClassVar[str] = "posterior"

    mean: float
    deviation: float
    user_rows: NDArray[np.int16]
    item_rows: NDArray[np.int16]
    context_rows: NDArray[np.int16]
    scales: F32
    offsets: F32
    noises: F32
    bins: Bins
    rating_range: tuple[float, float]

    def __post_init__(self) -> None:
        for name in ("scales", "offsets", "noises"):
            if not np.isfinite(getattr(self, name)).all():
                raise SolveError("the model has parameters that are not finite", where=name, fix="the fit has diverged")
        for name in _ARRAYS:
            array = np.ascontiguousarray(getattr(self, name)).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def of(
        cls, samples: Sequence[Sample], mean: float, deviation: float, bins: Bins, rating_range: tuple[float, float]
    ) -> Self:
        """The model of these samples; rows are rounded to 1/65,534 of the span of their sample."""
        tables = [[getattr(sample, name) for sample in samples] for name in ("users", "items", "contexts")]
        scales = np.array([[np.abs(rows).max(initial=0) / _LARGEST for rows in table] for table in tables], np.float32)
        scales = np.maximum(scales, np.finfo(np.float32).tiny)
        users, items, contexts = (
            np.stack([np.rint(rows / scale) for rows, scale in zip(*pair, strict=True)], axis=1).astype(np.int16)
            for pair in zip(tables, scales, strict=True)
        )
        offsets, noises = (
            np.array([getattr(sample, name) for sample in samples], np.float32) for name in ("offset", "noise")
        )
        return cls(mean, deviation, users, items, contexts, scales, offsets, noises, bins, rating_range)

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
    def takes_times(self) -> bool:
        """Whether predictions depend on the time of the rating."""
        return len(self.bins) > 0

    @cached_property
    def noise_variance(self) -> float:
        """Mean over samples of the variance of a rating about its prediction, in squared rating units."""
        return float(np.mean(self.noises.astype(np.float64) ** 2)) * self.deviation**2

    def predict(self, users: NDArray[Any], items: NDArray[Any], times: NDArray[np.int64] | None = None) -> F32:
        """Predicted ratings float32[b] of pairs of dense indices int32[b] at times int64[b] (seconds).

        Raises DataError when their lengths differ, and for an index that the model does not have.
        """
        return self._moments(users, items, times)[0]

    def predict_interval(
        self, users: NDArray[Any], items: NDArray[Any], times: NDArray[np.int64] | None = None, *,
        probability: float = 0.9,
    ) -> Interval:  # fmt: skip
        """Predictions, and intervals that hold a new rating of the pair with this probability.

        m ± z √(variance of the samples' predictions + noise variance), m their mean unclipped and z the normal
        quantile, clipped to the range.
        Raises ConfigError for a probability outside (0, 1).
        """
        if not 0 < probability < 1:
            raise ConfigError("probability out of range", seen=probability, fix="give a number between 0 and 1")
        from statistics import NormalDist

        predictions, means, variances = self._moments(users, items, times)
        half = np.sqrt(variances + np.float32(self.noise_variance)) * NormalDist().inv_cdf((1 + probability) / 2)
        lower, upper = (np.clip(x, *self.rating_range).astype(np.float32) for x in (means - half, means + half))
        return Interval(predictions, lower, upper)

    def compress(self, rank: int) -> Factorization:
        """The posterior mean as a plain factorisation of this rank, without its time terms.

        The mean of p_u · q_i over the samples, cut to its truncated SVD sample by sample (`averaging`); biases are
        averaged exactly. Predictions are those at an average time. Raises ConfigError for a rank below 1.
        """
        if rank < 1:
            raise ConfigError("rank out of range", where="compress", seen=rank, fix="give 1 or more")
        average: Factorization | None = None
        for s in range(self.n_samples):
            one = self._sample(s)
            average = one if average is None else merged(average, one, s + 1, rank)
        assert average is not None
        return average

    def _sample(self, s: int) -> Factorization:
        """The user and item part of a sample."""
        users, items = (
            rows[:, s] * (scale[s] * np.float32(self.deviation))
            for rows, scale in zip((self.user_rows, self.item_rows), self.scales[:2], strict=True)
        )
        root = np.float32(np.sqrt(self.deviation))
        mean = self.mean + self.deviation * float(self.offsets[s])
        return Factorization(
            mean, users[:, -1], items[:, -1], users[:, :-1] / root, items[:, :-1] / root, self.rating_range
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The parameters by name."""
        return {name: getattr(self, name) for name in _ARRAYS} | {"bins": self.bins.numbers}

    def facts(self) -> dict[str, Any]:
        """What else the model is made of, as plain values."""
        return {
            "mean": self.mean,
            "deviation": self.deviation,
            "bin_seconds": self.bins.seconds,
            "rating_range": list(self.rating_range),
        }

    @classmethod
    def from_parts(cls, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Self:
        """The model with the `arrays()` and `facts()` of another."""
        low, high = facts["rating_range"]
        bins = Bins(arrays["bins"], facts["bin_seconds"])
        tables = {name: arrays[name] for name in _ARRAYS}
        return cls(facts["mean"], facts["deviation"], **tables, bins=bins, rating_range=(low, high))

    def _moments(
        self, users: NDArray[Any], items: NDArray[Any], times: NDArray[np.int64] | None
    ) -> tuple[F32, F32, F32]:
        """Over the samples, for every pair: mean of the clipped predictions, mean and variance of the unclipped."""
        if times is not None and len(times) != len(users):
            raise DataError(
                "users and times differ in length", seen=f"{len(users)} and {len(times)}", fix="give a time per pair"
            )
        return cpu.predict_samples(
            self.mean, self.deviation, self.user_rows, self.item_rows, self.context_rows, self.scales, self.offsets,
            *checked_pairs(users, items, self.n_users, self.n_items), self.bins.indices(times), self.rating_range,
        )  # fmt: skip


def _moved(centred: F32, others: F32) -> F32:
    """Centred rows [r, k + 1] with their products with the means of the other tables added to the biases."""
    centred[:, -1] += centred[:, :-1] @ others[:-1]
    return centred


def stride(draws: int, samples: int) -> int:
    """Every how many draws one is kept, so that of `draws` at most `samples` are: a power of two.

    Those kept of more draws are among those kept of fewer: draws can be let go as they come.
    """
    return 1 << max(0, (-(-draws // samples) - 1).bit_length())
