"""Vectors: the vector instructions that kernels on CPU cores are written in.

A vector has 64 bytes, as the widest registers; a processor with narrower registers processes it in parts. Arrays whose
rows start on cache lines (`arrays.aligned`) are read a line at a time. Nothing is checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils

from recsys_mf.arrays.aligned import LINE

LANES = LINE // 4  # float32 in a vector
HAS_WIDE_REGISTERS = bool(get_host_cpu_features().get("avx512f"))  # thirty-two registers that hold a vector each
FASTMATH = {"reassoc", "contract", "nsz"}  # sums may be reordered; NaN and infinity keep their meaning
_SUMS = 4  # partial sums of a product


def array_of(context: Any, builder: Any, signature: Any, arguments: Any, place: int) -> Any:
    """The array that an intrinsic got as its argument at `place`."""
    return context.make_array(signature.args[place])(context, builder, arguments[place])


def columns_of(builder: Any, array: Any) -> Any:
    """Number of columns of a matrix."""
    return builder.extract_value(array.shape, 1)


def offset(builder: Any, pointer: Any, elements: int) -> Any:
    """The pointer advanced by a number of elements."""
    return builder.gep(pointer, [ir.Constant(ir.IntType(64), elements)])


def load(builder: Any, pointer: Any) -> Any:
    """The vector at a pointer to a float or double."""
    return builder.load(builder.bitcast(pointer, _vector(pointer.type.pointee).as_pointer()), align=4)


def store(builder: Any, vector: Any, pointer: Any) -> None:
    """Write a vector."""
    builder.store(vector, builder.bitcast(pointer, vector.type.as_pointer()), align=4)


def prefetch(builder: Any, pointer: Any, *, to_write: bool) -> None:
    """Bring the cache line of a pointer into the first-level cache."""
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    function = builder.module.declare_intrinsic("llvm.prefetch", (byte,), kind)
    keep, data = (ir.Constant(number, flag) for flag in (3, 1))
    builder.call(function, [builder.bitcast(pointer, byte), ir.Constant(number, int(to_write)), keep, data])


def accumulator(builder: Any, element: Any = ir.FloatType()) -> Any:  # noqa: B008 (a constant)
    """A vector of zeros that the compiler keeps in a register."""
    vector = _vector(element)
    alloca: Any = cgutils.alloca_once
    place = alloca(builder, vector)
    builder.store(ir.Constant(vector, [0.0] * vector.count), place)
    return place


def broadcast(builder: Any, scalar: Any) -> Any:
    """The scalar in every lane."""
    vector, lane = _vector(scalar.type), ir.IntType(32)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(lane, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(lane, vector.count), [0] * vector.count))


def fma(builder: Any, x: Any, y: Any, plus: Any) -> Any:
    """x y + plus, fused."""
    return builder.fadd(builder.fmul(x, y, flags=["contract"]), plus, flags=["contract"])


def fnma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """x - y z, fused."""
    return builder.fsub(x, builder.fmul(y, z, flags=["contract"]), flags=["contract"])


def dot(builder: Any, x: Iterable[Any], y: Iterable[Any]) -> Any:
    """Σ x y over vectors of float, in a few partial sums, so that additions do not wait for one another."""
    sums: list[Any] = []
    for place, (a, b) in enumerate(zip(x, y, strict=True)):
        if place < _SUMS:
            sums.append(builder.fmul(a, b, flags=["contract"]))
        else:
            sums[place % _SUMS] = fma(builder, a, b, sums[place % _SUMS])
    if not sums:
        return ir.Constant(ir.FloatType(), 0.0)
    return lane_sum(builder, reduce(lambda a, b: builder.fadd(a, b), sums))


def lane_sum(builder: Any, vector: Any) -> Any:
    """The sum of the lanes, in an order that depends only on the processor."""
    element = vector.type.element
    kind = {"float": "f32", "double": "f64"}[str(element)]
    summed = builder.module.declare_intrinsic(
        f"llvm.vector.reduce.fadd.v{vector.type.count}{kind}", (), ir.FunctionType(element, [element, vector.type])
    )
    return builder.call(summed, [ir.Constant(element, 0.0), vector], fastmath=["reassoc"])


def _vector(element: Any) -> Any:
    return ir.VectorType(element, LINE // (8 if isinstance(element, ir.DoubleType) else 4))
