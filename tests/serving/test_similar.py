"""Similar: the rows whose factors point the same way, of either side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys_mf.errors import ConfigError, DataError, ReadingNotice
from recsys_mf.models import Factorization, Posterior
from recsys_mf.prediction import similarity
from recsys_mf.run import Run
from tests.trained import factor_run, posterior_run, small_run

RUN = factor_run()
ITEMS = RUN.item_vocabulary.entries.to_pylist()


def cosines(run: Run, side: str) -> pd.DataFrame:
    """The cosine of all pairs of rows of a side, by ids."""
    assert isinstance(run.model, Factorization)
    user = side == "user"
    rows = (run.model.user_factors if user else run.model.item_factors).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = (run.user_vocabulary if user else run.item_vocabulary).entries.to_pylist()
    return pd.DataFrame(rows @ rows.T, ids, ids)


@pytest.mark.parametrize("strings", [False, True])
@pytest.mark.parametrize("side", ["user", "item"])
def test_the_list_is_a_sort_of_all_cosines_without_the_row_itself(side: str, strings: bool) -> None:
    run = factor_run(strings=strings)
    expected = cosines(run, side)
    wanted = list(expected.index[[3, 0]])
    found = run.similar(wanted, 1000, side=side)
    assert list(found.columns) == [f"{side}_id", "rank", f"similar_{side}_id", "cosine"]
    for name in wanted:
        of_row = found[found[f"{side}_id"] == name]
        best = expected[name].drop(name).sort_values(ascending=False)
        assert of_row[f"similar_{side}_id"].tolist() == best.index.tolist()
        np.testing.assert_allclose(of_row["cosine"], best, atol=1e-6)
        assert of_row["rank"].tolist() == list(range(1, len(best) + 1))


def test_a_row_of_zeros_is_like_none_and_points_nowhere() -> None:
    assert isinstance(RUN.model, Factorization)
    factors = RUN.model.item_factors.copy()
    factors[2] = 0
    run = replace(RUN, fit=replace(RUN.fit, model=replace(RUN.model, item_factors=factors)))
    assert (run.similar(ITEMS[2], 5)["cosine"] == 0).all()
    found = run.similar(ITEMS[0], 29)
    assert found["cosine"][found["similar_item_id"] == ITEMS[2]].tolist() == [0.0]


def test_biases_do_not_matter() -> None:
    assert isinstance(RUN.model, Factorization)
    moved = replace(RUN.model, item_bias=RUN.model.item_bias[::-1].copy())
    pd.testing.assert_frame_equal(
        replace(RUN, fit=replace(RUN.fit, model=moved)).similar(ITEMS[:3]), RUN.similar(ITEMS[:3])
    )


def test_of_a_posterior_it_is_the_cosine_of_its_samples_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    run = posterior_run()
    assert isinstance(run.model, Posterior)
    monkeypatch.setattr(similarity, "_MAX_SAMPLES", 3)
    chosen = np.linspace(0, run.model.n_samples - 1, 3).astype(int)
    side_by_side = np.hstack([run.model.rows("item", s)[:, :-1] for s in chosen.tolist()]).astype(np.float64)
    side_by_side /= np.linalg.norm(side_by_side, axis=1, keepdims=True)
    expected = np.sort(np.delete(side_by_side @ side_by_side[0], 0))[::-1]
    np.testing.assert_allclose(run.similar(ITEMS[0], 29)["cosine"], expected, atol=1e-6)


def test_titles_stand_beside_the_similar_items_and_a_notice_says_how_many_are_missing() -> None:
    titles = pd.DataFrame({"item_id": ITEMS, "name": [f"film {item}" for item in ITEMS]})
    found = RUN.similar([100, 102], 3, titles=titles)
    assert list(found.columns) == ["item_id", "rank", "similar_item_id", "title", "cosine"]
    assert found["title"].tolist() == [f"film {item}" for item in found["similar_item_id"]]
    gone = found["similar_item_id"].iloc[0]
    with pytest.warns(ReadingNotice, match=rf"titles: 1 of the 3 items listed have no title, such as item {gone}"):
        RUN.similar(100, 3, titles=titles[titles["item_id"] != gone])


def test_names_of_users_stand_beside_similar_users() -> None:
    users = RUN.user_vocabulary.entries.to_pylist()
    names = pd.DataFrame({"user_id": users, "name": [f"person {user}" for user in users]})
    found = RUN.similar(5, 3, side="user", titles=names)
    assert found["title"].tolist() == [f"person {user}" for user in found["similar_user_id"]]


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown": (
        {"ids": 3},
        DataError,
        r"item ids: the run has no item with this id \(saw 3\); the run has ids like 100$",
    ),
    "none": ({"ids": []}, DataError, r"item ids: no item ids \(saw an empty list\); give at least one id"),
    "null": ({"ids": None}, DataError, "item ids, row 0: null id"),
    "text": ({"ids": "100"}, DataError, "item ids: the ids are strings, but the model was trained on integer ids"),
    "an item as user": ({"ids": 100, "side": "user"}, DataError, "user ids: the run has no user with this id"),
    "side": ({"ids": 100, "side": "users"}, ConfigError, r"side: unknown value \(saw 'users'\); did you mean 'user'\?"),
    "n": ({"ids": 100, "n": 0}, ConfigError, r"n: out of range \(saw 0\); give a whole number, 1 or more"),
}


@pytest.mark.parametrize("given", WRONG)
def test_what_cannot_be_is_refused_by_name(given: str) -> None:
    arguments, kind, message = WRONG[given]
    with pytest.raises(kind, match=message):
        RUN.similar(**arguments)


def test_a_model_of_biases_alone_has_nothing_to_compare() -> None:
    assert isinstance(small_run().model, Factorization)
    with pytest.raises(ConfigError, match=r"the model has no factors to compare, only biases \(saw rank 4\); train"):
        small_run().similar(100)
