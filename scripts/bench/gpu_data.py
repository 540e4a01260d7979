"""Planted tables of up to 100 million ratings, made in seconds on the device that is measured.

The j-th most active user's share of the ratings is proportional to (j + 100)^-0.8, the j-th most popular item's to
(j + 30)^-1: Zipf's law with a flattened head. The most rated item of 25 million ratings then has 0.4 % of them
(MovieLens 25M: 0.3 %). A rating is 3.5 + b_u + b_i + p_u · q_i + noise of deviation 0.8, rounded to half a star.
Pairs may occur twice, which does not affect the times.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from gpu_session import Shape
from numpy.typing import NDArray
from torch import Tensor

from recsys_mf.ratings import Ratings
from recsys_mf.vocabulary import Vocabulary

RANK, BIAS, NOISE = 8, 0.4, 0.8
_CHUNK = 10_000_000


class Planted(NamedTuple):
    """A table, and held-out rows drawn in the same way."""

    train: Ratings
    test_users: NDArray[np.int32]
    test_items: NDArray[np.int32]
    test_values: NDArray[np.float32]

    def rmse(self, predictions: NDArray[Any]) -> float:
        """RMSE of predictions for the held-out rows."""
        return float(np.sqrt(np.mean((predictions.astype(np.float64) - self.test_values) ** 2)))


class _Truth(NamedTuple):
    cumulative: tuple[Tensor, Tensor]  # [rows] cumulative shares of users and of items
    biases: tuple[Tensor, Tensor]
    factors: tuple[Tensor, Tensor]  # [rows, RANK]


def planted(shape: Shape, device: str, held_out: int = 0, seed: int = 0) -> Planted:
    """A table of this shape in which every user and every item occurs."""
    generator = torch.Generator(device).manual_seed(seed)
    truth, total = _truth(shape, generator), shape.n_ratings + held_out
    chunks = [_chunk(truth, first, min(first + _CHUNK, total), generator) for first in range(0, total, _CHUNK)]
    users, items, values = (np.concatenate(column) for column in zip(*chunks, strict=True))
    n = shape.n_ratings
    user_ids, item_ids = (Vocabulary.encode(np.arange(size))[0] for size in (shape.n_users, shape.n_items))
    train = Ratings(users[:n], items[:n], values[:n], None, user_ids, item_ids)
    return Planted(train, users[n:], items[n:], values[n:])


def _truth(shape: Shape, generator: torch.Generator) -> _Truth:
    device = generator.device
    cumulative, biases, factors = [], [], []
    for size, head, power in ((shape.n_users, 100, 0.8), (shape.n_items, 30, 1.0)):
        share = torch.arange(1, size + 1, dtype=torch.float64, device=device).add(head).pow(-power)
        cumulative.append(torch.cumsum(share / share.sum(), 0))
        biases.append(BIAS * torch.randn(size, generator=generator, device=device))
        factors.append(0.7 * RANK**-0.25 * torch.randn((size, RANK), generator=generator, device=device))
    return _Truth(tuple(cumulative), tuple(biases), tuple(factors))  # type: ignore[arg-type]


def _chunk(truth: _Truth, first: int, stop: int, generator: torch.Generator) -> list[NDArray[Any]]:
    """Users, items and values of the rows from first to stop."""
    device, rows = generator.device, []
    place = torch.arange(first, stop, device=device)
    longer = max(map(len, truth.cumulative))
    for cumulative in truth.cumulative:
        share = torch.rand(stop - first, generator=generator, dtype=torch.float64, device=device)
        drawn = torch.searchsorted(cumulative, share).clamp_max(len(cumulative) - 1)
        rows.append(torch.where(place < longer, place % len(cumulative), drawn))
    (u, i), (P, Q), (b_u, b_i) = rows, truth.factors, truth.biases
    values = 3.5 + b_u[u] + b_i[i] + (P[u] * Q[i]).sum(1)
    values += NOISE * torch.randn(len(values), generator=generator, device=device)
    halves = torch.clamp(torch.round(2 * values) / 2, 0.5, 5)
    return [column.cpu().numpy() for column in (u.int(), i.int(), halves)]
