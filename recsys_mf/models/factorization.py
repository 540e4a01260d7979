"""Factorization: biases and two factor matrices, the plain model that every solver here can end in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import ConfigError, DataError
from recsys_mf.kernels import Predictor
from recsys_mf.kernels.cpu_predict import CPU, are_indices
from recsys_mf.models import schema
from recsys_mf.models.interval import Interval, check_probability, normal_interval
from recsys_mf.models.member_spread import MemberSpread
from recsys_mf.models.schema import Array
from recsys_mf.ratings import Ratings

_ARRAYS = {
    "user_bias": Array(np.float32, ("m",)),
    "item_bias": Array(np.float32, ("n",)),
    "user_factors": Array(np.float32, ("m", "k")),
    "item_factors": Array(np.float32, ("n", "k")),
}
_SPREAD_ARRAYS = {
    "user_variance": Array(np.float32, ("m",), "non-negative"),
    "item_variance": Array(np.float32, ("n",), "non-negative"),
}


@dataclass(frozen=True, eq=False)
class Factorization:
    """r̂_ui = μ + b_u + b_i + p_u · q_i, clipped to the range of the training ratings.

    mean : μ, in rating units
    user_bias, item_bias : float32[m], float32[n]
    user_factors, item_factors : P float32[m, k], Q float32[n, k]; k may be 0
    rating_range : smallest and largest training rating
    spread : of a committee, how far its members lie apart; None for others
    engine : what it predicts with, None for the CPU; no part of the model

    An unknown user (-1) has b_u = 0 and p_u = 0, an unknown item too: the prediction falls back to the
    other bias, then to the mean. Raises SolveError when a parameter is not finite, DataError when the arrays do not
    go together or the range is in reverse.
    """

    kind: ClassVar[str] = "factorization"

    mean: float
    user_bias: NDArray[np.float32]
    item_bias: NDArray[np.float32]
    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    rating_range: tuple[float, float]
    spread: MemberSpread | None = None
    engine: Predictor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            array = np.ascontiguousarray(getattr(self, name), dtype=np.float32).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        schema.check_arrays(self.arrays(), _ARRAYS | _SPREAD_ARRAYS)
        schema.check_number(self.mean, "mean")
        schema.check_order(self.rating_range, "rating_range")

    @property
    def rank(self) -> int:
        """k, the number of columns of the factors."""
        return int(self.user_factors.shape[1])

    @property
    def n_users(self) -> int:
        """m, the number of users the model knows."""
        return len(self.user_bias)

    @property
    def n_items(self) -> int:
        """n, the number of items the model knows."""
        return len(self.item_bias)

    @property
    def takes_times(self) -> bool:
        """False: predictions do not depend on the time of the rating."""
        return False

    @property
    def has_intervals(self) -> bool:
        """Whether `predict_interval` can be asked: for a committee whose spread was calibrated on validation rows."""
        return self.spread is not None and self.spread.noise is not None

    def on(self, engine: Predictor) -> Self:
        """The same model, predicting with another engine; what is stored of it does not tell."""
        return replace(self, engine=engine)

    def predict(
        self, users: NDArray[Any], items: NDArray[Any], times: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Predicted ratings float32[b] of pairs of dense indices int32[b], -1 for unknown, at any times.

        Raises DataError when users and items differ in length, and for an index that the model does not have.
        """
        return (self.engine or CPU).predict(
            self.mean, self.user_bias, self.item_bias, self.user_factors, self.item_factors,
            *checked_pairs(users, items, self.n_users, self.n_items), self.rating_range,
        )  # fmt: skip

    def predict_interval(
        self, users: NDArray[Any], items: NDArray[Any], times: NDArray[np.int64] | None = None, *,
        probability: float = 0.9,
    ) -> Interval:  # fmt: skip
        """Predictions, and the intervals r̂ ± z √(σ² + c v_u v_i / v̄) of `member_spread`, clipped to the range.

        For an unknown user the variance over users of the biases is added, for an unknown item that over items.
        Raises ConfigError for a probability outside (0, 1) and for a model without a calibrated spread.
        """
        check_probability(probability)
        spread = self.spread
        if spread is None or spread.noise is None or spread.weight is None:
            fix = "train a committee with validation rows, or with a solver that samples: gibbs"
            raise ConfigError("the model has no intervals", seen="a plain factorisation", fix=fix)
        users, items = checked_pairs(users, items, self.n_users, self.n_items)
        variances = spread.noise + spread.weight * spread.products(users, items)
        for rows, bias in ((users, self.user_bias), (items, self.item_bias)):
            variances += np.where(rows < 0, bias.var(dtype=np.float64), 0.0)
        predictions = self.predict(users, items)
        return normal_interval(predictions, predictions, variances, probability, self.rating_range)

    def calibrated_by(self, validated: Factorization, valid: Ratings) -> Factorization:
        """With its spread calibrated by the errors of a like committee on rows that this one was not fitted to."""
        if self.spread is None or validated.spread is None:
            return self
        squares = (validated.predict(valid.users, valid.items).astype(np.float64) - valid.values) ** 2
        both = (valid.users >= 0) & (valid.items >= 0)
        if not both.any():
            return self
        noise, weight = validated.spread.calibrated(squares[both], valid.users[both], valid.items[both])
        return replace(self, spread=replace(self.spread, noise=noise, weight=weight))

    def calibrated_as(self, other: Factorization) -> Factorization:
        """With its spread calibrated as that of a model of the same solver."""
        if self.spread is None or other.spread is None:
            return self
        return replace(self, spread=replace(self.spread, noise=other.spread.noise, weight=other.spread.weight))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The parameters by name."""
        spread = {} if self.spread is None else {name: getattr(self.spread, name) for name in _SPREAD_ARRAYS}
        return {name: getattr(self, name) for name in _ARRAYS} | spread

    def facts(self) -> dict[str, Any]:
        """What else the model is made of, as plain values."""
        spread = {} if self.spread is None else {"noise": self.spread.noise, "spread_weight": self.spread.weight}
        return {"mean": self.mean, "rating_range": list(self.rating_range)} | spread

    @classmethod
    def from_parts(cls, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Self:
        """The model with the `arrays()` and `facts()` of another.

        Raises DataError for what is missing, of another type or shape, or out of order; SolveError as the class does.
        """
        spread = None
        schema.check_types(arrays, _ARRAYS | (_SPREAD_ARRAYS if "noise" in facts else {}))
        if "noise" in facts:
            v_u, v_i = (arrays[name] for name in _SPREAD_ARRAYS)
            noise, weight = (schema.optional_variance(facts, name) for name in ("noise", "spread_weight"))
            spread = MemberSpread(v_u, v_i, noise, weight)
        parameters: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
        mean, rating_range = schema.number(facts, "mean"), schema.ordered_pair(facts, "rating_range")
        return cls(mean=mean, rating_range=rating_range, spread=spread, **parameters)


def checked_pairs(
    users: NDArray[Any], items: NDArray[Any], n_users: int, n_items: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Indices of pairs as the kernels take them; raises DataError for unequal lengths and indices out of range."""
    if len(users) != len(items):
        raise DataError(
            "users and items differ in length",
            seen=f"{len(users)} and {len(items)}",
            fix="give as many of one as of the other",
        )
    return _indices(users, n_users, where="users"), _indices(items, n_items, where="items")


def _indices(indices: NDArray[Any], size: int, *, where: str) -> NDArray[np.int32]:
    """The indices as the kernel takes them: it reads where they point, unchecked."""
    indices = np.ascontiguousarray(indices, np.int32)
    if not are_indices(indices, size):
        seen = f"{indices.min()} to {indices.max()}"
        raise DataError("index out of range", where=where, seen=seen, fix=f"stay within -1 to {size - 1}")
    return indices
