"""RatedPairs: what a model was trained on, so that a run knows what it has seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped, sorting
from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import DataError
from recsys_mf.models import schema
from recsys_mf.models.schema import Array
from recsys_mf.ratings import Ratings

_ARRAYS = {
    "starts": Array(np.int64, ("m + 1",), "ascending"),
    "items": Array(np.int32, ("n",)),
    "values": Array(np.float32, ("n",)),
}


@dataclass(frozen=True, eq=False)
class RatedPairs:
    """The training ratings with the indices of the model's vocabularies, by user and, for a user, by ascending item.

    starts int64[m + 1], items int32[n], values float32[n] : user u rated the items items[starts[u]:starts[u + 1]]
    """

    starts: NDArray[np.int64]
    items: NDArray[np.int32]
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Raise DataError unless the starts are those of the items and no user has an item twice."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        schema.check_types(arrays, _ARRAYS)
        schema.check_arrays(arrays, _ARRAYS)
        if not len(self.starts) or self.starts[0] != 0 or self.starts[-1] != len(self.items):
            raise DataError("starts that are not those of the items", where="rated", fix="train the run again")
        firsts = self.starts[:-1][np.diff(self.starts) > 0]
        for part in mapped.parts(len(self.items)):
            items = self.items[part]
            rises = np.diff(items, prepend=self.items[part.start - 1] if part.start else np.int32(-1)) > 0
            low, high = np.searchsorted(firsts, [part.start, part.stop])
            rises[firsts[low:high] - part.start] = True
            if items.min() < 0 or not rises.all():
                raise DataError("items that are not ascending", where="rated", fix="train the run again")

    @classmethod
    def of(cls, ratings: Ratings) -> Self:
        """The ratings of a table without unknown ids."""
        ratings.check_known()
        columns = ratings.users, ratings.n_users, ratings.items, ratings.values
        pairs = cls(*sorting.grouped(*columns, n_others=ratings.n_items))
        mapped.release_pages()
        return pairs

    def __len__(self) -> int:
        return len(self.items)

    @property
    def users(self) -> NDArray[np.int32]:
        """User of every rating, int32[n]."""
        return np.repeat(np.arange(len(self.starts) - 1, dtype=np.int32), np.diff(self.starts))

    def of_users(self, users: NDArray[Any]) -> Csr:
        """The items of these users, dense indices int32[b], by row; an unknown user (-1) has none."""
        starts = np.append(self.starts, self.starts[-1])  # the last row is empty
        n_items = int(self.items.max(initial=-1)) + 1
        return Csr(starts, self.items, self.values, n_items).take(users)

    def find(self, users: NDArray[Any], items: NDArray[Any]) -> NDArray[np.int64]:
        """Place of each of the pairs of dense indices among these, -1 if it is not there or an index is -1."""
        return sorting.find_pairs(self.starts, self.items, np.asarray(users), np.asarray(items))

    def contains(self, users: NDArray[Any], items: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each of the pairs of dense indices is among these; bool[b]."""
        return self.find(users, items) >= 0
