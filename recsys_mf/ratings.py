"""Ratings: the table of observed (user, item, value) triples that every other part works on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import lookup, mapped, sorting
from recsys_mf.arrays.csr import Csr
from recsys_mf.conversion import Origin, rating_values, rating_weights, time_seconds
from recsys_mf.conversion.origin import format_value
from recsys_mf.conversion.ratings import all_finite
from recsys_mf.conversion.weights import are_weights, fault_in_weights
from recsys_mf.duplicates import DUPLICATES, Duplicates, PairGroups
from recsys_mf.errors import ConfigError, DataError, nearest
from recsys_mf.features import Features
from recsys_mf.sharing import COMPUTED, GROUPED, shared
from recsys_mf.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse
    import torch

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Ratings:
    """Observed ratings as index/value triples. What is not in the table is missing; a zero is a rating.

    users, items : int32[n], dense indices into the vocabularies; -1 (an id the vocabulary does not hold)
        only in tables made for evaluation by `reindexed`
    values : float32[n], finite, in the units of the source
    times : int64[n] seconds since 1970-01-01 UTC, or None
    user_vocabulary, item_vocabulary : the ids of the indices
    user_features, item_features : side information, or None
    weights : float32[n], finite and above 0: how much each rating counts, e.g. 2 as much as two such ratings; or None

    The arrays are read-only and no (user, item) pair occurs twice (`from_ids` ensures this). Raises DataError if
    lengths, ranges or values are wrong.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    values: NDArray[np.float32]
    times: NDArray[np.int64] | None
    user_vocabulary: Vocabulary
    item_vocabulary: Vocabulary
    user_features: Features | None = None
    item_features: Features | None = None
    weights: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for name, dtype in (
            ("users", np.int32), ("items", np.int32), ("values", np.float32), ("times", np.int64),
            ("weights", np.float32),
        ):  # fmt: skip
            array = getattr(self, name)
            if array is None and name in ("times", "weights"):
                continue
            array = _column(array, dtype, where=name)
            if array.shape != (len(self.users),):
                raise DataError(
                    "arrays of a rating table differ in length",
                    where=name,
                    seen=array.shape,
                    fix=f"give ({len(self.users)},)",
                )
            object.__setattr__(self, name, array)
        for name, indices, vocabulary in (
            ("users", self.users, self.user_vocabulary),
            ("items", self.items, self.item_vocabulary),
        ):
            if len(indices) and not (indices.min() >= -1 and indices.max() < len(vocabulary)):
                raise DataError(
                    "index out of range",
                    where=name,
                    seen=f"{indices.min()} to {indices.max()}",
                    fix=f"stay within -1 to {len(vocabulary) - 1}",
                )
        if not all_finite(self.values):
            row = int(np.flatnonzero(~np.isfinite(self.values))[0])
            raise DataError(
                "rating is not finite", where=f"row {row}", seen=self.values[row], fix="give a finite number"
            )
        if self.weights is not None and not are_weights(self.weights):
            raise fault_in_weights(self.weights, Origin("weights"))

    @classmethod
    def from_ids(
        cls,
        user_ids: Any,
        item_ids: Any,
        values: Any,
        times: Any = None,
        *,
        weights: Any = None,
        duplicates: Duplicates = "error",
        where: str = "ratings",
    ) -> Ratings:
        """Ratings from columns of ids as in a file; the vocabularies are built from these rows.

        user_ids, item_ids : integers or strings, Arrow, NumPy, pandas or sequences, [n]; as in `conversion.id_column`
        values : numbers, [n], as in `conversion.rating_values`
        times : seconds since 1970 or datetimes, [n], as in `conversion.time_seconds`; or None
        weights : how much each rating counts, [n], as in `conversion.rating_weights`; or None
        duplicates : as in `without_duplicates`
        where : name of the table, for messages

        Raises DataError for an empty table, columns of different lengths, and invalid ids, ratings, times or weights.
        """
        user_vocabulary, users = Vocabulary.encode(user_ids, where=f"{where}, user ids")
        item_vocabulary, items = Vocabulary.encode(item_ids, where=f"{where}, item ids")
        if not len(users):
            raise DataError("no ratings in the table", where=where, fix="give at least one row")
        ratings = rating_values(values, Origin(f"{where}, values"))
        seconds = None if times is None else time_seconds(times, Origin(f"{where}, times"))[0]
        counted = None if weights is None else rating_weights(weights, Origin(f"{where}, weights"))
        table = cls(users, items, ratings, seconds, user_vocabulary, item_vocabulary, weights=counted)
        return table.without_duplicates(duplicates, where=where)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Ratings({len(self):,} ratings, {self.n_users:,} users, {self.n_items:,} items)"

    @property
    def n_users(self) -> int:
        """Number of ids in the user vocabulary."""
        return len(self.user_vocabulary)

    @property
    def n_items(self) -> int:
        """Number of ids in the item vocabulary."""
        return len(self.item_vocabulary)

    @cached_property
    def rating_range(self) -> tuple[float, float]:
        """Smallest and largest value."""
        return float(self.values.min()), float(self.values.max())

    @cached_property
    def user_counts(self) -> NDArray[np.int64]:
        """Number of ratings of every user, int64[n_users]; unknown users are not counted."""
        return sorting.counts(self.users, self.n_users)

    @cached_property
    def item_counts(self) -> NDArray[np.int64]:
        """Number of ratings of every item, int64[n_items]; unknown items are not counted."""
        return sorting.counts(self.items, self.n_items)

    @cached_property
    def user_weights(self) -> NDArray[np.float64]:
        """Sum of the weights of the ratings of every user, float64[n_users]; without weights their number."""
        return _summed(self.users, self.weights, self.user_counts)

    @cached_property
    def item_weights(self) -> NDArray[np.float64]:
        """Sum of the weights of the ratings of every item, float64[n_items]; without weights their number."""
        return _summed(self.items, self.weights, self.item_counts)

    @cached_property
    def total_weight(self) -> float:
        """Sum of the weights of all rows; without weights their number."""
        return float(len(self)) if self.weights is None else mapped.mean(self.weights) * len(self)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over ids, values, times and weights in row order: the same for the same rows in the same order."""
        digest = hashlib.sha256()
        digest.update(self.user_vocabulary.fingerprint.encode())
        digest.update(self.item_vocabulary.fingerprint.encode())
        for array in (self.users, self.items, self.values, self.times):
            digest.update(b"none" if array is None else array.data)
        if self.weights is not None:
            digest.update(b"weights")
            digest.update(self.weights.data)
        return digest.hexdigest()

    @cached_property
    def _are_known(self) -> tuple[bool, bool]:
        """Whether all users are known, and all items."""
        users, items = (not len(indices) or bool(indices.min() >= 0) for indices in (self.users, self.items))
        return users, items

    def check_known(self, *, where: str = "ratings") -> None:
        """Raise DataError if a row has an unknown user or item (index -1): only a model can predict such rows.

        where : name of the table, for messages
        """
        for role, is_known, indices in zip(("user", "item"), self._are_known, (self.users, self.items), strict=True):
            if not is_known:
                row = int((indices < 0).argmax())
                seen = f"{int((indices < 0).sum())} unknown {role}s, the first in row {row}"
                fix = "give the table as it was read, or select the rows where users and items are both >= 0"
                raise DataError(
                    "the table has rows whose ids are not in the training part", where=where, seen=seen, fix=fix
                )

    def by_user(self) -> Csr:
        """The ratings as a matrix of users by items, in row order per user; read-only, because `grouped_once` may share
        it. Raises DataError for an unknown id.
        """
        self.check_known()
        columns = self.users, self.n_users, self.items, self.values
        return shared(self, GROUPED, "by user", lambda: Csr(*sorting.grouped(*columns), self.n_items))

    def by_item(self) -> Csr:
        """The ratings as a matrix of items by users, in row order per item; read-only, because `grouped_once` may share
        it. Raises DataError for an unknown id.
        """
        self.check_known()
        columns = self.items, self.n_items, self.users, self.values
        return shared(self, GROUPED, "by item", lambda: Csr(*sorting.grouped(*columns), self.n_users))

    def once(self, key: Any, compute: Callable[[], T]) -> T:
        """The result of `compute`; inside `computed_once` only the first call per key computes it, and all share it."""
        return shared(self, COMPUTED, key, compute)

    def weights_by_user(self) -> NDArray[np.float32] | None:
        """The weights in the order of the entries of `by_user`, float32[n]; None without weights."""
        return None if self.weights is None else self._in_groups(self.users, self.n_users, self.weights)

    def weights_by_item(self) -> NDArray[np.float32] | None:
        """The weights in the order of the entries of `by_item`, float32[n]; None without weights."""
        return None if self.weights is None else self._in_groups(self.items, self.n_items, self.weights)

    def _in_groups(self, keys: NDArray[np.int32], n_groups: int, column: NDArray[np.float32]) -> NDArray[np.float32]:
        return sorting.grouped(keys, n_groups, keys, column)[2]

    def select(self, rows: NDArray[Any], *, with_times: bool = True) -> Ratings:
        """The given rows (bool[n] or integer row numbers), under the same vocabularies."""
        return self._selected(rows, self.user_vocabulary, self.item_vocabulary, with_times=with_times)

    def part(self, is_second: NDArray[np.bool_], *, with_times: bool = True) -> tuple[Ratings, Ratings]:
        """The rows that are not marked, `restricted`, and those that are, under the same vocabularies."""
        second = self.select(is_second, with_times=with_times)
        users, items = (
            _restricted(counts - of_second, vocabulary, features)
            for counts, of_second, vocabulary, features in (
                (self.user_counts, second.user_counts, self.user_vocabulary, self.user_features),
                (self.item_counts, second.item_counts, self.item_vocabulary, self.item_features),
            )
        )
        return self._selected(~is_second, users, items, with_times=with_times), second

    def _selected(
        self, rows: NDArray[Any], user_vocabulary: Vocabulary, item_vocabulary: Vocabulary, *, with_times: bool
    ) -> Ratings:
        rows = np.asarray(rows)
        times, weights = (
            None if column is None else mapped.taken(column, rows)
            for column in (self.times if with_times else None, self.weights)
        )
        return replace(
            self,
            users=_reindexed(self.users, self.user_vocabulary, user_vocabulary, rows, where="user ids"),
            items=_reindexed(self.items, self.item_vocabulary, item_vocabulary, rows, where="item ids"),
            values=mapped.taken(self.values, rows),
            times=times,
            weights=weights,
            user_vocabulary=user_vocabulary,
            item_vocabulary=item_vocabulary,
        )

    def restricted(self) -> Ratings:
        """The same rows under vocabularies with only the ids that occur in them or have side information."""
        return self.reindexed(
            _restricted(self.user_counts, self.user_vocabulary, self.user_features),
            _restricted(self.item_counts, self.item_vocabulary, self.item_features),
        )

    def with_features(self, users: Features | None = None, items: Features | None = None) -> Ratings:
        """The table with side information of users, of items or of both, under vocabularies that also hold its ids.

        Raises DataError when ids are integers on one side and strings on the other.
        """
        table = replace(self, user_features=users or self.user_features, item_features=items or self.item_features)
        return table.reindexed(
            self.user_vocabulary if users is None else self.user_vocabulary.union(users.vocabulary, where="user ids"),
            self.item_vocabulary if items is None else self.item_vocabulary.union(items.vocabulary, where="item ids"),
        )

    def reindexed(self, user_vocabulary: Vocabulary, item_vocabulary: Vocabulary) -> Ratings:
        """The same rows under other vocabularies; ids that these do not hold become -1.

        Raises DataError when the ids are integers on one side and strings on the other.
        """
        users = _reindexed(self.users, self.user_vocabulary, user_vocabulary, where="user ids")
        items = _reindexed(self.items, self.item_vocabulary, item_vocabulary, where="item ids")
        return replace(self, users=users, items=items, user_vocabulary=user_vocabulary, item_vocabulary=item_vocabulary)

    def without_duplicates(self, rule: Duplicates, *, where: str = "ratings") -> Ratings:
        """The table with every (user, item) pair once.

        rule : if a pair occurs more than once, "last" keeps its newest row: by time if the table has times (if the
            times are equal, the later row), else the last row. "mean" keeps the average of its values at the position
            and time of that row; if there are weights, the average is weighted and the weights are summed. "error"
            raises DataError with the count, an example and what the other rules would keep
        where : name of the table, for messages

        Raises DataError if an id is unknown.
        """
        if rule not in DUPLICATES:
            raise ConfigError("unknown rule for duplicates", seen=rule, fix=nearest(rule, DUPLICATES))
        self.check_known(where=where)
        count, earlier, later = lookup.first_duplicate(self.users, self.items, self.n_users, self.n_items)
        mapped.release_pages()
        if not count:
            return self
        groups = PairGroups.of(self.users, self.items, self.n_items, self.times)
        if rule == "error":
            user = format_value(self.user_vocabulary.entries[int(self.users[later])])
            item = format_value(self.item_vocabulary.entries[int(self.items[later])])
            example = f"user {user}, item {item} in rows {earlier} and {later}"
            newest = "the last row" if self.times is None else "the newest row"
            raise groups.error(count, example, self.values, newest=newest, where=where)
        table = self
        if rule == "mean":
            values, weights = groups.averaged(self.values, self.weights)
            table = replace(self, values=values, weights=weights)
        return table.select(np.sort(groups.newest))

    def to_scipy(self) -> scipy.sparse.csr_matrix:
        """The known pairs as a SciPy CSR matrix, float32[n_users, n_items]; an observed zero is stored."""
        import scipy.sparse

        known = self.select((self.users >= 0) & (self.items >= 0))
        starts, items, values, _ = known.by_user()
        return scipy.sparse.csr_matrix((values, items, starts), shape=(self.n_users, self.n_items))

    def to_sparse_tensor(self) -> torch.Tensor:
        """The known pairs as a coalesced torch COO tensor, float32[n_users, n_items]; a zero is stored."""
        import torch

        known = self.select((self.users >= 0) & (self.items >= 0))
        indices = torch.from_numpy(np.stack([known.users, known.items]).astype(np.int64))
        values = torch.from_numpy(known.values.copy())
        shape = self.n_users, self.n_items
        return torch.sparse_coo_tensor(indices, values, shape, check_invariants=False).coalesce()

    def to_frame(self) -> pd.DataFrame:
        """The rows as a pandas frame: user_id, item_id, rating and, if known, timestamp (seconds) and weight."""
        import pandas as pd

        frame: dict[str, Any] = {
            "user_id": self.user_vocabulary.ids(self.users).to_pandas(),
            "item_id": self.item_vocabulary.ids(self.items).to_pandas(),
            "rating": self.values,
        }
        if self.times is not None:
            frame["timestamp"] = self.times
        if self.weights is not None:
            frame["weight"] = self.weights
        return pd.DataFrame(frame)


def _column(column: Any, dtype: type[np.generic], *, where: str) -> NDArray[Any]:
    """The column as a contiguous array that is read-only here; the caller's own array stays writable."""
    try:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused as such
            array = np.ascontiguousarray(column, dtype=dtype).view()
    except (TypeError, ValueError) as error:
        raise DataError(
            "the column does not hold numbers", where=where, seen=error, fix="give finite numbers"
        ) from None
    array.flags.writeable = False
    return array


def _summed(
    keys: NDArray[np.int32], weights: NDArray[np.float32] | None, counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sum of the weights of every key; without weights the counts of the keys; -1 is not summed."""
    if weights is None:
        return counts.astype(np.float64)
    return sorting.sums(keys, len(counts), weights)


def _reindexed(
    indices: NDArray[np.int32],
    vocabulary: Vocabulary,
    other: Vocabulary,
    rows: NDArray[Any] | None = None,
    *,
    where: str,
) -> NDArray[np.int32]:
    """The indices of one vocabulary, or only those in these rows, under another; -1 stays -1."""
    if other is vocabulary:
        return indices if rows is None else mapped.taken(indices, rows)
    table = np.append(other.indices(vocabulary.entries, where=where), np.int32(-1))  # index -1 reads the last entry
    return mapped.taken(table, indices) if rows is None else mapped.taken(indices, rows, table)


def _restricted(counts: NDArray[np.int64], vocabulary: Vocabulary, features: Features | None) -> Vocabulary:
    """The vocabulary of the ids that have ratings or side information."""
    known = counts > 0
    if features is not None:
        known |= features.vocabulary.indices(vocabulary.entries) >= 0
    return vocabulary if known.all() else vocabulary.restricted(known)
