"""Factorization: biases and two factor matrices, the plain model that every solver can give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.models import schema
from recsys_mf.models.member_spread import MemberSpread
from recsys_mf.models.schema import Array

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
    spread : of a committee, how much its members differ; None for others

    An unknown user (-1) has b_u = 0 and p_u = 0, an unknown item b_i = 0 and q_i = 0: the prediction falls back to the
    other bias, then to the mean. Raises SolveError if a parameter is not finite, DataError if the shapes of the arrays
    do not match or the range is in reverse.
    """

    kind: ClassVar[str] = "factorization"

    mean: float
    user_bias: NDArray[np.float32]
    item_bias: NDArray[np.float32]
    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    rating_range: tuple[float, float]
    spread: MemberSpread | None = None

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
