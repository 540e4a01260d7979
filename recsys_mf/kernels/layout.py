"""Order of rows in memory: counting sorts over integer keys, on the host.

Integers only, no arithmetic on ratings: these decide where a triple lies, the backends decide what is done to it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


def group(keys: NDArray[np.int32], n_groups: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stable counting sort: row numbers grouped by key.

    keys : int32[n] in [0, n_groups)
    Returns (starts int64[n_groups + 1], order int64[n]): the rows with key g, in their original order,
    are order[starts[g]:starts[g + 1]].
    """
    starts, order = _group(keys, n_groups)
    return starts, order


def first_duplicate(
    users: NDArray[np.int32], items: NDArray[np.int32], n_users: int, n_items: int
) -> tuple[int, int, int]:
    """Count of rows whose (user, item) pair stood in an earlier row, and the first such (earlier, later) rows.

    users, items : int32[n], in range
    Returns (count, earlier, later); (0, -1, -1) when every pair is unique, after one counting sort of the items
    by user and one mark per item: O(n + n_users + n_items) time, 4 n bytes.
    """
    starts, grouped = _group_values(users, items, n_users)
    if not _count_duplicates(starts, grouped, n_items):
        return 0, -1, -1
    starts, order = _group(users, n_users)
    count, earlier, later = _first_duplicate(starts, order, items, n_items)
    return int(count), int(earlier), int(later)


def compact(chunks: list[NDArray[Any]], low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Distinct integers in ascending order, and the position of every value among them.

    chunks : int32 or int64 arrays, n values in all, within low to high
    Returns (known int64[k], positions int32[n]). One byte and one int32 for every integer from low to high.
    """
    present = np.zeros(high - low + 1, np.bool_)
    for chunk in chunks:
        _mark(chunk, low, present)
    position = np.cumsum(present, dtype=np.int32) - np.int32(1)
    positions = np.empty(sum(map(len, chunks)), np.int32)
    start = 0
    for chunk in chunks:
        _look_up(chunk, low, position, positions[start : start + len(chunk)])
        start += len(chunk)
    return np.flatnonzero(present) + low, positions


@numba.njit(cache=True, nogil=True)
def _mark(values: Any, low: int, present: Any) -> None:
    for value in values:
        present[value - low] = True


@numba.njit(cache=True, nogil=True)
def _look_up(values: Any, low: int, position: Any, out: Any) -> None:
    for n in range(values.size):
        out[n] = position[values[n] - low]


@numba.njit(cache=True, nogil=True)
def _group(keys: Any, n_groups: int) -> Any:
    starts = np.zeros(n_groups + 1, np.int64)
    for row in range(keys.size):
        starts[keys[row] + 1] += 1
    for g in range(n_groups):
        starts[g + 1] += starts[g]
    place = starts[:-1].copy()
    order = np.empty(keys.size, np.int64)
    for row in range(keys.size):
        order[place[keys[row]]] = row
        place[keys[row]] += 1
    return starts, order


@numba.njit(cache=True, nogil=True)
def _group_values(keys: Any, values: Any, n_groups: int) -> Any:
    starts = np.zeros(n_groups + 1, np.int64)
    for row in range(keys.size):
        starts[keys[row] + 1] += 1
    for g in range(n_groups):
        starts[g + 1] += starts[g]
    place = starts[:-1].copy()
    grouped = np.empty_like(values)
    for row in range(keys.size):
        grouped[place[keys[row]]] = values[row]
        place[keys[row]] += 1
    return starts, grouped


@numba.njit(cache=True, nogil=True)
def _count_duplicates(starts: Any, items: Any, n_items: int) -> int:
    last = np.full(n_items, -1, np.int64)  # last user who rated the item
    count = 0
    for g in range(starts.size - 1):
        for position in range(starts[g], starts[g + 1]):
            count += last[items[position]] == g
            last[items[position]] = g
    return count


@numba.njit(cache=True, nogil=True)
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
