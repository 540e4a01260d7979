"""Schema: checks of the arrays and the numbers of a model before a kernel may use them.

A model class declares its arrays: the type, the dimensions by name, and the order or sign of the values. Dimensions of
one name have one size in all arrays. Kernels do not check where they read, and a run may come from a stranger; so
models are checked when they are made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import DataError, SolveError

_FIX = "train the run again"

Values = Literal["any", "non-negative", "positive", "ascending", "strictly ascending"]


@dataclass(frozen=True)
class Array:
    """One array of a model.

    dtype : of its values; floats are finite
    dimensions : names, or numbers if the size is fixed
    values : what else holds of the values; ascending is along the last dimension
    """

    dtype: type[np.generic]
    dimensions: tuple[str | int, ...]
    values: Values = "any"


Schema = Mapping[str, Array]


def check_types(arrays: Mapping[str, NDArray[Any]], schema: Schema) -> None:
    """Raise DataError unless the arrays are those of the schema, each of its type."""
    for name, wanted in schema.items():
        if name not in arrays:
            raise DataError("an array of the model is missing", where=name, fix=_FIX)
        if arrays[name].dtype != wanted.dtype:
            fix = f"it is {np.dtype(wanted.dtype)}"
            raise DataError("an array of another type", where=name, seen=arrays[name].dtype, fix=fix)
    unknown = sorted(arrays.keys() - schema.keys())
    if unknown:
        raise DataError("an array that the model does not have", where=unknown[0], fix=_FIX)


def check_arrays(arrays: Mapping[str, NDArray[Any]], schema: Schema) -> dict[str, int]:
    """Size of every named dimension of the arrays.

    Raises DataError if dimensions disagree or values are out of order, SolveError for values that are not finite.
    """
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        wanted = schema[name]
        _bind(name, array.shape, wanted.dimensions, sizes)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise SolveError("the model has parameters that are not finite", where=name, fix="the fit has diverged")
        if not _HOLDS[wanted.values](array):
            raise DataError(f"values that are not {wanted.values}", where=name, fix=_FIX)
    return sizes


def number(facts: Mapping[str, Any], name: str, *, above: float = -math.inf) -> float:
    """A finite number of the facts of a model, in rating units, greater than `above`; raises DataError otherwise."""
    value = _real(facts, name)
    check_number(value, name, above=above)
    return value


def check_number(value: float, name: str, *, above: float = -math.inf) -> None:
    """Raise SolveError for a number that is not finite in float32, DataError for one not greater than `above`."""
    if not abs(value) <= _MAX_FLOAT32:
        raise SolveError("not a finite number", where=name, seen=repr(value)[:40], fix="the fit has diverged")
    if value <= above:
        raise DataError("out of range", where=name, seen=value, fix=_FIX)


def optional_variance(facts: Mapping[str, Any], name: str) -> float | None:
    """A finite number of 0 or more, or None if it is null; raises DataError otherwise."""
    if name in facts and facts[name] is None:
        return None
    value = _real(facts, name)
    if not 0 <= value <= float(np.finfo(np.float64).max):
        raise DataError("out of range", where=name, seen=repr(value)[:40], fix=_FIX)
    return value


def _real(facts: Mapping[str, Any], name: str) -> float:
    value = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError("not a number", where=name, seen=repr(value)[:40], fix=_FIX)
    return value


def whole_number(facts: Mapping[str, Any], name: str, *, low: int) -> int:
    """A whole number of at least `low` that fits into 64 bits; raises DataError otherwise."""
    value = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 1 << 63:
        raise DataError("not a whole number in range", where=name, seen=repr(value)[:40], fix=_FIX)
    return value


def ordered_pair(facts: Mapping[str, Any], name: str) -> tuple[float, float]:
    """Two finite numbers in ascending order; raises DataError otherwise."""
    value = facts.get(name)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise DataError("not a pair of numbers", where=name, seen=repr(value)[:40], fix=_FIX)
    low, high = (number({name: end}, name) for end in value)
    check_order((low, high), name)
    return low, high


def check_order(pair: tuple[float, float], name: str) -> None:
    """Raise DataError unless low ≤ high."""
    if not pair[0] <= pair[1]:
        raise DataError("a range in reverse", where=name, seen=f"{pair[0]} to {pair[1]}", fix=_FIX)


_MAX_FLOAT32 = float(np.finfo(np.float32).max)


def _bind(name: str, shape: tuple[int, ...], dimensions: tuple[str | int, ...], sizes: dict[str, int]) -> None:
    if len(shape) != len(dimensions):
        fix = f"it has {len(dimensions)} dimension{'' if len(dimensions) == 1 else 's'}"
        raise DataError("shape does not match", where=name, seen=shape, fix=fix)
    for size, dimension in zip(shape, dimensions, strict=True):
        wanted = dimension if isinstance(dimension, int) else sizes.setdefault(dimension, size)
        if size != wanted:
            raise DataError("shape does not match", where=name, seen=shape, fix=f"{dimension} is {wanted} elsewhere")


def _ascends(array: NDArray[Any]) -> bool:
    return bool((array[..., 1:] >= array[..., :-1]).all())


def _ascends_strictly(array: NDArray[Any]) -> bool:
    return bool((array[..., 1:] > array[..., :-1]).all())


_HOLDS = {
    "any": lambda array: True,
    "non-negative": lambda array: bool((array >= 0).all()),
    "positive": lambda array: bool((array > 0).all()),
    "ascending": _ascends,
    "strictly ascending": _ascends_strictly,
}
