"""Products of a sparse matrix with a block of columns on CPU cores: rows of X gathered and summed in registers.

Row g of the product is Σ_j (s_j - a[g] - c[others[j]]) X[others[j]]. Its columns are taken in tiles of one to four
vectors whose sums stay in registers over all j (`_tile`); X lies aligned, in rows of full cache lines.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from recsys_mf.arrays.aligned import LINE, align, allocate_aligned
from recsys_mf.arrays.csr import Csr
from recsys_mf.arrays.jit import inline, jit
from recsys_mf.arrays.threads import shares, side_by_side
from recsys_mf.kernels.cpu.simd import (
    FASTMATH,
    accumulator,
    array_of,
    broadcast,
    columns_of,
    fma,
    load,
    offset,
    store,
)
from recsys_mf.kernels.operands import Offsets


def _tile(n_vectors: int, *, weighted: bool) -> Any:
    """out[g, b:] = Σ_{low ≤ j < high} (s_j - a[g] - c[others[j]]) X[others[j], b:] for n_vectors · 64 bytes of columns.

    If not weighted, the factor of X is 1.
    X, a, c, out : float32 or float64, all the same, X and out in C order; others int32; nothing is checked
    """

    def typed(
        typing_context: Any, X: Any, others: Any, values: Any, a: Any, c: Any, low: Any, high: Any, b: Any, out: Any,
        g: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            places = 0, 1, 2, 3, 4, 8
            x, index, weight, of_rows, of_columns, product = (
                array_of(context, builder, signature, arguments, place) for place in places
            )
            low, high, column, row = (arguments[place] for place in (5, 6, 7, 9))
            integer, element = low.type, context.get_value_type(X.dtype)
            lanes = LINE * 8 // X.dtype.bitwidth

            def pointers(array: Any, number: Any) -> list[Any]:
                start = builder.add(builder.mul(number, columns_of(builder, array)), column)
                first = builder.gep(array.data, [start])
                return [offset(builder, first, v * lanes) for v in range(n_vectors)]

            one = broadcast(builder, ir.Constant(element, 1.0))
            sums = [accumulator(builder, element) for _ in range(n_vectors)]
            own = builder.load(builder.gep(of_rows.data, [row])) if weighted else None
            with cgutils.for_range_slice(builder, low, high, ir.Constant(integer, 1), intp=integer) as (j, _):
                number = builder.sext(builder.load(builder.gep(index.data, [j])), integer)
                factor = one
                if weighted:
                    entry = builder.load(builder.gep(weight.data, [j]))
                    entry = entry if entry.type == element else builder.fpext(entry, element)
                    entry = builder.fsub(builder.fsub(entry, own), builder.load(builder.gep(of_columns.data, [number])))
                    factor = broadcast(builder, entry)
                for total, pointer in zip(sums, pointers(x, number), strict=True):
                    added = fma(builder, factor, load(builder, pointer), builder.load(total))
                    builder.store(added, total)
            for total, pointer in zip(sums, pointers(product, row), strict=True):
                store(builder, builder.load(total), pointer)
            return context.get_dummy_value()

        kinds = X, others, values, a, c, types.intp, types.intp, types.intp, out, types.intp
        return types.void(*kinds), generate

    return intrinsic(typed)


_one, _two, _three, _four = (_tile(n, weighted=False) for n in (1, 2, 3, 4))
_weighted_one, _weighted_two, _weighted_three, _weighted_four = (_tile(n, weighted=True) for n in (1, 2, 3, 4))


def multiply(matrix: Csr, X: NDArray[Any], offsets: Offsets | None, *, threads: int) -> NDArray[Any]:
    """As `reference.multiply`, in the precision of X."""
    width, values = X.shape[1], _ONES if matrix.values is None else matrix.values
    tasks = shares((np.diff(matrix.starts) + 1.0) * width, threads)
    offsets = offsets or Offsets(np.zeros(matrix.n_rows, X.dtype), np.zeros(matrix.n_columns, X.dtype))
    entries = values, *(vector.astype(X.dtype, copy=False) for vector in offsets)
    product = allocate_aligned(matrix.n_rows, width, X.dtype)
    side_by_side(_product, tasks, threads, matrix.starts, matrix.columns, *entries, align(X), product)
    return product[:, :width]


_ONES = np.zeros(0, np.float32)  # means entries of 1 in the loops


@jit(fastmath=FASTMATH)
def _product(begin: Any, end: Any, starts: Any, others: Any, values: Any, a: Any, c: Any, X: Any, out: Any) -> None:
    lanes = LINE // X.itemsize
    for g in range(begin, end):
        for b in range(0, X.shape[1], 4 * lanes):
            n_vectors = min(4, (X.shape[1] - b) // lanes)
            if values.size:
                _weighted_sums(n_vectors, X, others, values, a, c, starts[g], starts[g + 1], b, out, g)
            else:
                _sums(n_vectors, X, others, values, a, c, starts[g], starts[g + 1], b, out, g)


@inline()
def _sums(
    n: Any, X: Any, others: Any, values: Any, a: Any, c: Any, low: Any, high: Any, b: Any, out: Any, g: Any
) -> None:
    if n == 4:
        _four(X, others, values, a, c, low, high, b, out, g)
    elif n == 3:
        _three(X, others, values, a, c, low, high, b, out, g)
    elif n == 2:
        _two(X, others, values, a, c, low, high, b, out, g)
    else:
        _one(X, others, values, a, c, low, high, b, out, g)


@inline()
def _weighted_sums(
    n: Any, X: Any, others: Any, values: Any, a: Any, c: Any, low: Any, high: Any, b: Any, out: Any, g: Any
) -> None:
    if n == 4:
        _weighted_four(X, others, values, a, c, low, high, b, out, g)
    elif n == 3:
        _weighted_three(X, others, values, a, c, low, high, b, out, g)
    elif n == 2:
        _weighted_two(X, others, values, a, c, low, high, b, out, g)
    else:
        _weighted_one(X, others, values, a, c, low, high, b, out, g)
