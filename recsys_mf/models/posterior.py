"""Posterior: samples of a factorisation; predictions are their mean, and their spread shows how certain it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import DataError
from recsys_mf.models import schema
from recsys_mf.models.personal_noise import ARRAYS as NOISE_ARRAYS
from recsys_mf.models.personal_noise import PersonalNoise
from recsys_mf.models.samples import F32, Bins, Rounded, Sample, Scale
from recsys_mf.models.schema import Array
from recsys_mf.models.user_prior import ARRAYS as PRIOR_ARRAYS
from recsys_mf.models.user_prior import UserPrior

_SIDES = ("user", "item", "context")  # in the order of the rows of scales
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
class Posterior:
    """The mean over samples s of what each predicts:

        m_s = o_s + b_u + b_i + w_t + p_u · q_i + p_u · a_t + q_i · a_t
        r̂_ui = mean of μ + σ m_s, each clipped to the range of the training ratings
        r̂_ui = mean of Σ_l v_l P_s(l),  P_s(l) = Φ((τ_{l+1} - m_s) / n) - Φ((τ_l - m_s) / n), for an ordinal model

    with n = n_s, or n_s g_su g_si for personal noise (`personal_noise`).

    scale : μ, σ, the time bins and the levels v
    user_rows int16[m, S, k + 1], item_rows int16[n, S, k + 1], context_rows int16[c, S, k + 1] : (factors, bias) of
        every sample in units of its scale, the samples of a row together
    scales float32[3, S] : of users, items, contexts
    offsets float32[S] : o_s; noises float32[S] : n_s, standard deviation of a rating about m_s, in units of σ
    thresholds float32[S, L - 1] : τ, [S, 0] if the model is not ordinal
    user_prior : the prior of new users; or None
    noise : the factors g of users and items on the noise; None for 1

    An unknown user, item or time (-1, or no times given) has its prior mean in every sample. Raises SolveError if a
    parameter is not finite, DataError if the shapes of the arrays do not match or their values are out of order.
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
    user_prior: UserPrior | None = None
    noise: PersonalNoise | None = None

    def __post_init__(self) -> None:
        for name, wanted in _ARRAYS.items():
            array = np.ascontiguousarray(getattr(self, name), wanted.dtype).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        sizes = schema.check_arrays(self.arrays(), _ARRAYS | _SCALE_ARRAYS | PRIOR_ARRAYS | NOISE_ARRAYS)
        if self.user_prior is not None:
            self.user_prior.check(self.n_items)
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
        """The model of these samples; if only some have personal noise, the others get factors of 1."""
        users, items, contexts = (
            np.stack([sample.tables[place] for sample in samples], axis=1) for place in range(len(_SIDES))
        )
        offsets, noises, thresholds = (
            np.array([getattr(sample, name) for sample in samples], np.float32)
            for name in ("offset", "noise", "thresholds")
        )
        units = np.array([sample.units for sample in samples], np.float32).T
        priors = [sample.user_prior for sample in samples if sample.user_prior is not None]
        prior = UserPrior.joined(priors) if len(priors) == len(samples) else None
        personal = [sample.personal for sample in samples]
        noise = None
        if any(part is not None for part in personal):
            common = PersonalNoise.common(len(users), len(items))
            noise = PersonalNoise.joined([part or common for part in personal])
        return cls(scale, users, items, contexts, units, offsets, noises, thresholds, prior, noise)

    def samples(self) -> list[Rounded]:
        """The samples, as `stacked` takes them; their rows are views of the arrays."""
        tables = self.user_rows, self.item_rows, self.context_rows
        return [
            Rounded(
                tuple(rows[:, s] for rows in tables),
                tuple(self.scales[:, s]),
                float(self.offsets[s]),
                float(self.noises[s]),
                self.thresholds[s],
                None if self.user_prior is None else self.user_prior.sample(s),
                None if self.noise is None else self.noise.sample(s),
            )
            for s in range(self.n_samples)
        ]

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
    def is_ordinal(self) -> bool:
        """Whether the model gives a probability to every level of the scale."""
        return len(self.scale.levels) > 0

    @cached_property
    def noise_variance(self) -> float:
        """Mean over samples of the variance of a rating about m_s, in squared rating units (latent, if ordinal), for a
        user and an item with factors of 1."""
        return float(np.mean(self.noises.astype(np.float64) ** 2)) * self.scale.deviation**2

    def rows(self, side: str, s: int) -> F32:
        """The rows (factors, bias) of a table, "user", "item" or "context", in sample s; float32[., k + 1]."""
        rows: F32 = getattr(self, f"{side}_rows")[:, s] * self.scales[_SIDES.index(side), s]
        return rows

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The parameters by name."""
        scale = {"bins": self.scale.bins.numbers, "levels": self.scale.levels}
        prior = {} if self.user_prior is None else self.user_prior.arrays()
        noise = {} if self.noise is None else self.noise.arrays()
        return {name: getattr(self, name) for name in _ARRAYS} | scale | prior | noise

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
        optional: dict[str, Array] = {}
        for part in (PRIOR_ARRAYS, NOISE_ARRAYS):
            optional |= part if any(name in arrays for name in part) else {}
        schema.check_types(arrays, _ARRAYS | _SCALE_ARRAYS | optional)
        bins = Bins(arrays["bins"], schema.whole_number(facts, "bin_seconds", low=1))
        mean, deviation = schema.number(facts, "mean"), schema.number(facts, "deviation", above=0)
        scale = Scale(mean, deviation, bins, schema.ordered_pair(facts, "rating_range"), arrays["levels"])
        parameters: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
        prior, noise = UserPrior.from_arrays(arrays), PersonalNoise.from_arrays(arrays)
        return cls(scale, **parameters, user_prior=prior, noise=noise)
