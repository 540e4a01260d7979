"""Ratings: the table of triples, what it refuses and how it is exported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from recsys_mf.arrays import mapped
from recsys_mf.duplicates import DUPLICATES
from recsys_mf.errors import ConfigError, DataError
from recsys_mf.ratings import Ratings
from recsys_mf.sharing import computed_once, grouped_once
from recsys_mf.vocabulary import Vocabulary

USERS = ["u2", "u1", "u2", "u3"]
ITEMS = [30, 10, 10, 20]
VALUES = [4.0, 0.0, 3.5, 5.0]
TIMES = [40, 10, 30, 20]


@pytest.fixture
def table() -> Ratings:
    """Four ratings, the second of them a zero."""
    return Ratings.from_ids(USERS, ITEMS, VALUES, TIMES)


def rows(ratings: Ratings) -> list[tuple[Any, ...]]:
    """The rows as (user id, item id, value), null for an unknown id."""
    users = ratings.user_vocabulary.ids(ratings.users).to_pylist()
    items = ratings.item_vocabulary.ids(ratings.items).to_pylist()
    return list(zip(users, items, ratings.values.tolist(), strict=True))


def test_rows_keep_source_order_ids_values_and_times(table: Ratings) -> None:
    assert rows(table) == list(zip(USERS, ITEMS, VALUES, strict=True))
    assert table.times is not None
    assert table.times.tolist() == TIMES
    assert (len(table), table.n_users, table.n_items) == (4, 3, 3)
    assert repr(table) == "Ratings(4 ratings, 3 users, 3 items)"
    assert table.rating_range == (0.0, 5.0)
    assert table.user_counts.tolist() == [1, 2, 1]
    assert table.item_counts.tolist() == [2, 1, 1]


def test_columns_are_stored_compactly(table: Ratings) -> None:
    assert table.times is not None
    kinds = [str(array.dtype) for array in (table.users, table.items, table.values, table.times)]
    assert kinds == ["int32", "int32", "float32", "int64"]


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_integer_ids_of_every_width_make_the_same_table(kind: str) -> None:
    ids = np.array([3, 1, 3], kind), np.array([7, 7, 120], kind)
    assert (
        Ratings.from_ids(*ids, [1, 2, 3]).fingerprint == Ratings.from_ids([3, 1, 3], [7, 7, 120], [1, 2, 3]).fingerprint
    )


@pytest.mark.parametrize("container", [list, np.array, pd.Series, pa.array])
def test_columns_may_come_in_any_container(container: Any, table: Ratings) -> None:
    columns = [container(column) for column in (USERS, ITEMS, VALUES, TIMES)]
    assert Ratings.from_ids(*columns).fingerprint == table.fingerprint


def test_dictionary_ids_are_ids(table: Ratings) -> None:
    coded = pa.array(USERS).dictionary_encode(), pa.array(ITEMS).dictionary_encode()
    assert Ratings.from_ids(*coded, VALUES, TIMES).fingerprint == table.fingerprint


def test_huge_sparse_ids_make_a_small_table() -> None:
    ratings = Ratings.from_ids([2 * 10**9, 1, 2**62], [-5, 10**18, 3], [1, 2, 3])
    assert rows(ratings) == [(2 * 10**9, -5, 1.0), (1, 10**18, 2.0), (2**62, 3, 3.0)]
    assert ratings.n_users == ratings.n_items == 3


def test_arrays_are_read_only(table: Ratings) -> None:
    for array in (table.users, table.items, table.values, table.times):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_the_arrays_given_stay_writable() -> None:
    values, times = np.ones(2, np.float32), np.zeros(2, np.int64)
    Ratings.from_ids([1, 2], [1, 2], values, times)
    values[0], times[0] = 2, 2


# Nulls, text, NaN, lengths.


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([], [], []), "^ratings: no ratings in the table; give at least one row$"),
        (
            ([1, None], [1, 2], [1, 2]),
            r"^ratings, user ids, row 1: null id \(saw null, one of 1 in the column\); drop the row or give it an id$",
        ),
        (([1, 2], pa.array(["a", None]), [1, 2]), r"^ratings, item ids, row 1: null id"),
        (
            ([1, 2], [1, 2], [1, np.nan]),
            r"^ratings, values, row 1: rating is not finite \(saw nan\); give a finite number",
        ),
        (([1, 2], [1, 2], [-np.inf, 1]), r"^ratings, values, row 0: rating is not finite \(saw -inf\)"),
        (([1, 2], [1, 2], pa.array([1.0, None])), r"^ratings, values, row 1: null rating"),
        (([1, 2], [1, 2], [1]), r"^values: arrays of a rating table differ in length \(saw \(1,\)\); give \(2,\)$"),
        (([1, 2], [1], [1, 2]), r"^items: arrays of a rating table differ in length"),
        (([1, 2], [1, 2], [1, 2], [5]), r"^times: arrays of a rating table differ in length"),
        (([1, 2], [1, 2], [[1], [2]]), r"^ratings, values: ratings are not numbers \(saw type list"),
        (
            ([1, 2], [1, 2], ["good", "bad"]),
            r"^ratings, values, row 0: rating is text, not a number \(saw 'good'\); give numbers$",
        ),
        (([1, 2], [1, 2], [[1], [2, 3]]), r"^ratings, values: ratings are not numbers"),
        (([1, 2], [1, 2], [1, 2], ["now", "then"]), r"^ratings, times, row 0: text is not a time \(saw 'now'\)"),
        (([1, 2], [1, 2], [1, 1e300]), r"^ratings, values, row 1: rating is not finite \(saw 1e\+300\)"),
    ],
)
def test_tables_that_are_not_ratings_are_refused(columns: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Ratings.from_ids(*columns)


def test_ratings_whose_squares_overflow_are_still_finite() -> None:
    assert Ratings.from_ids([1, 2], [1, 2], [1e30, -1e30]).rating_range == pytest.approx((-1e30, 1e30))


@pytest.mark.parametrize("users", [[0, 2], [-2, 0]])
def test_index_out_of_the_vocabulary_is_refused(users: list[int]) -> None:
    two, _ = Vocabulary.encode([1, 2])
    with pytest.raises(DataError, match=r"^users: index out of range \(saw .*\); stay within -1 to 1$"):
        Ratings(np.array(users, np.int32), np.arange(2, dtype=np.int32), np.ones(2, np.float32), None, two, two)


# Duplicate pairs.

TWICE = (["a", "b", "a", "a", "b"], [1, 2, 1, 2, 2], [1.0, 2.0, 5.0, 4.0, 3.0], [50, 40, 30, 20, 10])


def test_duplicate_pairs_are_an_error_with_the_count_and_the_first_example() -> None:
    message = (
        r"^ratings: 2 duplicate \(user, item\) pairs \(saw user 'a', item 1 in rows 0 and 2; "
        r"2 of 2 have different ratings\); remove them, or choose --duplicates last \(the newest row of each\) "
        r"or mean \(their average\): 3 ratings$"
    )
    with pytest.raises(DataError, match=message):
        Ratings.from_ids(*TWICE)


def test_duplicates_last_keeps_the_newest_row_of_a_pair() -> None:
    kept = Ratings.from_ids(*TWICE, duplicates="last")
    assert rows(kept) == [("a", 1, 1.0), ("b", 2, 2.0), ("a", 2, 4.0)]
    assert kept.times is not None
    assert kept.times.tolist() == [50, 40, 20]


def test_duplicates_last_keeps_the_last_row_if_times_do_not_decide() -> None:
    untimed = Ratings.from_ids(*TWICE[:3], duplicates="last")
    assert rows(untimed) == [("a", 1, 5.0), ("a", 2, 4.0), ("b", 2, 3.0)]
    same = Ratings.from_ids(*TWICE[:3], [7] * 5, duplicates="last")
    assert rows(same) == rows(untimed)


def test_exact_repeats_and_contradictions_are_counted_separately() -> None:
    with pytest.raises(
        DataError, match=r"1 of 2 have different ratings\).*last \(the last row of each\).*: 2 ratings$"
    ):
        Ratings.from_ids([1, 1, 2, 2, 2], [1, 1, 1, 1, 1], [3, 3, 3, 4, 3])


def test_duplicates_mean_averages_the_values_and_keeps_the_newest_time() -> None:
    kept = Ratings.from_ids(*TWICE, duplicates="mean")
    assert rows(kept) == [("a", 1, 3.0), ("b", 2, 2.5), ("a", 2, 4.0)]
    assert kept.times is not None
    assert kept.times.tolist() == [50, 40, 20]


@pytest.mark.parametrize("rule", DUPLICATES)
def test_a_table_without_duplicates_is_the_same_under_every_rule(rule: Any, table: Ratings) -> None:
    assert Ratings.from_ids(USERS, ITEMS, VALUES, TIMES, duplicates=rule).fingerprint == table.fingerprint


def test_the_rules_for_duplicates_agree_with_pandas() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"u": rng.integers(0, 20, 500), "i": rng.integers(0, 20, 500), "r": rng.integers(0, 6, 500)})
    for rule in ("last", "mean"):
        ratings = Ratings.from_ids(frame.u, frame.i, frame.r, duplicates=rule)
        expected = frame.groupby(["u", "i"]).r.agg(rule)
        assert len(ratings) == len(expected)
        for user, item, value in rows(ratings):
            assert value == pytest.approx(expected[user, item], rel=1e-6)


def test_unknown_rule_for_duplicates_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown rule for duplicates \(saw men\); did you mean 'mean'\?"):
        Ratings.from_ids([1], [1], [1], duplicates="men")  # type: ignore[arg-type]


# Export.


def test_zero_rating_is_stored_in_every_exported_form(table: Ratings) -> None:
    sparse, tensor, frame = table.to_scipy(), table.to_sparse_tensor(), table.to_frame()
    assert sparse.nnz == tensor._nnz() == len(frame) == 4
    dense = np.array([[0, 0, 0], [3.5, 0, 4], [0, 5, 0]], np.float32)
    np.testing.assert_array_equal(sparse.toarray(), dense)
    np.testing.assert_array_equal(tensor.to_dense().numpy(), dense)
    assert sparse.dtype == np.float32
    assert 0 in tensor.values()
    assert sparse[0].nnz == 1  # the zero of u1


def test_frame_holds_the_ids_and_times_of_the_source_in_order(table: Ratings) -> None:
    frame = table.to_frame()
    assert frame.to_dict("list") == {"user_id": USERS, "item_id": ITEMS, "rating": VALUES, "timestamp": TIMES}
    assert list(Ratings.from_ids([1], [2], [3]).to_frame().columns) == ["user_id", "item_id", "rating"]


def test_frame_makes_the_same_table_again(table: Ratings) -> None:
    frame = table.to_frame()
    again = Ratings.from_ids(frame.user_id, frame.item_id, frame.rating, frame.timestamp)
    assert again.fingerprint == table.fingerprint


def test_grouped_views_hold_every_rating_once_in_row_order(table: Ratings) -> None:
    by_user, by_item = table.by_user(), table.by_item()
    assert [a.tolist() for a in by_user[:3]] == [[0, 1, 3, 4], [0, 2, 0, 1], [0.0, 4.0, 3.5, 5.0]]
    assert [a.tolist() for a in by_item[:3]] == [[0, 2, 3, 4], [0, 1, 2, 1], [0.0, 3.5, 5.0, 4.0]]


def test_tables_are_grouped_once_as_long_as_that_is_asked_for(table: Ratings) -> None:
    alone = table.by_user(), table.by_item()
    with grouped_once(table):
        by_user, by_item = table.by_user(), table.by_item()
        assert table.by_user() is by_user
        assert table.by_item() is by_item
        assert replace(table, values=table.values + 1).by_user()[2].tolist() == (by_user.values + 1).tolist()
    assert table.by_user() is not by_user
    for found, expected in zip((by_user, by_item), alone, strict=True):
        assert [a.tolist() for a in found[:3]] == [a.tolist() for a in expected[:3]]
        assert found.n_columns == expected.n_columns


def test_results_are_computed_once_as_long_as_that_is_asked_for(table: Ratings) -> None:
    with computed_once(table, table), grouped_once(table), computed_once(table):
        found = [table.once("key", iter([value]).__next__) for value in (1, 2)]
    assert found == [1, 1]
    assert table.once("key", lambda: 3) == 3


# Other rows, other vocabularies.


@pytest.mark.parametrize("limit", [None, 1])
@pytest.mark.parametrize("marked", [[], [0], [1, 3], [0, 1, 2]])
def test_parts_of_a_table_are_its_rows_without_ids_that_do_not_occur(
    table: Ratings, marked: list[int], limit: int | None
) -> None:
    is_second = np.isin(np.arange(len(table)), marked)
    with mapped.limited(limit):
        first, second = table.part(is_second)
    for found, expected in ((first, table.select(~is_second).restricted()), (second, table.select(is_second))):
        assert rows(found) == rows(expected)
        assert found.fingerprint == expected.fingerprint


@pytest.mark.parametrize("chosen", [np.array([False, True, False, True]), np.array([1, 3])])
def test_selected_rows_keep_the_vocabularies(table: Ratings, chosen: Any) -> None:
    part = table.select(chosen)
    assert rows(part) == [("u1", 10, 0.0), ("u3", 20, 5.0)]
    assert part.user_vocabulary is table.user_vocabulary
    assert part.times is not None
    assert part.times.tolist() == [10, 20]


def test_restricted_vocabularies_hold_only_ids_with_a_rating(table: Ratings) -> None:
    part = table.select(np.array([0, 2])).restricted()
    assert rows(part) == [("u2", 30, 4.0), ("u2", 10, 3.5)]
    assert (part.n_users, part.n_items) == (1, 2)
    assert part.user_counts.min() > 0
    assert part.item_counts.min() > 0


def test_reindexed_rows_with_ids_the_vocabulary_lacks_become_unknown(table: Ratings) -> None:
    users, items = Vocabulary.encode(["u2", "u9"])[0], Vocabulary.encode([10, 20])[0]
    other = table.reindexed(users, items)
    assert other.users.tolist() == [0, -1, 0, -1]
    assert other.items.tolist() == [-1, 0, 0, 1]
    assert other.values.tolist() == VALUES
    assert other.user_counts.tolist() == [2, 0]
    assert other.item_counts.tolist() == [2, 1]
    assert other.to_scipy().nnz == other.to_sparse_tensor()._nnz() == 1
    assert other.to_frame().user_id.isna().tolist() == [False, True, False, True]
    assert other.reindexed(users, items).users.tolist() == [0, -1, 0, -1]


def test_reindexed_to_ids_of_the_other_kind_is_refused(table: Ratings) -> None:
    with pytest.raises(DataError, match="user ids: the ids are strings, but the model was trained on integer ids"):
        table.reindexed(Vocabulary.encode([1])[0], table.item_vocabulary)


def test_fingerprint_changes_with_everything_in_the_table(table: Ratings) -> None:
    others = [
        Ratings.from_ids(["u2", "u1", "u2", "u4"], ITEMS, VALUES, TIMES),
        Ratings.from_ids(USERS, [30, 10, 10, 21], VALUES, TIMES),
        Ratings.from_ids(USERS, ITEMS, [4.0, 0.5, 3.5, 5.0], TIMES),
        Ratings.from_ids(USERS, ITEMS, VALUES, [40, 10, 30, 21]),
        Ratings.from_ids(USERS, ITEMS, VALUES),
        table.select(np.array([1, 0, 2, 3])),
        table.select(np.array([0, 1, 2])),
    ]
    assert len({table.fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)
    assert table.fingerprint == Ratings.from_ids(USERS, ITEMS, VALUES, TIMES).fingerprint


# Weights.

WEIGHTS = [1.0, 0.5, 2.0, 4.0]


def weights_of(table: Ratings) -> NDArray[np.float32]:
    assert table.weights is not None
    return table.weights


def test_weights_go_with_their_rows() -> None:
    table = Ratings.from_ids(USERS, ITEMS, VALUES, TIMES, weights=WEIGHTS)
    assert table.weights is not None
    assert table.weights.dtype == np.float32
    chosen = table.select(np.array([3, 0]))
    assert chosen.weights is not None
    assert chosen.weights.tolist() == [4.0, 1.0]
    assert np.array_equal(weights_of(chosen.restricted()), chosen.weights)
    assert table.to_frame()["weight"].tolist() == WEIGHTS
    assert table.user_weights.tolist() == [0.5, 3.0, 4.0]
    assert table.item_weights.tolist() == [2.5, 4.0, 1.0]
    assert table.total_weight == 7.5


def test_weights_by_row_are_in_the_order_of_the_ratings() -> None:
    table = Ratings.from_ids(USERS, ITEMS, WEIGHTS, weights=WEIGHTS)
    for found, expected in ((table.weights_by_user(), table.by_user()), (table.weights_by_item(), table.by_item())):
        assert found is not None
        assert np.array_equal(found, expected.values)


def test_without_weights_every_rating_counts_once(table: Ratings) -> None:
    assert table.user_weights.tolist() == table.user_counts.tolist()
    assert table.item_weights.tolist() == table.item_counts.tolist()
    assert table.total_weight == len(table)
    assert table.weights_by_user() is None
    assert table.weights_by_item() is None
    assert table.select(np.array([0])).weights is None


def test_unknown_ids_have_no_weight() -> None:
    table = Ratings.from_ids([1, 2], [1, 2], [1, 2], weights=[3, 5])
    known = table.reindexed(Vocabulary.encode([2])[0], table.item_vocabulary)
    assert known.user_weights.tolist() == [5.0]


def test_the_fingerprint_has_the_weights_if_there_are_any(table: Ratings) -> None:
    weighted, others = (
        Ratings.from_ids(USERS, ITEMS, VALUES, TIMES, weights=weights) for weights in (WEIGHTS, WEIGHTS[::-1])
    )
    assert len({table.fingerprint, weighted.fingerprint, others.fingerprint}) == 3


def test_duplicates_last_keeps_the_weight_of_the_newest_row() -> None:
    kept = Ratings.from_ids(*TWICE, weights=[1, 2, 3, 4, 5], duplicates="last")
    assert kept.weights is not None
    assert kept.weights.tolist() == [1.0, 2.0, 4.0]


def test_duplicates_mean_is_weighted_and_keeps_the_sum_of_the_weights() -> None:
    kept = Ratings.from_ids(*TWICE, weights=[1, 2, 3, 4, 6], duplicates="mean")
    assert rows(kept) == [("a", 1, 4.0), ("b", 2, 2.75), ("a", 2, 4.0)]
    assert kept.weights is not None
    assert kept.weights.tolist() == [4.0, 8.0, 4.0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 0], r"row 1: weight is 0 \(saw 0.0\); leave the row out, or give a number above 0$"),
        ([-2, 1], r"row 0: weight is below 0 \(saw -2.0\); give a finite number above 0$"),
        ([1, np.nan], r"row 1: weight is not finite \(saw nan\); give a finite number above 0$"),
        ([np.inf, 1], r"row 0: weight is not finite \(saw inf\)"),
        ([1, 1e39], r"row 1: weight is beyond float32 \(saw 1e\+39\); give a number from 1.2e-38 to 3.4e38$"),
        ([1, 1e-39], r"row 1: weight is beyond float32 \(saw 1e-39\)"),
        ([1, 1, 1e30], r"row 2: weight is so large that most other ratings do not count .*; give at most 4.5e\+15"),
        (
            pa.array([1.0, None]),
            r"row 1: null weight \(saw null, one of 1 in the column\); give a finite",
        ),
        (["much", "1"], r"row 0: weight is text, not a number \(saw 'much'\); give numbers$"),
    ],
)
def test_weights_that_are_none_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(DataError, match="^ratings, weights, " + message):
        Ratings.from_ids([1, 2], [1, 2], [1, 2], weights=weights)


def test_weights_of_another_type_or_length_are_refused() -> None:
    with pytest.raises(DataError, match=r"^ratings, weights: weights are not numbers \(saw type bool\)"):
        Ratings.from_ids([1, 2], [1, 2], [1, 2], weights=[True, False])
    with pytest.raises(DataError, match=r"^weights: arrays of a rating table differ in length"):
        Ratings.from_ids([1, 2], [1, 2], [1, 2], weights=[1])


def test_a_table_made_of_columns_refuses_weights_that_are_none(table: Ratings) -> None:
    with pytest.raises(DataError, match=r"^weights, row 2: weight is 0"):
        replace(table, weights=np.array([1, 1, 0, 1], np.float32))
