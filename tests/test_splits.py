"""Splits: rules that others can repeat, and ids that train does not have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_mf.errors import ConfigError, DataError
from recsys_mf.features import Features
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import SOLVERS
from recsys_mf.splits import RULES, Split, fingerprint_as_read, fold_numbers, given, hold_out, k_folds, with_validation
from recsys_mf.training.validation import cut_parts
from recsys_mf.vocabulary import Vocabulary

N = 600


def table(n: int = N, *, seed: int = 0) -> Ratings:
    """n ratings of about 40 users and 30 items, in random order; a row's value is its number; times may be equal."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(40 * 30)[:n]
    return Ratings.from_ids(pairs // 30 + 100, pairs % 30, np.arange(n), rng.integers(0, 50, n))


def numbers(part: Ratings | None) -> list[int]:
    """The numbers of the source rows in a part (the value of a row is its number)."""
    assert part is not None
    return [int(value) for value in part.values]


def assert_parts_cover(split: Split, n: int) -> None:
    train, test = numbers(split.train), numbers(split.test)
    assert not set(train) & set(test)
    assert sorted(train + test) == list(range(n))
    assert train == sorted(train)
    assert test == sorted(test)


@pytest.mark.parametrize("by", RULES)
@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_every_row_is_in_train_or_in_test_in_source_order(by: Any, fraction: float) -> None:
    split = hold_out(table(), fraction, 3, by=by)
    assert_parts_cover(split, N)
    assert split.valid is None
    assert split.by == by


def test_random_rule_is_exactly_the_published_one() -> None:
    split = hold_out(table(), 0.1, seed=7)
    expected = np.flatnonzero(np.random.default_rng(7).random(N) < 0.1)
    assert numbers(split.test) == expected.tolist()
    assert (split.rule, split.seed) == ("random, 10% of ratings held out", 7)


def test_user_rule_is_the_published_one_and_leaves_every_user_a_rating() -> None:
    ratings = table()
    split = hold_out(ratings, 0.95, seed=1, by="user")
    draws = np.random.default_rng(1).random(N)
    expected: list[int] = []
    for user in range(ratings.n_users):
        own = np.flatnonzero(ratings.users == user)
        expected += own[np.argsort(draws[own])][: int(np.floor(0.95 * len(own)))].tolist()
    assert numbers(split.test) == sorted(expected)
    assert split.train.n_users == ratings.n_users
    assert split.train.user_counts.min() >= 1
    assert split.rule == "random within each user, 95% held out"


def test_time_rule_holds_out_the_newest_and_of_equal_times_the_later_rows() -> None:
    ratings = table()
    split = hold_out(ratings, 0.25, by="time")
    assert ratings.times is not None
    newest = sorted(range(N), key=lambda row: (ratings.times[row], row))[-150:]  # type: ignore[index]
    assert numbers(split.test) == sorted(newest)
    assert split.seed is None
    assert split.rule == "by time, the newest 25% held out"


def newest_of_each_user(ratings: Ratings, held_out: Callable[[int], int]) -> list[int]:
    """By the published rule, with a sort per user."""
    expected: list[int] = []
    for user in range(ratings.n_users):
        own = np.flatnonzero(ratings.users == user).tolist()
        size = held_out(len(own))
        expected += sorted(own, key=lambda row: (ratings.times[row], row))[len(own) - size :]  # type: ignore[index]
    return sorted(expected)


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5, 0.95])
def test_user_time_rule_holds_out_the_newest_share_of_each_user(fraction: float) -> None:
    ratings = table()
    split = hold_out(ratings, fraction, by="user-time")
    expected = newest_of_each_user(ratings, lambda count: int(np.floor(fraction * count)))
    assert numbers(split.test) == expected
    assert split.train.n_users == ratings.n_users
    assert split.seed is None
    tested = len({int(ratings.users[row]) for row in expected})
    kept = f"; {ratings.n_users - tested} users with too few ratings keep all" if tested < ratings.n_users else ""
    assert split.rule == f"by time within each user, the newest {100 * fraction:g}% held out{kept}"


