"""Matrices of any container as float64 with NaN where missing, and results in the container that was given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.completion.patterns import F64
from recsys_mf.conversion.arrow import numpy_of
from recsys_mf.conversion.origin import format_value
from recsys_mf.errors import DataError, nearest

_GIVE = "give a matrix of numbers [m, n]: NumPy, torch or pandas"


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix [m, n] that was given, and how results go back into its container.

    values : float64, NaN where missing
    names : of the columns; their numbers if they have none
    like : from numbers [m, n] to the container, its observed entries as they were
    row_name : the name of a row, for messages
    where : its name, for messages
    """

    values: F64
    names: tuple[str, ...]
    like: Callable[[F64], Any]
    row_name: Callable[[int], str]
    where: str

    def ordered(self, names: tuple[str, ...]) -> Matrix:
        """With the columns in the order of the names. Raises DataError unless they are the same columns."""
        if self.names == names:
            return self
        missing = [name for name in names if name not in self.names]
        if missing or len(names) != len(self.names):
            fault = f"there is no column {missing[0]}" if missing else "there are other columns"
            fix = nearest(missing[0], self.names) if missing else f"give the {len(names)} columns of the fitted matrix"
            raise DataError(fault, where=self.where, seen=f"{len(self.names)} columns", fix=fix)
        order = np.array([self.names.index(name) for name in names])
        back = np.argsort(order)
        return replace(self, values=self.values[:, order], names=names, like=lambda values: self.like(values[:, back]))


def read_matrix(A: Any, *, where: str) -> Matrix:
    """A NumPy array, torch tensor, pandas frame or list of lists as a Matrix.

    Raises DataError for another type or shape, an entry that is not a number or not finite, and two columns of one
    name.
    """
    if hasattr(A, "iloc") and hasattr(A, "columns"):
        return _of_frame(A, where)
    if isinstance(A, np.ma.MaskedArray):
        fix = "give A.astype(float).filled(numpy.nan)"
        raise DataError("masked arrays are not supported", where=where, seen=type(A).__name__, fix=fix)
    if hasattr(A, "detach"):
        values, wide = _checked(_dense(A, where), where), A.detach() if A.is_floating_point() else A.detach().double()
        return _unnamed(values, wide.new_tensor, where)
    if not (isinstance(A, list | tuple) or hasattr(A, "__array__")):
        raise DataError("not a matrix of numbers", where=where, seen=type(A).__name__, fix=_GIVE)
    array = _array(A, where)
    kind = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
    return _unnamed(_checked(array, where), lambda filled: filled.astype(kind), where)


def _unnamed(values: F64, like: Callable[[F64], Any], where: str) -> Matrix:
    return Matrix(values, tuple(map(str, range(values.shape[1]))), like, "row {}".format, where)


def _of_frame(A: Any, where: str) -> Matrix:
    names = tuple(map(str, A.columns))
    twice = next((name for j, name in enumerate(names) if name in names[:j]), None)
    if twice is not None:
        raise DataError("two columns of the same name", where=where, seen=repr(twice), fix="rename one")
    if not A.size:
        raise DataError("not a matrix of numbers", where=where, seen=f"shape {A.shape}", fix=_GIVE)

    def row_name(row: int) -> str:
        return f"row {format_value(A.index[row])}"

    columns = []
    for j, name in enumerate(names):
        place = f"{where}, column {name}"
        columns.append(_column(A.iloc[:, j], place, row_name))
    kinds = [kind if isinstance(kind, np.dtype) and kind.kind == "f" else np.dtype(np.float64) for kind in A.dtypes]

    def like(filled: F64) -> Any:
        import pandas as pd

        parts = {j: filled[:, j].astype(kind) for j, kind in enumerate(kinds)}
        return pd.DataFrame(parts, index=A.index).set_axis(A.columns, axis=1)

    return Matrix(np.column_stack(columns), names, like, row_name, where)


def _column(column: Any, where: str, row_name: Callable[[int], str]) -> F64:
    """A column of a frame as float64, NaN where missing."""
    import pandas as pd

    missing = column.isna().to_numpy()
    kind = getattr(column.dtype, "kind", "O")
    if kind in "fiub":
        values = np.full(len(column), np.nan)
        values[~missing] = column[~missing].to_numpy(dtype=np.float64)
    elif pd.api.types.is_object_dtype(column.dtype):
        values = np.array([np.nan if gone else _number(cell) for cell, gone in zip(column, missing, strict=True)])
    else:
        values = np.where(missing, np.nan, -np.inf)
    _refuse(values, missing, lambda row: column.iloc[row], lambda row: f"{where}, {row_name(row)}")
    return values


def _number(cell: Any) -> float:
    """A cell as float; negative infinity, which is refused, for what is not a number."""
    from decimal import Decimal
    from numbers import Real

    return float(cell) if isinstance(cell, Real | Decimal | np.bool_) else -np.inf


def _refuse(values: F64, missing: Any, cell: Callable[[int], Any], place: Callable[[int], str]) -> None:
    """Raise DataError for the first value that is not missing and not finite."""
    bad = ~(np.isfinite(values) | missing)
    if bad.any():
        row = int(bad.argmax())
        fix = "give finite numbers; leave missing entries empty or NaN"
        seen = cell(row)
        number = np.isinf(_number(seen)) and isinstance(seen, float | np.floating)
        raise DataError(
            "an infinite entry" if number else "not a number", where=place(row), seen=format_value(seen), fix=fix
        )


def _array(A: Any, where: str) -> NDArray[Any]:
    try:
        array = np.asarray(A)
    except (TypeError, ValueError) as error:
        raise DataError(
            "not a matrix of numbers", where=where, seen=format_value(str(error).splitlines()[0]), fix=_GIVE
        ) from None
    return array


def _dense(A: Any, where: str) -> NDArray[Any]:
    if "strided" not in str(A.layout):
        fix = "zeros that are not stored would look observed: use from_matrix and train"
        raise DataError("sparse tensors are not supported", where=where, seen=str(A.layout), fix=fix)
    return numpy_of(A)


def _checked(array: NDArray[Any], where: str) -> F64:
    """An array as float64 [m, n]. Raises DataError unless it holds numbers that are finite or missing."""
    if array.ndim != 2 or not array.size:
        fix = f"{_GIVE}; a single column is A[:, None]" if array.ndim == 1 else _GIVE
        raise DataError("not a matrix of numbers", where=where, seen=f"shape {array.shape}", fix=fix)
    if array.dtype.kind not in "fiubOU":
        raise DataError("not a matrix of numbers", where=where, seen=f"{array.dtype} entries", fix=_GIVE)
    if array.dtype.kind in "OU":
        cells = [np.nan if _is_missing(cell) else _number(cell) for cell in array.ravel()]
        values = np.array(cells).reshape(array.shape)
    else:
        values = array.astype(np.float64)
    flat = values.ravel()

    def place(at: int) -> str:
        return f"{where}[{at // array.shape[1]}, {at % array.shape[1]}]"

    _refuse(flat, np.isnan(flat), lambda at: array.ravel()[at], place)
    return values


def _is_missing(cell: Any) -> bool:
    return cell is None or cell != cell
