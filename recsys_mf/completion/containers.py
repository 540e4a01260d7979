"""Matrices of any container as float64 with NaN where missing, and results in the container that was given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.completion.patterns import F64
from recsys_mf.conversion.arrow import numpy_of
from recsys_mf.conversion.origin import format_value
from recsys_mf.errors import DataError, nearest

FIRST_INEXACT = 2**53
"""Integers below this size are float64 numbers; of others, which may have been rounded to this, only some are."""

_GIVE = "give a matrix of numbers [m, n]: NumPy, torch or pandas"


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix [m, n] that was given, and how results go back into its container.

    values : float64, NaN where missing
    names : of the columns; their numbers if they have none
    like : from numbers [m, n] to the container. Types shorter than float64 are kept unless a number would become
        infinite or 0 in them
    fill : the same for numbers in which only the missing entries differ; observed ones are kept to the last bit
    row_name : the name of a row, for messages
    where : its name, for messages
    """

    values: F64
    names: tuple[str, ...]
    like: Callable[[F64], Any]
    fill: Callable[[F64], Any]
    row_name: Callable[[int], str]
    where: str

    def ordered(self, names: tuple[str, ...]) -> Matrix:
        """With the columns in the order of the names; columns without names are taken in the order they have.

        Raises DataError unless they are the same columns.
        """
        if self.names == names:
            return self
        unnamed = _numbers(len(names)) == names or _numbers(len(self.names)) == self.names
        missing = [name for name in names if name not in self.names]
        if missing and unnamed and len(names) == len(self.names):
            return replace(self, names=names)
        if (missing and not unnamed) or len(names) != len(self.names):
            named = missing and not unnamed
            fault = f"there is no column {missing[0]}" if named else "there are other columns"
            fix = nearest(missing[0], self.names) if named else f"give the {len(names)} columns of the fitted matrix"
            raise DataError(fault, where=self.where, seen=f"{len(self.names)} columns", fix=fix)
        order = np.array([self.names.index(name) for name in names])
        back = np.argsort(order)
        return replace(
            self,
            values=self.values[:, order],
            names=names,
            like=lambda values: self.like(values[:, back]),
            fill=lambda values: self.fill(values[:, back]),
        )


def _numbers(n: int) -> tuple[str, ...]:
    """The names of n columns without names."""
    return tuple(map(str, range(n)))


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
        values = _checked(_dense(A, where), where)
        like = _tensor_like(A)
        return _unnamed(values, like, like, where)
    if not (isinstance(A, list | tuple) or hasattr(A, "__array__")):
        raise DataError("not a matrix of numbers", where=where, seen=type(A).__name__, fix=_GIVE)
    array = _array(A, where)
    kind = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
    values = _checked(array, where)
    return _unnamed(values, lambda filled: _narrowed(filled, kind), lambda filled: _kept(filled, array, kind), where)


def _unnamed(values: F64, like: Callable[[F64], Any], fill: Callable[[F64], Any], where: str) -> Matrix:
    return Matrix(values, _numbers(values.shape[1]), like, fill, "row {}".format, where)


def _narrowed(values: F64, kind: np.dtype[Any]) -> NDArray[Any]:
    """Numbers in a type of floats; float64 if one would become infinite or 0."""
    with np.errstate(over="ignore", under="ignore"):
        narrow = values.astype(kind)
    return narrow if _is_held(values, narrow) else values


def _is_held(values: F64, narrow: NDArray[Any]) -> bool:
    same = (np.isfinite(values) == np.isfinite(narrow)) & ((values == 0) == (narrow == 0))
    return bool(same.all())


def _kept(filled: F64, given: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    """Filled numbers in the type of what was given, whose observed entries may have more digits than float64."""
    if kind.itemsize <= filled.itemsize:
        return _narrowed(filled, kind)
    return np.where(np.isnan(given), filled.astype(kind), given)


def _tensor_like(A: Any) -> Callable[[F64], Any]:
    """From numbers to a tensor like A, without importing torch."""
    double = A.detach().flatten()[:1].cpu().double()

    def like(values: F64) -> Any:
        wide = double.new_tensor(values)
        narrow = wide.to(A.dtype) if A.is_floating_point() else wide
        return (narrow if _is_held(values, narrow.double().numpy()) else wide).to(A.device)

    return like


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

    def framed(columns: Iterable[NDArray[Any]]) -> Any:
        import pandas as pd

        return pd.DataFrame(dict(enumerate(columns)), index=A.index).set_axis(A.columns, axis=1)

    def like(numbers: F64) -> Any:
        return framed(_narrowed(numbers[:, j], kind) for j, kind in enumerate(kinds))

    def fill(numbers: F64) -> Any:
        return framed(_kept(numbers[:, j], A.iloc[:, j].to_numpy(), kind) for j, kind in enumerate(kinds))

    return Matrix(np.column_stack(columns), names, like, fill, row_name, where)


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
    """A cell as float; negative infinity, which is refused, for what is not a number or beyond float64."""
    if not _is_number(cell):
        return -np.inf
    try:
        return float(cell)
    except OverflowError:
        return -np.inf


def _is_number(cell: Any) -> bool:
    from decimal import Decimal
    from numbers import Real

    return isinstance(cell, Real | Decimal | np.bool_)


def _refuse(values: F64, missing: Any, cell: Callable[[int], Any], place: Callable[[int], str]) -> None:
    """Raise DataError for the first value that is not missing and not finite."""
    bad = ~(np.isfinite(values) | missing)
    if bad.any():
        row = int(bad.argmax())
        fix = "give finite numbers; leave missing entries empty or NaN"
        seen = cell(row)
        raise DataError(_fault(seen), where=place(row), seen=format_value(seen), fix=fix)
    _refuse_inexact(values, cell, place)


def _fault(cell: Any) -> str:
    """What is wrong with a cell that is no finite float64."""
    if not _is_number(cell):
        return "not a number"
    return "an infinite entry" if abs(cell) == np.inf else "beyond float64"


def _refuse_inexact(values: F64, cell: Callable[[int], Any], place: Callable[[int], str]) -> None:
    """Raise DataError for the first integer that float64 cannot hold."""
    for row in np.flatnonzero(np.abs(values) >= FIRST_INEXACT).tolist():
        seen = cell(row)
        whole = seen.item() if isinstance(seen, np.integer) else seen
        if not isinstance(whole, float | np.floating) and whole != values[row].item():
            raise inexact_integer(place(row), whole)


def inexact_integer(where: str, seen: Any) -> DataError:
    """An error that says that an integer cannot be kept."""
    fix = (
        "if its column holds ids, leave it out, or make it the first column, without a name; else give rounded numbers"
    )
    return DataError("float64 cannot hold this integer exactly", where=where, seen=format_value(seen), fix=fix)


def _array(A: Any, where: str) -> NDArray[Any]:
    try:
        array = np.asarray(A)
        if isinstance(A, list | tuple) and array.dtype.kind == "f" and (np.abs(array) >= FIRST_INEXACT).any():
            array = np.asarray(A, object)  # integers among floats have been rounded
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
        with np.errstate(over="ignore"):
            values = array.astype(np.float64)
    flat = values.ravel()

    def place(at: int) -> str:
        return f"{where}[{at // array.shape[1]}, {at % array.shape[1]}]"

    _refuse(flat, np.isnan(flat), lambda at: array.ravel()[at], place)
    return values


def _is_missing(cell: Any) -> bool:
    return cell is None or cell != cell
