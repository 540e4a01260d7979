"""The kernels on CPU cores: numba, one conflict-free block or range of rows a thread.

The arithmetic of a block or a row is done by one thread in one order, so that results do not depend on the
number of threads. Kernels are compiled once per rank and cached on disk. The rank is a compile-time constant (rows
are padded with zeros to a multiple of the vector width, and a zero column stays zero).
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.threads import pairs, shares, side_by_side
from recsys_mf.kernels import cpu_cg, cpu_ordinal, cpu_pairs, cpu_rows, cpu_sgd, cpu_sparse, ordinal, turns
from recsys_mf.kernels.layout import Grid, Triples, blocked
from recsys_mf.kernels.streams import HostTriples
from recsys_mf.kernels.vectors import LANES, aligned, on_line

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
_PASSING_BYTES, _STAYING_BYTES = 1 << 17, 1 << 20  # of rows of users and of items of a part, in the second-level cache
_MOST_PARTS = 256  # of a band
_CHUNKS = 64  # ranges of pairs that are summed one by one; a constant, so that it cannot change a result
_FEWEST = 16384  # ratings of an epoch that another thread is woken for


class CpuKernels:
    """The kernels on this many threads."""

    device = "cpu"
    xp: Any = np
    precisions: tuple[str, ...] = ("float32",)
    schedules: tuple[str, ...] = ("conflict-free",)
    most_rank: int | None = None

    def __init__(self, threads: int) -> None:
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
        return blocked(*arguments, threads=self.threads)

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
        return sgd_epoch(*arguments, threads=self.threads)

    def solve_rows(self, *arguments: Any) -> tuple[F32, F32]:
        """`solve_rows` on these threads."""
        return solve_rows(*arguments, threads=self.threads)

    def refine_rows(self, *arguments: Any) -> tuple[F32, F32]:
        """`refine_rows` on these threads."""
        return refine_rows(*arguments, threads=self.threads)

    def sparse_product(self, *arguments: Any) -> NDArray[Any]:
        """`sparse_product` on these threads."""
        return cpu_sparse.product(*arguments, threads=self.threads)

    def pair_means(self, *arguments: Any) -> F32:
        """`pair_means` on these threads."""
        return pair_means(*arguments, threads=self.threads)

    def pair_values(self, *arguments: Any) -> F32:
        """`pair_values` on these threads."""
        return cpu_pairs.pair_values(*arguments, threads=self.threads)

    def expected_levels(self, *arguments: Any) -> F32:
        """`expected_levels` on these threads."""
        return cpu_pairs.expected_levels(*arguments, threads=self.threads)

    def ordinal_terms(self, *arguments: Any) -> tuple[float, F64, F64]:
        """`ordinal_terms` on these threads."""
        return ordinal_terms(*arguments, threads=self.threads)

    def drawn_latents(self, *arguments: Any) -> F32:
        """`drawn_latents` on these threads."""
        return drawn_latents(*arguments, threads=self.threads)


def sgd_epoch(
    users: NDArray[np.int32], items: NDArray[np.int32], values: F32, bounds: NDArray[np.int64], batch: int,
    P: F32, Q: F32, user_bias: F32, item_bias: F32,
    rate: float, bias_rate: float, ridge: float, bias_ridge: float, seed: int, *, threads: int,
) -> float:  # fmt: skip
    """As `reference.sgd_epoch` with batch = 1 and factors as wide as `CpuKernels.width` says."""
    strata, blocks = bounds.shape[0], bounds.shape[1] - 1
    errors = np.zeros((strata, blocks))
    threads = min(threads, 1 + len(users) // _FEWEST)
    side_by_side(
        cpu_sgd.visit_kernel(P.shape[1]), [(thread,) for thread in range(threads)], threads,
        threads, turns.board(strata, blocks, threads), users, items, values, bounds, P, Q, user_bias, item_bias,
        np.float32(rate), np.float32(bias_rate), np.float32(ridge), np.float32(bias_ridge), errors,
    )  # fmt: skip
    total = 0.0
    for stratum in errors:  # in this order, whether strata come at once or one by one
        total += math.fsum(stratum)
    return total


def solve_rows(
    starts: NDArray[np.int64], others: NDArray[np.int32], contexts: NDArray[np.int32], values: F32, Y: F32, C: F32,
    prior_precision: F32, prior_means: F32, weights: F32, ridge: F32, noise_precision: float, normals: F32, *,
    threads: int,
) -> tuple[F32, F32]:  # fmt: skip
    """As `reference.solve_rows`."""
    width = Y.shape[1]
    # A row costs about one rank-1 update a rating and one Cholesky factorisation.
    work = (np.diff(starts) + width / 3) * (width * width / 2)
    X = np.empty((len(starts) - 1, width), np.float32)
    squared_errors = np.empty(len(X), np.float32)
    side_by_side(
        cpu_rows.solve_in_lanes if width <= cpu_rows.WIDEST else cpu_rows.solve_singly, shares(work, threads), threads,
        starts, others, contexts, values,
        aligned(Y[:, :-1]), Y[:, -1].copy(), aligned(C[:, :-1]), C[:, -1].copy(),
        prior_precision, prior_means @ prior_precision, weights, ridge, np.float32(noise_precision), normals,
        X, squared_errors,
    )  # fmt: skip
    return X, squared_errors


def refine_rows(
    starts: NDArray[np.int64], others: NDArray[np.int32], values: F32, X: F32, Y: F32, weights: F32, ridge: F32,
    steps: int, *, threads: int,
) -> tuple[F32, F32]:  # fmt: skip
    """As `reference.refine_rows`."""
    rank = X.shape[1] - 1
    factors = aligned(Y[:, :-1])
    refined = np.zeros((len(X), factors.shape[1] + 1), np.float32)  # padded, then the bias
    refined[:, :rank], refined[:, -1] = X[:, :-1], X[:, -1]
    padded_ridge = np.zeros(refined.shape[1], np.float32)
    padded_ridge[:rank], padded_ridge[-1] = ridge[:-1], ridge[-1]
    squared_errors = np.empty(len(X), np.float32)
    work = (np.diff(starts) + 4.0) * (rank * (steps + 1))
    side_by_side(
        cpu_cg.refine_kernel(factors.shape[1]), shares(work, threads), threads,
        starts, others, values, factors, Y[:, -1].copy(), weights, padded_ridge, steps, refined, squared_errors,
    )  # fmt: skip
    return np.column_stack([refined[:, :rank], refined[:, -1]]), squared_errors


def pair_means(
    starts: NDArray[np.int64], others: NDArray[np.int32], contexts: NDArray[np.int32], X: F32, Y: F32, C: F32, *,
    threads: int,
) -> F32:  # fmt: skip
    """As `reference.pair_means`."""
    means = np.empty(len(others), np.float32)
    tasks = shares(np.diff(starts) * (X.shape[1] + 0.0), threads)
    side_by_side(cpu_ordinal.pair_means, tasks, threads, starts, others, contexts, X, Y, C, means)
    return means


def ordinal_terms(
    means: F32, levels: NDArray[np.uint8], cuts: F64, slope: float, *, threads: int
) -> tuple[float, F64, F64]:
    """As `reference.ordinal_terms`."""
    chunks = np.linspace(0, len(means), _CHUNKS + 1).astype(np.int64)
    sums, logs = np.zeros((_CHUNKS, len(cuts) + 1, 9)), np.zeros(_CHUNKS)
    given = chunks, means, levels, _edges(cuts, ordinal.FAR), slope
    tasks = shares(np.full(_CHUNKS, len(means) / _CHUNKS * 2 * cpu_ordinal.WORK), threads)
    side_by_side(cpu_ordinal.ordinal_sums, tasks, threads, *given, sums, logs)
    return float(logs.sum()), *ordinal.assembled(sums.sum(axis=0))


def drawn_latents(
    means: F32, levels: NDArray[np.uint8], cuts: F64, slope: float, uniforms: F32, *, threads: int
) -> F32:
    """As `reference.drawn_latents`."""
    latents = np.empty_like(means)
    given = means, levels, _edges(cuts, np.inf), slope, uniforms
    side_by_side(cpu_ordinal.drawn_latents, pairs(len(means), 3 * cpu_ordinal.WORK), threads, *given, latents)
    return latents


def _edges(cuts: F64, end: float) -> F64:
    """The cuts with their ends."""
    return np.concatenate([[-end], cuts, [end]])