@pytest.mark.parametrize(("size", "words"), [(1, "rating"), (3, "3 ratings"), (14, "14 ratings")])
def test_user_time_rule_holds_out_a_number_of_each_user_who_has_more(size: int, words: str) -> None:
    ratings = table()
    few = int((ratings.user_counts <= size).sum())
    assert (few > 0) == (size == 14)
    split = hold_out(ratings, size, by="user-time")
    assert numbers(split.test) == newest_of_each_user(ratings, lambda count: size if count > size else 0)
    kept = f"; {few} users with too few ratings keep all" if few else ""
    assert split.rule == f"by time within each user, the newest {words} held out{kept}"
    assert split.record["fraction"] == size


def test_user_time_rule_counts_only_users_among_whose_rows_it_chooses() -> None:
    ratings = table()
    among = ratings.users < 3
    split = hold_out(ratings, 1, by="user-time", among=among)
    assert len(numbers(split.test)) == 3
    assert "keep all" not in split.rule


@pytest.mark.parametrize("by", ["random", "user"])
def test_another_seed_holds_out_other_rows_and_the_same_seed_the_same_rows(by: Any) -> None:
    first, again, other = (numbers(hold_out(table(), 0.2, seed, by=by).test) for seed in (0, 0, 1))
    assert first == again != other


def test_ids_only_in_test_are_unknown_and_the_vocabularies_are_those_of_train() -> None:
    ratings = Ratings.from_ids(["a", "a", "b", "c"], [1, 2, 1, 3], [1, 2, 3, 4], [0, 1, 2, 3])
    split = hold_out(ratings, 0.5, by="time")
    assert split.test is not None
    assert split.train.user_vocabulary.entries.to_pylist() == ["a"]
    assert split.train.item_vocabulary.entries.to_pylist() == [1, 2]
    assert split.test.users.tolist() == [-1, -1]
    assert split.test.items.tolist() == [0, -1]


def test_nothing_held_out_is_a_split_without_a_test_part() -> None:
    split = hold_out(table(), 0)
    assert split.test is None
    assert numbers(split.train) == list(range(N))
    assert split.rule == "all rows in train"


@pytest.mark.parametrize(("k", "n"), [(2, 5), (5, 600), (5, 601), (7, 7)])
def test_folds_test_every_row_once_and_are_of_equal_size(k: int, n: int) -> None:
    splits = list(k_folds(table(n), k, seed=2))
    assert len(splits) == k
    for split in splits:
        assert_parts_cover(split, n)
    tested = [numbers(split.test) for split in splits]
    assert sorted(row for rows in tested for row in rows) == list(range(n))
    assert max(map(len, tested)) - min(map(len, tested)) <= 1


