"""Masked SGD on CPU cores: a grid sized for the caches, and the epoch as visits of conflict-free blocks on threads.

The arithmetic of a block is done by one thread in one order, so that results do not depend on the number of threads.
The number of columns is a compile-time constant: rows are padded with zeros to full vectors, and a column of zeros
stays zero.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.aligned import ensure_aligned
from recsys_mf.arrays.threads import side_by_side
from recsys_mf.kernels.cpu import scheduler, visits
from recsys_mf.kernels.cpu.simd import LANES
from recsys_mf.kernels.operands import Part, RatingScale, SgdState, SgdStep, Triples
from recsys_mf.kernels.schedule import host
from recsys_mf.kernels.schedule.grid import Arranged, Grid, Places
from recsys_mf.kernels.schedule.passes import HostTriples
from recsys_mf.kernels.schedule.plan import Planner

F32 = NDArray[np.float32]
_PASSING_BYTES, _STAYING_BYTES = 1 << 17, 1 << 20  # of rows of users and of items of a part, in the second-level cache
MAX_BANDS = 256
_FEW_BANDS, _FEW_RATINGS = 32, 500_000_000  # most bands for one machine; twice these ratings get twice as many
_MAX_PARTS = 256  # of a band
_MIN_RATINGS = 16384  # ratings of an epoch per additional thread


class CpuSgd(Planner):
    """`kernels.backend.SgdKernels` on this many threads."""

    precisions: tuple[str, ...] = ("float32",)
    takes_weights: bool = True
    schedules: tuple[str, ...] = ("conflict-free",)
    max_rank: int | None = None

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def width(self, rank: int) -> int:
        """The rank rounded up to full vector registers."""
        return max(1, -(-rank // LANES)) * LANES

    def grid(self, n_ratings: int, n_users: int, n_items: int, width: int) -> Grid:
        """Bands: a power of two near √(ratings / 8192), 2 to 32, enough for many cores; parts that fit in cache.

        From a billion ratings on there are 64, then twice as many for twice the ratings, up to 256: enough for the
        cores of a cluster. The grid depends only on the table and the rank, so that a run does not depend on the
        machine.
        """
        few = int(2 ** np.clip(np.round(np.log2(max(n_ratings, 1) / 8192) / 2), 1, math.log2(_FEW_BANDS)))
        doublings = max(0, (n_ratings // _FEW_RATINGS).bit_length() - 1)
        bands = min(few << doublings, MAX_BANDS)
        row = 4 * width
        parts = (
            int(np.clip(-(-row * rows // (bands * most)), 1, _MAX_PARTS))
            for rows, most in ((n_users, _PASSING_BYTES), (n_items, _STAYING_BYTES))
        )
        return Grid(bands, *parts)

    def batch(self, share: float, rate: float) -> int:
        """One rating at a time."""
        return 1

    def arrange(self, triples: Triples, places: Places, grid: Grid, scale: RatingScale, seed: int) -> Arranged:
        """`host.arrange` on these threads."""
        return host.arrange(triples, places, grid, scale, seed, threads=self._threads)

    def stream(self, triples: Triples, bounds: NDArray[np.int64]) -> HostTriples:
        """The triples, which stay where they are."""
        return HostTriples(*triples, bounds)

    def put_factors(self, factors: F32, precision: str) -> F32:
        """In float32, on cache lines."""
        return ensure_aligned(factors)

    def visit(self, part: Part, batch: int, state: SgdState, step: SgdStep) -> float:
        """As `reference.epoch` with batch = 1 and factors as wide as `width` says."""
        return total_error(self.visit_blocks(part, state, step))

    def visit_blocks(self, part: Part, state: SgdState, step: SgdStep) -> NDArray[np.float64]:
        """As `visit`; returns the sum of the squared errors of every block, float64[S, W]."""
        strata, blocks = part.bounds.shape[0], part.bounds.shape[1] - 1
        errors = np.zeros((strata, blocks))
        threads = min(self._threads, 1 + len(part.users) // _MIN_RATINGS)
        numbers = [np.float32(number) for number in (step.rate, step.bias_rate, step.ridge, step.bias_ridge)]
        side_by_side(
            visits.visit_kernel(state.P.shape[1]), [(thread,) for thread in range(threads)], threads,
            threads, scheduler.make_board(strata, blocks, threads), *part, *state, *numbers, step.is_linear, errors,
        )  # fmt: skip
        return errors


def total_error(errors: NDArray[np.float64]) -> float:
    """The sum of the errors by stratum and block, in an order that does not depend on threads and their timing."""
    total = 0.0
    for stratum in errors:
        total += math.fsum(stratum)
    return total
