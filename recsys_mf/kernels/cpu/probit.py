"""The cumulative probit on CPU cores: sums over pairs in chunks, the same for any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.threads import pairs as parts_of
from recsys_mf.arrays.threads import shares, side_by_side
from recsys_mf.kernels import probit
from recsys_mf.kernels.cpu import normal
from recsys_mf.kernels.operands import OrdinalPairs

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
_CHUNKS = 64  # ranges of pairs that are summed one by one; a constant, so that it cannot change a result


class CpuProbit:
    """`kernels.backend.ProbitKernels` on this many threads."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def expected_levels(
        self, means: F32, scales: F32 | None, thresholds: F64, noise: float, levels: NDArray[Any]
    ) -> F32:
        """As `reference.expected_levels`."""
        out = np.empty(len(means), np.float32)
        given = means, scales, thresholds.astype(np.float64), 1 / noise, levels.astype(np.float64)
        tasks = parts_of(len(means), normal.WORK * len(thresholds))
        side_by_side(normal.expected_levels, tasks, self._threads, *given, out)
        return out

    def ordinal_terms(self, pairs: OrdinalPairs, cuts: F64, slope: float) -> tuple[float, F64, F64]:
        """As `reference.ordinal_terms`."""
        n = len(pairs.means)
        chunks = np.linspace(0, n, _CHUNKS + 1).astype(np.int64)
        sums, logs = np.zeros((_CHUNKS, len(cuts) + 1, 9)), np.zeros(_CHUNKS)
        given = chunks, *pairs, _edges(cuts, probit.FAR), slope
        tasks = shares(np.full(_CHUNKS, n / _CHUNKS * 2 * normal.WORK), self._threads)
        side_by_side(normal.ordinal_sums, tasks, self._threads, *given, sums, logs)
        return float(logs.sum()), *probit.assemble(sums.sum(axis=0))

    def draw_latents(self, pairs: OrdinalPairs, cuts: F64, slope: float, uniforms: F32) -> F32:
        """As `reference.draw_latents`."""
        latents: F32 = np.empty_like(pairs.means)
        tasks = parts_of(len(latents), 3 * normal.WORK)
        side_by_side(normal.draw_latents, tasks, self._threads, *pairs, _edges(cuts, np.inf), slope, uniforms, latents)
        return latents


def _edges(cuts: F64, end: float) -> F64:
    """The cuts with their ends."""
    return np.concatenate([[-end], cuts, [end]])