def test_folds_follow_the_published_rule() -> None:
    order = np.argsort(np.random.default_rng(9).random(N), kind="stable")
    for fold, split in enumerate(k_folds(table(), 4, seed=9)):
        assert numbers(split.test) == sorted(order[fold * N // 4 : (fold + 1) * N // 4].tolist())
        assert (split.rule, split.seed) == (f"fold {fold + 1} of 4, random", 9)


def test_given_files_are_taken_as_they_are() -> None:
    train = Ratings.from_ids(["a", "b"], [1, 2], [1, 2])
    test = Ratings.from_ids(["a", "z", "b"], [2, 1, 9], [3, 4, 5])
    split = given(train, test)
    assert split.test is not None
    assert split.test.users.tolist() == [0, -1, 1]
    assert split.test.items.tolist() == [1, 0, -1]
    assert split.test.values.tolist() == [3, 4, 5]
    assert (split.rule, split.seed, split.valid) == ("given files", None, None)


def test_given_files_that_share_pairs_are_refused_with_the_count_and_an_example() -> None:
    train = Ratings.from_ids(["a", "b", "b"], [1, 2, 3], [1, 2, 3])
    test = Ratings.from_ids(["z", "b", "b"], [1, 3, 2], [3, 4, 5])
    message = (
        r"^2 \(user, item\) pairs are in both the training and the test table "
        r"\(saw user 'b', item 3, row 1 of the test table\); remove them from one of the two$"
    )
    with pytest.raises(DataError, match=message):
        given(train, test)


def test_given_files_with_ids_of_different_kinds_are_refused() -> None:
    with pytest.raises(DataError, match="the ids are strings, but the model was trained on integer ids"):
        given(Ratings.from_ids([1], [1], [1]), Ratings.from_ids(["1"], [2], [1]))


@pytest.mark.parametrize("by", RULES)
def test_validation_rows_are_cut_from_train_by_the_rule_of_the_split(by: Any) -> None:
    split = hold_out(table(), 0.2, 0, by=by)
    inner = with_validation(split, 0.25, 11)
    again = hold_out(split.train, 0.25, 11, by=by)
    assert numbers(inner.valid) == numbers(again.test)
    assert sorted(numbers(inner.train) + numbers(inner.valid)) == numbers(split.train)
    assert numbers(inner.test) == numbers(split.test)
    assert (inner.rule, inner.seed, inner.by) == (split.rule, split.seed, by)


@pytest.mark.parametrize("by", RULES)
def test_parts_that_are_cut_without_times_have_the_same_rows(by: Any) -> None:
    split = hold_out(table(), 0.2, 0, by=by)
    inner, plain = (with_validation(split, 0.25, 11, with_times=with_times) for with_times in (True, False))
    for one, other in ((inner.train, plain.train), (inner.valid, plain.valid)):
        assert one is not None
        assert other is not None
        assert one.times is not None
        assert other.times is None
        assert numbers(one) == numbers(other)


@pytest.mark.parametrize(("solvers", "have_times"), [(["sgd", "gibbs"], True), (["sgd", "als"], False)])
def test_parts_to_validate_on_have_times_only_for_solvers_that_use_them(
    solvers: list[str], *, have_times: bool
) -> None:
    parts = cut_parts(hold_out(table(), 0.2), 0.25, 0, [SOLVERS[name]() for name in solvers])
    assert {part.train.times is not None for part in parts} == {have_times}


def test_with_validation_the_inner_train_has_its_own_vocabularies() -> None:
    ratings = Ratings.from_ids(["a", "b", "c", "a"], [1, 2, 3, 2], [1, 2, 3, 4], [0, 1, 2, 3])
    inner = with_validation(hold_out(ratings, 0.25, by="time"), 0.34, 0)
    assert inner.valid is not None
    assert inner.test is not None
    assert inner.train.user_vocabulary.entries.to_pylist() == ["a", "b"]
    assert (inner.valid.users.tolist(), inner.valid.items.tolist()) == ([-1], [-1])
    assert (inner.test.users.tolist(), inner.test.items.tolist()) == ([0], [1])


def test_validation_of_a_split_without_a_test_part_has_none_either() -> None:
    inner = with_validation(hold_out(table(), 0), 0.1, 0)
    assert inner.test is None
    assert inner.valid is not None


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan")])
def test_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match=r"fraction to hold out is out of range \(saw .*\); give a number of at"):
        hold_out(table(), fraction)


@pytest.mark.parametrize("number", [1.5, float("inf"), 2.0**31])
def test_a_number_of_ratings_per_user_is_whole(number: float) -> None:
    with pytest.raises(ConfigError, match=r"is out of range \(saw .*\); give a share below 1, or a whole number of"):
        hold_out(table(), number, by="user-time")
    with pytest.raises(ConfigError, match="only the rule 'user-time' takes a number of ratings"):
        hold_out(table(), 2, by="user")


def test_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown split rule \(saw 'tiem'\); did you mean 'time'\?"):
        hold_out(table(), 0.1, by="tiem")  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["time", "user-time"])
def test_a_rule_by_time_without_timestamps_is_refused(by: Any) -> None:
    ratings = Ratings.from_ids([1, 2], [1, 2], [1, 2])
    with pytest.raises(DataError, match=r"^a split by time needs timestamps \(saw a table without times\)"):
        hold_out(ratings, 0.5, by=by)


@pytest.mark.parametrize("by", ["user", "time", "user-time"])
def test_a_split_that_leaves_a_part_empty_is_refused(by: Any) -> None:
    ratings = Ratings.from_ids([1, 2], [1, 2], [1, 2], [0, 0])
    with pytest.raises(DataError, match=r"leaves one part empty \(saw 0 of 2 ratings in the test part\)"):
        hold_out(ratings, 0.1, by=by)


@pytest.mark.parametrize("k", [0, 1, 6])
def test_number_of_folds_out_of_range_is_refused(k: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"^number of folds is out of range \(saw {k}\); give a whole number from 2 to 5$"
    ):
        list(k_folds(table(5), k))


