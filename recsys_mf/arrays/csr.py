"""Csr: a sparse matrix by rows, the form in which every row operation takes ratings and features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from recsys_mf.arrays import sorting


class Csr(NamedTuple):
    """A sparse matrix by rows: the entries of row g are at starts[g]:starts[g + 1] of the other arrays.

    starts int64[rows + 1], ascending from 0 to z
    columns int32[z] in [0, n_columns)
    values [z] : the entries, or None if every entry is 1
    n_columns : the number of columns

    The arrays are those of the host or of a device (`to`).
    """

    starts: Any
    columns: Any
    values: Any  # or None
    n_columns: int

    @property
    def n_rows(self) -> int:
        """Number of rows, rows without an entry included."""
        return len(self.starts) - 1

    def to(self, put: Callable[[Any], Any]) -> Csr:
        """The same matrix with its arrays on a device; put : `Device.put`."""
        values = None if self.values is None else put(self.values)
        return self._replace(starts=put(self.starts), columns=put(self.columns), values=values)

    def pattern(self) -> Csr:
        """The same places with 1 in each."""
        return self._replace(values=None)

    def take(self, rows: Any) -> Csr:
        """The rows with these indices [b], on the host; -1 means the last one."""
        starts, entries = find_entries(self.starts, rows)
        values = None if self.values is None else self.values[entries]
        return Csr(starts, self.columns[entries], values, self.n_columns)

    def keep(self, entries: Any) -> Csr:
        """The entries for which bool[z] is True, on the host."""
        starts = np.concatenate([[0], np.cumsum(entries)])[self.starts]
        values = None if self.values is None else self.values[entries]
        return Csr(starts, self.columns[entries], values, self.n_columns)

    def transpose(self) -> Csr:
        """The same matrix by columns, on the host: row numbers ascend within every column."""
        starts, order = sorting.group(self.columns, self.n_columns)
        rows = np.repeat(np.arange(self.n_rows, dtype=np.int32), np.diff(self.starts))
        values = None if self.values is None else self.values[order]
        return Csr(starts, rows[order], values, self.n_rows)


def find_entries(starts: Any, rows: Any) -> tuple[Any, Any]:
    """Where the entries of these rows are, one row after another: starts int64[b + 1] and places int64[z].

    starts : of all rows, as in `Csr`
    """
    lengths = np.diff(starts)[rows]
    begins = np.concatenate([[0], np.cumsum(lengths)])
    return begins, np.arange(begins[-1]) + np.repeat(starts[:-1][rows] - begins[:-1], lengths)
