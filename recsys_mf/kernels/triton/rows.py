"""The row systems of ALS and the Gibbs sampler on a CUDA device, in Triton: Gram sums, then factors and solutions.

A row's ratings are cut into pieces of at most `PIECE`, with one program per piece: it gathers the regressors a tile at
a time and sums y yᵀ on the matrix units, in three TF32 products that together are as exact as float32. So long rows are
spread over the card, and a short row wastes at most the rest of a tile. A second program for every row adds up its
pieces and factorises. In the system over (p, b),

    A = [ A₁₁  s ]      A₁₁ = L₁₁ L₁₁ᵀ,   l = L₁₁⁻¹ s,   λ = √(c - l · l),
        [ sᵀ   c ]

A₁₁ is processed in four by four blocks. The inverse factor W of a block on the diagonal is computed column by column in
registers; everything else is products of blocks on the matrix units,

    L_ij = (A_ij - Σ_{m<j} L_im L_jmᵀ) W_jᵀ,

also for the right-hand sides, which are one more row of blocks. The bias comes last. Then the system is solved
backwards with the normals added.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.operands import GaussianPrior, Regressors, RowPrior

MAX_RANK = 128  # of the factors: the largest system that a program's registers hold
PIECE = 2048  # ratings
TILE = 16  # ratings gathered at a time: a row that ends within a tile wastes only a few
_BUFFER = 1 << 30  # bytes of sums held at once


class Columns(NamedTuple):
    """Factors [n, pitch], in rows of whole 16 bytes, and biases [n] of a table of rows (factors, bias)."""

    factors: Tensor
    biases: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Columns:
        """The table split into factors and biases."""
        k = rows.shape[1] - 1
        columns = max(4, -(-k // 4) * 4)
        factors = torch.zeros((len(rows), columns), device=rows.device)
        factors[:, :k] = rows[:, :k]
        return cls(factors, rows[:, k].contiguous())


class _Sums(NamedTuple):
    """Of every piece: Σ ω q qᵀ [K, K], Σ ω q and Σ ω t q [2, K], and Σ ω t, Σ ω t², Σ ω [3]."""

    squares: Tensor
    vectors: Tensor
    numbers: Tensor

    @classmethod
    def room(cls, pieces: int, span: int, device: torch.device) -> _Sums:
        """Uninitialised sums for a number of pieces."""
        return cls(*(torch.empty((pieces, *s), device=device) for s in ((span, span), (2, span), (3,))))


def solve(
    ratings: Csr, regressors: Regressors, prior: RowPrior, noise_precision: float, normals: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `reference.solve`, for a rank of at most `MAX_RANK`."""
    starts, others, values, _ = ratings
    Y, contexts, C, omega, scales = regressors
    device, k, n_rows = Y.device, Y.shape[1] - 1, ratings.n_rows
    table, third = Columns.of(Y), Columns.of(Y[:0] if C is None else C)
    contexts = others[:0] if contexts is None else contexts
    precision, right, weights, ridge = _filled(prior, n_rows, k + 1, device)
    gram, factored = shapes(
        k,
        table.factors.shape[1],
        with_contexts=len(contexts) > 0,
        with_normals=normals is not None,
        with_weights=omega is not None,
        with_scales=scales is not None,
        capability=_capability(device),
    )
    own, of_others, of_contexts = _scales(regressors)
    omega = values[:0] if omega is None else omega
    span = gram["SPAN"]
    X = torch.empty((n_rows, k + 1), device=device)
    squared_errors = torch.empty(n_rows, device=device)
    padded = torch.eye(4 * factored["SIDE"], device=device)  # of the columns that only fill the blocks
    padded[:k, :k] = precision[:-1, :-1]
    pieces, prior_bias = piece_counts(torch.diff(starts)), precision[-1].contiguous()
    noise = X[:0] if normals is None else normals
    last_pieces = torch.cumsum(pieces, 0)
    before = last_pieces - pieces
    for rows in chunks(last_pieces, span):
        lows, highs = piece_bounds(starts[:-1][rows], starts[1:][rows], pieces[rows])
        sums = _Sums.room(len(lows), span, device)
        of_pieces = own if scales is None else torch.repeat_interleave(own[rows], pieces[rows])
        _gram[(len(lows),)](
            lows, highs, others, contexts, values, omega, of_pieces, of_others, of_contexts,
            *table, *third, *sums, **gram,
        )  # fmt: skip
        _solve[(rows.stop - rows.start,)](
            before, pieces, *sums, padded, prior_bias, right, weights, ridge,
            noise_precision, noise, X, squared_errors, rows.start, int(before[rows.start]), k, **factored
        )  # fmt: skip
    return X, squared_errors


