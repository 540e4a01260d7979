"""Row solves on CPU cores: sums over a row's ratings and the solution of its system, in registers.

A row's ratings are packed in runs as y_j and (1, t_j), so that products of runs give the Gram matrix and the sums of
the regressors and of the targets: all of Σ z zᵀ for z = (y, 1, t). With weights ω they are packed as √ω z. Products are
computed in tiles that stay in vector registers (`tiles`). Systems of up to `WIDEST` unknowns are solved in the lanes of
vectors, sixteen rows at a time (`lanes`). Sixteen wider systems would not fit into the cache together, so these are
solved row by row, by a blocked Cholesky factorisation that updates its panels with the same tiles; the right-hand side
is one more column, so that the factorisation includes the forward substitution. Sums run over a row's ratings in their
order, whatever the number of threads. docs/decisions.md has the reason for the limit, and speeds of alternatives.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_mf.arrays.jit import inline, jit
from recsys_mf.kernels.cpu import lanes
from recsys_mf.kernels.cpu.simd import FASTMATH, LANES
from recsys_mf.kernels.cpu.tiles import BLOCK, prefetch_line, tile

_HEIGHT = 8  # rows of a tile
_AHEAD = 8  # ratings between one that is packed and the one whose row is prefetched
_RUN_BYTES = 1 << 15  # of ratings packed at a time; they stay in the first-level cache
WIDEST = 160  # unknowns of the systems that are solved in lanes

_single, _double, _triple = (tile(_HEIGHT, vectors) for vectors in (1, 2, 3))
_first_single, _first_double, _first_triple = (tile(_HEIGHT, vectors, fresh=True) for vectors in (1, 2, 3))
_pair, _four_pairs = tile(2, 1), tile(2, 4)


@jit(fastmath=FASTMATH, error_model="numpy")
def solve_in_lanes(
    begin: Any, end: Any, starts: Any, others: Any, contexts: Any, values: Any, omega: Any, scales: Any,
    Y: Any, y_bias: Any, C: Any, c_bias: Any, prior_precision: Any, priors: Any, weights: Any, ridge: Any,
    noise_precision: Any, normals: Any,
    X: Any, squared_errors: Any,
) -> None:  # fmt: skip
    """`reference.solve` of a range of rows into X and squared_errors, as many at a time as a vector has lanes.

    Y [n, columns], y_bias [n] : factors in rows padded with zeros to full vectors, and biases; so are C, c_bias
    priors [rows, k + 1] : Λ times the prior means
    omega : the weights of the ratings, or None; scales : those of rows, of others and of contexts, or None
    """
    width = ridge.size
    rows, columns = padded(width)
    A = np.zeros((LANES, rows, columns), np.float32)
    Z, V, E = packed(Y.shape[1])
    filled = -(-(width + 1) // BLOCK) * BLOCK
    S, R = np.zeros((filled, columns, LANES), np.float32), np.empty((filled, LANES), np.float32)
    for a in range(width, filled):
        S[a, a] = 1
    D, M, solution = (
        np.zeros((width, LANES), np.float32),
        np.zeros((width, LANES), np.float32),
        np.zeros((width, LANES), np.float32),
    )
    noise = np.zeros((width, LANES), np.float32)
    squares, w, left = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    for first in range(begin, end, LANES):
        count = min(LANES, end - first)
        for lane in range(count):
            g = first + lane
            sum_ratings(
                A[lane], width, Z, V, E, g, starts, others, contexts, values, omega, scales, Y, y_bias, C, c_bias
            )
            squares[lane], w[lane] = A[lane, width, width], weights[g]
            for a in range(width):
                M[a, lane] = priors[g, a]
                if normals.shape[0]:
                    noise[a, lane] = normals[g, a]
        A[count:] = 0
        lanes.scatter(A, width, S, D)
        lanes.solve(S, D, width, prior_precision, M, w, ridge, noise_precision, noise, solution, R)
        lanes.squared_errors(S, D, squares, width, solution, left)
        for lane in range(count):
            squared_errors[first + lane] = left[lane]
            for a in range(width):
                X[first + lane, a] = solution[a, lane]


@jit(fastmath=FASTMATH, error_model="numpy")
def solve_singly(
    begin: Any, end: Any, starts: Any, others: Any, contexts: Any, values: Any, omega: Any, scales: Any,
    Y: Any, y_bias: Any, C: Any, c_bias: Any, prior_precision: Any, priors: Any, weights: Any, ridge: Any,
    noise_precision: Any, normals: Any,
    X: Any, squared_errors: Any,
) -> None:  # fmt: skip
    """As `solve_in_lanes`, one row after another."""
    width = ridge.size
    A, G = np.zeros(padded(width), np.float32), np.zeros(padded(width), np.float32)
    Z, V, E = packed(Y.shape[1])
    for g in range(begin, end):
        sum_ratings(A, width, Z, V, E, g, starts, others, contexts, values, omega, scales, Y, y_bias, C, c_bias)
        G[:] = A
        _add_prior(A, prior_precision, priors[g], weights[g], ridge, noise_precision)
        _factorise(A, width)
        x = X[g]
        for a in range(width - 1, -1, -1):
            s = A[a, width]
            if normals.shape[0]:
                s += normals[g, a]
            for b in range(a + 1, width):
                s -= A[a, b] * x[b]
            x[a] = s / A[a, a]
        squared_errors[g] = _squared_error(G, x)


@inline()
def padded(width: Any) -> Any:
    """Rows and columns of a matrix of z zᵀ, in full tiles."""
    rows = -(-(width + 1) // _HEIGHT) * _HEIGHT
    return rows, -(-rows // LANES) * LANES


@inline()
def packed(columns: Any) -> Any:
    """Workspace for a run of ratings, y and (1, t), and for the sums of y and t y."""
    run = max(16, min(256, _RUN_BYTES // max(4 * columns, 1)))
    sums = np.empty((2, columns), np.float32)
    return np.zeros((run, columns), np.float32), np.ones((run, 2), np.float32), sums


@inline(fastmath=FASTMATH, error_model="numpy")
def sum_ratings(
    A: Any, width: Any, Z: Any, V: Any, E: Any, g: Any, starts: Any, others: Any, contexts: Any, values: Any,
    omega: Any, scales: Any, Y: Any, y_bias: Any, C: Any, c_bias: Any,
) -> None:  # fmt: skip
    """A = Σ ω z zᵀ (upper triangle) for z = (y, 1, t) over the ratings of row g."""
    k, low, high = width - 1, starts[g], starts[g + 1]
    own = np.float32(1.0)
    if scales is not None:
        own = scales[0][g]
    if low == high:
        A[:] = 0
    E[:] = 0
    total, squares, weight = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for start in range(low, high, Z.shape[0]):
        count = min(Z.shape[0], high - start)
        for j in range(count):
            later = others[min(start + j + _AHEAD, high - 1)]
            for b in range(0, Y.shape[1], LANES):
                prefetch_line(Y, later, b)
            other = others[start + j]
            target = values[start + j] - y_bias[other]
            if contexts.size:
                context = contexts[start + j]
                dot = np.float32(0.0)
                for b in range(0, Y.shape[1], LANES):
                    for lane in range(LANES):
                        Z[j, b + lane] = Y[other, b + lane] + C[context, b + lane]
                        dot += Y[other, b + lane] * C[context, b + lane]
                target -= dot + c_bias[context]
            elif omega is None and scales is None:
                for b in range(0, Y.shape[1], LANES):
                    for lane in range(LANES):
                        Z[j, b + lane] = Y[other, b + lane]
            if omega is None and scales is None:
                V[j, 1] = target
                total += target
                squares += target * target
            else:
                w = rating_weight(omega, own, scales, start + j, others, contexts)
                root = np.sqrt(w)
                if contexts.size:
                    for b in range(0, Y.shape[1], LANES):
                        for lane in range(LANES):
                            Z[j, b + lane] *= root
                else:
                    for b in range(0, Y.shape[1], LANES):
                        for lane in range(LANES):
                            Z[j, b + lane] = root * Y[other, b + lane]
                V[j, 0], V[j, 1] = root, root * target
                weight += w
                total += w * target
                squares += w * target * target
        for a in range(0, k, _HEIGHT):
            _add_row_of_tiles(A, Z, count, a, start == low)
        b = 0
        while b + 4 * LANES <= Z.shape[1]:
            _four_pairs(V, Z, E, count, 0, b, np.float32(1.0))
            b += 4 * LANES
        while b < Z.shape[1]:
            _pair(V, Z, E, count, 0, b, np.float32(1.0))
            b += LANES
    for a in range(k):
        A[a, k], A[a, k + 1] = E[0, a], E[1, a]
    if omega is None and scales is None:
        weight = np.float32(high - low)
    A[k, k], A[k, k + 1], A[k + 1, k + 1] = weight, total, squares


@inline()
def rating_weight(omega: Any, own: Any, scales: Any, j: Any, others: Any, contexts: Any) -> Any:
    """ω of rating j: the scale of its row times its weight and the other scales, if there are any."""
    w = own
    if omega is not None:
        w *= omega[j]
    if scales is not None:
        _, columns, third = scales
        w *= columns[others[j]]
        if third.size:
            w *= third[contexts[j]]
    return w


@inline()
def _add_row_of_tiles(A: Any, Z: Any, count: Any, a: Any, first: Any) -> None:
    """A[a : a + _HEIGHT] += Zᵀ Z from the diagonal on; if first, = instead of +=."""
    one, end = np.float32(1.0), Z.shape[1]
    b = a // LANES * LANES
    while b < end:
        left = (end - b) // LANES
        if left >= 3 and left != 4:
            if first:
                _first_triple(Z, Z, A, count, a, b, one)
            else:
                _triple(Z, Z, A, count, a, b, one)
            b += 3 * LANES
        elif left >= 2:
            if first:
                _first_double(Z, Z, A, count, a, b, one)
            else:
                _double(Z, Z, A, count, a, b, one)
            b += 2 * LANES
        else:
            if first:
                _first_single(Z, Z, A, count, a, b, one)
            else:
                _single(Z, Z, A, count, a, b, one)
            b += LANES


@inline(fastmath=FASTMATH, error_model="numpy")
def _add_prior(A: Any, precision: Any, linear: Any, weight: Any, ridge: Any, noise_precision: Any) -> None:
    """The system of a row from its Σ z zᵀ: α G + Λ + w diag(d), and its right-hand side α h + Λ m."""
    width = ridge.size
    for a in range(width):
        row = A[a]
        for b in range(a, width):
            row[b] = noise_precision * row[b] + precision[a, b]
        row[a] += weight * ridge[a]
        row[width] = noise_precision * row[width] + linear[a]


@inline(fastmath=FASTMATH, error_model="numpy")
def _factorise(A: Any, width: Any) -> None:
    """U with UᵀU = A over the first columns, in place of the upper triangle; a column h beyond them becomes U⁻ᵀ h.

    NaN if A is not positive definite.
    """
    for first in range(0, width, _HEIGHT):
        for b in range(first // LANES * LANES, A.shape[1], LANES):
            _single(A, A, A, first, first, b, np.float32(-1.0))
        for a in range(first, min(first + _HEIGHT, width)):
            row, begin = A[a], a // LANES * LANES
            for c in range(first, a):
                above, s = A[c], A[c, a]
                for b in range(begin, A.shape[1]):
                    row[b] -= s * above[b]
            inverse = np.float32(1.0) / np.sqrt(row[a])
            for b in range(begin, A.shape[1]):
                row[b] *= inverse


@inline(fastmath=FASTMATH, error_model="numpy")
def _squared_error(G: Any, x: Any) -> Any:
    """Σ t² - 2 x·h + xᵀ G x from the upper triangle of Σ z zᵀ; rounding must not make it negative."""
    width = x.size
    total = G[width, width]
    for a in range(width):
        s = np.float32(0.0)
        for b in range(a + 1, width):
            s += G[a, b] * x[b]
        total += x[a] * (np.float32(2.0) * (s - G[a, width]) + G[a, a] * x[a])
    return max(total, np.float32(0.0))
