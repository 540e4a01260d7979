"""The conflict-free schedule of masked SGD: which triples may be visited at the same time, and in which order.

Users and items are permuted at random and cut into B bands of about equal numbers of ratings; the triples are
grouped by block (user band, item band). An epoch is B strata, and stratum s holds the blocks
(b, (b + s) mod B), which share no user and no item: threads take them freely, and the result depends on the
seed and the grid, never on the number of threads. The grid is that of LIBMF (Chin et al., 2015), without its
timing-dependent scheduler.

A band of a large table is larger than a core's cache. So a block is visited part by part: the rows of one part of the
item band stay in the cache while those of the user band pass through it, a part at a time, each row once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped
from recsys_mf.kernels import Kernels, layout
from recsys_mf.ratings import Ratings


@dataclass(frozen=True, eq=False)
class Blocks:
    """Triples in schedule order, under permuted indices.

    users, items int32[n], values float32[n] : the triples, here or on the device; stratum after stratum, block after
        block
    bounds int64[B, B + 1] : block w of stratum s is the triples bounds[s, w]:bounds[s, w + 1]
    user_places int32[m], item_places int32[n_items] : permuted index of every user and item
    """

    users: Any
    items: Any
    values: Any
    bounds: NDArray[np.int64]
    user_places: NDArray[np.int32]
    item_places: NDArray[np.int32]


def schedule(
    train: Ratings, grid: layout.Grid, rng: np.random.Generator, *, center: float, scale: float, kernels: Kernels
) -> Blocks:
    """The schedule of the triples of train, with values (r - center) / scale.

    Every draw comes from rng: the two permutations, then the seed of the order within parts.
    """
    bands = grid.bands
    user_places = rng.permutation(train.n_users).astype(np.int32)
    item_places = rng.permutation(train.n_items).astype(np.int32)
    seed = int(rng.integers(2**63))
    triples = kernels.blocked(
        train.users, train.items, train.values, user_places, item_places,
        _balanced(user_places, train.user_counts, bands * grid.user_parts),
        _balanced(item_places, train.item_counts, bands * grid.item_parts),
        grid, center, scale, seed,
    )  # fmt: skip
    mapped.rest()
    starts = triples.starts[:: grid.user_parts * grid.item_parts]
    bounds = np.concatenate([starts[:-1].reshape(bands, bands), starts[bands::bands, None]], axis=1)
    return Blocks(*triples[:3], bounds, user_places, item_places)


def _balanced(places: NDArray[np.int32], counts: NDArray[np.int64], parts: int) -> NDArray[np.int32]:
    """Part of every row: contiguous runs of permuted rows with about equal numbers of ratings."""
    permuted_counts = np.empty(len(places), np.int64)
    permuted_counts[places] = counts
    before = np.cumsum(permuted_counts) - permuted_counts
    part = (before * parts // max(1, int(counts.sum()))).astype(np.int32)
    return part[places]
