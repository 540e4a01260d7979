"""Integer ids and dense indices: which integers occur, the position of each among them, and pairs that occur twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped
from recsys_mf.arrays.cores import available_threads
from recsys_mf.arrays.threads import shares, side_by_side


def first_duplicate(
    users: NDArray[np.int32], items: NDArray[np.int32], n_users: int, n_items: int
) -> tuple[int, int, int]:
    """Count of rows whose (user, item) pair occurred in an earlier row, and the first such (earlier, later) rows.

    users, items : int32[n], in range
    Returns (count, earlier, later); (0, -1, -1) when every pair is unique, after one counting sort of the items
    by user and one mark per item: O(n + n_users + n_items) time, 4 n bytes. If users ascend, no sort is needed.
    """
    from recsys_mf.arrays import compiled

    starts, ascend = compiled.starts_and_order(users, n_users)
    by_user = items
    if not ascend:
        by_user = mapped.empty(len(items), np.int32)
        compiled.group_values(users, items, starts[:-1].copy(), by_user)
    threads = available_threads()
    found = np.zeros(1, np.bool_)
    tasks = shares(np.diff(starts).astype(np.float64), threads)
    side_by_side(compiled.find_duplicates, tasks, threads, starts, by_user, n_items, found)
    if not found[0]:
        return 0, -1, -1
    starts, order = compiled.group(users, n_users)
    count, earlier, later = compiled.first_duplicate(starts, order, items, n_items)
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
    from recsys_mf.arrays import compiled

    threads = available_threads()
    present = np.zeros(high - low + 1, np.bool_)
    side_by_side(compiled.mark, [(chunk,) for chunk in chunks], threads, low, present)
    position = np.cumsum(present, dtype=np.int32) - np.int32(1)
    positions = mapped.empty(sum(map(len, chunks)), np.int32)
    parts = np.split(positions, np.cumsum([len(chunk) for chunk in chunks])[:-1])
    side_by_side(compiled.look_up, list(zip(chunks, parts, strict=True)), threads, low, position)
    return np.flatnonzero(present) + low, positions


def positions(values: NDArray[Any], low: int, table: NDArray[np.int32]) -> NDArray[np.int32]:
    """table[value - low] of every integer, -1 for one outside the table; int32[n]."""
    from recsys_mf.arrays import compiled

    found = np.empty(len(values), np.int32)
    compiled.look_up(values, found, low, table)
    return found
