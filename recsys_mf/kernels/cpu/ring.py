"""Masked SGD on CPU cores by a ring of workers: what one worker holds, and what it does in a step (`schedule.ring`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_mf.kernels.cpu.sgd import CpuSgd
from recsys_mf.kernels.operands import Part, SgdState, SgdStep
from recsys_mf.kernels.schedule import ring
from recsys_mf.kernels.schedule.grid import Arranged, Grid, Places
from recsys_mf.kernels.schedule.ring import Ring

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Cut:
    """How tables are cut among the workers of a ring.

    users, items int64[B + 1] : the permuted index at which every band begins, and the number of rows at the end
    """

    grid: Grid
    ring: Ring
    users: I64
    items: I64

    @classmethod
    def of(cls, places: Places, grid: Grid, workers: int) -> Cut:
        """The cut for the places of a table."""
        edges = (
            np.searchsorted(np.sort(part) // parts, np.arange(grid.bands + 1))
            for part, parts in ((places.part_of_user, grid.user_parts), (places.part_of_item, grid.item_parts))
        )
        return cls(grid, Ring.of(grid.bands, workers), *edges)

    def user_rows(self, worker: int) -> slice:
        """Permuted indices of the users of a worker."""
        return self._rows(self.users, worker)

    def item_rows(self, group: int) -> slice:
        """Permuted indices of the items of a group."""
        return self._rows(self.items, group)

    def _rows(self, edges: I64, group: int) -> slice:
        bands = self.ring.group(group)
        return slice(int(edges[bands.start]), int(edges[bands.stop]))


@dataclass(frozen=True, eq=False)
class Share:
    """The triples of a worker: users counted from its first user, items from the first item of their group."""

    cut: Cut
    worker: int
    triples: Arranged

    @classmethod
    def of(cls, arranged: Arranged, cut: Cut, worker: int) -> Share:
        """The share made of a worker's triples as `host.arrange` returns them; their indices are changed in place."""
        edges = np.array([cut.item_rows(group).start for group in range(cut.ring.workers)], np.int32)
        for low in range(0, len(arranged.users), 1 << 20):
            part = slice(low, low + (1 << 20))
            arranged.users[part] -= cut.user_rows(worker).start
            arranged.items[part] -= edges[np.searchsorted(edges, arranged.items[part], side="right") - 1]
        return cls(cut, worker, arranged)

    def visit(self, sgd: CpuSgd, at: int, state: SgdState, step: SgdStep, errors: NDArray[np.float64]) -> None:
        """Step `at` of an epoch, in place.

        state : P and biases of the worker's users, Q and biases of the items that it holds in this step
        errors float64[B, B] : receives the sums of squared errors, by stratum and row band
        """
        block_starts = ring.find_block_starts(self.triples.starts, self.cut.grid)
        for visit in ring.visits(self.cut.ring, self.worker, at, block_starts):
            found = sgd.visit_blocks(Part(*self.triples[:4], visit.bounds), state, step)
            errors[visit.strata, visit.rows] = found[tuple(visit.at)]
