"""Conjugate gradients for the systems of rows on CPU cores: no matrix is formed, a step is a pass over the ratings.

    A_g x = Σ_j ω_j y_j (y_j · x) + w_g d ∘ x

so a step reads the other table's rows of a row's ratings once, and keeps them in registers between the product and the
sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from recsys_mf.arrays.jit import jit
from recsys_mf.kernels.cpu.simd import (
    FASTMATH,
    LANES,
    accumulator,
    array_of,
    broadcast,
    dot,
    fma,
    load,
    offset,
    prefetch,
    store,
)

_AHEAD = 1024  # columns of the ratings between one that is read and the one whose row is prefetched


@cache
def refine_kernel(width: int) -> Any:
    """The refinement of rows of this many padded columns, compiled for them alone."""

    @jit(fastmath=FASTMATH, error_model="numpy")
    def refine(
        begin: Any, end: Any, starts: Any, others: Any, values: Any, omega: Any, Y: Any, y_bias: Any,
        weights: Any, ridge: Any, steps: Any, X: Any, squared_errors: Any,
    ) -> None:  # fmt: skip
        """`reference.refine` of a range of rows, in place; the bias is the last of ridge [width + 1] and of X.

        omega : the weights of the ratings, or None
        """
        # Vectors of `width` factors, then the bias, then padding.
        r, diagonal = np.empty(width + LANES, np.float32), np.empty(width + LANES, np.float32)
        p, product = np.empty(width + LANES, np.float32), np.empty(width + LANES, np.float32)
        for g in range(begin, end):
            x, w, low, high = X[g], weights[g], starts[g], starts[g + 1]
            left = _residuals(others, values, omega, low, high, Y, y_bias, x, r, diagonal, width)
            rz = np.float32(0.0)
            for f in range(width + 1):
                r[f] -= w * ridge[f] * x[f]
                diagonal[f] += w * ridge[f]
                left += w * ridge[f] * x[f] * x[f]
                p[f] = r[f] / diagonal[f] if diagonal[f] > 0 else np.float32(0.0)
                rz += r[f] * p[f]
            for _ in range(steps):
                if not rz > 0:
                    break
                _products(others, omega, low, high, Y, p, product, width)
                pAp = np.float32(0.0)
                for f in range(width + 1):
                    product[f] += w * ridge[f] * p[f]
                    pAp += p[f] * product[f]
                if not pAp > 0:
                    break
                step = rz / pAp
                left -= step * rz
                before, rz = rz, np.float32(0.0)
                for f in range(width + 1):
                    x[f] += step * p[f]
                    r[f] -= step * product[f]
                    z = r[f] / diagonal[f] if diagonal[f] > 0 else np.float32(0.0)
                    rz += r[f] * z
                    product[f] = z
                for f in range(width + 1):
                    p[f] = product[f] + rz / before * p[f]
            for f in range(width + 1):
                left -= w * ridge[f] * x[f] * x[f]
            squared_errors[g] = max(left, np.float32(0.0))

    return refine


def _residual_sums(
    typing_context: Any, others: Any, values: Any, omega: Any, low: Any, high: Any, Y: Any, y_bias: Any, x: Any,
    r: Any, diagonal: Any, width: Any,
) -> Any:  # fmt: skip
    """Over the ratings low to high, with e = v - b - y · x for y = (q, 1): r = Σ ω e y, diagonal = Σ ω y²; returns
    Σ ω e²; ω None for 1.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index, value, table, bias, row, sums, squares = (
            array_of(context, builder, signature, arguments, place) for place in (0, 1, 5, 6, 7, 8, 9)
        )
        weights = _weights(context, builder, signature, arguments, 2)
        places, size = range(0, width.literal_value, LANES), width.literal_value
        x = [load(builder, offset(builder, row.data, place)) for place in places]
        own = builder.load(offset(builder, row.data, size))
        added, squared = [accumulator(builder) for _ in places], [accumulator(builder) for _ in places]
        total_error, total_square, total_weight = (_scalar(builder) for _ in range(3))
        with _ratings(builder, index, arguments[3:5], table, size) as (j, other):
            y = _row(builder, table, other, places, size)
            target = builder.fsub(_at(builder, value, j), builder.fadd(_at(builder, bias, other), own))
            e = builder.fsub(target, dot(builder, x, y))
            weighted, scaled = e, y
            if weights is not None:
                weight = _at(builder, weights, j)
                weighted = builder.fmul(weight, e)
                scaled = [builder.fmul(broadcast(builder, weight), vector) for vector in y]
                builder.store(builder.fadd(builder.load(total_weight), weight), total_weight)
            factor = broadcast(builder, weighted)
            for vector, other_vector, s, q in zip(y, scaled, added, squared, strict=True):
                builder.store(fma(builder, factor, vector, builder.load(s)), s)
                builder.store(fma(builder, vector, other_vector, builder.load(q)), q)
            builder.store(builder.fadd(builder.load(total_error), weighted), total_error)
            builder.store(fma(builder, e, weighted, builder.load(total_square)), total_square)
        for place, s, q in zip(places, added, squared, strict=True):
            store(builder, builder.load(s), offset(builder, sums.data, place))
            store(builder, builder.load(q), offset(builder, squares.data, place))
        builder.store(builder.load(total_error), offset(builder, sums.data, size))
        count = builder.sitofp(builder.sub(arguments[4], arguments[3]), ir.FloatType())
        total = count if weights is None else builder.load(total_weight)
        builder.store(total, offset(builder, squares.data, size))
        return builder.load(total_square)

    kinds = others, values, omega, types.intp, types.intp, Y, y_bias, x, r, diagonal, width
    return types.float32(*kinds), generate


