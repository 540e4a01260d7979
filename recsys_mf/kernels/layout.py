"""Order of rows in memory: counting sorts over integer keys, on the host.

These decide where a triple lies, the backends decide what is done to it. The one arithmetic on ratings here is their
standardisation, on the way to where `blocked` puts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf import columns
from recsys_mf.kernels.cores import available_threads
from recsys_mf.kernels.jit import jit
from recsys_mf.kernels.threads import ranges, shares, side_by_side

_CHUNKS = 16  # ranges of rows that are counted and placed side by side; a constant, so that no result depends on it


class Grid(NamedTuple):
    """How a table is cut for masked SGD: bands × bands blocks, each of them into item_parts × user_parts."""

    bands: int
    user_parts: int = 1
    item_parts: int = 1


class Triples(NamedTuple):
    """Triples part after part, block after block: those of part g are starts[g]:starts[g + 1] of the columns.

    users, items int32[n], values float32[n] (arrays of a backend), starts int64[bands² · parts + 1]
    """

    users: Any
    items: Any
    values: Any
    starts: NDArray[np.int64]


def group(keys: NDArray[np.int32], n_groups: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stable counting sort: row numbers grouped by key.

    keys : int32[n] in [0, n_groups)
    Returns (starts int64[n_groups + 1], order int64[n]): the rows with key g, in their original order,
    are order[starts[g]:starts[g + 1]].
    """
    starts, order = _group(keys, n_groups)
    return starts, order


