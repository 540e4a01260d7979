"""Tiles of vector registers on CPU cores: the inner loops of the row solves as vector instructions.

`tile` makes the inner loop of a matrix product; `factor_diagonal` and `factor_panel` are the two steps of a Cholesky
factorisation of as many matrices at once as a vector has lanes, one matrix in each. `to_lanes` brings them there;
`mirror`, `substitute` and `row_product` are the loops over their rows that a solution takes.
Sums stay in registers and run in one order. Nothing is checked.
"""

from __future__ import annotations

from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from recsys_mf.kernels.cpu.simd import (
    HAS_WIDE_REGISTERS,
    LANES,
    accumulator,
    array_of,
    broadcast,
    columns_of,
    fma,
    fnma,
    load,
    offset,
    prefetch,
    store,
)

_NARROW = 6  # rows of a vector of accumulators, with two loads and a broadcast, in sixteen registers of half a vector
BLOCK = 4  # rows and columns of the blocks that matrices in lanes are factorised in
_VECTOR = ir.VectorType(ir.FloatType(), LANES)


def tile(height: int, vectors: int, *, fresh: bool = False) -> Any:
    """out[a + h, b + l] += sign · Σ_{j < count} X[j, a + h] Y[j, b + l] for h < height and l < vectors · LANES.

    Called as f(X, Y, out, count, a, b, sign), arrays float32 in C order. A fresh tile replaces what was there.
    """

    def typed(typing_context: Any, X: Any, Y: Any, out: Any, count: Any, a: Any, b: Any, sign: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x, y, sums = (array_of(context, builder, signature, arguments, place) for place in (0, 1, 2))
            count, row, column, sign = arguments[3:]
            factor = broadcast(builder, sign)
            for rows, columns in _split(height, vectors):
                _add_part(builder, (x, y, sums), (count, row, column, factor), (rows, columns), fresh=fresh)
            return context.get_dummy_value()

        return types.void(X, Y, out, types.intp, types.intp, types.intp, types.float32), generate

    return intrinsic(typed)


def _split(height: int, vectors: int) -> list[tuple[range, range]]:
    """The parts of a tile that fit into the registers of this processor, one after another."""
    if HAS_WIDE_REGISTERS:
        return [(range(height), range(vectors))]
    parts = -(-height // _NARROW)
    bounds = [height * part // parts for part in range(parts + 1)]
    return [(range(*of), range(v, v + 1)) for of in pairwise(bounds) for v in range(vectors)]


def _add_part(builder: Any, arrays: Any, numbers: Any, part: tuple[range, range], *, fresh: bool) -> None:
    """The rows and vectors of `part` of a tile."""
    (x, y, sums), (count, row, column, factor), (rows, columns) = arrays, numbers, part
    totals = {(h, v): accumulator(builder) for h in rows for v in columns}
    with cgutils.for_range(builder, count) as loop:
        left = builder.gep(x.data, [builder.add(builder.mul(loop.index, columns_of(builder, x)), row)])
        right = builder.gep(y.data, [builder.add(builder.mul(loop.index, columns_of(builder, y)), column)])
        loaded = {v: load(builder, offset(builder, right, v * LANES)) for v in columns}
        for h in rows:
            value = broadcast(builder, builder.load(offset(builder, left, h)))
            for v in columns:
                builder.store(fma(builder, value, loaded[v], builder.load(totals[h, v])), totals[h, v])
    for h in rows:
        number = builder.add(row, ir.Constant(row.type, h))
        place = builder.add(builder.mul(number, columns_of(builder, sums)), column)
        for v in columns:
            cell = offset(builder, builder.gep(sums.data, [place]), v * LANES)
            total = builder.load(totals[h, v])
            result = builder.fmul(factor, total) if fresh else fma(builder, factor, total, load(builder, cell))
            store(builder, result, cell)


def _factor_diagonal(typing_context: Any, S: Any, R: Any, j: Any) -> Any:
    """The Cholesky factor of the block of S [w, w, LANES] at j, j, less the product of the columns before it.

    The columns before j are factorised. The factor takes the place of the block's lower triangle; the reciprocals of
    its diagonal go to R [w, LANES].
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        s, r = (array_of(context, builder, signature, arguments, place) for place in (0, 1))
        j = arguments[2]
        square_root = builder.module.declare_intrinsic(
            f"llvm.sqrt.v{LANES}f32", (), ir.FunctionType(_VECTOR, [_VECTOR])
        )
        rows = [_row(builder, s, j, p) for p in range(BLOCK)]
        lower = [(p, q) for p in range(BLOCK) for q in range(p + 1)]
        x = _less_products(builder, rows, rows, lower, j)
        for q in range(BLOCK):
            root = builder.call(square_root, [x[q, q]])
            inverse = builder.fdiv(ir.Constant(_VECTOR, [1.0] * LANES), root)
            store(builder, inverse, _row(builder, r, j, q))
            x[q, q] = root
            for p in range(q + 1, BLOCK):
                x[p, q] = builder.fmul(x[p, q], inverse)
            for p in range(q + 1, BLOCK):
                for c in range(q + 1, p + 1):
                    x[p, c] = fnma(builder, x[p, c], x[p, q], x[c, q])
        for p, q in lower:
            store(builder, x[p, q], _cell(builder, rows[p], j, q))
        return context.get_dummy_value()

    return types.void(S, R, types.intp), generate


def _factor_panel(typing_context: Any, S: Any, R: Any, i: Any, j: Any) -> Any:
    """The block of S at i, j below the diagonal block at j, which `factor_diagonal` has done, factorised too."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        s, r = (array_of(context, builder, signature, arguments, place) for place in (0, 1))
        i, j = arguments[2:]
        above = [_row(builder, s, j, q) for q in range(BLOCK)]
        rows = [_row(builder, s, i, p) for p in range(BLOCK)]
        whole = [(p, q) for p in range(BLOCK) for q in range(BLOCK)]
        x = _less_products(builder, rows, above, whole, j)
        for q in range(BLOCK):
            inverse = load(builder, _row(builder, r, j, q))
            for c in range(q):
                done = load(builder, _cell(builder, above[q], j, c))
                for p in range(BLOCK):
                    x[p, q] = fnma(builder, x[p, q], x[p, c], done)
            for p in range(BLOCK):
                x[p, q] = builder.fmul(x[p, q], inverse)
        for p, q in whole:
            store(builder, x[p, q], _cell(builder, rows[p], j, q))
        return context.get_dummy_value()

    return types.void(S, R, types.intp, types.intp), generate


def _to_lanes(typing_context: Any, A: Any, S: Any, a: Any, b: Any) -> Any:
    """S[a, b + l, lane] = A[lane, a, b + l] for l < LANES, as a transposition in registers.

    A [LANES, rows, columns], S [w, columns, LANES]
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        matrices, s = (array_of(context, builder, signature, arguments, place) for place in (0, 1))
        a, b = arguments[2:]
        size = builder.mul(builder.extract_value(matrices.shape, 1), builder.extract_value(matrices.shape, 2))
        place = builder.add(builder.mul(a, builder.extract_value(matrices.shape, 2)), b)
        x = []
        for _ in range(LANES):
            x.append(load(builder, builder.gep(matrices.data, [place])))
            place = builder.add(place, size)
        half = 1
        while half < LANES:  # blocks of half by half change places across the diagonal of twice their size
            for i in range(LANES):
                if not i & half:
                    x[i], x[i + half] = _exchanged(builder, x[i], x[i + half], half)
            half *= 2
        row = _row(builder, s, a, 0)
        for column, vector in enumerate(x):
            store(builder, vector, _cell(builder, row, b, column))
        return context.get_dummy_value()

    return types.void(A, S, types.intp, types.intp), generate


def _exchanged(builder: Any, x: Any, y: Any, half: int) -> tuple[Any, Any]:
    """x with every second run of `half` lanes from y, and y with the runs of x in their place."""
    lanes, numbers = range(LANES), ir.VectorType(ir.IntType(32), LANES)
    first = [LANES + lane - half if lane & half else lane for lane in lanes]
    second = [LANES + lane if lane & half else lane + half for lane in lanes]
    one, other = (builder.shuffle_vector(x, y, ir.Constant(numbers, places)) for places in (first, second))
    return one, other


def _prefetch_line(typing_context: Any, X: Any, row: Any, column: Any) -> Any:
    """Bring the cache line of X[row, column] into the first-level cache."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, (row, column) = array_of(context, builder, signature, arguments, 0), arguments[1:]
        place = builder.add(builder.mul(row, columns_of(builder, x)), column)
        prefetch(builder, builder.gep(x.data, [place]), to_write=False)
        return context.get_dummy_value()

    return types.void(X, types.intp, types.intp), generate


def _mirror(typing_context: Any, S: Any, precision: Any, scale: Any, a: Any) -> Any:
    """S[a, b] = scale · S[b, a] + precision[a, b] in every lane, for b < a."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        s, prior = (array_of(context, builder, signature, arguments, place) for place in (0, 1))
        scale, a = arguments[2:]
        factor, below = broadcast(builder, scale), _row(builder, s, a, 0)
        added = builder.gep(prior.data, [builder.mul(a, columns_of(builder, prior))])
        with cgutils.for_range(builder, a) as loop:
            above = load(builder, _cell(builder, _row(builder, s, loop.index, 0), a, 0))
            constant = broadcast(builder, builder.load(builder.gep(added, [loop.index])))
            store(builder, fma(builder, factor, above, constant), _cell(builder, below, loop.index, 0))
        return context.get_dummy_value()

    return types.void(S, precision, types.float32, types.intp), generate


def _substitute(typing_context: Any, S: Any, X: Any, a: Any) -> Any:
    """X[b] -= S[a, b] X[a] in every lane, for b < a; X [w, LANES]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        s, x = (array_of(context, builder, signature, arguments, place) for place in (0, 1))
        a = arguments[2]
        row, known = _row(builder, s, a, 0), load(builder, _row(builder, x, a, 0))
        with cgutils.for_range(builder, a) as loop:
            cell = _cell(builder, x.data, loop.index, 0)
            left = fnma(builder, load(builder, cell), load(builder, _cell(builder, row, loop.index, 0)), known)
            store(builder, left, cell)
        return context.get_dummy_value()

    return types.void(S, X, types.intp), generate


def _row_product(typing_context: Any, S: Any, X: Any, a: Any, end: Any, out: Any) -> Any:
    """out [LANES] = Σ_{a < b < end} S[a, b] X[b]; X [w, LANES]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        s, x, product = (array_of(context, builder, signature, arguments, place) for place in (0, 1, 4))
        a, end = arguments[2:4]
        row, total, one = _row(builder, s, a, 0), accumulator(builder), ir.Constant(a.type, 1)
        with cgutils.for_range_slice(builder, builder.add(a, one), end, one, intp=a.type) as (b, _):
            left, right = (load(builder, _cell(builder, data, b, 0)) for data in (row, x.data))
            builder.store(fma(builder, left, right, builder.load(total)), total)
        store(builder, builder.load(total), product.data)
        return context.get_dummy_value()

    return types.void(S, X, types.intp, types.intp, out), generate


prefetch_line: Any = intrinsic(_prefetch_line)
to_lanes: Any = intrinsic(_to_lanes)
mirror: Any = intrinsic(_mirror)
substitute: Any = intrinsic(_substitute)
row_product: Any = intrinsic(_row_product)
factor_diagonal: Any = intrinsic(_factor_diagonal)
factor_panel: Any = intrinsic(_factor_panel)


def _less_products(builder: Any, rows: Any, others: Any, cells: Any, j: Any) -> Any:
    """{(p, q): row_p[j + q] - Σ_{t < j} row_p[t] other_q[t]} for the cells (p, q), by lanes."""
    parts = [cells] if HAS_WIDE_REGISTERS else [list(part) for _, part in groupby(cells, key=itemgetter(0))]
    found = {}
    for part in parts:
        totals = {(p, q): accumulator(builder) for p, q in part}
        with cgutils.for_range(builder, j) as loop:
            left = {p: load(builder, _cell(builder, rows[p], loop.index, 0)) for p in {p for p, _ in part}}
            right = {q: load(builder, _cell(builder, others[q], loop.index, 0)) for q in {q for _, q in part}}
            for (p, q), total in totals.items():
                builder.store(fma(builder, left[p], right[q], builder.load(total)), total)
        for (p, q), total in totals.items():
            before = load(builder, _cell(builder, rows[p], j, q))
            found[p, q] = builder.fsub(before, builder.load(total))
    return found


def _row(builder: Any, array: Any, first: Any, extra: int) -> Any:
    """Pointer to row first + extra of an array whose last axis is the lanes."""
    number = builder.add(first, ir.Constant(first.type, extra))
    rank = len(array.shape.type)
    length = ir.Constant(first.type, LANES)
    if rank == 3:
        length = builder.mul(length, columns_of(builder, array))
    return builder.gep(array.data, [builder.mul(number, length)])


def _cell(builder: Any, row: Any, first: Any, extra: int) -> Any:
    """Pointer to the lanes of column first + extra of a row."""
    number = builder.add(first, ir.Constant(first.type, extra))
    return builder.gep(row, [builder.mul(number, ir.Constant(first.type, LANES))])
