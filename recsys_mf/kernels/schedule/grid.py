"""The grid of masked SGD: which triples may be visited at the same time, and in which order.

Users and items are permuted at random and cut into B bands of about equal numbers of ratings; the triples are
grouped by block (user band, item band). An epoch is B strata, and stratum s holds the blocks
(b, (b + s) mod B), which share no user and no item: threads take them freely, and the result depends on the
seed and the grid, never on the number of threads. The grid is that of LIBMF (Chin et al., 2015), without its
timing-dependent scheduler.

A band of a large table is larger than a core's cache. So a block is visited part by part: the rows of one part of the
item band stay in the cache while those of the user band pass through it, one part after another, each row once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]


class Grid(NamedTuple):
    """How a table is cut for masked SGD: into bands × bands blocks, and each block into item_parts × user_parts."""

    bands: int
    user_parts: int = 1
    item_parts: int = 1

    @property
    def n_parts(self) -> int:
        """Number of parts of all blocks."""
        return self.bands**2 * self.user_parts * self.item_parts


class Places(NamedTuple):
    """Where rows are in the permuted tables, and in which part of the grid.

    users int32[m], items int32[n] : permuted index of every user and item
    part_of_user int32[m], part_of_item int32[n] : numbered from band to band; a band has grid.user_parts or
        grid.item_parts of them
    """

    users: I32
    items: I32
    part_of_user: I32
    part_of_item: I32

    @classmethod
    def draw(
        cls, user_counts: NDArray[np.int64], item_counts: NDArray[np.int64], grid: Grid, rng: np.random.Generator
    ) -> Places:
        """Random permutations of users and of items, cut so that parts have about equal numbers of ratings."""
        users, items = (rng.permutation(len(counts)).astype(np.int32) for counts in (user_counts, item_counts))
        return cls(
            users,
            items,
            _balance(users, user_counts, grid.bands * grid.user_parts),
            _balance(items, item_counts, grid.bands * grid.item_parts),
        )


class Arranged(NamedTuple):
    """Triples part after part, block after block: those of part g are starts[g]:starts[g + 1] of the columns.

    users, items int32[n], values float32[n] and weights float32[n] or None (arrays of a backend),
    starts int64[grid.n_parts + 1]
    """

    users: Any
    items: Any
    values: Any
    weights: Any | None
    starts: NDArray[np.int64]

    def bounds(self, grid: Grid) -> NDArray[np.int64]:
        """int64[B, B + 1]: block w of stratum s is the triples bounds[s, w]:bounds[s, w + 1]."""
        starts = self.starts[:: grid.user_parts * grid.item_parts]
        bands = grid.bands
        return np.concatenate([starts[:-1].reshape(bands, bands), starts[bands::bands, None]], axis=1)


def _balance(places: I32, counts: NDArray[np.int64], parts: int) -> I32:
    """Part of every row: contiguous runs of permuted rows with about equal numbers of ratings."""
    permuted_counts = np.empty(len(places), np.int64)
    permuted_counts[places] = counts
    before = np.cumsum(permuted_counts) - permuted_counts
    part = (before * parts // max(1, int(counts.sum()))).astype(np.int32)
    return part[places]
