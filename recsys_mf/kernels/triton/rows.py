"""The row systems of ALS and the Gibbs sampler on a CUDA device, in Triton: Gram sums, then factors and solutions.

A row's ratings are cut into pieces of at most `PIECE`, a program each: it gathers the regressors a tile at a time and
sums y yᵀ on the matrix units, in three TF32 products that together are as exact as float32. So long rows are spread
over the card, and what a short row wastes is the rest of a tile. A second program for every row adds its pieces up and
factorises. Of the system over (p, b),

    A = [ A₁₁  s ]      A₁₁ = L₁₁ L₁₁ᵀ,   l = L₁₁⁻¹ s,   λ = √(c - l · l),
        [ sᵀ   c ]

L₁₁ is found column by column in registers, where each column found is at once used on the two right-hand sides, s and
that of the factors; the bias comes last. Then backwards with the normals added.
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

MAX_RANK = 128  # of the factors: a system of that size is what a program's registers hold
PIECE = 2048  # ratings
TILE = 16  # ratings gathered at a time: what a row that ends within a tile wastes is a few
_BUFFER = 1 << 30  # bytes of sums held at once


class Columns(NamedTuple):
    """Factors [n, pitch], in rows of whole 16 bytes, and biases [n] of a table of rows (factors, bias)."""

    factors: Tensor
    biases: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Columns:
        """The table in two."""
        k = rows.shape[1] - 1
        columns = max(4, -(-k // 4) * 4)
        factors = torch.zeros((len(rows), columns), device=rows.device)
        factors[:, :k] = rows[:, :k]
        return cls(factors, rows[:, k].contiguous())


class _Sums(NamedTuple):
    """Of every piece: Σ q qᵀ [K, K], Σ q and Σ t q [2, K], and Σ t, Σ t² [2]."""

    squares: Tensor
    vectors: Tensor
    numbers: Tensor

    @classmethod
    def room(cls, pieces: int, span: int, device: torch.device) -> _Sums:
        """Not yet filled."""
        return cls(*(torch.empty((pieces, *s), device=device) for s in ((span, span), (2, span), (2,))))


def solve(
    ratings: Csr, regressors: Regressors, prior: RowPrior, noise_precision: float, normals: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `reference.solve`, for a rank of at most `MAX_RANK`."""
    starts, others, values, _ = ratings
    Y, contexts, C = regressors
    device, k, n_rows = Y.device, Y.shape[1] - 1, ratings.n_rows
    table, third = Columns.of(Y), Columns.of(Y[:0] if C is None else C)
    contexts = others[:0] if contexts is None else contexts
    precision, right, weights, ridge = _filled(prior, n_rows, k + 1, device)
    gram, factored = shapes(
        k, table.factors.shape[1], with_contexts=len(contexts) > 0, with_normals=normals is not None
    )
    span = gram["SPAN"]
    X = torch.empty((n_rows, k + 1), device=device)
    squared_errors = torch.empty(n_rows, device=device)
    padded = torch.eye(span, device=device)  # of the columns that only fill the span
    padded[:k, :k] = precision[:-1, :-1]
    pieces, prior_bias = piece_counts(starts), precision[-1].contiguous()
    noise = X[:0] if normals is None else normals
    last_pieces = torch.cumsum(pieces, 0)
    before = last_pieces - pieces
    for rows in _chunks(last_pieces, _BUFFER // (4 * (span + 2) * span)):
        lows, highs = piece_bounds(starts[rows.start : rows.stop + 1], pieces[rows])
        sums = _Sums.room(len(lows), span, device)
        _gram[(len(lows),)](lows, highs, others, contexts, values, *table, *third, *sums, **gram)
        _solve[(rows.stop - rows.start,)](
            starts, before, pieces, *sums, padded, prior_bias, right, weights, ridge,
            noise_precision, noise, X, squared_errors, rows.start, int(before[rows.start]), k, **factored
        )  # fmt: skip
    return X, squared_errors


def _filled(prior: RowPrior, n_rows: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Λ, M Λ, w and d, zeros for what a prior does not have."""
    zeros = partial(torch.zeros, device=device)
    if isinstance(prior, GaussianPrior):
        return prior.precision, prior.means @ prior.precision, zeros(n_rows), zeros(width)
    return zeros((width, width)), zeros((n_rows, width)), *prior


def piece_counts(starts: Tensor) -> Tensor:
    """The number of pieces of every row, at least one."""
    return torch.clamp((torch.diff(starts) + PIECE - 1) // PIECE, min=1)


def piece_bounds(starts: Tensor, pieces: Tensor) -> tuple[Tensor, Tensor]:
    """Where every piece of the rows begins and ends, row after row."""
    row_of = torch.repeat_interleave(torch.arange(len(pieces), device=starts.device), pieces)
    number = torch.arange(len(row_of), device=starts.device) - (torch.cumsum(pieces, 0) - pieces)[row_of]
    lows = starts[row_of] + number * PIECE
    return lows, torch.minimum(lows + PIECE, starts[row_of + 1])


def shapes(k: int, columns: int, *, with_contexts: bool, with_normals: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """How the two kernels are compiled for a rank and factors in rows of so many columns."""
    span = triton.next_power_of_2(max(16, k))
    both: dict[str, Any] = {"SPAN": span, "num_warps": 4 if span <= 64 else 8}
    gram = {"COLUMNS": columns, "TILE": TILE, "WITH_CONTEXTS": with_contexts}
    return both | gram, both | {"WITH_NORMALS": with_normals}


def _chunks(last_pieces: Tensor, most: int) -> list[slice]:
    """Runs of rows with at most so many pieces in all, or of a single row with more."""
    ends = last_pieces.cpu()
    chunks, start = [], 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(torch.searchsorted(ends, before + most, right=True)))
        chunks.append(slice(start, stop))
        start = stop
    return chunks


@triton.jit
def gathered(factors, indices, inside, COLUMNS: tl.constexpr, SPAN: tl.constexpr):
    """Rows of factors [TILE, SPAN], zeros beyond the columns and where not inside."""
    column = tl.arange(0, SPAN)
    places = indices.to(tl.int64)[:, None] * COLUMNS + column[None, :]
    return tl.load(factors + places, inside[:, None] & (column < COLUMNS)[None, :], 0.0)


@triton.jit
def _root(pivot):
    """Its square root, NaN unless it is positive: then the system is not positive definite."""
    return tl.where(pivot > 0, tl.sqrt(tl.where(pivot > 0, pivot, 1.0)), float("nan"))


@triton.jit
def _gram(
    lows, highs, others, contexts, values, factors, biases, context_factors, context_biases,
    squares, vectors, numbers,
    COLUMNS: tl.constexpr, SPAN: tl.constexpr, TILE: tl.constexpr, WITH_CONTEXTS: tl.constexpr,
):  # fmt: skip
    piece = tl.program_id(0).to(tl.int64)
    low, high = tl.load(lows + piece), tl.load(highs + piece)
    column = tl.arange(0, SPAN)
    G = tl.zeros([SPAN, SPAN], tl.float32)
    sum_q, sum_tq = tl.zeros([SPAN], tl.float32), tl.zeros([SPAN], tl.float32)
    sum_t, sum_tt = tl.zeros([], tl.float32), tl.zeros([], tl.float32)
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
        G = tl.dot(tl.trans(q), q, G, input_precision="tf32x3")
        sum_q += tl.sum(q, 0)
        sum_tq += tl.sum(q * t[:, None], 0)
        sum_t += tl.sum(t)
        sum_tt += tl.sum(t * t)
    tl.store(squares + piece * SPAN * SPAN + column[:, None] * SPAN + column[None, :], G)
    tl.store(vectors + piece * 2 * SPAN + column, sum_q)
    tl.store(vectors + (piece * 2 + 1) * SPAN + column, sum_tq)
    tl.store(numbers + piece * 2, sum_t)
    tl.store(numbers + piece * 2 + 1, sum_tt)


@triton.jit(do_not_specialize=["first_row", "first_piece"])
def _solve(
    starts, first_pieces, pieces, squares, vectors, numbers, prior, prior_bias, right, weights, ridge,
    noise_precision, normals, X, squared_errors, first_row, first_piece, k,
    SPAN: tl.constexpr, WITH_NORMALS: tl.constexpr,
):  # fmt: skip
    row = (first_row + tl.program_id(0)).to(tl.int64)
    low = tl.load(first_pieces + row) - first_piece
    high = low + tl.load(pieces + row)
    column = tl.arange(0, SPAN)
    real = column < k
    cells = column[:, None] * SPAN + column[None, :]
    G = tl.zeros([SPAN, SPAN], tl.float32)
    sum_q, sum_tq = tl.zeros([SPAN], tl.float32), tl.zeros([SPAN], tl.float32)
    sum_t, sum_tt = tl.zeros([], tl.float32), tl.zeros([], tl.float32)
    for piece in range(low, high):
        G += tl.load(squares + piece * SPAN * SPAN + cells)
        sum_q += tl.load(vectors + piece * 2 * SPAN + column)
        sum_tq += tl.load(vectors + (piece * 2 + 1) * SPAN + column)
        sum_t += tl.load(numbers + piece * 2)
        sum_tt += tl.load(numbers + piece * 2 + 1)
    count = (tl.load(starts + row + 1) - tl.load(starts + row)).to(tl.float32)

    weight, cross = tl.load(weights + row), tl.load(prior_bias + column, real, 0.0)
    extra = weight * tl.load(ridge + column, real, 0.0)
    A = noise_precision * G + tl.load(prior + cells) + tl.where(column[:, None] == column[None, :], extra[None, :], 0.0)
    s = noise_precision * sum_q + cross
    c = noise_precision * count + tl.load(prior_bias + k) + weight * tl.load(ridge + k)
    b = noise_precision * sum_tq + tl.load(right + row * (k + 1) + column, real, 0.0)
    b_last = noise_precision * sum_t + tl.load(right + row * (k + 1) + k)

    for j in range(k):  # A becomes L₁₁, s becomes l, b becomes L₁₁⁻¹ b
        of_column = tl.sum(tl.where(column[None, :] == j, A, 0.0), 1)
        of_row = tl.sum(tl.where(column[:, None] == j, A, 0.0), 0)
        scale = 1 / _root(tl.sum(tl.where(column == j, of_row, 0.0)))
        l_column, l_row = of_column * scale, of_row * scale
        A = tl.where(
            column[None, :] == j,
            tl.where(column[:, None] >= j, l_column[:, None], 0.0),
            tl.where(column[None, :] > j, A - l_column[:, None] * l_row[None, :], A),
        )
        s_j = tl.sum(tl.where(column == j, s, 0.0)) * scale
        b_j = tl.sum(tl.where(column == j, b, 0.0)) * scale
        s = tl.where(column == j, s_j, tl.where(column > j, s - s_j * l_row, s))
        b = tl.where(column == j, b_j, tl.where(column > j, b - b_j * l_row, b))

    s, b = tl.where(real, s, 0.0), tl.where(real, b, 0.0)
    root = _root(c - tl.sum(s * s))
    x_last = (b_last - tl.sum(s * b)) / root
    if WITH_NORMALS:
        b += tl.load(normals + row * (k + 1) + column, real, 0.0)
        x_last += tl.load(normals + row * (k + 1) + k)
    x_last /= root
    x = b - s * x_last
    diagonal = tl.sum(tl.where(column[:, None] == column[None, :], A, 0.0), 0)
    for step in range(k):
        j = k - 1 - step
        x_j = tl.sum(tl.where(column == j, x / diagonal, 0.0))
        of_row = tl.sum(tl.where(column[:, None] == j, A, 0.0), 0)
        x = tl.where(column == j, x_j, tl.where(column < j, x - of_row * x_j, x))
    tl.store(X + row * (k + 1) + column, x, real)
    tl.store(X + row * (k + 1) + k, x_last)

    quadratic = count * x_last * x_last
    linear, cross_term = x_last * sum_t + tl.sum(x * sum_tq), 2 * x_last * tl.sum(x * sum_q)
    for piece in range(low, high):
        G = tl.load(squares + piece * SPAN * SPAN + cells)
        quadratic += tl.sum(x * tl.sum(tl.where(real[:, None], G, 0.0) * x[None, :], 1))
    tl.store(squared_errors + row, sum_tt - 2 * linear + quadratic + cross_term)