def _scales(regressors: Regressors) -> tuple[Tensor, Tensor, Tensor]:
    """The scales of rows, of others and of contexts: ones for contexts without scales; empty without any scales."""
    Y, C, scales = regressors.rows, regressors.context_rows, regressors.scales
    if scales is None:
        return Y[:0, 0], Y[:0, 0], Y[:0, 0]
    ones = torch.ones(0 if C is None else len(C), device=Y.device)
    return scales.rows, scales.others, ones if scales.contexts is None else scales.contexts


def _filled(prior: RowPrior, n_rows: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Λ, M Λ, w and d; zeros for those that a prior does not have."""
    zeros = partial(torch.zeros, device=device)
    if isinstance(prior, GaussianPrior):
        return prior.precision, prior.means @ prior.precision, zeros(n_rows), zeros(width)
    return zeros((width, width)), zeros((n_rows, width)), *prior


def sum_pieces(bounds: tuple[Tensor, Tensor], ratings: Csr, table: Columns, span: int) -> _Sums:
    """The sums over pieces of rows without contexts."""
    sums = _Sums.room(len(bounds[0]), span, table.factors.device)
    none, empty, nothing = ratings.columns[:0], table.factors[:0], table.biases[:0]
    options = _gram_shape(span, table.factors.shape[1], _capability(table.factors.device), with_contexts=False)
    _gram[(len(bounds[0]),)](
        *bounds, ratings.columns, none, ratings.values, nothing, nothing, nothing, nothing,
        *table, empty, nothing, *sums, **options,
    )  # fmt: skip
    return sums


def piece_counts(lengths: Tensor) -> Tensor:
    """The number of pieces of rows of these lengths, at least one each."""
    return torch.clamp((lengths + PIECE - 1) // PIECE, min=1)


def piece_bounds(begins: Tensor, ends: Tensor, pieces: Tensor) -> tuple[Tensor, Tensor]:
    """Where every piece of rows begins and ends, row after row."""
    row_of = torch.repeat_interleave(torch.arange(len(pieces), device=begins.device), pieces)
    number = torch.arange(len(row_of), device=begins.device) - (torch.cumsum(pieces, 0) - pieces)[row_of]
    lows = begins[row_of] + number * PIECE
    return lows, torch.minimum(lows + PIECE, ends[row_of])


def shapes(
    k: int,
    columns: int,
    *,
    with_contexts: bool,
    with_normals: bool,
    capability: int,
    with_weights: bool = False,
    with_scales: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that the two kernels are compiled with. capability : of the card, 90 for 9.0"""
    span = span_of(k)
    side = max(16, span // 4)
    gram = _gram_shape(span, columns, capability, with_contexts=with_contexts)
    gram |= {"WITH_WEIGHTS": with_weights, "WITH_SCALES": with_scales}
    return gram, {"SPAN": span, "SIDE": side, "WITH_NORMALS": with_normals, "num_warps": side // 16}


def span_of(k: int) -> int:
    """The columns of a program for a rank, a power of two."""
    span: int = triton.next_power_of_2(max(16, k))
    return span


def _gram_shape(span: int, columns: int, capability: int, *, with_contexts: bool) -> dict[str, Any]:
    # The compiler for capability 8.0 spills nearly all of the largest sums on fewer warps.
    warps = 8 if span == 128 and capability < 90 else max(1, span // 32)
    plain = {"WITH_WEIGHTS": False, "WITH_SCALES": False}
    sizes = {"SPAN": span, "COLUMNS": columns, "TILE": TILE, "num_warps": warps}
    return sizes | plain | {"WITH_CONTEXTS": with_contexts}


def _capability(device: torch.device) -> int:
    """The compute capability of the card, 90 for 9.0; the lowest supported one under the interpreter."""
    major, minor = torch.cuda.get_device_capability(device) if device.type == "cuda" else (8, 0)
    return 10 * major + minor


def chunks(last_pieces: Tensor, span: int) -> list[slice]:
    """Runs of rows whose sums fit into the buffer, or of a single row with more; last_pieces : pieces up to each."""
    ends, most = last_pieces.cpu(), _BUFFER // (4 * (span + 2) * span)
    found, start = [], 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(torch.searchsorted(ends, before + most, right=True)))
        found.append(slice(start, stop))
        start = stop
    return found


@triton.jit
def gathered(factors, indices, inside, COLUMNS: tl.constexpr, SPAN: tl.constexpr):
    """Rows of factors [TILE, SPAN], zeros beyond the columns and where not inside."""
    column = tl.arange(0, SPAN)
    places = indices.to(tl.int64)[:, None] * COLUMNS + column[None, :]
    return tl.load(factors + places, inside[:, None] & (column < COLUMNS)[None, :], 0.0)


@triton.jit
def _root(pivot):
    """The square root of a pivot; NaN if it is not positive, since then the system is not positive definite."""
    return tl.where(pivot > 0, tl.sqrt(tl.where(pivot > 0, pivot, 1.0)), float("nan"))


@triton.jit
def _gram(
    lows, highs, others, contexts, values, omega, piece_scales, scales, context_scales,
    factors, biases, context_factors, context_biases, squares, vectors, numbers,
    COLUMNS: tl.constexpr, SPAN: tl.constexpr, TILE: tl.constexpr, WITH_CONTEXTS: tl.constexpr,
    WITH_WEIGHTS: tl.constexpr, WITH_SCALES: tl.constexpr,
):  # fmt: skip
    piece = tl.program_id(0).to(tl.int64)
    low, high = tl.load(lows + piece), tl.load(highs + piece)
    column = tl.arange(0, SPAN)
    G = tl.zeros([SPAN, SPAN], tl.float32)
    sum_q, sum_tq = tl.zeros([SPAN], tl.float32), tl.zeros([SPAN], tl.float32)
    sum_t, sum_tt, sum_w = tl.zeros([], tl.float32), tl.zeros([], tl.float32), tl.zeros([], tl.float32)
    for start in range(low, high, TILE):
        j = start + tl.arange(0, TILE)
        inside = j < high
        o = tl.load(others + j, inside, 0)
        q = gathered(factors, o, inside, COLUMNS, SPAN)
        t = tl.load(values + j, inside, 0.0) - tl.load(biases + o, inside, 0.0)
        if WITH_CONTEXTS:
            c = tl.load(contexts + j, inside, 0)
            a = gathered(context_factors, c, inside, COLUMNS, SPAN)
            t -= tl.load(context_biases + c, inside, 0.0) + tl.sum(q * a, 1)
            q += a
        if WITH_WEIGHTS or WITH_SCALES:
            w = tl.where(inside, 1.0, 0.0)
            if WITH_WEIGHTS:
                w *= tl.load(omega + j, inside, 0.0)
            if WITH_SCALES:
                w *= tl.load(piece_scales + piece) * tl.load(scales + o, inside, 0.0)
                if WITH_CONTEXTS:
                    w *= tl.load(context_scales + c, inside, 0.0)
            root = tl.sqrt(w)
            q *= root[:, None]
            t *= root
            sum_q += tl.sum(q * root[:, None], 0)
            sum_t += tl.sum(t * root)
            sum_w += tl.sum(w)
        else:
            sum_q += tl.sum(q, 0)
            sum_t += tl.sum(t)
        G = tl.dot(tl.trans(q), q, G, input_precision="tf32x3")
        sum_tq += tl.sum(q * t[:, None], 0)
        sum_tt += tl.sum(t * t)
    if not (WITH_WEIGHTS or WITH_SCALES):
        sum_w += (high - low).to(tl.float32)
    tl.store(squares + piece * SPAN * SPAN + column[:, None] * SPAN + column[None, :], G)
    tl.store(vectors + piece * 2 * SPAN + column, sum_q)
    tl.store(vectors + (piece * 2 + 1) * SPAN + column, sum_tq)
    tl.store(numbers + piece * 3, sum_t)
    tl.store(numbers + piece * 3 + 1, sum_tt)
    tl.store(numbers + piece * 3 + 2, sum_w)


@triton.jit
def _inverse_factor(D, columns, SIDE: tl.constexpr):
    """L⁻¹ of D = L Lᵀ, whose columns from this one on are those of the identity; NaN unless D is positive definite."""
    at = tl.arange(0, SIDE)
    W = tl.where(at[:, None] == at[None, :], 1.0, 0.0)
    for j in range(columns):
        of_column = tl.sum(tl.where(at[None, :] == j, D, 0.0), 1)
        of_row = tl.sum(tl.where(at[:, None] == j, D, 0.0), 0)
        w = tl.sum(tl.where(at[:, None] == j, W, 0.0), 0)
        scale = 1 / _root(tl.sum(tl.where(at == j, of_row, 0.0)))
        below = tl.where(at > j, of_column * scale, 0.0)
        D -= below[:, None] * (of_row * scale)[None, :]
        W = tl.where(at[:, None] == j, (w * scale)[None, :], W - below[:, None] * (w * scale)[None, :])
    return W


@triton.jit
def _product(A, B):
    """A B."""
    return tl.dot(A, B, input_precision="tf32x3")


@triton.jit
def _outer(A, B):
    """A Bᵀ."""
    return tl.dot(A, tl.trans(B), input_precision="tf32x3")


@triton.jit
def _block(squares, low, high, prior, weight, ridge, noise_precision, k, i: tl.constexpr, j: tl.constexpr,
           SIDE: tl.constexpr, SPAN: tl.constexpr):  # fmt: skip
    """A_ij [SIDE, SIDE]."""
    at = tl.arange(0, SIDE)
    row, column = i * SIDE + at[:, None], j * SIDE + at[None, :]
    G = tl.zeros([SIDE, SIDE], tl.float32)
    for piece in range(low, high):
        G += tl.load(squares + (piece * SPAN + row) * SPAN + column, (row < SPAN) & (column < SPAN), 0.0)
    A = noise_precision * G + tl.load(prior + row * (4 * SIDE) + column)
    if i == j:
        A += tl.where(row == column, weight * tl.load(ridge + column, column < k, 0.0), 0.0)
    return A


@triton.jit
def _right_sides(vectors, low, high, prior_bias, right, noise_precision, k, j: tl.constexpr,
                 SIDE: tl.constexpr, SPAN: tl.constexpr):  # fmt: skip
    """s and b of a column of blocks as the first rows of [16, SIDE]."""
    at, number = j * SIDE + tl.arange(0, SIDE), tl.arange(0, 16)[:, None]
    sum_q, sum_tq = tl.zeros([SIDE], tl.float32), tl.zeros([SIDE], tl.float32)
    for piece in range(low, high):
        sum_q += tl.load(vectors + piece * 2 * SPAN + at, at < SPAN, 0.0)
        sum_tq += tl.load(vectors + (piece * 2 + 1) * SPAN + at, at < SPAN, 0.0)
    s = noise_precision * sum_q + tl.load(prior_bias + at, at < k, 0.0)
    b = noise_precision * sum_tq + tl.load(right + at, at < k, 0.0)
    return tl.where(number == 0, s[None, :], tl.where(number == 1, b[None, :], 0.0))


@triton.jit
def _inner(Y, one: tl.constexpr, other: tl.constexpr):
    """The product of two rows of [16, SIDE]."""
    return tl.sum(_taken(Y, one) * _taken(Y, other))


@triton.jit
def _left(Y, x_last, normals, k, j: tl.constexpr, SIDE: tl.constexpr, WITH_NORMALS: tl.constexpr):
    """The right-hand side for the factors, given the bias: L₁₁⁻¹ b - l x_last plus normals, row 0 of [16, SIDE]."""
    y = _taken(Y, 1) - x_last * _taken(Y, 0)
    if WITH_NORMALS:
        at = j * SIDE + tl.arange(0, SIDE)
        y += tl.load(normals + at, at < k, 0.0)
    return tl.where(tl.arange(0, 16)[:, None] == 0, y[None, :], 0.0)


@triton.jit
def _taken(rows, number: tl.constexpr):
    """A row of [16, SIDE]."""
    return tl.sum(tl.where(tl.arange(0, 16)[:, None] == number, rows, 0.0), 0)


@triton.jit(do_not_specialize=["first_row", "first_piece"])
def _solve(
    first_pieces, pieces, squares, vectors, numbers, prior, prior_bias, right, weights, ridge,
    noise_precision, normals, X, squared_errors, first_row, first_piece, k,
    SPAN: tl.constexpr, SIDE: tl.constexpr, WITH_NORMALS: tl.constexpr,
):  # fmt: skip
    row = (first_row + tl.program_id(0)).to(tl.int64)
    low = tl.load(first_pieces + row) - first_piece
    high = low + tl.load(pieces + row)
    weight, of_x = tl.load(weights + row), X + row * (k + 1)
    right += row * (k + 1)

    A = squares, low, high, prior, weight, ridge, noise_precision, k
    R = vectors, low, high, prior_bias, right, noise_precision, k
    W0 = _inverse_factor(_block(*A, 0, 0, SIDE, SPAN), min(k, SIDE), SIDE)
    L10 = _outer(_block(*A, 1, 0, SIDE, SPAN), W0)
    L20 = _outer(_block(*A, 2, 0, SIDE, SPAN), W0)
    L30 = _outer(_block(*A, 3, 0, SIDE, SPAN), W0)
    Y0 = _outer(_right_sides(*R, 0, SIDE, SPAN), W0)
    W1 = _inverse_factor(_block(*A, 1, 1, SIDE, SPAN) - _outer(L10, L10), min(k - SIDE, SIDE), SIDE)
    L21 = _outer(_block(*A, 2, 1, SIDE, SPAN) - _outer(L20, L10), W1)
    L31 = _outer(_block(*A, 3, 1, SIDE, SPAN) - _outer(L30, L10), W1)
    Y1 = _outer(_right_sides(*R, 1, SIDE, SPAN) - _outer(Y0, L10), W1)
    D = _block(*A, 2, 2, SIDE, SPAN) - _outer(L20, L20) - _outer(L21, L21)
    W2 = _inverse_factor(D, min(k - 2 * SIDE, SIDE), SIDE)
    L32 = _outer(_block(*A, 3, 2, SIDE, SPAN) - _outer(L30, L20) - _outer(L31, L21), W2)
    Y2 = _outer(_right_sides(*R, 2, SIDE, SPAN) - _outer(Y0, L20) - _outer(Y1, L21), W2)
    D = _block(*A, 3, 3, SIDE, SPAN) - _outer(L30, L30) - _outer(L31, L31) - _outer(L32, L32)
    W3 = _inverse_factor(D, min(k - 3 * SIDE, SIDE), SIDE)
    Y3 = _outer(_right_sides(*R, 3, SIDE, SPAN) - _outer(Y0, L30) - _outer(Y1, L31) - _outer(Y2, L32), W3)

    count, sum_t, sum_tt = tl.zeros([], tl.float32), tl.zeros([], tl.float32), tl.zeros([], tl.float32)
    for piece in range(low, high):
        sum_t += tl.load(numbers + piece * 3)
        sum_tt += tl.load(numbers + piece * 3 + 1)
        count += tl.load(numbers + piece * 3 + 2)  # of ratings, or of their weights
    c = noise_precision * count + tl.load(prior_bias + k) + weight * tl.load(ridge + k)
    root = _root(c - _inner(Y0, 0, 0) - _inner(Y1, 0, 0) - _inner(Y2, 0, 0) - _inner(Y3, 0, 0))
    x_last = noise_precision * sum_t + tl.load(right + k)
    x_last = (x_last - _inner(Y0, 0, 1) - _inner(Y1, 0, 1) - _inner(Y2, 0, 1) - _inner(Y3, 0, 1)) / root
    if WITH_NORMALS:
        x_last += tl.load(normals + row * (k + 1) + k)
    x_last /= root
    normals += row * (k + 1)
    X3 = _product(_left(Y3, x_last, normals, k, 3, SIDE, WITH_NORMALS), W3)
    X2 = _product(_left(Y2, x_last, normals, k, 2, SIDE, WITH_NORMALS) - _product(X3, L32), W2)
    X1 = _left(Y1, x_last, normals, k, 1, SIDE, WITH_NORMALS) - _product(X3, L31) - _product(X2, L21)
    X1 = _product(X1, W1)
    X0 = _left(Y0, x_last, normals, k, 0, SIDE, WITH_NORMALS) - _product(X3, L30) - _product(X2, L20)
    X0 = _product(X0 - _product(X1, L10), W0)
    at = tl.arange(0, SIDE)
    tl.store(of_x + at, _taken(X0, 0), at < k)
    tl.store(of_x + SIDE + at, _taken(X1, 0), SIDE + at < k)
    tl.store(of_x + 2 * SIDE + at, _taken(X2, 0), 2 * SIDE + at < k)
    tl.store(of_x + 3 * SIDE + at, _taken(X3, 0), 3 * SIDE + at < k)
    tl.store(of_x + k, x_last)
    tl.debug_barrier()  # x is read again, in another order

    column = tl.arange(0, SPAN)
    x = tl.load(of_x + column, column < k, 0.0)
    cells = column[:, None] * SPAN + column[None, :]
    squared = sum_tt - 2 * x_last * sum_t + count * x_last * x_last
    for piece in range(low, high):
        G = tl.load(squares + piece * SPAN * SPAN + cells)
        sum_q = tl.load(vectors + piece * 2 * SPAN + column)
        sum_tq = tl.load(vectors + (piece * 2 + 1) * SPAN + column)
        squared += tl.sum(x * tl.sum(G * x[None, :], 1)) + tl.sum(x * (2 * x_last * sum_q - 2 * sum_tq))
    tl.store(squared_errors + row, squared)
