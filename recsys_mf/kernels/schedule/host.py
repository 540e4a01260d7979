"""Order of the triples of masked SGD in memory, made by counting sorts on the host.

This decides where a triple is, the backends decide how it is processed. The only arithmetic on ratings here is their
standardisation, and that of their weights, while `arrange` moves them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped
from recsys_mf.arrays.jit import inline, jit
from recsys_mf.arrays.threads import ranges, side_by_side
from recsys_mf.kernels.operands import RatingScale, Triples
from recsys_mf.kernels.schedule.grid import Arranged, Grid, Places

_CHUNKS = 16  # ranges of rows that are counted and placed in parallel; a constant, so that no result depends on it


class Among(NamedTuple):
    """Where triples are in the whole table, if they are only those of some row bands.

    firsts int64[bands] : for every stratum, the position of the first of these triples in the whole table
    mean_weight : mean over all triples; 1 without weights
    """

    firsts: NDArray[np.int64]
    mean_weight: float


def arrange(
    triples: Triples, places: Places, grid: Grid, scale: RatingScale, seed: int, *, threads: int,
    among: Among | None = None,
) -> Arranged:  # fmt: skip
    """The triples (user place, item place, (r - mean) / deviation), grouped by block and by part within a block; and
    their weights, if there are any, divided by the mean weight.

    seed : below 2⁶³; decides the order within a part, a permutation by Fisher and Yates from a hash of seed and place
    among : None for a whole table. Given if the triples are those of some row bands, all of them in the order of the
        table; their parts then get the order that they have in the whole table

    Block (row band r, column band c) is at place ((c - r) mod bands, r). Its parts are ordered by item, then by user.
    Two passes over the table, or more if the result is in files (`mapped.windows`), and one over every part; 12 bytes
    per rating for the result, 16 with weights, and no more but a window.
    """
    n, keys = len(triples.users), grid.n_parts
    found = np.zeros((_CHUNKS, keys), np.int64)
    chunks = np.linspace(0, n, _CHUNKS + 1).astype(np.int64)
    out = _empty(n, keys, weighted=triples.weights is not None)
    average = np.float32(1)
    if triples.weights is not None:
        average = np.float32(mapped.mean(triples.weights) if among is None else among.mean_weight)
    parts, tasks = (places.part_of_user, places.part_of_item), ranges(_CHUNKS, 1)
    side_by_side(_count_parts, tasks, threads, chunks, triples.users, triples.items, *parts, *grid, found)
    out.starts[0], out.starts[1:] = 0, np.cumsum(found.sum(axis=0))
    first = np.cumsum(found, axis=0) - found + out.starts[:-1]
    strata = out.starts[:: keys // grid.bands][: grid.bands]
    ahead = np.zeros(grid.bands, np.int64) if among is None else among.firsts - strata
    for window, start, into in mapped.windows(out.starts, out[:4]):
        side_by_side(
            _place, tasks, threads, chunks, *triples, places.users, places.items, *parts, *grid,
            np.float32(scale.mean), np.float32(scale.deviation), average, (window.start, window.stop, start), first,
            *into,
        )  # fmt: skip
        n_parts = window.stop - window.start
        of_window = [(window.start + low, window.start + high) for low, high in ranges(n_parts, -(-n_parts // _CHUNKS))]
        side_by_side(_shuffle, of_window, threads, out.starts, ahead, np.uint64(seed), start, *into)
    return out


def _empty(n: int, parts: int, *, weighted: bool) -> Arranged:
    """Memory for n triples."""
    weights = mapped.empty(n, np.float32) if weighted else None
    columns = mapped.empty(n, np.int32), mapped.empty(n, np.int32), mapped.empty(n, np.float32)
    return Arranged(*columns, weights, np.empty(parts + 1, np.int64))


@inline()
def _part(fine_row: Any, fine_column: Any, bands: Any, user_parts: Any, item_parts: Any) -> Any:
    """Place of a part: by stratum, row band, item part and user part."""
    row, column = fine_row // user_parts, fine_column // item_parts
    stratum = column - row
    if stratum < 0:
        stratum += bands
    block = np.int64(stratum) * bands + row
    return (block * item_parts + fine_column - column * item_parts) * user_parts + fine_row - row * user_parts


@jit()
def _count_parts(
    first: Any, last: Any, chunks: Any, users: Any, items: Any, part_of_user: Any, part_of_item: Any,
    bands: Any, user_parts: Any, item_parts: Any, found: Any,
) -> None:  # fmt: skip
    for chunk in range(first, last):
        for j in range(chunks[chunk], chunks[chunk + 1]):
            found[chunk, _part(part_of_user[users[j]], part_of_item[items[j]], bands, user_parts, item_parts)] += 1


@jit(error_model="numpy")
def _place(
    first: Any, last: Any, chunks: Any, users: Any, items: Any, values: Any, weights: Any,
    user_places: Any, item_places: Any, part_of_user: Any, part_of_item: Any,
    bands: Any, user_parts: Any, item_parts: Any, center: Any, scale: Any, average: Any, window: Any,
    places: Any, out_users: Any, out_items: Any, out_values: Any, out_weights: Any,
) -> None:  # fmt: skip
    low, high, start = window
    for chunk in range(first, last):
        place = places[chunk]
        for j in range(chunks[chunk], chunks[chunk + 1]):
            u, i = users[j], items[j]
            part = _part(part_of_user[u], part_of_item[i], bands, user_parts, item_parts)
            if low <= part < high:
                to = place[part] - start
                place[part] += 1
                out_users[to], out_items[to] = user_places[u], item_places[i]
                out_values[to] = (values[j] - center) / scale
                if weights is not None:
                    out_weights[to] = weights[j] / average


@jit()
def _shuffle(
    first: Any, last: Any, starts: Any, ahead: Any, seed: Any, start: Any,
    users: Any, items: Any, values: Any, weights: Any,
) -> None:  # fmt: skip
    parts = (starts.size - 1) // ahead.size
    for g in range(first, last):
        low, before = starts[g] - start, start + ahead[g // parts]
        for last in range(starts[g + 1] - start - 1, low, -1):
            other = low + np.int64(
                ((_hashed(seed, last + before) >> np.uint64(32)) * np.uint64(last - low + 1)) >> np.uint64(32)
            )
            users[last], users[other] = users[other], users[last]
            items[last], items[other] = items[other], items[last]
            values[last], values[other] = values[other], values[last]
            if weights is not None:
                weights[last], weights[other] = weights[other], weights[last]


@inline()
def _hashed(seed: Any, place: Any) -> Any:
    """64 random bits of a place. Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014."""
    x = seed + (np.uint64(place) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
