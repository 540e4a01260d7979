"""Passes over the rated pairs of every row on a CUDA device, in Triton: conjugate gradients, and the model's values.

Nothing is stored for a pair between passes: its row of the other table is gathered again, a tile of pairs at a time,
and everything that conjugate gradients need for a row (x, the residual, the direction, the diagonal) stays in
registers. Rows with many pairs start first, so that they do not end last. A row with very many pairs would still keep
one program busy after the others are done; so many programs sum its Σ q qᵀ over pieces (`rows`), and a step is a
product with this sum.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.operands import Pairs, Shrinkage, Tables
from recsys_mf.kernels.triton import rows
from recsys_mf.kernels.triton.rows import Columns, gathered, piece_bounds, piece_counts

MAX_RANK = 256
LONG = 2048  # ratings; a row with more is cut into pieces
_TILE = 32  # pairs gathered at a time


def shape(k: int, columns: int) -> dict[str, Any]:
    """The options that a kernel is compiled with, for a rank and a number of columns of the factors."""
    span = triton.next_power_of_2(max(16, k))
    return {"COLUMNS": columns, "SPAN": span, "TILE": _TILE, "num_warps": max(1, span // 32)}


def refine(ratings: Csr, X: Tensor, Y: Tensor, prior: Shrinkage, steps: int) -> tuple[Tensor, Tensor]:
    """As `reference.refine`, for a rank of at most `MAX_RANK`."""
    k, table = Y.shape[1] - 1, Columns.of(Y)
    refined, squared_errors = torch.empty_like(X), torch.empty(len(X), device=X.device)
    lengths = torch.diff(ratings.starts)
    order = torch.argsort(lengths, descending=True)
    n_long = int((lengths > LONG).sum()) if k <= rows.MAX_RANK else 0
    if n_long:
        _refine_long(order[:n_long], ratings, X, table, prior, steps, (refined, squared_errors))
    if len(order) > n_long:
        _refine[(len(order) - n_long,)](
            order[n_long:], ratings.starts, ratings.columns, ratings.values, X, *table, prior.weights, prior.ridge,
            refined, squared_errors, steps, k, **shape(k, table.factors.shape[1]),
        )  # fmt: skip
    return refined, squared_errors


def _refine_long(
    chosen: Tensor, ratings: Csr, X: Tensor, table: Columns, prior: Shrinkage, steps: int, out: tuple[Tensor, Tensor]
) -> None:
    """The chosen rows, by sums over their pieces, as many at a time as the buffer of `rows` holds."""
    k, starts = X.shape[1] - 1, ratings.starts
    span = rows.span_of(k)
    pieces = piece_counts(starts[chosen + 1] - starts[chosen])
    for part in rows.chunks(torch.cumsum(pieces, 0), span):
        of_part, counts = chosen[part], pieces[part]
        lows, highs = piece_bounds(starts[of_part], starts[of_part + 1], counts)
        sums = rows.sum_pieces((lows, highs), ratings, table, span)
        firsts = torch.cumsum(counts, 0) - counts
        _refine_by_sums[(len(of_part),)](
            of_part, starts, firsts, counts, *sums, X, prior.weights, prior.ridge, *out, steps, k,
            SPAN=span, num_warps=max(1, span // 16),
        )  # fmt: skip


def multiply(matrix: Csr, X: Tensor) -> Tensor:
    """As `reference.multiply`, in a fixed order: within pieces of rows, then over the pieces."""
    weighted, starts = matrix.values is not None, matrix.starts
    pieces = piece_counts(torch.diff(starts))
    lows, highs = piece_bounds(starts[:-1], starts[1:], pieces)
    out = torch.empty((len(lows), X.shape[1]), dtype=X.dtype, device=X.device)
    if out.numel():
        options = sums_shape(X.shape[1], weighted=weighted)
        grid = (len(lows), triton.cdiv(X.shape[1], options["SPAN"]))
        weights = matrix.values if weighted else X[:0]
        _sums[grid](lows, highs, matrix.columns, weights, X.contiguous(), out, X.shape[1], **options)
    if len(lows) == len(pieces) or not out.numel():
        return out[: len(pieces)]
    return torch.segment_reduce(out, "sum", lengths=pieces, axis=0, unsafe=True)


def sums_shape(columns: int, *, weighted: bool) -> dict[str, Any]:
    """The options that the kernel is compiled with, for a number of columns."""
    span = min(64, triton.next_power_of_2(columns))
    return {"SPAN": span, "TILE": max(16, min(128, 1024 // span)), "WEIGHTED": weighted, "num_warps": 1}


def pair_values(pairs: Pairs, tables: Tables) -> Tensor:
    """As `reference.pair_values`, for a rank of at most `MAX_RANK`."""
    users, items, contexts = pairs
    X, Y, C = tables
    columns = [Columns.of(rows) for rows in (X, Y, X[:0] if C is None else C)]
    result = torch.empty(len(users), device=X.device)
    if len(users):
        _values[(triton.cdiv(len(users), _TILE),)](
            users, items, users[:0] if contexts is None else contexts, *(part for table in columns for part in table),
            result, len(users), WITH_CONTEXTS=contexts is not None,
            **shape(X.shape[1] - 1, columns[0].factors.shape[1]),
        )  # fmt: skip
    return result


@triton.jit
def _errors(
    others, values, factors, biases, start, high, x, x_last,
    COLUMNS: tl.constexpr, SPAN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Regressors q [TILE, SPAN] of a tile of a row's pairs, and the residuals of their targets, [TILE]."""
    j = start + tl.arange(0, TILE)
    inside = j < high
    o = tl.load(others + j, inside, 0)
    q = gathered(factors, o, inside, COLUMNS, SPAN)
    t = tl.load(values + j, inside, 0.0) - tl.load(biases + o, inside, 0.0)
    return q, tl.where(inside, t - tl.sum(q * x[None, :], 1) - x_last, 0.0)


