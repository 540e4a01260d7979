"""Factorization: biases and two factor matrices, the plain model that every solver here can end in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import DataError, SolveError
from recsys_mf.kernels import cpu


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

    mean: float
    user_bias: NDArray[np.float32]
    item_bias: NDArray[np.float32]
    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    rating_range: tuple[float, float]

    def __post_init__(self) -> None:
        for name in ("user_bias", "item_bias", "user_factors", "item_factors"):
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

    def predict(self, users: NDArray[Any], items: NDArray[Any]) -> NDArray[np.float32]:
        """Predicted ratings float32[b] of pairs of dense indices int32[b], -1 for unknown.

        Raises DataError when users and items differ in length, and for an index that the model does not have.
        """
        if len(users) != len(items):
            raise DataError(
                "users and items differ in length",
                seen=f"{len(users)} and {len(items)}",
                fix="give as many of one as of the other",
            )
        return cpu.predict(
            self.mean, self.user_bias, self.item_bias, self.user_factors, self.item_factors,
            _indices(users, self.n_users, where="users"), _indices(items, self.n_items, where="items"),
            self.rating_range,
        )  # fmt: skip


def _indices(indices: NDArray[Any], size: int, *, where: str) -> NDArray[np.int32]:
    """The indices as the kernel takes them: it reads where they point, unchecked."""
    indices = np.ascontiguousarray(indices, np.int32)
    if len(indices) and not (indices.min() >= -1 and indices.max() < size):
        seen = f"{indices.min()} to {indices.max()}"
        raise DataError("index out of range", where=where, seen=seen, fix=f"stay within -1 to {size - 1}")
    return indices