def test_movielens_1m_has_the_published_number_of_test_rows(data_dir: Path) -> None:
    from pyarrow import parquet

    columns = parquet.read_table(data_dir / "ml-1m.parquet", columns=["user_id", "item_id", "rating"])
    split = hold_out(Ratings.from_ids(*columns.columns), 0.1, seed=0)
    assert split.test is not None
    assert len(split.test) == 100_267
    assert len(split.train) == 1_000_209 - 100_267


# What a split records.


@pytest.mark.parametrize(
    ("fraction", "words"), [(0.125, "12.5%"), (0.155, "15.5%"), (0.004, "0.4%"), (0.07, "7%"), (1 / 3, "33.3333%")]
)
@pytest.mark.parametrize("by", RULES)
def test_the_words_of_a_rule_do_not_round_its_fraction(by: Any, fraction: float, words: str) -> None:
    few = fraction == 0.004 and by in ("user", "user-time")  # too little for a rating of any user
    split = hold_out(table(), fraction, by="random" if few else by)
    assert f" {words}" in split.rule
    assert split.record["fraction"] == fraction


@pytest.mark.parametrize("by", RULES)
def test_a_split_is_made_again_from_its_record(by: Any) -> None:
    split = hold_out(table(), 0.155, 11, by=by)
    again = json.loads(json.dumps(split.record))
    assert again["fingerprint"] == fingerprint_as_read(table())
    assert again["ratings"] == N
    repeated = hold_out(table(), again["fraction"], again["seed"], by=again["by"])
    assert numbers(repeated.test) == numbers(split.test)
    assert (repeated.rule, repeated.seed, repeated.record) == (split.rule, split.seed, split.record)


def test_folds_and_given_tables_are_recorded() -> None:
    folds = [split.record for split in k_folds(table(), 3, seed=5)]
    assert [(fact["kind"], fact["folds"], fact["fold"], fact["seed"]) for fact in folds] == [
        ("fold", 3, fold, 5) for fold in (1, 2, 3)
    ]
    parted = hold_out(table(), 0.2, seed=2)
    assert parted.test_as_read is not None
    record = given(parted.train, parted.test_as_read).record
    assert (record["kind"], record["ratings"], record["test_ratings"]) == (
        "given", len(parted.train), len(parted.test_as_read)
    )  # fmt: skip
    assert record["fingerprint"] == parted.train.fingerprint
    assert record["test_fingerprint"] == fingerprint_as_read(parted.test_as_read)


def test_validation_rows_cut_by_hand_are_recorded() -> None:
    split = with_validation(hold_out(table(), 0.1), 0.25, seed=3)
    assert split.record["validation"] == {"fraction": 0.25, "seed": 3}


def test_a_rule_is_kept_with_a_fraction_of_zero() -> None:
    """If the rule is by time, validation rows must be the newest, with or without a test part."""
    split = hold_out(table(), 0.0, by="time")
    assert split.by == "time"
    inner = with_validation(split, 0.1, seed=0)
    assert numbers(inner.valid) == numbers(hold_out(table(), 0.1, by="time").test)


def test_the_fold_numbers_are_those_of_the_folds() -> None:
    folds = fold_numbers(N, 4, seed=9)
    for fold, split in enumerate(k_folds(table(), 4, seed=9)):
        assert numbers(split.test) == np.flatnonzero(folds == fold).tolist()


@pytest.mark.parametrize("make", [lambda t: hold_out(t, 0.3), lambda t: next(k_folds(t, 3))])
def test_test_rows_as_read_keep_the_ids_that_train_does_not_have(make: Any) -> None:
    rare = Ratings.from_ids(np.arange(60), np.arange(60) % 7, np.arange(60))
    split = make(rare)
    assert split.test is not None
    assert (split.test.users == -1).all()
    read = split.test_as_read
    assert read.user_vocabulary.ids(read.users).to_pylist() == numbers(split.test)


def test_side_information_does_not_change_the_fingerprint_of_the_rows() -> None:
    ids = Vocabulary.encode([5, 100, 7_000])[0]
    more = Features(ids, ("x",), np.arange(4), np.zeros(3, np.int32), np.ones(3, np.float32))
    assert fingerprint_as_read(table().with_features(users=more)) == fingerprint_as_read(table()) == table().fingerprint
