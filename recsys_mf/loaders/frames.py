"""Tables and matrices in memory: pandas and Arrow tables; NumPy, torch and pandas matrices with NaN or a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import DataError
from recsys_mf.loaders.reading import assembled
from recsys_mf.loaders.source import Ids
from recsys_mf.ratings import Duplicates, Ratings

if TYPE_CHECKING:
    import pyarrow as pa


class FrameSource:
    """A pandas or Arrow table."""

    where = "frame"
    typed = True

    def __init__(self, frame: Any) -> None:
        if not (hasattr(frame, "column_names") or (hasattr(frame, "columns") and hasattr(frame, "__getitem__"))):
            raise DataError("not a table", where="frame", seen=type(frame).__name__, fix="give a pandas or Arrow table")
        self._frame = frame
        columns = tuple(getattr(frame, "column_names", None) or frame.columns)
        self.names = tuple(map(str, columns))
        self._columns = dict(zip(self.names, columns, strict=True))  # pandas may call a column by a number

    def read(
        self, names: Sequence[str], texts: Sequence[str] = (), ids: Sequence[str] = ()
    ) -> Iterator[pa.ChunkedArray]:
        """The columns; NaN in a pandas column is a null."""
        import pyarrow as pa

        for name in names:
            column = self._frame[self._columns[name]]
            if not isinstance(column, pa.ChunkedArray):
                try:
                    column = pa.array(column, from_pandas=True)
                except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                    reason = str(error).splitlines()[0]
                    raise DataError(
                        "values of mixed types", where=f"frame, column {name}", seen=reason, fix="use one type"
                    ) from None
            yield column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])

    def place(self, row: int) -> str:
        """The row's number."""
        return f"row {row}"


def from_frame(
    frame: Any,
    *,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    time_column: str | None = None,
    ids: Ids = "auto",
    duplicates: Duplicates = "error",
) -> Ratings:
    """Ratings from a pandas or Arrow table with a row per rating; arguments and errors are those of `read_ratings`."""
    given = {"user": user_column, "item": item_column, "rating": rating_column, "time": time_column}
    return assembled(FrameSource(frame), given, ids=ids, duplicates=duplicates)


def from_matrix(A: Any, mask: Any = None) -> Ratings:
    """Ratings from a matrix [m, n]: row i is user i, column j is item j.

    A : NumPy array, torch tensor, or pandas frame, whose index and columns then are the ids
    mask : bool[m, n], True where A holds a rating; without it every entry that is not NaN is one

    The mask decides what is observed, and a zero is a rating. A row without any is no user of the result.
    Raises DataError for another shape, a mask of another shape, a rating that is not finite, and no rating at all.
    """
    user_ids, item_ids = (np.asarray(ids) for ids in (getattr(A, "index", None), getattr(A, "columns", None)))
    values = _array(A)
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        seen = f"{values.dtype} {values.shape}"
        raise DataError("not a matrix of numbers", where="A", seen=seen, fix="give a matrix [m, n]")
    observed = ~np.isnan(values) if mask is None else _array(mask)
    if observed.shape != values.shape or observed.dtype != np.bool_:
        seen = f"{observed.dtype} {observed.shape}"
        raise DataError("not a mask of the matrix", where="mask", seen=seen, fix=f"give bool {values.shape}")
    rows, columns = np.nonzero(observed)
    ratings = values[rows, columns].astype(np.float32)
    if not np.isfinite(ratings).all():
        at = int(np.flatnonzero(~np.isfinite(ratings))[0])
        where = f"A[{rows[at]}, {columns[at]}]"
        raise DataError("rating is not finite", where=where, seen=ratings[at], fix="leave it out with the mask")
    named = user_ids.ndim == 1
    return Ratings.from_ids(
        user_ids[rows] if named else rows, item_ids[columns] if named else columns, ratings, where="A"
    )


def _array(matrix: Any) -> NDArray[Any]:
    """As NumPy, from wherever a tensor lies."""
    detached = matrix.detach().cpu() if hasattr(matrix, "detach") else matrix
    array: NDArray[Any] = np.asarray(detached)
    return array
