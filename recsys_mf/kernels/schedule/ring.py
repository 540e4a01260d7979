"""The ring: an epoch of masked SGD by several workers, each of which holds some bands, in the order of a single one.

The B bands are cut into W groups. Worker w holds the users of group w and their triples; groups of items travel. In
step t = 0 … W it holds the items of group (w + t) mod W and visits the blocks of its users and these items. In the
worker's own group, the blocks above the diagonal are visited first (t = 0) and those below it last (t = W). So a user
band meets the item bands in the order of the strata, from its own upwards and around; and an item band meets the user
bands in the order of the strata, downwards, because its group moves from worker w to w - 1. So every row is updated by
its ratings in the same order as on one machine, and the tables have the same bytes. At the end of an epoch every group
of items is back at its own worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.kernels.schedule.grid import Grid

I64 = NDArray[np.int64]


class Ring(NamedTuple):
    """Bands and the edges of their groups: group w has the bands edges[w]:edges[w + 1], W + 1 edges in all."""

    bands: int
    edges: tuple[int, ...]

    @classmethod
    def of(cls, bands: int, workers: int) -> Ring:
        """Groups of about equal numbers of bands, one per worker; with more workers than bands some are empty."""
        return cls(bands, tuple(worker * bands // workers for worker in range(workers + 1)))

    @property
    def workers(self) -> int:
        """W."""
        return len(self.edges) - 1

    def group(self, number: int) -> range:
        """The bands of a group."""
        return range(self.edges[number], self.edges[number + 1])

    def held(self, worker: int, step: int) -> int:
        """The group of items that a worker holds in a step of an epoch."""
        return (worker + step) % self.workers

    def before(self, worker: int) -> int:
        """The worker to which a worker sends its items after a step; it receives those of the next worker."""
        return (worker - 1) % self.workers


class Visit(NamedTuple):
    """Blocks that are visited in one call of a kernel, as a square of N × N blocks in which some may be empty.

    bounds int64[N, N + 1] : as in `operands.Part`
    strata, rows int64[z] : of every block that belongs to the visit, its stratum and row band in the whole grid
    at int64[2, z] : of the same blocks, stratum and block in the square
    """

    bounds: I64
    strata: I64
    rows: I64
    at: I64


def visits(ring: Ring, worker: int, step: int, block_starts: I64) -> Iterator[Visit]:
    """What a worker visits in a step, one after another.

    block_starts int64[B² + 1] : where the triples of a worker's blocks begin, stratum after stratum, row band after row
        band (those of other workers' rows are empty)
    """
    rows, columns = ring.group(worker), ring.group(ring.held(worker, step))
    if not (rows and columns):  # more workers than bands
        return
    if step:
        yield _visit(ring.bands, rows, columns, block_starts, below=True)
    if step < ring.workers:
        yield _visit(ring.bands, rows, columns, block_starts, below=False)


def count_blocks(row_bands: NDArray[np.int32], column_bands: NDArray[np.int32], bands: int) -> I64:
    """Number of triples by stratum and row band, int64[B, B]."""
    strata = (column_bands - row_bands) % bands
    return np.bincount(strata.astype(np.int64) * bands + row_bands, minlength=bands**2).reshape(bands, bands)


def first_places(counts: I64, first_band: int) -> I64:
    """For every stratum, the place of the first triple of the row bands from first_band on.

    counts : of the whole table, from `count_blocks`
    """
    before = np.cumsum(counts.sum(axis=1)) - counts.sum(axis=1)
    places: I64 = before + counts[:, :first_band].sum(axis=1)
    return places


def find_block_starts(starts: I64, grid: Grid) -> I64:
    """Starts of the blocks int64[B² + 1], from those of the parts."""
    return starts[:: grid.user_parts * grid.item_parts]


def _visit(bands: int, rows: range, columns: range, block_starts: I64, *, below: bool) -> Visit:
    """The blocks of these bands whose number in the columns is below that in the rows, or the others.

    The scheduler's stratum s of N blocks has the blocks (r, (r + s) mod N): with both bands counted from the first of
    their groups, c - r is s for the blocks above the diagonal and s - N for those below it.
    """
    size = max(len(rows), len(columns))
    bounds = np.zeros((size, size + 1), np.int64)
    found = []
    for stratum in range(size):
        offset = stratum - size if below else stratum
        low, high = max(0, -offset), min(len(rows), len(columns) - offset)
        if low >= high:
            continue
        whole = (columns.start + offset - rows.start) % bands
        first = whole * bands + rows.start
        bounds[stratum] = block_starts[first + np.clip(np.arange(size + 1), low, high)]
        found += [(whole, rows.start + row, stratum, row) for row in range(low, high)]
    strata, at_rows, *at = np.array(found, np.int64).reshape(-1, 4).T
    return Visit(bounds, strata, at_rows, np.array(at))