def _product_sums(
    typing_context: Any, others: Any, omega: Any, low: Any, high: Any, Y: Any, p: Any, product: Any, width: Any
) -> Any:  # fmt: skip
    """product = Σ ω y (y · p) over the ratings low to high; ω None for 1."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index, table, vector, sums = (array_of(context, builder, signature, arguments, place) for place in (0, 4, 5, 6))
        weights = _weights(context, builder, signature, arguments, 1)
        places, size = range(0, width.literal_value, LANES), width.literal_value
        p = [load(builder, offset(builder, vector.data, place)) for place in places]
        own = builder.load(offset(builder, vector.data, size))
        added, total_product = [accumulator(builder) for _ in places], _scalar(builder)
        with _ratings(builder, index, arguments[2:4], table, size) as (j, other):
            y = _row(builder, table, other, places, size)
            e = builder.fadd(dot(builder, p, y), own)
            if weights is not None:
                e = builder.fmul(_at(builder, weights, j), e)
            factor = broadcast(builder, e)
            for row, s in zip(y, added, strict=True):
                builder.store(fma(builder, factor, row, builder.load(s)), s)
            builder.store(builder.fadd(builder.load(total_product), e), total_product)
        for place, s in zip(places, added, strict=True):
            store(builder, builder.load(s), offset(builder, sums.data, place))
        builder.store(builder.load(total_product), offset(builder, sums.data, size))
        return context.get_dummy_value()

    return types.void(others, omega, types.intp, types.intp, Y, p, product, width), generate


def _weights(context: Any, builder: Any, signature: Any, arguments: Any, place: int) -> Any | None:
    """The array that an intrinsic got as its argument at `place`, None for None."""
    is_none = isinstance(signature.args[place], types.NoneType)
    return None if is_none else array_of(context, builder, signature, arguments, place)


_ZERO = ir.Constant(ir.FloatType(), 0.0)


def _scalar(builder: Any) -> Any:
    """A zero that the compiler keeps in a register."""
    alloca: Any = cgutils.alloca_once
    place = alloca(builder, ir.FloatType())
    builder.store(_ZERO, place)
    return place


@contextmanager
def _ratings(builder: Any, index: Any, ends: Any, table: Any, size: int) -> Iterator[tuple[Any, Any]]:
    """A loop over places from ends[0] to ends[1], and the other row of each; later rows of `table` are prefetched."""
    low, high = ends
    one = ir.Constant(low.type, 1)
    last, ahead = builder.sub(high, one), ir.Constant(low.type, max(2, _AHEAD // max(size, 1)))
    with cgutils.for_range_slice(builder, low, high, one, intp=low.type) as (j, _):
        later = builder.add(j, ahead)
        later = builder.select(builder.icmp_signed("<", later, last), later, last)
        start = builder.gep(table.data, [builder.mul(_other(builder, index, later), ir.Constant(low.type, size))])
        for place in range(0, size, LANES):
            prefetch(builder, offset(builder, start, place), to_write=False)
        yield j, _other(builder, index, j)


def _other(builder: Any, index: Any, place: Any) -> Any:
    return builder.sext(_at(builder, index, place), place.type)


def _at(builder: Any, array: Any, place: Any) -> Any:
    return builder.load(builder.gep(array.data, [place]))


def _row(builder: Any, table: Any, number: Any, places: Any, size: int) -> list[Any]:
    """The vectors of a row of factors."""
    start = builder.gep(table.data, [builder.mul(number, ir.Constant(number.type, size))])
    return [load(builder, offset(builder, start, place)) for place in places]


_residuals: Any = intrinsic(prefer_literal=True)(_residual_sums)
_products: Any = intrinsic(prefer_literal=True)(_product_sums)
