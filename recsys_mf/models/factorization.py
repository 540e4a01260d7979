"""Factorization: biases and two factor matrices, the plain model that every solver here can end in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import DataError, SolveError
from recsys_mf.kernels import cpu

_ARRAYS = ("user_bias", "item_bias", "user_factors", "item_factors")


@dataclass(frozen=True, eq=False)
class Factorization:
    """r̂_ui = μ + b_u + b_i + p_u · q_i, clipped to the range of the training ratings.

    mean : μ, in rating units
    user_bias, item_bias : float32[m], float32[n]
    user_factors, item_factors : P float32[m, k], Q float32[n, k]; k may be 0
    rating_range : smallest and largest training rating

    An unknown user (-1) has b_u = 0 and p_u = 0, an unknown item likewise: the prediction falls back to the
    other bias, then to the mean. Raises SolveError when a parameter is not finite.
    """

    kind: ClassVar[str] = "factorization"

    mean: float
    user_bias: NDArray[np.float32]
    item_bias: NDArray[np.float32]
    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    rating_range: tuple[float, float]

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            array = np.ascontiguousarray(getattr(self, name), dtype=np.float32).view()
            if not np.isfinite(array).all():
                raise SolveError("the model has parameters that are not finite", where=name, fix="the fit has diverged")
            array.flags.writeable = False
            object.__setattr__(self, name, array)

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

    def predict(
        self, users: NDArray[Any], items: NDArray[Any], times: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Predicted ratings float32[b] of pairs of dense indices int32[b], -1 for unknown, at any times.

        Raises DataError when users and items differ in length, and for an index that the model does not have.
        """
        return cpu.predict(
            self.mean, self.user_bias, self.item_bias, self.user_factors, self.item_factors,
            *checked_pairs(users, items, self.n_users, self.n_items), self.rating_range,
        )  # fmt: skip

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The parameters by name."""
        return {name: getattr(self, name) for name in _ARRAYS}

    def facts(self) -> dict[str, Any]:
        """What else the model is made of, as plain values."""
        return {"mean": self.mean, "rating_range": list(self.rating_range)}

    @classmethod
    def from_parts(cls, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Self:
        """The model with the `arrays()` and `facts()` of another."""
        low, high = facts["rating_range"]
        return cls(mean=facts["mean"], rating_range=(low, high), **{name: arrays[name] for name in _ARRAYS})


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
    if len(indices) and not (indices.min() >= -1 and indices.max() < size):
        seen = f"{indices.min()} to {indices.max()}"
        raise DataError("index out of range", where=where, seen=seen, fix=f"stay within -1 to {size - 1}")
    return indices
