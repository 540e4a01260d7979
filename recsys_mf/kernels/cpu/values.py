"""Values of the model at pairs on CPU cores: loops over pairs, or over the ratings of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_mf.arrays.jit import inline, jit
from recsys_mf.kernels.cpu.cholesky import rating_weight
from recsys_mf.kernels.cpu.simd import FASTMATH


@inline(fastmath=FASTMATH)
def _dot(x: Any, y: Any) -> Any:
    """The product of the factors of two rows."""
    total = np.float32(0.0)
    for f in range(x.size - 1):
        total += x[f] * y[f]
    return total


@jit(fastmath=FASTMATH)
def pair_values(low: Any, high: Any, users: Any, items: Any, X: Any, Y: Any, out: Any) -> None:
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
def add_contexts(low: Any, high: Any, users: Any, items: Any, contexts: Any, X: Any, Y: Any, C: Any, out: Any) -> None:
    for j in range(low, high):
        u, i, c = users[j], items[j], contexts[j]
        if c >= 0:
            out[j] += C[c, -1]
            if u >= 0:
                out[j] += _dot(X[u], C[c])
            if i >= 0:
                out[j] += _dot(Y[i], C[c])


@jit(fastmath=FASTMATH, error_model="numpy")
def row_values(
    begin: Any, end: Any, starts: Any, others: Any, contexts: Any, X: Any, Y: Any, C: Any, values: Any
) -> None:
    """`reference.row_values` of a range of rows, into values."""
    k = X.shape[1] - 1
    for g in range(begin, end):
        x = X[g]
        for j in range(starts[g], starts[g + 1]):
            y = Y[others[j]]
            total = x[k] + y[k]
            if contexts.size:
                c = C[contexts[j]]
                total += c[k]
                for f in range(k):
                    total += x[f] * (y[f] + c[f]) + y[f] * c[f]
            else:
                for f in range(k):
                    total += x[f] * y[f]
            values[j] = total


@jit()
def row_scales(begin: Any, end: Any, starts: Any, others: Any, contexts: Any, scales: Any, found: Any) -> None:
    """`reference.row_scales` of a range of rows, into found."""
    for g in range(begin, end):
        for j in range(starts[g], starts[g + 1]):
            found[j] = rating_weight(None, scales[0][g], scales, j, others, contexts)
