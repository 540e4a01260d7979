"""The loops of `sorting` and `lookup`, compiled. They are imported when first needed, because numba loads slowly."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_mf.arrays.jit import inline, jit

_BLOCK = 1 << 16  # entries that `sort_groups` sorts at a time, at least; 12 bytes each


@jit()
def find_pairs(starts: Any, others: Any, keys: Any, wanted: Any, found: Any) -> None:
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
def mark(values: Any, low: int, present: Any) -> None:
    for value in values:
        present[value - low] = True


@jit()
def look_up(values: Any, out: Any, low: int, table: Any) -> None:
    size, first = np.uint64(table.size), np.uint64(np.int64(low))
    for n in range(values.size):
        place = np.uint64(np.int64(values[n])) - first  # below low it wraps, and is beyond the table
        out[n] = table[place] if place < size else np.int32(-1)


@inline()
def count_starts(keys: Any, n_groups: int) -> Any:
    """Where every group begins in the order of the groups, and the end of the last."""
    starts = np.zeros(n_groups + 1, np.int64)
    for row in range(keys.size):
        starts[keys[row] + 1] += 1
    for g in range(n_groups):
        starts[g + 1] += starts[g]
    return starts


@jit()
def starts_and_order(keys: Any, n_groups: int) -> Any:
    """The starts, and whether the keys ascend."""
    row = 1
    while row < keys.size and keys[row - 1] <= keys[row]:
        row += 1
    return count_starts(keys, n_groups), row >= keys.size


@jit()
def group(keys: Any, n_groups: int) -> Any:
    starts = count_starts(keys, n_groups)
    place = starts[:-1].copy()
    order = np.empty(keys.size, np.int64)
    for row in range(keys.size):
        order[place[keys[row]]] = row
        place[keys[row]] += 1
    return starts, order


@jit()
def group_values(keys: Any, values: Any, place: Any, grouped: Any) -> None:
    """The values grouped by key. place : where every group begins; it is incremented"""
    for row in range(keys.size):
        grouped[place[keys[row]]] = values[row]
        place[keys[row]] += 1


@jit()
def group_columns(
    keys: Any, others: Any, values: Any, window: Any, place: Any, grouped_others: Any, grouped_values: Any
) -> None:  # fmt: skip
    """A window of the two columns grouped by key.

    window : the first key, the one after the last, and the place of the first entry
    place : where every group begins; it is incremented
    """
    low, high, start = window
    for row in range(keys.size):
        key = keys[row]
        if low <= key < high:
            to = place[key] - start
            place[key] += 1
            grouped_others[to], grouped_values[to] = others[row], values[row]


@jit()
def sort_groups(starts: Any, window: Any, n_others: int, grouped_others: Any, grouped_values: Any) -> None:
    """Put the entries of every group of a window (`group_columns`) into the ascending order of `grouped_others`: by two
    counting sorts, by other and then by group, of so few groups at a time that they stay in the cache.

    n_others : the numbers in grouped_others are below it
    """
    low, high, start = window
    most = max(_BLOCK, n_others)
    own, others, values = np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32)
    place = np.empty(n_others + 1, np.int64)
    while low < high:
        end = low + 1
        while end < high and starts[end + 1] - starts[low] <= most:
            end += 1
        first, size = starts[low] - start, starts[end] - starts[low]
        if own.size < size:
            own, others, values = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.float32)
        place[:] = 0
        for j in range(first, first + size):
            place[grouped_others[j] + 1] += 1
        for other in range(n_others):
            place[other + 1] += place[other]
        for g in range(low, end):
            for j in range(starts[g] - start, starts[g + 1] - start):
                to = place[grouped_others[j]]
                place[grouped_others[j]] += 1
                own[to], others[to], values[to] = g - low, grouped_others[j], grouped_values[j]
        next_of = starts[low:end] - start
        for j in range(size):
            to = next_of[own[j]]
            next_of[own[j]] += 1
            grouped_others[to], grouped_values[to] = others[j], values[j]
        low = end


@jit()
def counts(keys: Any, n_groups: int) -> Any:
    found = np.zeros(n_groups, np.int64)
    for key in keys:
        if key >= 0:
            found[key] += 1
    return found


@jit()
def find_duplicates(first: Any, last: Any, starts: Any, items: Any, n_items: int, found: Any) -> None:
    """Set found[0] if an item occurs twice among the rows of one of the users first to last."""
    rater = np.full(n_items, -1, np.int32)  # the last user who rated the item
    twice = False
    for g in range(first, last):
        for position in range(starts[g], starts[g + 1]):
            twice |= rater[items[position]] == g
            rater[items[position]] = g
    if twice:
        found[0] = True


@jit()
def first_duplicate(starts: Any, order: Any, items: Any, n_items: int) -> Any:
    seen = np.full(n_items, -1, np.int64)  # last row of this item among the rows of the current user
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
