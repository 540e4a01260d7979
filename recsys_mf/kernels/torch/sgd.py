"""Masked SGD in torch: minibatches, whose updates are summed by sorted scatters in a fixed order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_mf.kernels.operands import Part, RatingScale, SgdState, SgdStep, Triples
from recsys_mf.kernels.schedule import host
from recsys_mf.kernels.schedule.grid import Arranged, Grid, Places
from recsys_mf.kernels.schedule.plan import Planner
from recsys_mf.kernels.torch.device import TorchDevice
from recsys_mf.kernels.torch.streaming import ResidentTriples, StreamedTriples, place

_MAX_BATCH = 1 << 16
_SHARE_OF_STEP = 0.5  # a batch changes a row by at most this share of a full correction


class TorchSgd(Planner):
    """`kernels.backend.SgdKernels` on a torch device.

    room : bytes of the device that triples may take; None for half of what is free when they are placed
    """

    precisions: tuple[str, ...] = ("float32",)
    takes_weights: bool = True
    schedules: tuple[str, ...] = ("conflict-free",)
    max_rank: int | None = None

    def __init__(self, device: TorchDevice, room: int | None = None) -> None:
        self._device, self._room = device, room

    def width(self, rank: int) -> int:
        """The rank itself."""
        return rank

    def grid(self, n_ratings: int, n_users: int, n_items: int, width: int) -> Grid:
        """No grid: a minibatch may hold any triples."""
        return Grid(1)

    def batch(self, share: float, rate: float) -> int:
        """As many ratings as keep the summed step of the most rated row well below a full correction."""
        return int(np.clip(_SHARE_OF_STEP / (share * rate), 1, _MAX_BATCH))

    def arrange(self, triples: Triples, places: Places, grid: Grid, scale: RatingScale, seed: int) -> Arranged:
        """`host.arrange` on threads of the host."""
        return host.arrange(triples, places, grid, scale, seed, threads=self._device.threads)

    def stream(self, triples: Triples, bounds: NDArray[np.int64]) -> ResidentTriples | StreamedTriples:
        """The triples on the device if it has room, else sent there part by part."""
        return place(triples, bounds, torch.device(self._device.name), self._room)

    def put_factors(self, factors: NDArray[np.float32], precision: str) -> Tensor:
        """In float32."""
        return self._device.put(factors)

    def visit(self, part: Part, batch: int, state: SgdState, step: SgdStep) -> float:
        """As `reference.epoch`; blocks follow one another and each is cut into batches."""
        P, Q, user_bias, item_bias = state
        rate, bias_rate, ridge, bias_ridge = step[:4]
        total = torch.zeros((), dtype=torch.float64, device=self._device.name)
        edges = part.bounds.tolist()
        runs = [
            slice(start, min(start + batch, high))
            for row in edges
            for low, high in pairwise(row)
            for start in range(low, high, batch)
        ]
        for run in runs:
            u, i = part.users[run].long(), part.items[run].long()
            p, q, b_u, b_i = P[u], Q[i], user_bias[u], item_bias[i]
            e = part.values[run] - b_u - b_i - (p * q).sum(1)
            squares, w = e.double().square(), None if part.weights is None else part.weights[run]
            eta: float | Tensor = rate
            bias_eta: float | Tensor = bias_rate
            if w is not None:
                m = _multiples(w, p.square().sum(1) + q.square().sum(1), step)
                eta, bias_eta = rate * m[:, None], bias_rate * m
            P.index_put_((u,), eta * (e[:, None] * q - ridge * p), accumulate=True)
            Q.index_put_((i,), eta * (e[:, None] * p - ridge * q), accumulate=True)
            user_bias.index_put_((u,), bias_eta * (e - bias_ridge * b_u), accumulate=True)
            item_bias.index_put_((i,), bias_eta * (e - bias_ridge * b_i), accumulate=True)
            total += (squares if w is None else squares * w).sum()
        return float(total)


def _multiples(weights: Tensor, squares: Tensor, step: SgdStep) -> Tensor:
    """How many times the steps of triples are taken, m of `reference.epoch`; squares : |p_u|² + |q_i|²."""
    if step.is_linear:
        return weights
    c = step.rate * (squares + step.ridge) + step.bias_rate * (2 + step.bias_ridge)
    c = c.double().clamp(max=1)
    return torch.where((weights <= 1) | (c == 0), weights, (-torch.expm1(weights * torch.log1p(-c)) / c).float())
