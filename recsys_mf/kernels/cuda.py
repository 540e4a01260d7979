"""The kernels in torch, for CUDA; on torch's CPU device they are the same code, which is how tests hold them to
the reference where there is no GPU.

Triples, factors and biases stay on the device. SGD takes minibatches, whose updates are summed by sorted scatters
in a fixed order; row solves are batched over rows of similar length.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LARGEST_BATCH = 1 << 16
_SHARE_OF_STEP = 0.5  # a batch moves a row by at most this share of a full correction
_PADDED_CELLS = 1 << 24  # gathered regressors held at once by solve_rows, in float32


class TorchKernels:
    """The kernels on a torch device."""

    def __init__(self, device: str) -> None:
        self.device = device

    def put(self, array: NDArray[Any]) -> Tensor:
        """The array as a tensor on the device."""
        return torch.tensor(np.ascontiguousarray(array), device=self.device)

    def get(self, array: Tensor) -> NDArray[Any]:
        """The tensor as a NumPy copy."""
        copy: NDArray[Any] = array.cpu().numpy().copy()
        return copy

    def width(self, rank: int) -> int:
        """The rank itself."""
        return rank

    def bands(self, visits: int) -> int:
        """No grid: a minibatch may hold any triples."""
        return 1

    def batch(self, share: float, rate: float) -> int:
        """As many ratings as keep the summed step of the most rated row well below a full correction."""
        return int(np.clip(_SHARE_OF_STEP / (share * rate), 1, _LARGEST_BATCH))

    def sgd_epoch(
        self, users: Tensor, items: Tensor, values: Tensor, bounds: NDArray[np.int64], batch: int,
        P: Tensor, Q: Tensor, user_bias: Tensor, item_bias: Tensor,
        rate: float, bias_rate: float, ridge: float, bias_ridge: float,
    ) -> float:  # fmt: skip
        """As `reference.sgd_epoch`; blocks follow one another and each is cut into batches."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        edges = bounds.tolist()
        runs = [
            slice(start, min(start + batch, high))
            for row in edges
            for low, high in pairwise(row)
            for start in range(low, high, batch)
        ]
        for run in runs:
            u, i = users[run].long(), items[run].long()
            p, q, b_u, b_i = P[u], Q[i], user_bias[u], item_bias[i]
            e = values[run] - b_u - b_i - (p * q).sum(1)
            P.index_put_((u,), rate * (e[:, None] * q - ridge * p), accumulate=True)
            Q.index_put_((i,), rate * (e[:, None] * p - ridge * q), accumulate=True)
            user_bias.index_put_((u,), bias_rate * (e - bias_ridge * b_u), accumulate=True)
            item_bias.index_put_((i,), bias_rate * (e - bias_ridge * b_i), accumulate=True)
            total += e.double().square().sum()
        return float(total)

    def solve_rows(
        self, starts: Tensor, others: Tensor, contexts: Tensor, values: Tensor, Y: Tensor, C: Tensor,
        prior_precision: Tensor, prior_means: Tensor, weights: Tensor, ridge: Tensor,
        noise_precision: float, normals: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """As `reference.solve_rows`; rows are sorted by length and solved in batches padded to the longest."""
        lengths = torch.diff(starts)
        order = torch.argsort(lengths, descending=True)
        X = torch.empty((len(lengths), Y.shape[1]), dtype=Y.dtype, device=self.device)
        squared_errors = torch.empty(len(lengths), dtype=Y.dtype, device=self.device)
        first = 0
        while first < len(order):
            longest = max(1, int(lengths[order[first]]))
            cells = max(longest, Y.shape[1]) * Y.shape[1]
            rows = order[first : first + max(1, _PADDED_CELLS // cells)]
            # Shorter rows by half are left to the next batch: at most half of a batch is padding.
            rows = rows[: max(1, int((lengths[rows] * 2 >= longest).sum()))]
            y, t = _regression(starts, lengths, rows, longest, others, contexts, values, Y, C)
            A = noise_precision * (y.mT @ y) + prior_precision + weights[rows, None, None] * torch.diag(ridge)
            right = noise_precision * (y.mT @ t[:, :, None])[:, :, 0] + prior_means[rows] @ prior_precision
            L, failed = torch.linalg.cholesky_ex(A)
            half = torch.linalg.solve_triangular(L, right[:, :, None], upper=False)
            if len(normals):
                half += normals[rows, :, None]
            solved = torch.linalg.solve_triangular(L.mT, half, upper=True)[:, :, 0]
            X[rows] = torch.where(failed[:, None] > 0, torch.nan, solved)
            squared_errors[rows] = (t - (y @ X[rows][:, :, None])[:, :, 0]).square().sum(1)
            first += len(rows)
        return X, squared_errors

    def sparse_product(self, starts: Tensor, others: Tensor, values: Tensor, X: Tensor) -> Tensor:
        """As `reference.sparse_product`."""
        rows = torch.repeat_interleave(torch.arange(len(starts) - 1, device=self.device), torch.diff(starts))
        places = torch.stack([rows, others.long()])
        values = values if len(values) else torch.ones(len(others), device=self.device)
        S = torch.sparse_coo_tensor(
            places, values.to(X.dtype), (len(starts) - 1, len(X)), is_coalesced=True, check_invariants=False
        )
        return S @ X


def _regression(
    starts: Tensor, lengths: Tensor, rows: Tensor, longest: int, others: Tensor, contexts: Tensor, values: Tensor,
    Y: Tensor, C: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Regressors y [b, longest, k + 1] and targets t [b, longest] of the given rows, padded with zeros."""
    step = torch.arange(longest, device=Y.device)
    inside = step < lengths[rows, None]  # [b, longest]
    place = torch.where(inside, starts[rows, None] + step, 0)
    y = Y[others[place].long()]  # [b, longest, k + 1]
    t = values[place] - y[:, :, -1]
    if len(contexts):
        c = C[contexts[place].long()]
        t = t - c[:, :, -1] - (y[:, :, :-1] * c[:, :, :-1]).sum(2)
        y = y + c
    y[:, :, -1] = 1
    return y * inside[:, :, None], t * inside
