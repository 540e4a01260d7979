"""Duplicates: the rows of a table that hold the same (user, item) pair, and what is kept of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import DataError

Duplicates = Literal["error", "last", "mean"]
DUPLICATES: tuple[Duplicates, ...] = ("error", "last", "mean")


@dataclass(frozen=True)
class PairGroups:
    """The rows of a table, grouped by pair.

    order int64[n] : the rows sorted by pair, the oldest of each first
    group int64[n] : for each of these, the number of its pair
    newest int64[pairs] : the newest row of every pair
    """

    order: NDArray[np.int64]
    group: NDArray[np.int64]
    newest: NDArray[np.int64]

    @classmethod
    def of(
        cls, users: NDArray[np.int32], items: NDArray[np.int32], n_items: int, times: NDArray[np.int64] | None
    ) -> Self:
        """The groups of these rows; of two rows with the same time, or without times, the later one is newer."""
        pairs = users.astype(np.int64) * n_items + items
        order = np.argsort(pairs, kind="stable") if times is None else np.lexsort((times, pairs))
        is_last = np.append(np.diff(pairs[order]) > 0, True)  # whether the row is the newest of its pair
        return cls(order, np.cumsum(is_last) - is_last, order[is_last])

    def averaged(
        self, values: NDArray[np.float32], weights: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """The columns with the average of every pair, and the sum of its weights, in the newest row of the pair."""
        means, ordered = values.copy(), values[self.order].astype(np.float64)
        if weights is None:
            means[self.newest] = np.bincount(self.group, weights=ordered) / np.bincount(self.group)
            return means, None
        counted = weights[self.order].astype(np.float64)
        sums, totals = weights.copy(), np.bincount(self.group, weights=counted)
        means[self.newest] = np.bincount(self.group, weights=counted * ordered) / totals
        sums[self.newest] = totals
        return means, sums

    def error(self, count: int, example: str, values: NDArray[np.float32], *, newest: str, where: str) -> DataError:
        """The error for a table that must not have duplicates.

        count : of rows that repeat a pair; example : one of the pairs, in words; newest : what the newest row is, in
        words
        """
        starts = np.flatnonzero(np.diff(self.group, prepend=-1))
        ordered = values[self.order]
        differ = np.maximum.reduceat(ordered, starts) > np.minimum.reduceat(ordered, starts)
        contradicted, repeated = int(differ.sum()), int((np.diff(starts, append=len(self.group)) > 1).sum())
        return DataError(
            f"{count} duplicate (user, item) pairs",
            where=where,
            seen=f"{example}; {contradicted:,} of {repeated:,} have different ratings",
            fix=f"remove them, or choose --duplicates last ({newest} of each) or mean (their average): "
            f"{len(starts):,} ratings",
        )
