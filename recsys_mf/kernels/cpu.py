"""The kernels on CPU cores: numba, one conflict-free block or range of rows a thread.

The arithmetic of a block or a row is done by one thread in one order, so that results do not depend on the
number of threads. Kernels are compiled once per rank and cached on disk. The rank is a compile-time constant (rows
are padded with zeros to a multiple of the vector width, and a zero column stays zero).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import prange
from numpy.typing import NDArray

F32 = NDArray[np.float32]
_LANES = 16  # float32 in the widest vector register
_FASTMATH = {"reassoc", "contract", "nsz"}  # sums may be reordered; NaN and infinity keep their meaning
_CHUNKS = 64  # ranges of rows that threads take; a constant, so that it cannot change a result


class CpuKernels:
    """The kernels on this many threads."""

    device = "cpu"

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        """A copy the kernels may write to."""
        return np.array(array, order="C")

    def get(self, array: NDArray[Any]) -> NDArray[Any]:
        """A copy that later epochs do not change."""
        return np.array(array, order="C")

    def width(self, rank: int) -> int:
        """The rank rounded up to full vector registers."""
        return max(1, -(-rank // _LANES)) * _LANES

    def bands(self, visits: int) -> int:
        """A power of two near √(ratings / 8192), 2 to 64: blocks that fit in cache, enough for many cores.

        It depends on the table alone, so that a run does not depend on the machine.
        """
        return int(2 ** np.clip(np.round(np.log2(max(visits, 1) / 8192) / 2), 1, 6))

    def batch(self, share: float, rate: float) -> int:
        """One rating at a time."""
        return 1

    def sgd_epoch(self, *arguments: Any) -> float:
        """`sgd_epoch` on these threads."""
        with _thread_count(self.threads):
            return sgd_epoch(*arguments)

    def solve_rows(self, *arguments: Any) -> F32:
        """`solve_rows` on these threads."""
        with _thread_count(self.threads):
            return solve_rows(*arguments)

    def sparse_product(self, *arguments: Any) -> NDArray[np.float64]:
        """`sparse_product` on these threads."""
        with _thread_count(self.threads):
            return sparse_product(*arguments)


@contextmanager
def _thread_count(threads: int) -> Iterator[None]:
    """Run the kernels inside on this many threads."""
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def predict(
    mean: float, user_bias: F32, item_bias: F32, P: F32, Q: F32,
    users: NDArray[np.int32], items: NDArray[np.int32], rating_range: tuple[float, float],
) -> F32:  # fmt: skip
    """As `reference.predict`."""
    out = np.empty(len(users), np.float32)
    low, high = np.float32(rating_range[0]), np.float32(rating_range[1])
    _predict(np.float32(mean), user_bias, item_bias, P, Q, users, items, low, high, out)
    return out


def sgd_epoch(
    users: NDArray[np.int32], items: NDArray[np.int32], values: F32, bounds: NDArray[np.int64], batch: int,
    P: F32, Q: F32, user_bias: F32, item_bias: F32,
    rate: float, bias_rate: float, ridge: float, bias_ridge: float,
) -> float:  # fmt: skip
    """As `reference.sgd_epoch` with batch = 1 and factors as wide as `CpuKernels.width` says."""
    kernel = _sgd_kernel(P.shape[1])
    errors = kernel(
        users, items, values, bounds, P, Q, user_bias, item_bias,
        np.float32(rate), np.float32(bias_rate), np.float32(ridge), np.float32(bias_ridge),
    )  # fmt: skip
    return float(errors.sum())


@numba.njit(cache=True, nogil=True, parallel=True, fastmath=_FASTMATH)
def _predict(
    mean: Any,
    user_bias: Any,
    item_bias: Any,
    P: Any,
    Q: Any,
    users: Any,
    items: Any,
    low: Any,
    high: Any,
    out: Any,
) -> None:
    for j in prange(users.size):
        u, i = users[j], items[j]
        r = mean
        if u >= 0:
            r += user_bias[u]
        if i >= 0:
            r += item_bias[i]
        if u >= 0 and i >= 0:
            dot = np.float32(0.0)
            for f in range(P.shape[1]):
                dot += P[u, f] * Q[i, f]
            r += dot
        out[j] = min(max(r, low), high)


@cache
def _sgd_kernel(width: int) -> Any:
    """The epoch for factors of this many columns."""

    @numba.njit(nogil=True, cache=True, parallel=True, fastmath=_FASTMATH, error_model="numpy")
    def epoch(
        users: Any, items: Any, values: Any, bounds: Any, P: Any, Q: Any, user_bias: Any, item_bias: Any,
        rate: Any, bias_rate: Any, ridge: Any, bias_ridge: Any,
    ) -> Any:  # fmt: skip
        keep = np.float32(1.0) - rate * ridge
        bias_keep = np.float32(1.0) - bias_rate * bias_ridge
        strata, blocks = bounds.shape[0], bounds.shape[1] - 1
        squared = np.zeros((strata, blocks))
        for s in range(strata):
            for w in prange(blocks):
                total = 0.0
                for j in range(bounds[s, w], bounds[s, w + 1]):
                    u, i = users[j], items[j]
                    p, q = P[u], Q[i]
                    dot = np.float32(0.0)
                    for f in range(width):
                        dot += p[f] * q[f]
                    e = values[j] - user_bias[u] - item_bias[i] - dot
                    total += e * e
                    user_bias[u] = user_bias[u] * bias_keep + bias_rate * e
                    item_bias[i] = item_bias[i] * bias_keep + bias_rate * e
                    step = rate * e
                    for f in range(width):
                        p_f, q_f = p[f], q[f]
                        p[f] = p_f * keep + step * q_f
                        q[f] = q_f * keep + step * p_f
                squared[s, w] = total
        return squared

    return epoch


def solve_rows(
    starts: NDArray[np.int64], others: NDArray[np.int32], targets: F32, Y: F32,
    prior_precision: F32, prior_linear: F32, weights: F32, ridge: F32, noise_precision: float, normals: F32,
) -> F32:  # fmt: skip
    """As `reference.solve_rows`."""
    rank = Y.shape[1]
    # A row costs about one rank-1 update a rating and one Cholesky factorisation.
    work = np.diff(starts) + rank / 3
    X = np.empty((len(starts) - 1, rank), np.float32)
    _solve_rows(
        _equal_chunks(work), starts, others, targets, Y, prior_precision, prior_linear, weights, ridge,
        np.float32(noise_precision), normals, X,
    )  # fmt: skip
    return X


def sparse_product(
    starts: NDArray[np.int64], others: NDArray[np.int32], values: F32, X: NDArray[np.float64]
) -> NDArray[np.float64]:
    """As `reference.sparse_product`."""
    product = np.zeros((len(starts) - 1, X.shape[1]))
    _sparse_product(_equal_chunks(np.diff(starts) + 1.0), starts, others, values, X, product)
    return product


def _equal_chunks(work: NDArray[Any]) -> NDArray[np.int64]:
    """Boundaries int64[_CHUNKS + 1] of contiguous ranges of rows with about equal work."""
    done = np.cumsum(work)
    total = done[-1] if len(done) else 0.0
    inner = np.searchsorted(done, total * np.arange(1, _CHUNKS) / _CHUNKS)
    return np.concatenate([[0], inner, [len(work)]]).astype(np.int64)


@numba.njit(cache=True, nogil=True, parallel=True, fastmath=_FASTMATH, error_model="numpy")
def _solve_rows(
    chunks: Any, starts: Any, others: Any, targets: Any, Y: Any, prior_precision: Any, prior_linear: Any,
    weights: Any, ridge: Any, noise_precision: Any, normals: Any, X: Any,
) -> None:  # fmt: skip
    rank = Y.shape[1]
    for chunk in prange(chunks.size - 1):
        A = np.empty((rank, rank), np.float32)  # lower triangle
        for g in range(chunks[chunk], chunks[chunk + 1]):
            x = X[g]
            for a in range(rank):
                x[a] = prior_linear[a]
                for b in range(a + 1):
                    A[a, b] = prior_precision[a, b]
                A[a, a] += weights[g] * ridge[a]
            _add_regressors(A, x, Y, others[starts[g] : starts[g + 1]], targets[starts[g] : starts[g + 1]],
                            noise_precision)  # fmt: skip
            _cholesky(A)
            _forward(A, x)
            if normals.shape[0]:
                for a in range(rank):
                    x[a] += normals[g, a]
            _backward(A, x)


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH, error_model="numpy")
def _add_regressors(A: Any, x: Any, Y: Any, others: Any, targets: Any, noise_precision: Any) -> None:
    """A += α Σ y yᵀ (lower triangle), x += α Σ t y, four regressors at a time to reuse the row of A."""
    rank = x.size
    j = 0
    while j + 4 <= others.size:
        y0, y1, y2, y3 = Y[others[j]], Y[others[j + 1]], Y[others[j + 2]], Y[others[j + 3]]
        t0, t1 = noise_precision * targets[j], noise_precision * targets[j + 1]
        t2, t3 = noise_precision * targets[j + 2], noise_precision * targets[j + 3]
        for a in range(rank):
            s0, s1, s2, s3 = y0[a], y1[a], y2[a], y3[a]
            x[a] += t0 * s0 + t1 * s1 + t2 * s2 + t3 * s3
            s0, s1 = noise_precision * s0, noise_precision * s1
            s2, s3 = noise_precision * s2, noise_precision * s3
            row = A[a]
            for b in range(a + 1):
                row[b] += s0 * y0[b] + s1 * y1[b] + s2 * y2[b] + s3 * y3[b]
        j += 4
    while j < others.size:
        y = Y[others[j]]
        t = noise_precision * targets[j]
        for a in range(rank):
            x[a] += t * y[a]
            s = noise_precision * y[a]
            row = A[a]
            for b in range(a + 1):
                row[b] += s * y[b]
        j += 1


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH, error_model="numpy")
def _cholesky(A: Any) -> None:
    """Lower Cholesky factor in place, row by row; NaN where A is not positive definite."""
    for a in range(A.shape[0]):
        row = A[a]
        for b in range(a):
            other = A[b]
            dot = np.float32(0.0)
            for c in range(b):
                dot += row[c] * other[c]
            row[b] = (row[b] - dot) / other[b]
        dot = np.float32(0.0)
        for c in range(a):
            dot += row[c] * row[c]
        row[a] = np.sqrt(row[a] - dot)


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH, error_model="numpy")
def _forward(L: Any, x: Any) -> None:
    """x = L⁻¹ x."""
    for a in range(x.size):
        row = L[a]
        dot = np.float32(0.0)
        for b in range(a):
            dot += row[b] * x[b]
        x[a] = (x[a] - dot) / row[a]


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH, error_model="numpy")
def _backward(L: Any, x: Any) -> None:
    """x = L⁻ᵀ x."""
    for a in range(x.size - 1, -1, -1):
        row = L[a]
        x[a] /= row[a]
        for b in range(a):
            x[b] -= row[b] * x[a]


@numba.njit(cache=True, nogil=True, parallel=True, fastmath=_FASTMATH)
def _sparse_product(chunks: Any, starts: Any, others: Any, values: Any, X: Any, product: Any) -> None:
    for chunk in prange(chunks.size - 1):
        for g in range(chunks[chunk], chunks[chunk + 1]):
            out = product[g]
            for j in range(starts[g], starts[g + 1]):
                x = X[others[j]]
                value = np.float64(values[j])
                for c in range(out.size):
                    out[c] += value * x[c]
