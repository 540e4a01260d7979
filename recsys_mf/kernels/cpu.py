"""The kernels on CPU cores: numba, one conflict-free block or range of rows a thread.

The arithmetic of a block or a row is done by one thread in one order, so that results do not depend on the
number of threads. Kernels are compiled once per rank and cached on disk. The rank is a compile-time constant (rows
are padded with zeros to a multiple of the vector width, and a zero column stays zero).
"""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numba
import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_mf.kernels import cpu_cg, cpu_ordinal, cpu_pairs, cpu_rows, cpu_sgd, cpu_sparse, ordinal
from recsys_mf.kernels.layout import Grid, Triples, blocked, thread_count
from recsys_mf.kernels.streams import HostTriples
from recsys_mf.kernels.vectors import FASTMATH, LANES, aligned, on_line

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
_PASSING_BYTES, _STAYING_BYTES = 1 << 17, 1 << 20  # of rows of users and of items of a part, in the second-level cache
_MOST_PARTS = 256  # of a band
_CHUNKS = 64  # ranges of rows that threads take; a constant, so that it cannot change a result


class CpuKernels:
    """The kernels on this many threads."""

    device = "cpu"
    xp: Any = np
    precisions: tuple[str, ...] = ("float32",)
    schedules: tuple[str, ...] = ("conflict-free",)
    most_rank: int | None = None

    def __init__(self, threads: int) -> None:
        # Read when OpenMP starts: threads that wait sleep, where they would keep others from their core.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self.threads = threads

    def facts(self) -> dict[str, str]:
        """The device."""
        return {"device": self.device}

    def guarded(self) -> AbstractContextManager[None]:
        """Nothing to guard: the host's memory is not the backend's."""
        return nullcontext()

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array, where the kernels can read and write it as it stands, else a copy; tables start on cache lines."""
        return on_line(array) if array.ndim == 2 else np.require(array, requirements=["C", "W"])

    def put_factors(self, array: F32, precision: str) -> F32:
        """As `put`: in float32."""
        return self.put(array)

    def get(self, array: NDArray[Any]) -> NDArray[Any]:
        """A copy that later epochs do not change."""
        return np.array(array, order="C")

    def width(self, rank: int) -> int:
        """The rank rounded up to full vector registers."""
        return max(1, -(-rank // LANES)) * LANES

    def grid(self, n_ratings: int, n_users: int, n_items: int, width: int) -> Grid:
        """Bands: a power of two near √(ratings / 8192), 2 to 32, enough for many cores; parts that fit in cache.

        It depends on the table and the rank alone, so that a run does not depend on the machine.
        """
        bands = int(2 ** np.clip(np.round(np.log2(max(n_ratings, 1) / 8192) / 2), 1, 5))
        row = 4 * width
        parts = (
            int(np.clip(-(-row * rows // (bands * most)), 1, _MOST_PARTS))
            for rows, most in ((n_users, _PASSING_BYTES), (n_items, _STAYING_BYTES))
        )
        return Grid(bands, *parts)

    def blocked(self, *arguments: Any) -> Triples:
        """`layout.blocked` on these threads."""
        with thread_count(self.threads):
            return blocked(*arguments)

    def triples(self, users: Any, items: Any, values: Any, bounds: NDArray[np.int64]) -> HostTriples:
        """Where they are."""
        return HostTriples(users, items, values, bounds)

    def normals(self, rng: np.random.Generator, rows: int, columns: int) -> F32:
        """Drawn by rng."""
        return rng.standard_normal((rows, columns), np.float32)

    def uniforms(self, rng: np.random.Generator, size: int) -> F32:
        """Drawn by rng."""
        return rng.random(size, np.float32)

    def batch(self, share: float, rate: float) -> int:
        """One rating at a time."""
        return 1

    def sgd_epoch(self, *arguments: Any) -> float:
        """`sgd_epoch` on these threads."""
        with thread_count(self.threads):
            return sgd_epoch(*arguments)

    def solve_rows(self, *arguments: Any) -> tuple[F32, F32]:
        """`solve_rows` on these threads."""
        with thread_count(self.threads):
            return solve_rows(*arguments)

    def refine_rows(self, *arguments: Any) -> tuple[F32, F32]:
        """`refine_rows` on these threads."""
        with thread_count(self.threads):
            return refine_rows(*arguments)

    def sparse_product(self, *arguments: Any) -> NDArray[Any]:
        """`sparse_product` on these threads."""
        with thread_count(self.threads):
            return sparse_product(*arguments)

    def pair_means(self, *arguments: Any) -> F32:
        """`pair_means` on these threads."""
        with thread_count(self.threads):
            return pair_means(*arguments)

    def pair_values(self, *arguments: Any) -> F32:
        """`pair_values` on these threads."""
        with thread_count(self.threads):
            return cpu_pairs.pair_values(*arguments)

    def expected_levels(self, *arguments: Any) -> F32:
        """`expected_levels` on these threads."""
        with thread_count(self.threads):
            return cpu_pairs.expected_levels(*arguments)

    def ordinal_terms(self, *arguments: Any) -> tuple[float, F64, F64]:
        """`ordinal_terms` on these threads."""
        with thread_count(self.threads):
            return ordinal_terms(*arguments)

    def drawn_latents(self, *arguments: Any) -> F32:
        """`drawn_latents` on these threads."""
        with thread_count(self.threads):
            return drawn_latents(*arguments)


def predict(
    mean: float, user_bias: F32, item_bias: F32, P: F32, Q: F32,
    users: NDArray[np.int32], items: NDArray[np.int32], rating_range: tuple[float, float],
) -> F32:  # fmt: skip
    """As `reference.predict`."""
    out = np.empty(len(users), np.float32)
    low, high = np.float32(rating_range[0]), np.float32(rating_range[1])
    _predict(np.float32(mean), user_bias, item_bias, P, Q, users, items, low, high, out)
    return out


def predict_samples(
    mean: float, deviation: float, users: NDArray[np.int16], items: NDArray[np.int16], contexts: NDArray[np.int16],
    scales: F32, offsets: F32, u: NDArray[np.int32], i: NDArray[np.int32], c: NDArray[np.int32],
    rating_range: tuple[float, float],
) -> tuple[F32, F32, NDArray[np.float64]]:  # fmt: skip
    """As `reference.predict_samples`."""
    clipped, means = (np.empty(len(u), np.float32) for _ in range(2))
    variances = np.empty(len(u))  # squares of ratings beyond 1e19 are no float32
    low, high = rating_range
    _predict_samples(
        np.float32(mean),
        np.float32(deviation),
        np.float32(low),
        np.float32(high),
        users,
        items,
        contexts,
        scales,
        offsets,
        u,
        i,
        c,
        clipped,
        means,
        variances,
    )
    return clipped, means, variances


def predict_levels(
    users: NDArray[np.int16], items: NDArray[np.int16], contexts: NDArray[np.int16], scales: F32, offsets: F32,
    thresholds: F32, noises: F32, u: NDArray[np.int32], i: NDArray[np.int32], c: NDArray[np.int32],
) -> F32:  # fmt: skip
    """As `reference.predict_levels`."""
    out = np.empty((len(u), thresholds.shape[1] + 1), np.float32)
    _predict_levels(users, items, contexts, scales, offsets, thresholds, 1 / noises, u, i, c, out)
    return out


def sgd_epoch(
    users: NDArray[np.int32], items: NDArray[np.int32], values: F32, bounds: NDArray[np.int64], batch: int,
    P: F32, Q: F32, user_bias: F32, item_bias: F32,
    rate: float, bias_rate: float, ridge: float, bias_ridge: float, seed: int,
) -> float:  # fmt: skip
    """As `reference.sgd_epoch` with batch = 1 and factors as wide as `CpuKernels.width` says."""
    errors = cpu_sgd.epoch_kernel(P.shape[1])(
        users, items, values, bounds, P, Q, user_bias, item_bias,
        np.float32(rate), np.float32(bias_rate), np.float32(ridge), np.float32(bias_ridge),
        numba.get_num_threads(),
    )  # fmt: skip
    total = 0.0
    for stratum in errors:  # in this order, whether strata come at once or one by one
        total += math.fsum(stratum)
    return total


@numba.njit(cache=True, nogil=True, parallel=True, fastmath=FASTMATH)
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


@numba.njit(cache=True, nogil=True, parallel=True, fastmath=FASTMATH)
def _predict_samples(
    mean: Any, deviation: Any, low: Any, high: Any, users: Any, items: Any, contexts: Any, scales: Any, offsets: Any,
    u: Any, i: Any, c: Any, clipped: Any, means: Any, variances: Any,
) -> None:  # fmt: skip
    samples = users.shape[1]
    for j in prange(u.size):
        context = c[j] if c.size else -1
        total, squares, inside = 0.0, 0.0, 0.0
        for s in range(samples):
            r = _sampled(users, items, contexts, scales, offsets, u[j], i[j], context, s)
            total += r
            squares += r * r
            inside += min(max(mean + deviation * r, low), high)
        clipped[j] = inside / samples
        average = total / samples
        means[j] = mean + deviation * average
        variances[j] = np.float64(deviation) * np.float64(deviation) * max(squares / samples - average * average, 0.0)


@numba.njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _predict_levels(
    users: Any, items: Any, contexts: Any, scales: Any, offsets: Any, thresholds: Any, slopes: Any,
    u: Any, i: Any, c: Any, out: Any,
) -> None:  # fmt: skip
    samples, top = thresholds.shape
    for j in prange(u.size):
        context = c[j] if c.size else -1
        below = np.zeros(top + 2)  # sums over samples of P(level < l)
        for s in range(samples):
            r = _sampled(users, items, contexts, scales, offsets, u[j], i[j], context, s)
            for t in range(top):
                below[t + 1] += cpu_ordinal.cdf((thresholds[s, t] - r) * slopes[s])
        below[top + 1] = samples
        for level in range(top + 1):
            out[j, level] = (below[level + 1] - below[level]) / samples


@numba.njit(cache=True, nogil=True, fastmath=FASTMATH)
def _sampled(
    users: Any, items: Any, contexts: Any, scales: Any, offsets: Any, user: Any, item: Any, context: Any, s: Any
) -> Any:
    """o + b_u + b_i + w_c + p_u · q_i + p_u · a_c + q_i · a_c of a sample."""
    k = users.shape[2] - 1
    user_scale, item_scale, context_scale = scales[0, s], scales[1, s], scales[2, s]
    r = offsets[s]
    if user >= 0:
        r += user_scale * users[user, s, k]
    if item >= 0:
        r += item_scale * items[item, s, k]
    if user >= 0 and item >= 0:
        r += user_scale * item_scale * _dot(users[user, s], items[item, s])
    if context >= 0:
        r += context_scale * contexts[context, s, k]
        if user >= 0:
            r += user_scale * context_scale * _dot(users[user, s], contexts[context, s])
        if item >= 0:
            r += item_scale * context_scale * _dot(items[item, s], contexts[context, s])
    return r


@numba.njit(cache=True, nogil=True, fastmath=FASTMATH)
def _dot(x: Any, y: Any) -> Any:
    """Σ x_f y_f over all but the last entry, in float32."""
    dot = np.float32(0.0)
    for f in range(x.size - 1):
        dot += np.float32(x[f]) * np.float32(y[f])
    return dot


def solve_rows(
    starts: NDArray[np.int64], others: NDArray[np.int32], contexts: NDArray[np.int32], values: F32, Y: F32, C: F32,
    prior_precision: F32, prior_means: F32, weights: F32, ridge: F32, noise_precision: float, normals: F32,
) -> tuple[F32, F32]:  # fmt: skip
    """As `reference.solve_rows`."""
    width = Y.shape[1]
    # A row costs about one rank-1 update a rating and one Cholesky factorisation.
    work = np.diff(starts) + width / 3
    X = np.empty((len(starts) - 1, width), np.float32)
    squared_errors = np.empty(len(X), np.float32)
    cpu_rows.solve_rows(
        _equal_chunks(work), starts, others, contexts, values,
        aligned(Y[:, :-1]), Y[:, -1].copy(), aligned(C[:, :-1]), C[:, -1].copy(),
        prior_precision, prior_means @ prior_precision, weights, ridge, np.float32(noise_precision), normals,
        X, squared_errors,
    )  # fmt: skip
    return X, squared_errors


def refine_rows(
    starts: NDArray[np.int64], others: NDArray[np.int32], values: F32, X: F32, Y: F32, weights: F32, ridge: F32,
    steps: int,
) -> tuple[F32, F32]:  # fmt: skip
    """As `reference.refine_rows`."""
    rank = X.shape[1] - 1
    factors = aligned(Y[:, :-1])
    refined = np.zeros((len(X), factors.shape[1] + 1), np.float32)  # padded, then the bias
    refined[:, :rank], refined[:, -1] = X[:, :-1], X[:, -1]
    padded_ridge = np.zeros(refined.shape[1], np.float32)
    padded_ridge[:rank], padded_ridge[-1] = ridge[:-1], ridge[-1]
    squared_errors = np.empty(len(X), np.float32)
    cpu_cg.refine_kernel(factors.shape[1])(
        _equal_chunks(np.diff(starts) + 4.0), starts, others, values, factors, Y[:, -1].copy(), weights, padded_ridge,
        steps, refined, squared_errors,
    )  # fmt: skip
    return np.column_stack([refined[:, :rank], refined[:, -1]]), squared_errors


def sparse_product(starts: NDArray[np.int64], others: NDArray[np.int32], values: F32, X: NDArray[Any]) -> NDArray[Any]:
    """As `reference.sparse_product`, in the precision of X."""
    return cpu_sparse.product(_equal_chunks(np.diff(starts) + 1.0), starts, others, values, X)


def pair_means(
    starts: NDArray[np.int64], others: NDArray[np.int32], contexts: NDArray[np.int32], X: F32, Y: F32, C: F32
) -> F32:
    """As `reference.pair_means`."""
    means = np.empty(len(others), np.float32)
    chunks = _equal_chunks(np.diff(starts).astype(np.float64))
    cpu_ordinal.pair_means(chunks, starts, others, contexts, X, Y, C, means)
    return means


def ordinal_terms(means: F32, levels: NDArray[np.uint8], cuts: F64, slope: float) -> tuple[float, F64, F64]:
    """As `reference.ordinal_terms`."""
    chunks = np.linspace(0, len(means), _CHUNKS + 1).astype(np.int64)
    sums, logs = np.zeros((_CHUNKS, len(cuts) + 1, 9)), np.zeros(_CHUNKS)
    cpu_ordinal.ordinal_sums(chunks, means, levels, _edges(cuts, ordinal.FAR), slope, sums, logs)
    return float(logs.sum()), *ordinal.assembled(sums.sum(axis=0))


def drawn_latents(means: F32, levels: NDArray[np.uint8], cuts: F64, slope: float, uniforms: F32) -> F32:
    """As `reference.drawn_latents`."""
    latents = np.empty_like(means)
    cpu_ordinal.drawn_latents(means, levels, _edges(cuts, np.inf), slope, uniforms, latents)
    return latents


def _edges(cuts: F64, end: float) -> F64:
    """The cuts with their ends."""
    return np.concatenate([[-end], cuts, [end]])


def _equal_chunks(work: NDArray[Any]) -> NDArray[np.int64]:
    """Boundaries int64[_CHUNKS + 1] of contiguous ranges of rows with about equal work."""
    done = np.cumsum(work)
    total = done[-1] if len(done) else 0.0
    inner = np.searchsorted(done, total * np.arange(1, _CHUNKS) / _CHUNKS)
    return np.concatenate([[0], inner, [len(work)]]).astype(np.int64)