def grouped(
    keys: NDArray[np.int32], n_groups: int, others: NDArray[np.int32], values: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """starts as in `group`, and the two columns in its order, without the row numbers."""
    grouped_others, grouped_values = columns.empty(len(keys), np.int32), columns.empty(len(keys), np.float32)
    starts = _group_columns(keys, others, values, n_groups, grouped_others, grouped_values)
    return starts, grouped_others, grouped_values


def counts(keys: NDArray[np.int32], n_groups: int) -> NDArray[np.int64]:
    """How often each of 0 … n_groups - 1 occurs, int64[n_groups]; -1 is not counted."""
    found: NDArray[np.int64] = _counts(keys, n_groups)
    return found


def blocked(
    users: NDArray[np.int32], items: NDArray[np.int32], values: NDArray[np.float32],
    user_places: NDArray[np.int32], item_places: NDArray[np.int32],
    part_of_user: NDArray[np.int32], part_of_item: NDArray[np.int32], grid: Grid,
    center: float, scale: float, seed: int, *, threads: int,
) -> Triples:  # fmt: skip
    """The triples (user_places[u], item_places[i], (r - center) / scale), grouped by block and by part within it.

    part_of_user int32[m], part_of_item int32[n_items] : numbered from band to band; a band has grid.user_parts or
        grid.item_parts of them
    seed : below 2⁶³; decides the order within a part, a permutation by Fisher and Yates from a hash of seed and place

    Block (row band r, column band c) stands at place ((c - r) mod bands, r). Its parts follow by item, then by user.
    Two passes over the table and one over every part; 12 bytes a rating for the result and no more.
    """
    keys = grid.bands**2 * grid.user_parts * grid.item_parts
    found = np.zeros((_CHUNKS, keys), np.int64)
    chunks = np.linspace(0, len(users), _CHUNKS + 1).astype(np.int64)
    n = len(users)
    out = Triples(
        columns.empty(n, np.int32), columns.empty(n, np.int32), columns.empty(n, np.float32),
        np.empty(keys + 1, np.int64),
    )  # fmt: skip
    tasks = ranges(_CHUNKS, 1)
    side_by_side(_count_parts, tasks, threads, chunks, users, items, part_of_user, part_of_item, *grid, found)
    out.starts[0], out.starts[1:] = 0, np.cumsum(found.sum(axis=0))
    places = np.cumsum(found, axis=0) - found + out.starts[:-1]
    side_by_side(
        _place, tasks, threads, chunks, users, items, values, user_places, item_places, part_of_user, part_of_item,
        *grid, np.float32(center), np.float32(scale), places, *out[:3],
    )  # fmt: skip
    side_by_side(_shuffle, ranges(keys, -(-keys // _CHUNKS)), threads, out.starts, np.uint64(seed), *out[:3])
    return out


def first_duplicate(
    users: NDArray[np.int32], items: NDArray[np.int32], n_users: int, n_items: int
) -> tuple[int, int, int]:
    """Count of rows whose (user, item) pair stood in an earlier row, and the first such (earlier, later) rows.

    users, items : int32[n], in range
    Returns (count, earlier, later); (0, -1, -1) when every pair is unique, after one counting sort of the items
    by user and one mark per item: O(n + n_users + n_items) time, 4 n bytes. Users who ascend need no sort.
    """
    starts, ascend = _starts_and_order(users, n_users)
    by_user = items
    if not ascend:
        by_user = columns.empty(len(items), np.int32)
        _group_values(users, items, starts[:-1].copy(), by_user)
    threads = available_threads()
    found = np.zeros(1, np.bool_)
    tasks = shares(np.diff(starts).astype(np.float64), threads)
    side_by_side(_find_duplicates, tasks, threads, starts, by_user, n_items, found)
    if not found[0]:
        return 0, -1, -1
    starts, order = _group(users, n_users)
    count, earlier, later = _first_duplicate(starts, order, items, n_items)
    return int(count), int(earlier), int(later)


def bounds(chunks: Sequence[NDArray[Any]]) -> tuple[int, int]:
    """The least and the greatest of all integers in chunks of int32 or int64, none of them empty."""
    found = np.empty((len(chunks), 2), np.int64)

    def bound(chunk: NDArray[Any], out: NDArray[np.int64]) -> None:
        out[0], out[1] = chunk.min(), chunk.max()

    side_by_side(bound, list(zip(chunks, found, strict=True)), available_threads())
    return int(found[:, 0].min()), int(found[:, 1].max())


def compact(chunks: list[NDArray[Any]], low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Distinct integers in ascending order, and the position of every value among them.

    chunks : int32 or int64 arrays, n values in all, within low to high
    Returns (known int64[k], positions int32[n]). One byte and one int32 for every integer from low to high.
    """
    threads = available_threads()
    present = np.zeros(high - low + 1, np.bool_)
    side_by_side(_mark, [(chunk,) for chunk in chunks], threads, low, present)
    position = np.cumsum(present, dtype=np.int32) - np.int32(1)
    positions = columns.empty(sum(map(len, chunks)), np.int32)
    parts = np.split(positions, np.cumsum([len(chunk) for chunk in chunks])[:-1])
    side_by_side(_look_up, list(zip(chunks, parts, strict=True)), threads, low, position)
    return np.flatnonzero(present) + low, positions


def positions(values: NDArray[Any], low: int, table: NDArray[np.int32]) -> NDArray[np.int32]:
    """table[value - low] of every integer, -1 for one beyond the table; int32[n]."""
    found = np.empty(len(values), np.int32)
    _look_up(values, found, low, table)
    return found


def find_pairs(
    starts: NDArray[np.int64], others: NDArray[np.int32], keys: NDArray[Any], wanted: NDArray[Any]
) -> NDArray[np.int64]:
    """Place of every pair (key, wanted) in grouped columns whose groups ascend, -1 where it is not there.

    starts int64[n_groups + 1], others int32[n] : group g is others[starts[g]:starts[g + 1]]
    keys, wanted : [b]; -1 is in no group
    """
    found = np.empty(len(keys), np.int64)
    _find_pairs(starts, others, keys, wanted, found)
    return found


@jit()
def _find_pairs(starts: Any, others: Any, keys: Any, wanted: Any, found: Any) -> None:
    for j in range(keys.size):
        key, other = keys[j], wanted[j]
        low, high = (starts[key], starts[key + 1]) if 0 <= key < starts.size - 1 else (0, 0)
        end = high
        while low < high:
            middle = (low + high) // 2
            if others[middle] < other:
                low = middle + 1
            else:
                high = middle
        found[j] = low if low < end and others[low] == other else -1


@jit()
def _mark(values: Any, low: int, present: Any) -> None:
    for value in values:
        present[value - low] = True


@jit()
def _look_up(values: Any, out: Any, low: int, table: Any) -> None:
    size, first = np.uint64(table.size), np.uint64(np.int64(low))
    for n in range(values.size):
        place = np.uint64(np.int64(values[n])) - first  # below low it wraps, and is beyond the table
        out[n] = table[place] if place < size else np.int32(-1)


@jit()
def _starts(keys: Any, n_groups: int) -> Any:
    """Where every group begins in the order of the groups, and the end of the last."""
    starts = np.zeros(n_groups + 1, np.int64)
    for row in range(keys.size):
        starts[keys[row] + 1] += 1
    for g in range(n_groups):
        starts[g + 1] += starts[g]
    return starts


@jit()
def _starts_and_order(keys: Any, n_groups: int) -> Any:
    """The starts, and whether the keys ascend."""
    row = 1
    while row < keys.size and keys[row - 1] <= keys[row]:
        row += 1
    return _starts(keys, n_groups), row >= keys.size


@jit()
def _group(keys: Any, n_groups: int) -> Any:
    starts = _starts(keys, n_groups)
    place = starts[:-1].copy()
    order = np.empty(keys.size, np.int64)
    for row in range(keys.size):
        order[place[keys[row]]] = row
        place[keys[row]] += 1
    return starts, order


@jit()
def _group_values(keys: Any, values: Any, place: Any, grouped: Any) -> None:
    """place : where every group begins; it is counted up"""
    for row in range(keys.size):
        grouped[place[keys[row]]] = values[row]
        place[keys[row]] += 1


@jit()
def _group_columns(
    keys: Any, others: Any, values: Any, n_groups: int, grouped_others: Any, grouped_values: Any
) -> Any:  # fmt: skip
    starts = _starts(keys, n_groups)
    place = starts[:-1].copy()
    for row in range(keys.size):
        to = place[keys[row]]
        place[keys[row]] = to + 1
        grouped_others[to], grouped_values[to] = others[row], values[row]
    return starts


@jit()
def _counts(keys: Any, n_groups: int) -> Any:
    found = np.zeros(n_groups, np.int64)
    for key in keys:
        if key >= 0:
            found[key] += 1
    return found


@jit()
def _find_duplicates(first: Any, last: Any, starts: Any, items: Any, n_items: int, found: Any) -> None:
    """Set found[0] where an item stands twice among the rows of a user, one of those from first to last."""
    rater = np.full(n_items, -1, np.int32)  # the last user who rated the item
    twice = False
    for g in range(first, last):
        for position in range(starts[g], starts[g + 1]):
            twice |= rater[items[position]] == g
            rater[items[position]] = g
    if twice:
        found[0] = True


@jit()
def _first_duplicate(starts: Any, order: Any, items: Any, n_items: int) -> Any:
    seen = np.full(n_items, -1, np.int64)  # last row of this item among the rows of the present user
    count, earlier, later = 0, -1, -1
    for g in range(starts.size - 1):
        for position in range(starts[g], starts[g + 1]):
            row = order[position]
            previous = seen[items[row]]
            if previous >= 0:
                count += 1
                if later < 0 or row < later:
                    earlier, later = previous, row
            seen[items[row]] = row
        for position in range(starts[g], starts[g + 1]):
            seen[items[order[position]]] = -1
    return count, earlier, later


@jit()
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
    first: Any, last: Any, chunks: Any, users: Any, items: Any, values: Any, user_places: Any, item_places: Any,
    part_of_user: Any, part_of_item: Any, bands: Any, user_parts: Any, item_parts: Any,
    center: Any, scale: Any, places: Any, out_users: Any, out_items: Any, out_values: Any,
) -> None:  # fmt: skip
    for chunk in range(first, last):
        place = places[chunk]
        for j in range(chunks[chunk], chunks[chunk + 1]):
            u, i = users[j], items[j]
            part = _part(part_of_user[u], part_of_item[i], bands, user_parts, item_parts)
            to = place[part]
            place[part] = to + 1
            out_users[to], out_items[to] = user_places[u], item_places[i]
            out_values[to] = (values[j] - center) / scale


@jit()
def _shuffle(
    first: Any, last: Any, starts: Any, seed: Any, users: Any, items: Any, values: Any
) -> None:  # fmt: skip
    for g in range(first, last):
        low = starts[g]
        for last in range(starts[g + 1] - 1, low, -1):
            other = low + np.int64(
                ((_hashed(seed, last) >> np.uint64(32)) * np.uint64(last - low + 1)) >> np.uint64(32)
            )
            users[last], users[other] = users[other], users[last]
            items[last], items[other] = items[other], items[last]
            values[last], values[other] = values[other], values[last]


@jit()
def _hashed(seed: Any, place: Any) -> Any:
    """64 random bits of a place. Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014."""
    x = seed + (np.uint64(place) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
