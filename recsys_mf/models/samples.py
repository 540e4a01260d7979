"""Samples of a factorisation, as a sampler draws them and as a posterior keeps them, and the scale that they share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.models.personal_noise import NoiseDraw, PersonalNoise
from recsys_mf.models.user_prior import PriorDraw, UserPrior

F32 = NDArray[np.float32]
_MAX_INT16 = 32767
_DAY = 86400


@dataclass(frozen=True, eq=False)
class Bins:
    """Bins of time that occur in the training ratings.

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

    def indices(self, times: NDArray[np.int64] | None) -> NDArray[np.int32] | None:
        """Bin of every time int32[b], -1 if it has no training ratings; None if there are no bins or no times."""
        if not len(self) or times is None:
            return None
        wanted = times // self.seconds
        places = np.minimum(np.searchsorted(self.numbers, wanted), len(self) - 1)
        return np.where(self.numbers[places] == wanted, places, -1).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Scale:
    """The scale of a posterior's samples.

    mean μ, deviation σ : of the training ratings, in rating units, for a model of standardised ratings; 0 and 1 for an
        ordinal one, whose scale is that of its thresholds
    bins : time bins of the contexts, none if the model has no time
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
    """One draw of all tables on the scale of the sampler, shifted so that a row of zeros is the prior mean.

        m_ui = offset + b_u + b_i + w_t + p_u · q_i + p_u · a_t + q_i · a_t

    users [m, k + 1], items [n, k + 1], contexts [c, k + 1] : (factors, bias)
    noise : standard deviation of a rating, or latent rating, about m
    thresholds [L - 1] : of an ordinal model
    user_prior : of the users, or None
    personal : the scales of the noise of users and items, or None
    """

    users: F32
    items: F32
    contexts: F32
    offset: float
    noise: float
    thresholds: NDArray[Any]
    user_prior: PriorDraw | None = None
    personal: NoiseDraw | None = None

    @classmethod
    def centred(
        cls,
        tables: tuple[F32, F32, F32],
        means: tuple[F32, F32, F32],
        noise: float,
        thresholds: NDArray[Any],
        user_prior: PriorDraw | None = None,
        personal: NoiseDraw | None = None,
    ) -> Self:
        """The draw with these rows, less their prior means [k + 1]; every pair is predicted as before.

        With x = x' + μ in every table, p·q + p·a + q·a is the same form in x', plus p'·(μ_q + μ_a) and the like,
        which move into the biases, plus the products of the means, which move into the offset.
        """
        total = np.sum(means, axis=0)
        users, items, contexts = (_moved(rows - mean, total - mean) for rows, mean in zip(tables, means, strict=True))
        products = (total[:-1] @ total[:-1] - sum(mean[:-1] @ mean[:-1] for mean in means)) / 2
        prior = None if user_prior is None else user_prior.moved((total - means[0])[:-1])
        return cls(users, items, contexts, float(total[-1] + products), noise, thresholds, prior, personal)


@dataclass(frozen=True, eq=False)
class Rounded:
    """A draw as a posterior keeps it, in half the bytes.

    tables : rows int16 of users, items and contexts, in units of 1/65,534 of their span, units [3]
    offset, noise, thresholds : as of the `Sample`; user_prior, personal : of this sample alone, or None
    """

    tables: tuple[NDArray[np.int16], ...]
    units: tuple[np.float32, ...]
    offset: float
    noise: float
    thresholds: NDArray[Any]
    user_prior: UserPrior | None
    personal: PersonalNoise | None

    @classmethod
    def of(cls, sample: Sample) -> Self:
        """The draw rounded."""
        tables = sample.users, sample.items, sample.contexts
        tiny = np.finfo(np.float32).tiny
        units = tuple(np.maximum(np.float32(np.abs(rows).max(initial=0) / _MAX_INT16), tiny) for rows in tables)
        rounded = tuple(np.rint(rows / unit).astype(np.int16) for rows, unit in zip(tables, units, strict=True))
        prior = None if sample.user_prior is None else UserPrior.of([sample.user_prior])
        personal = None if sample.personal is None else PersonalNoise.of(sample.personal)
        return cls(rounded, units, sample.offset, sample.noise, sample.thresholds, prior, personal)

    def with_contexts(self, places: NDArray[np.int64], size: int) -> Self:
        """The draw with `size` rows of contexts: the present ones at these places, the others at their prior mean."""
        users, items, contexts = self.tables
        moved = np.zeros((size, contexts.shape[1]), np.int16)
        moved[places] = contexts
        return replace(self, tables=(users, items, moved))


def _moved(centred: F32, others: F32) -> F32:
    """Centred rows [r, k + 1] with their products with the means of the other tables added to the biases."""
    centred[:, -1] += centred[:, :-1] @ others[:-1]
    return centred
