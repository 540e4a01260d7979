"""Values of the model at pairs of rows on CPU cores, and the expectation of a rating under a cumulative probit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.jit import jit
from recsys_mf.arrays.threads import pairs, side_by_side
from recsys_mf.kernels import cpu_ordinal
from recsys_mf.kernels.vectors import FASTMATH

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


def pair_values(users: I32, items: I32, contexts: I32, X: F32, Y: F32, C: F32, *, threads: int) -> F32:
    """As `reference.pair_values`."""
    out = np.empty(len(users), np.float32)
    tasks = pairs(len(users), X.shape[1])
    side_by_side(_values, tasks, threads, users, items, X, Y, out)
    if len(contexts):
        side_by_side(_add_contexts, tasks, threads, users, items, contexts, X, Y, C, out)
    return out


def expected_levels(means: F32, thresholds: NDArray[Any], noise: float, levels: F32, *, threads: int) -> F32:
    """As `reference.expected_levels`."""
    out = np.empty(len(means), np.float32)
    given = means, thresholds.astype(np.float64), 1 / noise, levels.astype(np.float64)
    side_by_side(_expected, pairs(len(means), cpu_ordinal.WORK * len(thresholds)), threads, *given, out)
    return out


@jit(fastmath=FASTMATH)
def _dot(x: Any, y: Any) -> Any:
    """The product of the factors of two rows."""
    total = np.float32(0.0)
    for f in range(x.size - 1):
        total += x[f] * y[f]
    return total


@jit(fastmath=FASTMATH)
def _values(low: Any, high: Any, users: Any, items: Any, X: Any, Y: Any, out: Any) -> None:
    for j in range(low, high):
        u, i = users[j], items[j]
        value = np.float32(0.0)
        if u >= 0:
            value += X[u, -1]
        if i >= 0:
            value += Y[i, -1]
        if u >= 0 and i >= 0:
            value += _dot(X[u], Y[i])
        out[j] = value


@jit(fastmath=FASTMATH)
def _add_contexts(low: Any, high: Any, users: Any, items: Any, contexts: Any, X: Any, Y: Any, C: Any, out: Any) -> None:
    for j in range(low, high):
        u, i, c = users[j], items[j], contexts[j]
        if c >= 0:
            out[j] += C[c, -1]
            if u >= 0:
                out[j] += _dot(X[u], C[c])
            if i >= 0:
                out[j] += _dot(Y[i], C[c])


@jit(error_model="numpy")
def _expected(low: Any, high: Any, means: Any, thresholds: Any, slope: Any, levels: Any, out: Any) -> None:
    for j in range(low, high):
        expected = levels[-1]
        for t in range(thresholds.size):
            expected -= (levels[t + 1] - levels[t]) * cpu_ordinal.cdf((thresholds[t] - means[j]) * slope)
        out[j] = expected
