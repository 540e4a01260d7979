"""The conflict-free schedule of masked SGD: which triples may be visited at the same time.

Users and items are permuted at random and cut into B bands of about equal numbers of ratings; the triples are
grouped by block (user band, item band). An epoch is B strata, and stratum s holds the blocks
(b, (b + s) mod B), which share no user and no item: threads take them freely, and the result depends on the
seed and B, never on the number of threads. The grid is that of LIBMF (Chin et al., 2015), without its
timing-dependent scheduler.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_mf.kernels import layout
from recsys_mf.ratings import Ratings


@dataclass(frozen=True, eq=False)
class Blocks:
    """Triples in schedule order, under permuted indices.

    users, items int32[n], values float32[n] : the triples; stratum after stratum, block after block
    bounds int64[B, B + 1] : block w of stratum s is the triples bounds[s, w]:bounds[s, w + 1]
    user_places int32[m], item_places int32[n_items] : permuted index of every user and item
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    values: NDArray[np.float32]
    bounds: NDArray[np.int64]
    user_places: NDArray[np.int32]
    item_places: NDArray[np.int32]


def schedule(train: Ratings, values: NDArray[np.float32], bands: int, rng: np.random.Generator) -> Blocks:
    """The schedule of the triples of train with these values float32[n] in B = bands bands.

    Every draw comes from rng: the two permutations, then the order of the triples.
    """
    user_places = rng.permutation(train.n_users).astype(np.int32)
    item_places = rng.permutation(train.n_items).astype(np.int32)
    user_bands = _balanced_bands(user_places, train.user_counts, bands)
    item_bands = _balanced_bands(item_places, train.item_counts, bands)
    shuffled = rng.permutation(len(train))
    users, items = train.users[shuffled], train.items[shuffled]
    row, column = user_bands[users], item_bands[items]
    slots = ((column - row) % bands * bands + row).astype(np.int32)  # stratum, then block within it
    starts, order = layout.group(slots, bands * bands)
    bounds = np.concatenate([starts[:-1].reshape(bands, bands), starts[bands::bands, None]], axis=1)
    return Blocks(
        user_places[users[order]], item_places[items[order]], values[shuffled[order]],
        bounds, user_places, item_places,
    )  # fmt: skip


def _balanced_bands(places: NDArray[np.int32], counts: NDArray[np.int64], bands: int) -> NDArray[np.int32]:
    """Band of every row: contiguous runs of permuted rows with about equal numbers of ratings."""
    permuted_counts = np.empty(len(places), np.int64)
    permuted_counts[places] = counts
    before = np.cumsum(permuted_counts) - permuted_counts
    band = (before * bands // max(1, int(counts.sum()))).astype(np.int32)
    return band[places]
