"""RatedPairs: which pairs there are, and what cannot be pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_mf.errors import DataError, SolveError
from recsys_mf.models import RatedPairs
from tests.trained import small_table


def test_the_pairs_of_a_table_are_those_it_has() -> None:
    table = small_table()
    rated = RatedPairs.of(table)
    assert len(rated) == len(table)
    assert rated.contains(table.users, table.items).all()
    every = np.divmod(np.arange(table.n_users * table.n_items), table.n_items)
    assert rated.contains(*every).sum() == len(table)
    assert not rated.contains(np.array([-1, 0]), np.array([0, -1])).any()


@pytest.mark.parametrize(
    ("starts", "items", "message"),
    [
        ([0, 2], [1, 1], "rated: items that are not ascending"),
        ([0, 2], [2, 1], "rated: items that are not ascending"),
        ([0, 2], [-1, 1], "rated: items that are not ascending"),
        ([0, 1], [1, 2], "rated: starts that are not those of the items"),
        ([1, 2], [1, 2], "rated: starts that are not those of the items"),
        ([0, 3], [1, 2], "rated: starts that are not those of the items"),
        ([0, 2, 1, 2], [1, 2], "starts: values that are not ascending"),
        ([], [], "rated: starts that are not those of the items"),
        ([[0, 2]], [1, 2], r"starts: shape does not match \(saw \(1, 2\)\)"),
        (np.array([0, 2], np.int32), [1, 2], r"starts: .* type \(saw int32\); it is int64"),
        ([0, 2], np.array([1, 2], np.int64), r"items: .* type \(saw int64\); it is int32"),
    ],
)
def test_what_cannot_be_pairs_is_refused(starts: Any, items: Any, message: str) -> None:
    starts, items = (
        given if isinstance(given, np.ndarray) else np.array(given, dtype)
        for given, dtype in ((starts, np.int64), (items, np.int32))
    )
    with pytest.raises(DataError, match=message):
        RatedPairs(starts, items, np.ones(len(items), np.float32))


def test_users_without_pairs_are_allowed() -> None:
    rated = RatedPairs(np.array([0, 0, 2, 2, 3, 3]), np.array([1, 2, 0], np.int32), np.ones(3, np.float32))
    assert rated.contains(np.array([1, 3, 0, 3]), np.array([2, 0, 0, 1])).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("values", "message"),
    [([1.0], r"^values: shape does not match \(saw \(1,\)\)"), ([1.0, np.nan], "^values: .* that are not finite")],
)
def test_every_pair_has_a_finite_rating(values: list[float], message: str) -> None:
    with pytest.raises((DataError, SolveError), match=message):
        RatedPairs(np.array([0, 2]), np.array([0, 1], np.int32), np.array(values, np.float32))
