"""PersonalNoise: the factors of every user and every item on the noise, in every sample.

    deviation of a rating about m_s:  n_s g_su g_si,    g = 1/√γ,   γ ~ Gamma(ν_s/2, ν_s/2) of mean 1

with a ν for users and another for items. An unknown user or item has g = 1, which is γ at its prior mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.models.parts import Part
from recsys_mf.models.schema import Array, Schema

F32 = NDArray[np.float32]

_MAX_INT16 = 32767
_ALIKE = 1e9  # ν of scales that are all 1
_SIDES = ("user", "item")
_PREFIX = "noise_"
ARRAYS = {
    f"{_PREFIX}users": Array(np.int16, ("m", "S"), "positive"),
    f"{_PREFIX}items": Array(np.int16, ("n", "S"), "positive"),
    f"{_PREFIX}units": Array(np.float32, (2, "S"), "positive"),
    f"{_PREFIX}freedoms": Array(np.float32, (2, "S"), "positive"),
}


@dataclass(frozen=True, eq=False)
class NoiseDraw:
    """One draw: γ of users [m] and of items [n], and ν of both."""

    users: F32
    items: F32
    freedoms: tuple[float, float]


@dataclass(frozen=True, eq=False)
class PersonalNoise(Part):
    """The draws of all samples.

    users int16[m, S], items int16[n, S] : g in units of their sample, units float32[2, S]
    freedoms float32[2, S] : ν of users and of items
    """

    schema: ClassVar[Schema] = ARRAYS
    prefix: ClassVar[str] = _PREFIX

    users: NDArray[np.int16]
    items: NDArray[np.int16]
    units: F32
    freedoms: F32

    @classmethod
    def of(cls, draw: NoiseDraw) -> Self:
        """The factors of one draw, rounded to 1/32,767 of the largest factor."""
        factors = [1 / np.sqrt(scales.astype(np.float64)) for scales in (draw.users, draw.items)]
        units = np.array([[of.max(initial=1.0) / _MAX_INT16] for of in factors], np.float32)
        users, items = (rounded_factors(of, unit[0])[:, None] for of, unit in zip(factors, units, strict=True))
        return cls(users, items, units, np.array(draw.freedoms, np.float32)[:, None])

    @classmethod
    def common(cls, n_users: int, n_items: int) -> Self:
        """One draw with factors of 1 for all users and items."""
        users, items = (np.ones(rows, np.float32) for rows in (n_users, n_items))
        return cls.of(NoiseDraw(users, items, (_ALIKE, _ALIKE)))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The samples of all parts."""
        names = (name.removeprefix(_PREFIX) for name in ARRAYS)
        return cls(*(np.concatenate([getattr(part, name) for part in parts], axis=1) for name in names))

    def sample(self, s: int) -> Self:
        """Sample s alone."""
        one = slice(s, s + 1)
        return type(self)(self.users[:, one], self.items[:, one], self.units[:, one], self.freedoms[:, one])

    def taken(self, users: NDArray[Any], items: NDArray[Any]) -> Self:
        """The factors of these users and items, int64[.] or bool[m] and bool[n]; 1 for an index of -1."""
        tables = []
        for table, rows, units in ((self.users, users, self.units[0]), (self.items, items, self.units[1])):
            rounded = table[rows].copy()
            if rows.dtype != np.bool_:
                rounded[rows < 0] = rounded_factors(np.ones(1), units)
            tables.append(rounded)
        return replace(self, users=tables[0], items=tables[1])

    def with_factors(self, side: str, rows: NDArray[Any], factors: NDArray[Any]) -> Self:
        """The same with new factors g [rows, S] for some users, or items; those too large to be stored are clipped."""
        place = _SIDES.index(side)
        table = (self.users, self.items)[place].copy()
        table[rows] = rounded_factors(factors, self.units[place])
        return replace(self, users=table) if side == "user" else replace(self, items=table)

    def factors(self, side: str) -> F32:
        """g of all users, or items, in every sample, float32[., S]."""
        place = _SIDES.index(side)
        factors: F32 = (self.users, self.items)[place] * self.units[place]
        return factors


def rounded_factors(factors: NDArray[Any], unit: Any) -> NDArray[np.int16]:
    """g as integers of at least 1, in this unit; larger ones than int16 can hold are clipped."""
    rounded: NDArray[np.int16] = np.clip(np.rint(factors / unit), 1, _MAX_INT16).astype(np.int16)
    return rounded
