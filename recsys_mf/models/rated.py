"""RatedPairs: which (user, item) pairs a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import DataError
from recsys_mf.models import schema
from recsys_mf.models.schema import Array
from recsys_mf.ratings import Ratings

_ARRAYS = {"starts": Array(np.int64, ("m + 1",), "ascending"), "items": Array(np.int32, ("pairs",))}


@dataclass(frozen=True, eq=False)
class RatedPairs:
    """The training pairs, without their ratings, under the vocabularies of the model.

    starts int64[m + 1], items int32[n] : the items that user u rated are items[starts[u]:starts[u + 1]], ascending
    """

    starts: NDArray[np.int64]
    items: NDArray[np.int32]

    def __post_init__(self) -> None:
        """Raise DataError unless the starts are those of the items and no user has an item twice."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        schema.check_types(arrays, _ARRAYS)
        schema.check_arrays(arrays, _ARRAYS)
        if not len(self.starts) or self.starts[0] != 0 or self.starts[-1] != len(self.items):
            raise DataError("starts that are not those of the items", where="rated", fix="train the run again")
        begins = np.zeros(len(self.items), np.bool_)
        begins[self.starts[:-1][np.diff(self.starts) > 0]] = True
        rises = np.diff(self.items, prepend=np.int32(-1)) > 0
        if (self.items < 0).any() or not (rises | begins).all():
            raise DataError("items that are not ascending", where="rated", fix="train the run again")

    @classmethod
    def of(cls, ratings: Ratings) -> Self:
        """The pairs of a table without unknown ids."""
        starts, items, _ = ratings.by_user()
        users = np.repeat(np.arange(ratings.n_users), np.diff(starts))
        return cls(starts, items[np.lexsort((items, users))])

    def __len__(self) -> int:
        return len(self.items)

    def contains(self, users: NDArray[Any], items: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each of the pairs of dense indices is among these; bool[b], False where an index is -1."""
        n_items = int(max(self.items.max(initial=-1), np.max(items, initial=-1))) + 1
        owners = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        known = owners * np.int64(n_items) + self.items  # ascending
        asked = np.asarray(users, np.int64) * n_items + items
        places = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        both = (np.asarray(users) >= 0) & (np.asarray(items) >= 0)
        return both & (known[places] == asked) if len(known) else np.zeros(len(asked), np.bool_)
