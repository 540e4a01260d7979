"""Splits: which ratings are held out from training, by a rule that others can repeat.

Every rule depends only on the source order of the rows and on the seed or, for the rules in BY_TIME, the timestamps. A
split's vocabularies are those of its training rows: an id seen only in the test part is unknown (-1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arguments import choice, format_argument, instance, is_finite, is_number, whole
from recsys_mf.arguments import fraction as as_fraction
from recsys_mf.arrays import mapped
from recsys_mf.errors import ConfigError, DataError
from recsys_mf.ratings import Ratings

By = Literal["random", "user", "time", "user-time"]
RULES: tuple[By, ...] = ("random", "user", "time", "user-time")
BY_TIME: tuple[By, ...] = ("time", "user-time")
"""Rules that need timestamps, and draw nothing."""


@dataclass(frozen=True, eq=False)
class Split:
    """Ratings divided into training rows, test rows and possibly validation rows.

    train : under the vocabularies of its own rows
    test, valid : under the vocabularies of train, -1 for ids that train does not have; None if there are no such rows
    rule : the rule in words, as reports print it
    seed : the seed of the rule, None if none was used
    by : the rule that separates validation rows from train
    record : the rule as plain values from which it can be repeated, with the fingerprint of the table it was applied
        to (`recsys_mf.training.provenance` lists the keys); empty for a split made by hand
    test_as_read : the test rows under the vocabularies of their own table, including ids that train does not have;
        None if there is no test part, and for a split made by hand
    """

    train: Ratings
    test: Ratings | None
    valid: Ratings | None
    rule: str
    seed: int | None
    by: By = "random"
    record: Mapping[str, Any] = field(default_factory=dict)
    test_as_read: Ratings | None = None


def hold_out(
    ratings: Ratings, fraction: float = 0.1, seed: int = 0, *, by: By = "random", among: NDArray[np.bool_] | None = None
) -> Split:
    """Hold out a fraction of the ratings as the test part.

    by="random" : row j (source order) is test if and only if
        numpy.random.default_rng(seed).random(n)[j] < fraction
    by="user" : with the same draws x, each user's floor(fraction * count) rows of smallest x are test, so every
        user keeps at least one rating in train
    by="time" : the floor(fraction * n) newest rows are test; of rows with equal times, the later one in
        source order is newer; the seed is not used
    by="user-time" : of each user the floor(fraction * count) newest rows are test or, for a fraction that is a whole
        number N of at least 1, the N newest, ties as for "time". A user with too few ratings for this (for a number
        N: with at most N ratings) keeps all of them in train; the rule in words says how many such users there are

    fraction : in [0, 1), or a whole number for by="user-time"; 0 gives a split without a test part
    among : bool[n]; a fraction of these rows is held out, as if they were the whole table; all others are train
    Raises ConfigError for a fraction out of range and an unknown rule; DataError for a rule of BY_TIME without
    timestamps, for a split that leaves nothing to train or test on, and for rows with unknown ids (as in a test part).
    """
    instance(ratings, "ratings", Ratings, "give read_ratings(path) or from_frame(table)")
    fraction, seed = _checked_size(fraction, by), whole(seed, "seed")
    ratings.check_known()
    facts: dict[str, Any] = {"kind": "hold-out", "by": by, "fraction": fraction, "seed": seed}
    if fraction == 0:
        train = ratings.restricted()
        return Split(train, None, None, "all rows in train", None, by, facts | _table(train))
    facts |= _table(ratings)
    rule, used = _in_words(fraction, by), None if by in BY_TIME else seed
    if among is None:
        is_test = _MASKS[by](ratings, fraction, seed)
    else:
        rule, facts = f"{rule}, chosen among {int(among.sum()):,}", facts | {"among": int(among.sum())}
        is_test = np.zeros(len(ratings), np.bool_)
        is_test[among] = _MASKS[by](ratings.select(among), fraction, seed)
    if by == "user-time":
        tested, asked = (
            len(np.unique(ratings.users[rows])) for rows in (is_test, slice(None) if among is None else among)
        )
        rule = f"{rule}; {asked - tested:,} users with too few ratings keep all" if asked > tested else rule
    return _parted(ratings, is_test, Split(ratings, None, None, rule, used, by, facts))


def k_folds(ratings: Ratings, k: int = 5, seed: int = 0) -> Iterator[Split]:
    """k splits in which every rating is tested exactly once.

    Row j (source order) is in the test part of fold floor(k * rank_j / n), where rank_j is the position of j in
    the order of numpy.random.default_rng(seed).random(n). Raises ConfigError for fewer than 2 folds or more folds than
    rows, DataError for rows with unknown ids (as in a test part).
    """
    instance(ratings, "ratings", Ratings, "give read_ratings(path) or from_frame(table)")
    seed = whole(seed, "seed")
    ratings.check_known()
    folds = fold_numbers(len(ratings), k, seed)
    facts = {"kind": "fold", "folds": int(k), "seed": seed} | _table(ratings)
    for fold in range(k):
        rule = f"fold {fold + 1} of {k}, random"
        yield _parted(ratings, folds == fold, Split(ratings, None, None, rule, seed, record=facts | {"fold": fold + 1}))


def fold_numbers(n: int, k: int, seed: int) -> NDArray[np.int64]:
    """The fold, from 0 to k - 1, in which each of n rows is tested; int64[n], as in `k_folds`.

    Raises ConfigError for fewer than 2 folds or more folds than rows.
    """
    if not (is_number(k, whole=True) and 2 <= k <= n):
        raise ConfigError(
            "number of folds is out of range", seen=format_argument(k), fix=f"give a whole number from 2 to {n}"
        )
    ranks = np.empty(n, np.int64)
    ranks[np.argsort(np.random.default_rng(seed).random(n), kind="stable")] = np.arange(n)
    return ranks * k // n


def given(train: Ratings, test: Ratings, *, rule: str = "given files") -> Split:
    """The split of two tables that were made elsewhere.

    Raises DataError if a (user, item) pair is in both: the model would have seen a test rating.
    """
    for name, table in (("train", train), ("test", test)):
        instance(table, name, Ratings, "give read_ratings(path) or from_frame(table)")
    train.check_known(where="train")
    train, as_read = train.restricted(), test
    facts = {"kind": "given"} | _table(train) | {f"test_{name}": fact for name, fact in _table(test).items()}
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
    return Split(train, test, None, rule, None, record=facts, test_as_read=as_read)


def with_validation(split: Split, fraction: float, seed: int, *, with_times: bool = True) -> Split:
    """The split with a fraction of its training rows set aside as `valid`, by the split's own rule.

    The remaining training rows get vocabularies of their own, and test is reindexed to these. Raises ConfigError for a
    fraction out of range, DataError if one part would be empty.

    with_times : if False, the new parts have no times, and take 8 bytes less per rating
    """
    fraction = as_fraction(fraction, "fraction to hold out")
    if fraction == 0:
        return split
    inner = _parted(split.train, _MASKS[split.by](split.train, fraction, seed), split, with_times=with_times)
    test = split.test and split.test.reindexed(inner.train.user_vocabulary, inner.train.item_vocabulary)
    cut = {"validation": {"fraction": fraction, "seed": int(seed)}} if split.record else {}
    return replace(inner, test=test, valid=inner.test, test_as_read=split.test_as_read, record={**split.record, **cut})


def fingerprint_as_read(ratings: Ratings) -> str:
    """The fingerprint of the rows only: the same with or without side information about more ids."""
    rows = ratings
    if ratings.user_features is not None or ratings.item_features is not None:
        rows = replace(ratings, user_features=None, item_features=None)
    if (rows.user_counts > 0).all() and (rows.item_counts > 0).all():
        return rows.fingerprint  # which is cached
    return rows.restricted().fingerprint


def _table(ratings: Ratings) -> dict[str, Any]:
    return {"ratings": len(ratings), "fingerprint": fingerprint_as_read(ratings)}


def _checked_size(fraction: float, by: str) -> float:
    """The fraction, or for by="user-time" also a number of ratings."""
    choice(by, "by", RULES, "unknown split rule")
    if not (is_number(fraction) and fraction >= 1):
        return as_fraction(fraction, "fraction to hold out")
    if by == "user-time":
        if is_finite(fraction) and fraction == int(fraction) and fraction <= np.iinfo(np.int32).max:
            return float(fraction)
        fix = "give a share below 1, or a whole number of ratings per user"
        raise ConfigError("part to hold out is out of range", seen=format_argument(fraction), fix=fix)
    fix = "give a number of at least 0 and below 1; only the rule 'user-time' takes a number of ratings"
    raise ConfigError("fraction to hold out is out of range", seen=format_argument(fraction), fix=fix)


def _in_words(fraction: float, by: By) -> str:
    percent = f"{100 * fraction:g}%"
    newest = percent if fraction < 1 else "rating" if fraction == 1 else f"{fraction:,.0f} ratings"
    return {
        "random": f"random, {percent} of ratings held out",
        "user": f"random within each user, {percent} held out",
        "time": f"by time, the newest {percent} held out",
        "user-time": f"by time within each user, the newest {newest} held out",
    }[by]


def _parted(ratings: Ratings, is_test: NDArray[np.bool_], split: Split, *, with_times: bool = True) -> Split:
    """The split with these rows of a table as its test part and the others as its training part."""
    if not is_test.any() or is_test.all():
        raise DataError(
            "the split leaves one part empty",
            seen=f"{int(is_test.sum())} of {len(ratings)} ratings in the test part",
            fix="change --hold-out or --validation, or give more ratings",
        )
    train, test = ratings.part(is_test, with_times=with_times)
    known = test.reindexed(train.user_vocabulary, train.item_vocabulary)
    return replace(split, train=train, test=known, test_as_read=test)


def _random_mask(ratings: Ratings, fraction: float, seed: int) -> NDArray[np.bool_]:
    rng, mask = np.random.default_rng(seed), np.empty(len(ratings), np.bool_)
    for part in mapped.parts(len(mask)):  # drawing in parts gives the same numbers
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
    newest_last = np.argsort(_times(ratings), kind="stable")
    mask = np.zeros(len(ratings), np.bool_)
    mask[newest_last[len(ratings) - int(fraction * len(ratings)) :]] = True
    return mask


def _user_time_mask(ratings: Ratings, fraction: float, seed: int) -> NDArray[np.bool_]:
    counts = ratings.user_counts
    held_out = np.floor(fraction * counts) if fraction < 1 else np.where(counts > fraction, fraction, 0)
    order = np.lexsort((_times(ratings), ratings.users))  # stable: if times are equal, the later row comes last
    ends = np.cumsum(counts)
    users = ratings.users[order]
    mask = np.zeros(len(ratings), np.bool_)
    mask[order] = ends[users] - np.arange(len(ratings)) <= held_out[users]  # the newest row is 1 from the end
    return mask


def _times(ratings: Ratings) -> NDArray[np.int64]:
    if ratings.times is None:
        raise DataError(
            "a split by time needs timestamps",
            seen="a table without times",
            fix="name the column with --time-column, or split by 'random' or 'user'",
        )
    return ratings.times


_MASKS = {"random": _random_mask, "user": _user_mask, "time": _time_mask, "user-time": _user_time_mask}


def _pairs(ratings: Ratings) -> NDArray[np.int64]:
    return ratings.users.astype(np.int64) * ratings.n_items + ratings.items
