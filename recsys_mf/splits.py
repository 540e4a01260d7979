"""Splits: which ratings are hidden from training, by a rule that others can repeat.

Every rule decides from the source order of the rows, the seed and, for `by="time"`, the timestamps; nothing
else. A split's vocabularies are those of its training rows: an id seen only in the test part is unknown (-1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys_mf import columns
from recsys_mf.errors import ConfigError, DataError, nearest
from recsys_mf.ratings import Ratings

By = Literal["random", "user", "time"]
RULES: tuple[By, ...] = ("random", "user", "time")


@dataclass(frozen=True, eq=False)
class Split:
    """Ratings parted into training, test and, where one was cut, validation rows.

    train : vocabularies of its own rows alone
    test, valid : under the vocabularies of train, -1 for ids train does not have; None where there is none
    rule : the rule in words, as reports print it
    seed : the seed of the rule, None where none was used
    by : the rule that parts validation rows from train
    """

    train: Ratings
    test: Ratings | None
    valid: Ratings | None
    rule: str
    seed: int | None
    by: By = "random"


def hold_out(ratings: Ratings, fraction: float = 0.1, seed: int = 0, *, by: By = "random") -> Split:
    """Hide a fraction of the ratings as the test part.

    by="random" : row j (source order) is test if and only if
        numpy.random.default_rng(seed).random(n)[j] < fraction
    by="user" : with the same draws x, each user's floor(fraction * count) rows of smallest x are test, so every
        user keeps at least one rating in train
    by="time" : the floor(fraction * n) newest rows are test; rows of equal time go by source order, later
        rows are newer; the seed is not used

    fraction : in [0, 1); 0 gives a split without a test part
    Raises ConfigError for a fraction or rule that does not exist, DataError for by="time" without
    timestamps, for a split that leaves nothing to train or test on, and for rows with unknown ids (a test part).
    """
    if not 0 <= fraction < 1:
        raise ConfigError("fraction to hold out is out of range", seen=fraction, fix="give a number from 0 to below 1")
    if by not in RULES:
        raise ConfigError("unknown split rule", seen=by, fix=nearest(by, RULES))
    ratings.check_known()
    if fraction == 0:
        return Split(ratings.restricted(), None, None, "all rows in train", None)
    rule = {
        "random": f"random, {fraction:.0%} of ratings held out",
        "user": f"random within each user, {fraction:.0%} held out",
        "time": f"by time, the newest {fraction:.0%} held out",
    }[by]
    masks = {"random": _random_mask, "user": _user_mask, "time": _time_mask}
    return _parted(ratings, masks[by](ratings, fraction, seed), rule, None if by == "time" else seed, by)


def k_folds(ratings: Ratings, k: int = 5, seed: int = 0) -> Iterator[Split]:
    """k splits in which every rating is tested exactly once.

    Row j (source order) is in the test part of fold floor(k * rank_j / n), where rank_j is the position of j in
    the order of numpy.random.default_rng(seed).random(n).
    """
    if not 2 <= k <= len(ratings):
        raise ConfigError("number of folds is out of range", seen=k, fix=f"give 2 to {len(ratings)}")
    ratings.check_known()
    ranks = np.empty(len(ratings), np.int64)
    ranks[np.argsort(np.random.default_rng(seed).random(len(ratings)), kind="stable")] = np.arange(len(ratings))
    folds = ranks * k // len(ratings)
    for fold in range(k):
        yield _parted(ratings, folds == fold, f"fold {fold + 1} of {k}, random", seed)


def given(train: Ratings, test: Ratings, *, rule: str = "given files") -> Split:
    """The split of two tables that were parted elsewhere.

    Raises DataError when a (user, item) pair is in both: the model would have seen what it is asked.
    """
    train.check_known(where="train")
    train = train.restricted()
    test = test.reindexed(train.user_vocabulary, train.item_vocabulary)
    known = (test.users >= 0) & (test.items >= 0)
    shared = np.isin(_pairs(test.select(known)), _pairs(train))
    if shared.any():
        row = int(np.flatnonzero(known)[np.flatnonzero(shared)[0]])
        user = train.user_vocabulary.entries[int(test.users[row])].as_py()
        item = train.item_vocabulary.entries[int(test.items[row])].as_py()
        raise DataError(
            f"{int(shared.sum())} (user, item) pairs are in both the training and the test table",
            seen=f"user {user!r}, item {item!r}, row {row} of the test table",
            fix="remove them from one of the two",
        )
    return Split(train, test, None, rule, None)


def with_validation(split: Split, fraction: float, seed: int) -> Split:
    """The split with a fraction of its training rows set aside as `valid`, by the split's own rule.

    The rows left to train keep their own vocabularies; test is reindexed to them.
    """
    inner = hold_out(split.train, fraction, seed, by=split.by)
    test = split.test and split.test.reindexed(inner.train.user_vocabulary, inner.train.item_vocabulary)
    return Split(inner.train, test, inner.test, split.rule, split.seed, split.by)


def _parted(ratings: Ratings, is_test: NDArray[np.bool_], rule: str, seed: int | None, by: By = "random") -> Split:
    if not is_test.any() or is_test.all():
        raise DataError(
            "the split leaves one part empty",
            seen=f"{int(is_test.sum())} of {len(ratings)} ratings in the test part",
            fix="hold out another fraction or give more ratings",
        )
    train = ratings.select(~is_test).restricted()
    test = ratings.select(is_test).reindexed(train.user_vocabulary, train.item_vocabulary)
    return Split(train, test, None, rule, seed, by)


def _random_mask(ratings: Ratings, fraction: float, seed: int) -> NDArray[np.bool_]:
    rng, mask = np.random.default_rng(seed), np.empty(len(ratings), np.bool_)
    for part in columns.parts(len(mask)):  # in parts the stream of draws is the same
        mask[part] = rng.random(len(mask[part])) < fraction
    return mask


def _user_mask(ratings: Ratings, fraction: float, seed: int) -> NDArray[np.bool_]:
    draws = np.random.default_rng(seed).random(len(ratings))
    order = np.lexsort((draws, ratings.users))
    starts = np.concatenate([[0], np.cumsum(ratings.user_counts)])
    rank = np.arange(len(ratings)) - starts[ratings.users[order]]  # position within the user's draws
    mask = np.zeros(len(ratings), np.bool_)
    mask[order] = rank < np.floor(fraction * ratings.user_counts[ratings.users[order]])
    return mask


def _time_mask(ratings: Ratings, fraction: float, seed: int) -> NDArray[np.bool_]:
    if ratings.times is None:
        raise DataError(
            "a split by time needs timestamps",
            seen="a table without a time column",
            fix="name the column with --time-column, or split by 'random' or 'user'",
        )
    newest_last = np.argsort(ratings.times, kind="stable")
    mask = np.zeros(len(ratings), np.bool_)
    mask[newest_last[len(ratings) - int(fraction * len(ratings)) :]] = True
    return mask


def _pairs(ratings: Ratings) -> NDArray[np.int64]:
    return ratings.users.astype(np.int64) * ratings.n_items + ratings.items
