"""Samples of a posterior on a device: their products and values, and the noise of users and items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSamples:
    """Factors on the noise int16[rows + 1, S] of users and items, and units [2, S]; an unknown row has 0, meaning 1."""

    tables: tuple[Tensor, Tensor]
    units: Tensor

    def factors(self, indices: Sequence[Tensor], run: slice) -> Tensor:
        """The products of the factors of users and items in a run of samples, float64[z, s]."""
        users, items = self.sides(indices, run)
        return users * items

    def sides(self, indices: Sequence[Tensor], run: slice) -> tuple[Tensor, Tensor]:
        """The factors of users and of items in a run of samples, float64[z, s] each."""
        users, items = (
            torch.where((rows < 0)[:, None], 1.0, table[:, run][rows].double() * unit)
            for table, rows, unit in zip(self.tables, indices[:2], self.units[:, run], strict=True)
        )
        return users, items


@dataclass(frozen=True)
class RowSamples:
    """Tables int16[rows + 1, S, k + 1] of users, items and contexts, units [3, S] and offsets [S], on the device."""

    tables: tuple[Tensor, ...]
    units: Tensor
    offsets: Tensor
    noise: NoiseSamples | None = None

    @property
    def cost(self) -> int:
        """Bytes per pair and sample in `values`: rows as they are stored and in float32, and a product of two."""
        return (3 * (2 + 4) + 4) * self.tables[0].shape[2]

    def products(self, users: Tensor, items: Tensor, s: int) -> Tensor:
        """o_s + b_u + b_i + p_u · q_i of every user and item, float32[b, n]."""
        x, y = (table[:, s][of].float() * unit for table, of, unit in zip(
            self.tables, (users, items), self.units[:2, s], strict=True))  # fmt: skip
        found: Tensor = self.offsets[s] + x[:, -1:] + y[:, -1] + x[:, :-1] @ y[:, :-1].T
        return found

    def values(self, indices: Sequence[Tensor], run: slice) -> Tensor:
        """o + b_u + b_i + w_c + p_u · q_i + p_u · a_c + q_i · a_c in a run of samples, float32[z, s]."""
        sides = [
            (table[:, run][index].float(), unit)  # [z, s, k + 1], [s]
            for table, index, unit in zip(self.tables, indices, self.units[:, run])  # noqa: B905  two or three
        ]
        r = self.offsets[run].repeat(len(indices[0]), 1)
        for rows, unit in sides:
            r += unit * rows[..., -1]
        for (x, x_unit), (y, y_unit) in combinations(sides, 2):
            r += x_unit * y_unit * (x[..., :-1] * y[..., :-1]).sum(2)
        return r
