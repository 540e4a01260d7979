"""Features: side information about users or items, as sparse rows of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import DataError
from recsys_mf.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Features:
    """Side information: a sparse row of numbers for every id. Entries that are not stored are 0.

    vocabulary : the ids of the rows
    names : of the columns: "year" for a column of numbers, "genres=Action" for one of its categories or values
    starts : int64[rows + 1], ascending from 0 to z; row g has the entries starts[g] to starts[g + 1] - 1
    columns, values : of the entries: int32[z] in [0, len(names)), float32[z] finite
    left_out : a phrase for every column of the table that was left out fully or partly, with the reason

    The arrays are read-only. Raises DataError when lengths, ranges or values are wrong.
    """

    vocabulary: Vocabulary
    names: tuple[str, ...]
    starts: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, dtype in (("starts", np.int64), ("columns", np.int32), ("values", np.float32)):
            object.__setattr__(self, name, _read_only(getattr(self, name), dtype, where=name))
        _check_starts(self.starts, len(self.vocabulary), len(self.columns))
        if len(self.values) != len(self.columns):
            seen = f"{len(self.columns)} and {len(self.values)}"
            raise DataError(
                "columns and values differ in length", where="features", seen=seen, fix="give arrays of equal length"
            )
        if len(self.columns) and not (self.columns.min() >= 0 and self.columns.max() < len(self.names)):
            raise DataError(
                "index out of range",
                where="columns",
                seen=f"{self.columns.min()} to {self.columns.max()}",
                fix=f"stay within 0 to {len(self.names) - 1}",
            )
        if not np.isfinite(self.values).all():
            at = int(np.flatnonzero(~np.isfinite(self.values))[0])
            where = f"values[{at}]"
            raise DataError("feature is not finite", where=where, seen=self.values[at], fix="give a finite number")

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __repr__(self) -> str:
        return f"Features({len(self):,} ids, {len(self.names):,} columns, {len(self.values):,} entries)"

    def aligned(self, vocabulary: Vocabulary) -> Csr:
        """A row for every id of another vocabulary, in its order; an id without features gets an empty row.

        Raises DataError when the ids are integers on one side and strings on the other.
        """
        places = vocabulary.indices(self.vocabulary.entries, where="ids of the features")  # ascending, as both are
        known, lengths = places >= 0, np.diff(self.starts)
        starts = np.zeros(len(vocabulary) + 1, np.int64)
        starts[places[known] + 1] = lengths[known]
        entries = np.repeat(known, lengths)
        return Csr(np.cumsum(starts), self.columns[entries], self.values[entries], len(self.names))


def _read_only(array: Any, dtype: type[np.generic], *, where: str) -> NDArray[Any]:
    """The array in the type that the arithmetic needs, read-only here; the caller's own stays writable."""
    column: NDArray[Any] = np.ascontiguousarray(array, dtype=dtype).view()
    if column.ndim != 1:
        raise DataError("not an array of one dimension", where=where, seen=column.shape, fix="give a row of numbers")
    column.flags.writeable = False
    return column


def _check_starts(starts: NDArray[np.int64], n_rows: int, n_entries: int) -> None:
    if len(starts) != n_rows + 1:
        raise DataError(
            "there must be one start per id and one end", where="starts", seen=len(starts), fix=f"give {n_rows + 1}"
        )
    if starts[0] != 0 or starts[-1] != n_entries or (np.diff(starts) < 0).any():
        raise DataError(
            "starts do not ascend from 0 to the number of entries",
            where="starts",
            seen=f"{starts[0]} to {starts[-1]}",
            fix=f"let them ascend from 0 to {n_entries}",
        )
