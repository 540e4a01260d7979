"""Row solves on CPU cores, as many systems at once as a vector has lanes, one in each.

A system is small: alone, its factorisation consists of short loops, square roots and divisions that wait for one
another. With one system per lane every operation is on a full vector, and nothing waits. The symmetric sums Σ z zᵀ of
the rows are in the upper triangle of S, the systems and then their factors in the lower triangle.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_mf.arrays.jit import inline
from recsys_mf.kernels.cpu.simd import FASTMATH, LANES
from recsys_mf.kernels.cpu.tiles import (
    BLOCK,
    factor_diagonal,
    factor_panel,
    mirror,
    row_product,
    substitute,
    to_lanes,
)


@inline()
def scatter(A: Any, width: Any, S: Any, D: Any) -> None:
    """The rows' Σ z zᵀ (upper triangles of A [LANES, rows, columns]) into lanes: G and h into S, G's diagonal into D.

    S [padded width, columns, LANES] : h is its column `width`; what is below the diagonal is overwritten
    """
    for a in range(width):
        for b in range(a // LANES * LANES, width + 1, LANES):
            to_lanes(A, S, a, b)
        D[a] = S[a, a]


@inline(fastmath=FASTMATH, error_model="numpy")
def solve(
    S: Any, D: Any, width: Any, precision: Any, M: Any, w: Any, ridge: Any, noise_precision: Any, Z: Any, X: Any, R: Any
) -> None:
    """X [width, LANES] of `reference.solve` from the sums that `scatter` puts into S and D.

    precision Λ, M = Λ times the prior means [width, LANES], weights w [LANES], ridge d, normals Z [width, LANES]
    R [padded width, LANES] : receives the reciprocals of the factors' diagonals

    The right-hand side is a row of S below the system, which the factorisation turns into L⁻¹ times it.
    """
    for a in range(width):
        mirror(S, precision, noise_precision, a)
        for lane in range(LANES):
            S[a, a, lane] = noise_precision * D[a, lane] + precision[a, a] + w[lane] * ridge[a]
            S[width, a, lane] = noise_precision * S[a, width, lane] + M[a, lane]
    for j in range(0, S.shape[0], BLOCK):
        factor_diagonal(S, R, j)
        for i in range(j + BLOCK, S.shape[0], BLOCK):
            factor_panel(S, R, i, j)
    for a in range(width):
        for lane in range(LANES):
            X[a, lane] = S[width, a, lane] + Z[a, lane]
    for a in range(width - 1, -1, -1):
        for lane in range(LANES):
            X[a, lane] *= R[a, lane]
        substitute(S, X, a)


@inline(fastmath=FASTMATH, error_model="numpy")
def squared_errors(S: Any, D: Any, squares: Any, width: Any, X: Any, E: Any) -> None:
    """E [LANES] = Σ t² - 2 x·h + xᵀ G x; rounding must not make it negative."""
    row = np.empty(LANES, np.float32)
    E[:] = squares
    for a in range(width):
        row_product(S, X, a, width, row)
        for lane in range(LANES):
            x = X[a, lane]
            E[lane] += x * (np.float32(2.0) * (row[lane] - S[a, width, lane]) + D[a, lane] * x)
    for lane in range(LANES):
        E[lane] = max(E[lane], np.float32(0.0))
