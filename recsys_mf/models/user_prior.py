"""UserPrior: the prior of users in every sample of a posterior, for new users.

    x_u ~ N(F_u β_s, Λ_s⁻¹),    F_u has 1/√n_u for each of the n_u items that u has rated, 0 for others

in the coordinates of the sample's rows. Without who-rated-what links there are no coefficients, and F_u β is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import DataError
from recsys_mf.models.parts import Part
from recsys_mf.models.schema import Array, Schema

F32 = NDArray[np.float32]

_MAX_INT16 = 32767
_PREFIX = "prior_"
ARRAYS = {
    f"{_PREFIX}coefficients": Array(np.int16, ("items with coefficients", "S", "k + 1")),
    f"{_PREFIX}units": Array(np.float32, ("S",), "non-negative"),
    f"{_PREFIX}precisions": Array(np.float32, ("S", "k + 1", "k + 1")),
}


@dataclass(frozen=True, eq=False)
class PriorDraw:
    """One draw: coefficients β [n, k + 1], or [0, k + 1] without links, and the precision Λ [k + 1, k + 1]."""

    coefficients: F32
    precision: NDArray[Any]

    def moved(self, others: F32) -> Self:
        """The prior of the rows x M, where M adds the product of the factors and others [k] to the bias."""
        move = np.eye(len(self.precision))
        move[:-1, -1] = others
        back = 2 * np.eye(len(move)) - move
        return replace(
            self,
            coefficients=(self.coefficients @ move).astype(np.float32),
            precision=back @ self.precision @ back.T,
        )


@dataclass(frozen=True, eq=False)
class UserPrior(Part):
    """The draws of all samples.

    coefficients int16[n, S, k + 1], or [0, S, k + 1] : β in units of their sample, units float32[S]
    precisions float32[S, k + 1, k + 1] : Λ
    """

    schema: ClassVar[Schema] = ARRAYS
    prefix: ClassVar[str] = _PREFIX

    coefficients: NDArray[np.int16]
    units: F32
    precisions: F32

    @classmethod
    def of(cls, draws: Sequence[PriorDraw]) -> Self:
        """The prior made of draws, rounded like the rows of a posterior."""
        tiny = np.finfo(np.float32).tiny
        units = [max(np.float32(np.abs(d.coefficients).max(initial=0) / _MAX_INT16), tiny) for d in draws]
        rounded = [np.rint(d.coefficients / unit).astype(np.int16) for d, unit in zip(draws, units, strict=True)]
        precisions = np.array([draw.precision for draw in draws], np.float32)
        return cls(np.stack(rounded, axis=1), np.array(units, np.float32), precisions)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The samples of all parts."""
        coefficients = np.concatenate([part.coefficients for part in parts], axis=1)
        units, precisions = (np.concatenate([getattr(p, name) for p in parts]) for name in ("units", "precisions"))
        return cls(coefficients, units, precisions)

    def sample(self, s: int) -> Self:
        """Sample s alone."""
        one = slice(s, s + 1)
        return type(self)(self.coefficients[:, one], self.units[one], self.precisions[one])

    def check(self, n_items: int) -> None:
        """Raise DataError unless there are coefficients for all items or none, and precisions are positive definite."""
        name, size = f"{_PREFIX}coefficients", len(self.coefficients)
        if size not in (0, n_items):
            raise DataError("shape does not match", where=name, seen=size, fix=f"it has 0 or {n_items} rows")
        if not (np.linalg.eigvalsh(self.precisions.astype(np.float64)) > 0).all():
            fix = "train the run again"
            raise DataError("a precision is not positive definite", where=f"{_PREFIX}precisions", fix=fix)

    def draw(self, s: int) -> PriorDraw:
        """The draw of sample s."""
        return PriorDraw(self.coefficients[:, s] * self.units[s], self.precisions[s])
