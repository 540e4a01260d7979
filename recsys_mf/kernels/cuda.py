"""The kernels in torch, for CUDA; on torch's CPU device they are the same code, which is how tests hold them to
the reference where there is no GPU.

Triples, factors and biases stay on the device. SGD takes minibatches, whose updates are summed by sorted scatters
in a fixed order; row solves are batched over rows of similar length.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_mf.kernels import cuda_memory, layout, ordinal
from recsys_mf.kernels.cuda_streams import ResidentTriples, StreamedTriples, on_device
from recsys_mf.kernels.layout import Grid

_LARGEST_BATCH = 1 << 16
_SHARE_OF_STEP = 0.5  # a batch moves a row by at most this share of a full correction
_PADDED_CELLS = 1 << 24  # gathered regressors held at once by solve_rows, in float32
_ORDINAL_PAIRS = 1 << 22  # held in float64 at once, with some twenty numbers each
_GATHERED_CELLS = 1 << 26  # of either side, held at once by pair_means and pair_values


class TorchKernels:
    """The kernels on a torch device."""

    xp: Any = torch

    precisions: tuple[str, ...] = ("float32",)
    schedules: tuple[str, ...] = ("conflict-free",)
    most_rank: int | None = None
    written_in = f"torch {torch.__version__}"

    def __init__(self, device: str, threads: int = 1, room: int | None = None) -> None:
        """
        device : "cuda", or "cpu" to stand in for it
        room : bytes of the device that triples may take; None for half of what is free when they come
        """
        self.device, self.threads, self._room = device, threads, room

    def facts(self) -> dict[str, str]:
        """The device, its name, its driver, and what the kernels are written in."""
        facts = {"device": self.device, "kernels": self.written_in}
        return facts | cuda_memory.card() if self.device == "cuda" else facts

    def guarded(self) -> AbstractContextManager[None]:
        """A card without room raises ResourceError."""
        return cuda_memory.guarded()

    def put(self, array: Any) -> Tensor:
        """The array as a tensor on the device; a tensor is there already."""
        if isinstance(array, Tensor):
            return array
        with self.guarded():
            return torch.tensor(np.ascontiguousarray(array), device=self.device)

    def put_factors(self, array: NDArray[np.float32], precision: str) -> Tensor:
        """As `put`: in float32."""
        return self.put(array)

    def blocked(self, *arguments: Any) -> layout.Triples:
        """`layout.blocked` on threads of the host."""
        return layout.blocked(*arguments, threads=self.threads)

    def triples(
        self, users: NDArray[Any], items: NDArray[Any], values: NDArray[Any], bounds: NDArray[np.int64]
    ) -> ResidentTriples | StreamedTriples:
        """On the device to stay where it has room, else part by part on their way there."""
        return on_device(users, items, values, bounds, torch.device(self.device), self._room)

    def normals(self, rng: np.random.Generator, rows: int, columns: int) -> Tensor:
        """Drawn on the device from a seed of rng."""
        return torch.randn((rows, columns), generator=self._generator(rng), device=self.device)

    def uniforms(self, rng: np.random.Generator, size: int) -> Tensor:
        """Drawn on the device from a seed of rng."""
        steps = torch.randint(1 << 24, (size,), generator=self._generator(rng), device=self.device)
        return steps.float() * 2.0**-24

    def _generator(self, rng: np.random.Generator) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(int(rng.integers(2**63)))

    def get(self, array: Tensor) -> NDArray[Any]:
        """The tensor as a NumPy copy, in float32 where it was stored in less."""
        wide = array.float() if array.dtype in (torch.float16, torch.bfloat16) else array
        copy: NDArray[Any] = wide.cpu().numpy().copy()
        return copy

    def width(self, rank: int) -> int:
        """The rank itself."""
        return rank

    def grid(self, n_ratings: int, n_users: int, n_items: int, width: int) -> Grid:
        """No grid: a minibatch may hold any triples."""
        return Grid(1)

    def batch(self, share: float, rate: float) -> int:
        """As many ratings as keep the summed step of the most rated row well below a full correction."""
        return int(np.clip(_SHARE_OF_STEP / (share * rate), 1, _LARGEST_BATCH))

    def sgd_epoch(
        self, users: Tensor, items: Tensor, values: Tensor, bounds: Tensor, batch: int,
        P: Tensor, Q: Tensor, user_bias: Tensor, item_bias: Tensor,
        rate: float, bias_rate: float, ridge: float, bias_ridge: float, seed: int,
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

    def refine_rows(
        self, starts: Tensor, others: Tensor, values: Tensor, X: Tensor, Y: Tensor, weights: Tensor, ridge: Tensor,
        steps: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """As `reference.refine_rows`; a step is two sparse products with the regressors of all ratings."""
        rows = torch.repeat_interleave(torch.arange(len(starts) - 1, device=self.device), torch.diff(starts))
        bias = torch.ones((len(Y), 1), dtype=Y.dtype, device=self.device)
        table, shrink = torch.cat([Y[:, :-1], bias], 1), weights[:, None] * ridge
        t = values - Y[others.long(), -1]

        def summed(errors: Tensor) -> Tensor:
            return self.sparse_product(starts, others, errors, table)

        def products(S: Tensor) -> Tensor:
            return (S[rows] * table[others.long()]).sum(1)

        X = X.clone()
        R = summed(t - products(X)) - shrink * X
        D = self.sparse_product(starts, others, torch.ones_like(values), table.square()) + shrink
        D = torch.where(D > 0, D, torch.inf)
        S = R / D
        for _ in range(steps):
            old, AS = (R * R / D).sum(1), summed(products(S)) + shrink * S
            curvature = (S * AS).sum(1)
            alpha = torch.where((old > 0) & (curvature > 0), old / curvature, 0.0)[:, None]
            X, R = X + alpha * S, R - alpha * AS
            S = R / D + torch.where(old > 0, (R * R / D).sum(1) / old, 0.0)[:, None] * S
        squares = (t - products(X)).square()
        return X, torch.segment_reduce(squares, "sum", lengths=torch.diff(starts), unsafe=True)

    def sparse_product(self, starts: Tensor, others: Tensor, values: Tensor, X: Tensor) -> Tensor:
        """As `reference.sparse_product`; starts and others are the indices of a CSR tensor as they stand."""
        size, z = (len(starts) - 1, len(X)), len(others)
        index = torch.int32 if z <= torch.iinfo(torch.int32).max else torch.int64
        values = values.to(X.dtype) if len(values) else torch.ones(z, dtype=X.dtype, device=self.device)
        with warnings.catch_warnings():  # torch gives one with the first such tensor of a process
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
            S = torch.sparse_csr_tensor(starts.to(index), others.to(index), values, size, check_invariants=False)
        return S @ X

    def pair_means(self, starts: Tensor, others: Tensor, contexts: Tensor, X: Tensor, Y: Tensor, C: Tensor) -> Tensor:
        """As `reference.pair_means`."""
        rows = torch.repeat_interleave(torch.arange(len(starts) - 1, device=self.device), torch.diff(starts))
        return self.pair_values(rows.int(), others, contexts, X, Y, C)

    def pair_values(self, users: Tensor, items: Tensor, contexts: Tensor, X: Tensor, Y: Tensor, C: Tensor) -> Tensor:
        """As `reference.pair_values`; pairs are gathered a part at a time."""
        parts = [
            _values(users[part], items[part], contexts[part] if len(contexts) else contexts, X, Y, C)
            for part in _parts(len(users), _GATHERED_CELLS // X.shape[1])
        ]
        return torch.cat(parts) if parts else torch.empty(0, device=self.device)

    def expected_levels(self, means: Tensor, thresholds: NDArray[Any], noise: float, levels: NDArray[Any]) -> Tensor:
        """As `reference.expected_levels`."""
        expected = torch.full_like(means, float(levels[-1]), dtype=torch.float64)
        for threshold, step in zip(thresholds.tolist(), np.diff(levels.astype(np.float64)).tolist(), strict=True):
            expected -= step * _cdf((threshold - means.double()) / noise)
        return expected.to(means.dtype)

    def ordinal_terms(
        self, means: Tensor, levels: Tensor, cuts: NDArray[np.float64], slope: float
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """As `reference.ordinal_terms`; sums by level are products with indicators, in a fixed order."""
        log_likelihood = torch.zeros((), dtype=torch.float64, device=self.device)
        sums = torch.zeros((len(cuts) + 1, 9), dtype=torch.float64, device=self.device)
        for part in _parts(len(means), _ORDINAL_PAIRS):
            terms, mass = self._ordinal_parts(means[part].double(), levels[part].long(), cuts, slope)
            indicators = levels[part, None] == torch.arange(len(cuts) + 1, device=self.device)
            sums += indicators.double().mT @ terms
            log_likelihood += torch.log(mass).sum()
        return float(log_likelihood), *ordinal.assembled(sums.cpu().numpy())

    def _ordinal_parts(
        self, m: Tensor, level: Tensor, cuts: NDArray[np.float64], slope: float
    ) -> tuple[Tensor, Tensor]:
        """What is summed of every pair by level, [z, 9], and the probability of its level."""
        low, high = self._ends(level, m, cuts, slope, ordinal.FAR)
        flipped = low > 0
        mass = _cdf(torch.where(flipped, -low, high)) - _cdf(torch.where(flipped, -high, low))
        mass = mass.clamp_min(_LEAST)
        A, B = (sign * torch.exp(-0.5 * x * x) / _ROOT_TAU / mass for sign, x in ((-1, low), (1, high)))
        A_a, A_b, B_b = -low * A - A * A, -A * B, -high * B - B * B
        terms = [A, B, A_a, B_b, A_b, m * (A_a + A_b), m * (B_b + A_b), m * (A + B), m * m * (A_a + 2 * A_b + B_b)]
        return torch.stack(terms, dim=1), mass

    def drawn_latents(
        self, means: Tensor, levels: Tensor, cuts: NDArray[np.float64], slope: float, uniforms: Tensor
    ) -> Tensor:
        """As `reference.drawn_latents`."""
        latents = torch.empty_like(means)
        for part in _parts(len(means), _ORDINAL_PAIRS):
            latents[part] = self._latents(means[part].double(), levels[part].long(), cuts, slope, uniforms[part])
        return latents

    def _latents(self, m: Tensor, levels: Tensor, cuts: NDArray[np.float64], slope: float, uniforms: Tensor) -> Tensor:
        low, high = self._ends(levels, m, cuts, slope, np.inf)
        flipped = low > 0
        low, high = torch.where(flipped, -high, low), torch.where(flipped, -low, high)
        share = uniforms.double() + 2.0**-25
        share = torch.where(flipped, 1 - share, share)
        at_low = _cdf(low)
        x = torch.special.ndtri((at_low + share * (_cdf(high) - at_low)).clamp_min(_LEAST))
        return m + torch.where(flipped, -x, x) / slope

    def _ends(
        self, levels: Tensor, means: Tensor, cuts: NDArray[np.float64], slope: float, end: float
    ) -> tuple[Tensor, Tensor]:
        """c_l - κ m and c_{l+1} - κ m of every pair."""
        edges = torch.tensor(np.concatenate([[-end], cuts, [end]]), device=self.device)
        return edges[levels] - slope * means, edges[levels + 1] - slope * means


_LEAST = 1e-300  # of a probability
_ROOT_TAU = float(np.sqrt(2 * np.pi))


def _parts(size: int, length: int) -> Iterator[slice]:
    """Runs of at most that length."""
    return (slice(start, min(start + length, size)) for start in range(0, size, max(1, length)))


def _values(users: Tensor, items: Tensor, contexts: Tensor, X: Tensor, Y: Tensor, C: Tensor) -> Tensor:
    """`pair_values` of a part."""
    x, y = (_known_rows(table, rows) for table, rows in ((X, users), (Y, items)))
    p, q = x[:, :-1], y[:, :-1]
    values = x[:, -1] + y[:, -1] + (p * q).sum(1)
    if len(contexts):
        c = _known_rows(C, contexts)
        values += c[:, -1] + ((p + q) * c[:, :-1]).sum(1)
    return values


def _known_rows(table: Tensor, rows: Tensor) -> Tensor:
    """Rows of a table, zeros for -1."""
    known = rows >= 0
    return torch.where(known[:, None], table[torch.where(known, rows, 0).long()], 0.0)


def _cdf(x: Tensor) -> Tensor:
    """Φ(x), accurate where it is small."""
    return 0.5 * torch.erfc(-x * np.sqrt(0.5))


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
