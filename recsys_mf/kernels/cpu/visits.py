"""Masked SGD on CPU cores: the visit of a triple as straight vector code, and the epoch around it.

Rows are padded to full vectors and lie on cache lines. A visit reads each row once, keeps both in registers between
the product and the update, and writes each once: 4 k numbers for 6 k operations, so that an epoch runs at the speed of
the caches. The rows of a later triple are prefetched. docs/decisions.md says how much each of these gains, and what
else was tried.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from recsys_mf.arrays.jit import inline, jit
from recsys_mf.kernels.cpu import scheduler
from recsys_mf.kernels.cpu.simd import (
    FASTMATH,
    LANES,
    array_of,
    broadcast,
    dot,
    fma,
    load,
    offset,
    prefetch,
    store,
)

_AHEAD = 1536  # columns of the triples between a visit and the one whose rows it prefetches
_SERIES_WEIGHT, _SERIES_STEP = np.float32(4.0), np.float32(0.125)  # up to which m is computed by its series
_HELD = 8  # vectors of a row that are kept in registers; longer rows are read again for the update


@cache
def visit_kernel(width: int) -> Any:
    """What a thread does in an epoch with factors of this many columns, compiled for them alone."""
    ahead = max(4, _AHEAD // width)

    @jit(fastmath=FASTMATH, error_model="numpy")
    def visit(
        thread: Any, threads: Any, board: Any, users: Any, items: Any, values: Any, weights: Any, bounds: Any,
        P: Any, Q: Any, user_bias: Any, item_bias: Any, rate: Any, bias_rate: Any, ridge: Any, bias_ridge: Any,
        is_linear: Any, squared: Any,
    ) -> None:  # fmt: skip
        """`reference.epoch` for the blocks that a thread takes; squared [strata, blocks] receives their errors."""
        keep = np.float32(1.0) - rate * ridge
        bias_keep = np.float32(1.0) - bias_rate * bias_ridge
        twice = bias_rate * (np.float32(2.0) + bias_ridge)
        blocks = bounds.shape[1] - 1
        block = scheduler.next_block(board, thread, threads)
        while block >= 0:
            s, w = block // blocks, block % blocks
            total, end = 0.0, bounds[s, w + 1]
            for j in range(bounds[s, w], end):
                later = np.uintp(min(j + ahead, end - 1))
                _prefetch_row(P, users[later], width)
                _prefetch_row(Q, items[later], width)
                u, i = np.uintp(users[j]), np.uintp(items[j])  # unsigned: an index that cannot count from the end
                e = values[j] - user_bias[u] - item_bias[i] - _product_of(P, Q, u, i, width)
                if weights is None:
                    total += e * e
                    _move(P, Q, u, i, keep, rate * e, width)
                    user_bias[u] = user_bias[u] * bias_keep + bias_rate * e
                    item_bias[i] = item_bias[i] * bias_keep + bias_rate * e
                else:
                    weight = weights[j]
                    total += weight * e * e
                    m = weight
                    if not is_linear:
                        m = _multiple_of(weight, rate * (_squares_of(P, Q, u, i, width) + ridge) + twice)
                    step, bias_step = m * rate, m * bias_rate
                    _move(P, Q, u, i, np.float32(1.0) - step * ridge, step * e, width)
                    shrunk = np.float32(1.0) - bias_step * bias_ridge
                    user_bias[u] = user_bias[u] * shrunk + bias_step * e
                    item_bias[i] = item_bias[i] * shrunk + bias_step * e
            squared[s, w] = total
            scheduler.finish(board, block)
            block = scheduler.next_block(board, thread, threads)

    return visit


@inline(fastmath=FASTMATH, error_model="numpy")
def _multiple_of(weight: Any, c: Any) -> Any:
    """The factor on the steps of a triple: m of `reference.epoch`.

    For usual weights w and small c it is computed from the binomial series of (1 - (1 - c)^w) / c, cut after c⁴: this
    gives w without a branch if w ≤ 1, and otherwise the ratio to within 1e-6.
    """
    if weight <= _SERIES_WEIGHT and c <= _SERIES_STEP:
        w = max(weight, np.float32(1.0))
        series = np.float32(1.0) - (w - np.float32(4.0)) * c * np.float32(1 / 5)
        series = np.float32(1.0) - (w - np.float32(3.0)) * c * np.float32(1 / 4) * series
        series = np.float32(1.0) - (w - np.float32(2.0)) * c * np.float32(1 / 3) * series
        return weight * (np.float32(1.0) - (w - np.float32(1.0)) * c * np.float32(1 / 2) * series)
    if weight <= np.float32(1.0) or not c > np.float32(0.0):
        return weight
    if c >= np.float32(1.0):
        return np.float32(1.0)
    return np.float32(-np.expm1(weight * np.log1p(-np.float64(c))) / c)


def _prefetch(typing_context: Any, X: Any, row: Any, width: Any) -> Any:
    """Bring a row into the first-level cache, to be written; width a constant, as below."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        for pointer in _row(context, builder, signature, arguments, 0, 1, width):
            prefetch(builder, pointer, to_write=True)
        return context.get_dummy_value()

    return types.void(X, types.intp, width), generate


