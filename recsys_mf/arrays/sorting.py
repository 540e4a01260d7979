"""Counting sorts over integer keys: rows of a table grouped by user or by item, and pairs found in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped


def group(keys: NDArray[np.int32], n_groups: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stable counting sort: row numbers grouped by key.

    keys : int32[n] in [0, n_groups)
    Returns (starts int64[n_groups + 1], order int64[n]): the rows with key g, in their original order,
    are order[starts[g]:starts[g + 1]].
    """
    from recsys_mf.arrays import compiled

    starts, order = compiled.group(keys, n_groups)
    return starts, order


def grouped(
    keys: NDArray[np.int32], n_groups: int, others: NDArray[np.int32], values: NDArray[np.float32], *,
    n_others: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:  # fmt: skip
    """starts as in `group`, and the two columns in its order, without the row numbers.

    n_others : if given, every group is in the order of `others`, which are in [0, n_others), and not in its original
        order
    """
    from recsys_mf.arrays import compiled

    columns = mapped.empty(len(keys), np.int32), mapped.empty(len(keys), np.float32)
    starts, are_in_order = compiled.starts_and_order(keys, n_groups)
    place = starts[:-1].copy()
    whole = mapped.Window(slice(0, n_groups), 0, columns)
    for groups, first, into in [whole] if are_in_order else mapped.windows(starts, columns):
        window = groups.start, groups.stop, first
        compiled.group_columns(keys, others, values, window, place, *into)
        if n_others is not None:
            compiled.sort_groups(starts, window, n_others, *into)
    return starts, *columns


def counts(keys: NDArray[np.int32], n_groups: int) -> NDArray[np.int64]:
    """How often each of 0 … n_groups - 1 occurs, int64[n_groups]; -1 is not counted."""
    from recsys_mf.arrays import compiled

    found: NDArray[np.int64] = compiled.counts(keys, n_groups)
    return found


def sums(keys: NDArray[Any], n_groups: int, values: NDArray[Any] | None) -> NDArray[np.float64]:
    """The sum of the values with each of the keys 0 … n_groups - 1, float64[n_groups], added up part by part; -1 is not
    summed.

    values : None for ones
    """
    found = np.zeros(n_groups + 1)
    for part in mapped.parts(len(keys)):
        found += np.bincount(keys[part] + 1, None if values is None else values[part], n_groups + 1)
    mapped.release_pages()
    return found[1:]


def find_pairs(
    starts: NDArray[np.int64], others: NDArray[np.int32], keys: NDArray[Any], wanted: NDArray[Any]
) -> NDArray[np.int64]:
    """Place of every pair (key, wanted) in grouped columns whose groups ascend; -1 for a pair that is not there.

    starts int64[n_groups + 1], others int32[n] : group g is others[starts[g]:starts[g + 1]]
    keys, wanted : [b]; -1 is in no group
    """
    from recsys_mf.arrays import compiled

    found = np.empty(len(keys), np.int64)
    compiled.find_pairs(starts, others, keys, wanted, found)
    return found
