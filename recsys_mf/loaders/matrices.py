"""Matrices in memory: NumPy, torch and pandas with NaN or a mask; SciPy and torch sparse matrices."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.conversion import Origin, arrow_column
from recsys_mf.conversion.arrow import numpy_of
from recsys_mf.conversion.origin import format_value
from recsys_mf.duplicates import Duplicates
from recsys_mf.errors import DataError
from recsys_mf.loaders.frames import FrameSource
from recsys_mf.loaders.source import recognise
from recsys_mf.ratings import Ratings

_GIVE = "give a matrix of numbers [m, n]: NumPy, torch, pandas or SciPy sparse"


class _Entries(NamedTuple):
    """The ratings of a matrix: values[k] is in row rows[k] and column columns[k]."""

    rows: NDArray[Any]
    columns: NDArray[Any]
    values: NDArray[Any]


def from_matrix(A: Any, mask: Any = None, *, duplicates: Duplicates = "error") -> Ratings:
    """Ratings from a matrix [m, n]: row i is user i, column j is item j.

    A : one of
        a dense matrix (NumPy, torch, lists of lists): every entry that is neither NaN nor None is a rating
        a NumPy masked array: masked entries and NaN are missing
        a pandas frame, whose index and columns are the ids; NaN and NA are missing; in a Sparse frame
            also entries that are not stored
        a SciPy or torch sparse matrix (COO, CSR, CSC, LIL, DOK): stored entries are ratings, stored zeros too
    mask : bool[m, n], True where a dense A holds a rating; without it every entry that is not missing is a rating
    duplicates : for COO matrices that store an entry more than once, as in `Ratings.without_duplicates`

    A zero is a rating. A row without ratings is not a user of the result. Raises DataError for another shape or type,
    a mask of another shape, a rating that is not finite, and a matrix without ratings.
    """
    if _is_pandas(A):
        _refuse_rows_of_ratings(A)
    entries = _stored(A)
    if entries is None:
        entries = _observed(A, mask)
    elif mask is not None:
        fix = "leave it out: the stored entries are the ratings"
        raise DataError("a sparse matrix takes no mask", where="mask", seen=type(A).__name__, fix=fix)
    rows, columns, values = entries
    with np.errstate(over="ignore"):
        ratings = values.astype(np.float32)
    if not np.isfinite(ratings).all():
        at = int((~np.isfinite(ratings)).argmax())
        where = f"A[{rows[at]}, {columns[at]}]"
        fix = "give finite numbers up to 3.4e38, or mask it out"
        raise DataError("rating is not finite", where=where, seen=values[at], fix=fix)
    labels = (A.index, A.columns) if _is_pandas(A) else (None, None)
    user_ids, item_ids = (_ids(*side) for side in zip(labels, (rows, columns), ("user", "item"), strict=True))
    return Ratings.from_ids(user_ids, item_ids, ratings, duplicates=duplicates, where="A")


def _is_pandas(A: Any) -> bool:
    return hasattr(A, "iloc") and hasattr(A, "columns")


def _ids(labels: Any, indices: NDArray[Any], role: str) -> Any:
    """The labels at these indices, or the indices if there are no labels."""
    import pyarrow as pa

    if labels is None:
        return indices
    return arrow_column(labels, Origin(f"A, {role} ids")).take(pa.array(indices))


def _refuse_rows_of_ratings(A: Any) -> None:
    """Raise DataError for a pandas frame with columns of users, items and ratings: its rows are not users."""
    try:
        recognise(FrameSource(A), {})
    except DataError:
        return
    seen = f"columns {', '.join(map(str, A.columns))}"[:100]
    raise _no_matrix(seen, "it is a table with a row per rating: use from_frame")


def _stored(A: Any) -> _Entries | None:
    """The stored entries of a sparse matrix; None for a dense one."""
    if hasattr(A, "tocoo"):
        if A.format in ("bsr", "dia") or len(A.shape) != 2:
            fix = "its filling zeros look like ratings: give CSR or COO that stores only the ratings"
            raise _no_matrix(f"{A.format} {A.shape}", fix)
        coo = A.tocoo(copy=False)
        return _numbers(_Entries(coo.row, coo.col, coo.data))
    if hasattr(A, "detach") and not str(A.layout).endswith(("strided", "mkldnn")):
        return _stored_of_torch(A.detach().cpu())
    if _is_pandas(A) and all(getattr(kind, "fill_value", None) == 0 for kind in A.dtypes) and len(A.columns):
        return _stored(A.sparse.to_coo())
    return None


def _stored_of_torch(A: Any) -> _Entries:
    layout = str(A.layout).removeprefix("torch.sparse_")
    if layout in ("bsr", "bsc") or A.dim() != 2 or A.dense_dim():
        raise _no_matrix(f"{layout} {tuple(A.shape)}", "give a sparse COO or CSR tensor [m, n]")
    if layout == "coo":
        indices, values = A._indices(), A._values()  # without coalescing, which would add up what is stored twice
        return _numbers(_Entries(numpy_of(indices[0]), numpy_of(indices[1]), numpy_of(values)))
    starts, others = (A.crow_indices(), A.col_indices()) if layout == "csr" else (A.ccol_indices(), A.row_indices())
    starts, others = numpy_of(starts), numpy_of(others)
    groups = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    rows, columns = (groups, others) if layout == "csr" else (others, groups)
    return _numbers(_Entries(rows, columns, numpy_of(A.values())))


def _numbers(entries: _Entries) -> _Entries:
    if entries.values.dtype.kind not in "fiub":
        raise _no_matrix(f"{entries.values.dtype} entries")
    return entries


def _observed(A: Any, mask: Any) -> _Entries:
    """The entries of a dense matrix that the mask selects, or that are not missing."""
    missing = np.ma.getmaskarray(A) if isinstance(A, np.ma.MaskedArray) else None
    values = _dense(A)
    if mask is None:
        observed = ~np.isnan(values) if missing is None else ~(np.isnan(values) | missing)
    elif missing is not None:
        raise DataError(
            "a masked array takes no other mask", where="mask", fix="leave it out, or give A.data as the matrix"
        )
    else:
        observed = _mask(A, mask, values.shape)
    rows, columns = np.nonzero(observed)
    return _Entries(rows, columns, values[rows, columns])


def _mask(A: Any, mask: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if _is_pandas(A) and _is_pandas(mask) and not (A.index.equals(mask.index) and A.columns.equals(mask.columns)):
        fix = "give it with the labels of the matrix: mask.reindex_like(A)"
        raise DataError("the mask and the matrix have different row or column labels", where="mask", fix=fix)
    dense = mask.toarray() if hasattr(mask, "toarray") else mask.to_dense() if hasattr(mask, "to_dense") else mask
    array: NDArray[np.bool_] = numpy_of(dense) if hasattr(dense, "detach") else np.asarray(dense)
    if isinstance(mask, np.ma.MaskedArray) or array.shape != shape or array.dtype != np.bool_:
        seen = f"{array.dtype} {array.shape}"
        raise DataError("the mask does not fit the matrix", where="mask", seen=seen, fix=f"give bool {shape}")
    return array


def _dense(A: Any) -> NDArray[Any]:
    """A dense matrix of numbers as NumPy, with NaN for its missing entries."""
    if isinstance(A, str | bytes | Ratings) or hasattr(A, "__fspath__"):
        raise _no_matrix(type(A).__name__, "use read_ratings for files, from_frame for tables with a row per rating")
    try:
        values = numpy_of(A) if hasattr(A, "detach") else A.to_numpy() if _is_pandas(A) else np.asarray(A)
    except (TypeError, ValueError, RuntimeError, NotImplementedError, OverflowError) as error:
        raise _no_matrix(format_value(str(error).splitlines()[0])) from None
    if values.dtype == object and values.ndim == 2:
        values = _of_objects(values)
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise _no_matrix(f"{values.dtype} {values.shape}")
    return values


def _of_objects(values: NDArray[Any]) -> NDArray[np.float64]:
    """A matrix of Python numbers; None, NA and NaT are missing."""
    from decimal import Decimal
    from numbers import Real

    import pandas as pd

    missing = pd.isna(values)
    numbers = np.full(values.shape, np.nan)
    for row, column in zip(*np.nonzero(~missing), strict=True):
        value = values[row, column]
        if not isinstance(value, Real | Decimal | np.bool_):
            raise DataError("not a number", where=f"A[{row}, {column}]", seen=format_value(value), fix=_GIVE)
        numbers[row, column] = float(value)
    return numbers


def _no_matrix(seen: str, fix: str = _GIVE) -> DataError:
    return DataError("not a matrix of numbers", where="A", seen=seen, fix=fix)