def _product(typing_context: Any, P: Any, Q: Any, u: Any, i: Any, width: Any) -> Any:
    """p_u · q_i."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = (_row(context, builder, signature, arguments, side, side + 2, width) for side in (0, 1))
        p, q = ((load(builder, pointer) for pointer in row) for row in rows)
        return dot(builder, p, q)

    return types.float32(P, Q, types.intp, types.intp, width), generate


def _squares(typing_context: Any, P: Any, Q: Any, u: Any, i: Any, width: Any) -> Any:
    """|p_u|² + |q_i|²."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = (_row(context, builder, signature, arguments, side, side + 2, width) for side in (0, 1))
        p, q = ([load(builder, pointer) for pointer in row] for row in rows)
        return dot(builder, p + q, p + q)

    return types.float32(P, Q, types.intp, types.intp, width), generate


def _update(
    typing_context: Any, P: Any, Q: Any, u: Any, i: Any, keep: Any, step: Any, width: Any
) -> Any:  # fmt: skip
    """p_u, q_i = keep p_u + step q_i, keep q_i + step p_u."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        p = _row(context, builder, signature, arguments, 0, 2, width)
        q = _row(context, builder, signature, arguments, 1, 3, width)
        keep, step = (broadcast(builder, scalar) for scalar in arguments[4:6])
        for first in range(0, len(p), _HELD):  # all loads of a part before its stores, which might change them
            pointers = list(zip(p, q, strict=True))[first : first + _HELD]
            rows = [(load(builder, x), load(builder, y)) for x, y in pointers]
            for (x, y), (p_f, q_f) in zip(pointers, rows, strict=True):
                store(builder, fma(builder, p_f, keep, builder.fmul(step, q_f)), x)
                store(builder, fma(builder, q_f, keep, builder.fmul(step, p_f)), y)
        return context.get_dummy_value()

    return types.void(P, Q, types.intp, types.intp, types.float32, types.float32, width), generate


def _row(
    context: Any, builder: Any, signature: Any, arguments: Any, array: int, row: int, width: Any
) -> list[Any]:  # fmt: skip
    """Pointers to the vectors of a row; array and row are places among the arguments."""
    data = array_of(context, builder, signature, arguments, array).data
    columns = ir.Constant(ir.IntType(64), width.literal_value)
    start = builder.gep(data, [builder.mul(arguments[row], columns)])
    return [offset(builder, start, column) for column in range(0, width.literal_value, LANES)]


_prefetch_row: Any = intrinsic(prefer_literal=True)(_prefetch)
_product_of: Any = intrinsic(prefer_literal=True)(_product)
_squares_of: Any = intrinsic(prefer_literal=True)(_squares)
_move: Any = intrinsic(prefer_literal=True)(_update)