@triton.jit(do_not_specialize=["n_columns"])
def _sums(
    lows, highs, others, weights, X, out, n_columns, SPAN: tl.constexpr, TILE: tl.constexpr, WEIGHTED: tl.constexpr
):
    piece = tl.program_id(0).to(tl.int64)
    low, high = tl.load(lows + piece), tl.load(highs + piece)
    column = tl.program_id(1) * SPAN + tl.arange(0, SPAN)
    real = column < n_columns
    total = tl.zeros([SPAN], X.dtype.element_ty)
    for start in range(low, high, TILE):
        j = start + tl.arange(0, TILE)
        inside = j < high
        o = tl.load(others + j, inside, 0).to(tl.int64)
        x = tl.load(X + o[:, None] * n_columns + column[None, :], inside[:, None] & real[None, :], 0.0)
        if WEIGHTED:
            x *= tl.load(weights + j, inside, 0.0)[:, None].to(X.dtype.element_ty)
        total += tl.sum(x, 0)
    tl.store(out + piece * n_columns + column, total, real)


@triton.jit
def _refine(
    order, starts, others, values, X, factors, biases, weights, ridge, refined, squared_errors, steps, k,
    COLUMNS: tl.constexpr, SPAN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    row = tl.load(order + tl.program_id(0))
    low, high = tl.load(starts + row), tl.load(starts + row + 1)
    column = tl.arange(0, SPAN)
    real = column < k
    weight = tl.load(weights + row)
    shrink, shrink_last = weight * tl.load(ridge + column, real, 0.0), weight * tl.load(ridge + k)
    x, x_last = tl.load(X + row * (k + 1) + column, real, 0.0), tl.load(X + row * (k + 1) + k)
    r, r_last = -shrink * x, -shrink_last * x_last
    D, D_last = shrink, shrink_last + (high - low).to(tl.float32)
    for start in range(low, high, TILE):
        q, e = _errors(others, values, factors, biases, start, high, x, x_last, COLUMNS, SPAN, TILE)
        r += tl.sum(q * e[:, None], 0)
        r_last += tl.sum(e)
        D += tl.sum(q * q, 0)
    D, D_last = tl.where(D > 0, D, float("inf")), tl.where(D_last > 0, D_last, float("inf"))
    s, s_last = r / D, r_last / D_last
    old = tl.sum(r * s) + r_last * s_last
    for _ in range(steps):
        As, As_last = shrink * s, shrink_last * s_last
        for start in range(low, high, TILE):
            j = start + tl.arange(0, TILE)
            inside = j < high
            q = gathered(factors, tl.load(others + j, inside, 0), inside, COLUMNS, SPAN)
            along = tl.where(inside, tl.sum(q * s[None, :], 1) + s_last, 0.0)
            As += tl.sum(q * along[:, None], 0)
            As_last += tl.sum(along)
        curvature = tl.sum(s * As) + s_last * As_last
        moving = (old > 0) & (curvature > 0)
        alpha = tl.where(moving, old / tl.where(moving, curvature, 1.0), 0.0)
        x, x_last = x + alpha * s, x_last + alpha * s_last
        r, r_last = r - alpha * As, r_last - alpha * As_last
        new = tl.sum(r * r / D) + r_last * r_last / D_last
        beta = tl.where(old > 0, new / tl.where(old > 0, old, 1.0), 0.0)
        s, s_last, old = r / D + beta * s, r_last / D_last + beta * s_last, new
    squares = tl.zeros([], tl.float32)
    for start in range(low, high, TILE):
        _q, e = _errors(others, values, factors, biases, start, high, x, x_last, COLUMNS, SPAN, TILE)
        squares += tl.sum(e * e)
    tl.store(refined + row * (k + 1) + column, x, real)
    tl.store(refined + row * (k + 1) + k, x_last)
    tl.store(squared_errors + row, squares)


@triton.jit
def _refine_by_sums(
    rows, starts, first_pieces, pieces, squares, vectors, numbers, X, weights, ridge, refined, squared_errors, steps, k,
    SPAN: tl.constexpr,
):  # fmt: skip
    """As `_refine`, from the sums over the pieces of a row, as `rows._gram` gives them."""
    row = tl.load(rows + tl.program_id(0))
    first = tl.load(first_pieces + tl.program_id(0))
    column = tl.arange(0, SPAN)
    real, diagonal = column < k, column[:, None] == column[None, :]
    G, sum_q, sum_tq = tl.zeros([SPAN, SPAN], tl.float32), tl.zeros([SPAN], tl.float32), tl.zeros([SPAN], tl.float32)
    sum_t, sum_tt = tl.zeros([], tl.float32), tl.zeros([], tl.float32)
    for piece in range(first, first + tl.load(pieces + tl.program_id(0))):
        G += tl.load(squares + piece * SPAN * SPAN + column[:, None] * SPAN + column[None, :])
        sum_q += tl.load(vectors + piece * 2 * SPAN + column)
        sum_tq += tl.load(vectors + (piece * 2 + 1) * SPAN + column)
        sum_t += tl.load(numbers + piece * 3)
        sum_tt += tl.load(numbers + piece * 3 + 1)
    count = (tl.load(starts + row + 1) - tl.load(starts + row)).to(tl.float32)
    weight = tl.load(weights + row)
    shrink, shrink_last = weight * tl.load(ridge + column, real, 0.0), weight * tl.load(ridge + k)
    x, x_last = tl.load(X + row * (k + 1) + column, real, 0.0), tl.load(X + row * (k + 1) + k)
    r = sum_tq - tl.sum(G * x[:, None], 0) - sum_q * x_last - shrink * x
    r_last = sum_t - tl.sum(sum_q * x) - count * x_last - shrink_last * x_last
    D, D_last = shrink + tl.sum(tl.where(diagonal, G, 0.0), 0), shrink_last + count
    D, D_last = tl.where(D > 0, D, float("inf")), tl.where(D_last > 0, D_last, float("inf"))
    s, s_last = r / D, r_last / D_last
    old = tl.sum(r * s) + r_last * s_last
    for _ in range(steps):
        As = tl.sum(G * s[:, None], 0) + sum_q * s_last + shrink * s
        As_last = tl.sum(sum_q * s) + count * s_last + shrink_last * s_last
        curvature = tl.sum(s * As) + s_last * As_last
        moving = (old > 0) & (curvature > 0)
        alpha = tl.where(moving, old / tl.where(moving, curvature, 1.0), 0.0)
        x, x_last = x + alpha * s, x_last + alpha * s_last
        r, r_last = r - alpha * As, r_last - alpha * As_last
        new = tl.sum(r * r / D) + r_last * r_last / D_last
        beta = tl.where(old > 0, new / tl.where(old > 0, old, 1.0), 0.0)
        s, s_last, old = r / D + beta * s, r_last / D_last + beta * s_last, new
    errors = sum_tt - 2 * (tl.sum(x * sum_tq) + x_last * sum_t) + count * x_last * x_last
    errors += tl.sum(x * (tl.sum(G * x[:, None], 0) + 2 * x_last * sum_q))
    tl.store(refined + row * (k + 1) + column, x, real)
    tl.store(refined + row * (k + 1) + k, x_last)
    tl.store(squared_errors + row, tl.maximum(errors, 0.0))


@triton.jit(do_not_specialize=["n"])
def _values(
    users, items, contexts, P, user_biases, Q, item_biases, A, context_biases, result, n,
    COLUMNS: tl.constexpr, SPAN: tl.constexpr, TILE: tl.constexpr, WITH_CONTEXTS: tl.constexpr,
):  # fmt: skip
    j = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    inside = j < n
    u, i = tl.load(users + j, inside, -1), tl.load(items + j, inside, -1)
    p = gathered(P, u, u >= 0, COLUMNS, SPAN)
    q = gathered(Q, i, i >= 0, COLUMNS, SPAN)
    m = tl.load(user_biases + u, u >= 0, 0.0) + tl.load(item_biases + i, i >= 0, 0.0)
    if WITH_CONTEXTS:
        c = tl.load(contexts + j, inside, -1)
        a = gathered(A, c, c >= 0, COLUMNS, SPAN)
        m += tl.load(context_biases + c, c >= 0, 0.0) + tl.sum(p * q + p * a + q * a, 1)
    else:
        m += tl.sum(p * q, 1)
    tl.store(result + j, m, inside)
