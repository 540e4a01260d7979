"""Recommending: every option of the lists does what it says, and every wrong one is refused by name."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mf.errors import ConfigError, DataError, EmptyListWarning, IdMismatchWarning, ReadingNotice
from recsys_mf.models import Factorization, RatedPairs
from recsys_mf.prediction.ranking import Draw, Lower
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.serving import recommending
from recsys_mf.serving.recommending import ListOptions, Recommender, recommend_to_file
from tests.trained import factor_run, posterior_run, small_split, small_table

RUN = factor_run()
USERS, ITEMS = (v.entries.to_pylist() for v in (RUN.user_vocabulary, RUN.item_vocabulary))
TITLES = pd.DataFrame({"item_id": ITEMS, "title": [f"film {item}" for item in ITEMS]})


def pairs(frame: pd.DataFrame) -> set[tuple[Any, Any]]:
    return set(zip(frame["user_id"].tolist(), frame["item_id"].tolist(), strict=True))


def rated_pairs(run: Run = RUN) -> set[tuple[Any, Any]]:
    """The training pairs of a run by their ids."""
    assert run.rated is not None
    ids = run.user_vocabulary.ids(run.rated.users), run.item_vocabulary.ids(run.rated.items)
    return set(zip(*(column.to_pylist() for column in ids), strict=True))


EVERY = {(user, item) for user in USERS for item in ITEMS}


@pytest.mark.parametrize("strings", [False, True])
def test_the_lists_of_all_users_hold_every_item_that_they_have_not_rated(strings: bool) -> None:
    run = factor_run(strings=strings)
    lists = run.recommend(n=30)
    everything = {
        (u, i) for u in run.user_vocabulary.entries.to_pylist() for i in run.item_vocabulary.entries.to_pylist()
    }
    assert list(lists.columns) == ["user_id", "rank", "item_id", "score"]
    assert pairs(lists) == everything - rated_pairs(run)
    assert len(lists) == len(pairs(lists))
    for _, of_user in lists.groupby("user_id"):
        assert of_user["rank"].tolist() == list(range(1, len(of_user) + 1))
        assert (np.diff(of_user["score"]) <= 0).all()


def test_scores_are_predictions_before_they_are_clipped() -> None:
    lists = RUN.recommend(n=5)
    predicted = RUN.predict(lists["user_id"], lists["item_id"])
    np.testing.assert_allclose(np.clip(lists["score"], 0, 5), predicted, atol=1e-5)
    assert (lists["score"] > 5).any()


def test_users_are_listed_as_they_are_asked_for() -> None:
    several = RUN.recommend([8, 5, 8], 2)
    assert several["user_id"].tolist() == [8, 8, 5, 5, 8, 8]
    pd.testing.assert_frame_equal(RUN.recommend(5, 2), several[2:4].reset_index(drop=True))


SINGLE: dict[str, Any] = {"int": 5, "NumPy": np.int32(5), "no dimension": np.array(5)}
SEVERAL: dict[str, Any] = {
    "list": [5, 8], "tuple": (5, 8), "array": np.array([5, 8]), "series": pd.Series([5, 8], index=["a", "b"]),
    "arrow": pa.array([5, 8]), "set": {5, 8}, "keys": {5: 1, 8: 1}.keys(),
}  # fmt: skip


@pytest.mark.parametrize("ids", [pytest.param(ids, id=name) for name, ids in (SINGLE | SEVERAL).items()])
def test_ids_come_in_any_container(ids: Any) -> None:
    assert set(RUN.recommend(ids, 1)["user_id"]) == ({5} if any(ids is one for one in SINGLE.values()) else {5, 8})


def test_a_rating_of_zero_is_a_rating() -> None:
    rated = RUN.rated
    assert rated is not None
    zeros = set(np.flatnonzero(rated.values == 0).tolist())
    assert zeros
    user = int(rated.users[min(zeros)])
    item = ITEMS[int(rated.items[min(zeros)])]
    assert item not in RUN.recommend(USERS[user], 30)["item_id"].tolist()


def test_lists_are_shorter_if_fewer_items_are_left_however_many_are_asked_for() -> None:
    lists = RUN.recommend(5, 10**12)
    assert len(lists) == 30 - sum(user == 5 for user, _ in rated_pairs())
    assert len(RUN.recommend(5, 10, among=[100, 102], exclude="none")) == 2


def test_a_user_who_has_rated_everything_has_no_list() -> None:
    mine = next(item for user, item in sorted(rated_pairs()) if user == 5)
    with pytest.warns(EmptyListWarning, match="^no items are left for 2 of the users$"):
        both = RUN.recommend([5, 8], 3, among=[mine], exclude=pd.DataFrame({"user_id": [8], "item_id": [mine]}))
    assert len(both) == 0
    assert list(both.columns) == ["user_id", "rank", "item_id", "score"]


def test_items_to_choose_from_may_repeat_and_be_in_any_order() -> None:
    lists = RUN.recommend([5, 8], 30, among=[144, 100, 102, 100], exclude="none")
    assert pairs(lists) == {(user, item) for user in (5, 8) for item in (100, 102, 144)}
    pd.testing.assert_frame_equal(lists, RUN.recommend([5, 8], 30, among={100, 102, 144}, exclude="none"))


def excluded_table() -> pd.DataFrame:
    """Unrated pairs, one twice, one rated pair, and pairs with an unknown id."""
    left = sorted(EVERY - rated_pairs())[::3]
    rows = [*left, left[0], min(rated_pairs()), (5, 1), (1, 100)]
    return pd.DataFrame(rows, columns=["user_id", "item_id"])


@pytest.mark.parametrize("form", ["frame", "csv", "parquet", "ratings"])
def test_a_table_is_left_out_beside_what_the_run_keeps(form: str, tmp_path: Path) -> None:
    table = excluded_table()
    once = table.drop_duplicates()
    table.to_csv(tmp_path / "seen.csv", index=False)
    table.assign(rating=1.0).to_parquet(tmp_path / "seen.parquet")
    forms = {
        "frame": table,
        "csv": tmp_path / "seen.csv",
        "parquet": str(tmp_path / "seen.parquet"),
        "ratings": Ratings.from_ids(once["user_id"], once["item_id"], np.ones(len(once))),
    }
    assert pairs(RUN.recommend(n=30, exclude=forms[form])) == EVERY - rated_pairs() - pairs(table)


def test_tables_to_leave_out_may_be_a_pattern_of_names(tmp_path: Path) -> None:
    table = excluded_table()
    for number, part in enumerate((table[:5], table[5:])):
        part.to_csv(tmp_path / f"seen-{number}.csv", index=False)
    lists = RUN.recommend(n=30, exclude=str(tmp_path / "seen-*.csv"))
    assert pairs(lists) == EVERY - rated_pairs() - pairs(table)


def test_nothing_is_left_out_if_nothing_is_to_be() -> None:
    assert pairs(RUN.recommend(n=30, exclude="none")) == EVERY
    assert pairs(replace(RUN, rated=None).recommend(n=30, exclude="none")) == EVERY


def test_of_a_run_without_its_ratings_a_table_alone_is_left_out() -> None:
    run = replace(RUN, rated=None)
    assert pairs(run.recommend(n=30, exclude=excluded_table())) == EVERY - pairs(excluded_table())
    assert pairs(run.recommend(n=30, exclude=small_split().train)) == EVERY - rated_pairs()
    with pytest.raises(ConfigError, match=r"exclude: the run did not keep its training ratings \(saw 'rated'\); give"):
        run.recommend(5)


def test_a_table_of_unknown_pairs_leaves_nothing_out_and_says_so() -> None:
    seen = pd.DataFrame({"user_id": [1, 5], "item_id": [100, 1]})
    with pytest.warns(IdMismatchWarning, match="the run does not know both ids of any of the 2 pairs"):
        lists = RUN.recommend(5, 3, exclude=seen)
    pd.testing.assert_frame_equal(lists, RUN.recommend(5, 3))


def test_an_empty_table_leaves_nothing_more_out() -> None:
    empty = pd.DataFrame({"user_id": np.zeros(0, int), "item_id": np.zeros(0, int)})
    pd.testing.assert_frame_equal(RUN.recommend(5, 3, exclude=empty), RUN.recommend(5, 3))


def test_titles_stand_beside_the_items() -> None:
    lists = RUN.recommend([5, 8], 4, titles=TITLES[::-1])
    assert list(lists.columns) == ["user_id", "rank", "item_id", "title", "score"]
    assert lists["title"].tolist() == [f"film {item}" for item in lists["item_id"]]


def test_items_without_a_title_have_null_and_one_notice_says_how_many() -> None:
    listed = RUN.recommend([5, 8], 4)["item_id"]
    gone = set(listed.iloc[:2])
    titles = TITLES[~TITLES["item_id"].isin(gone)]
    with pytest.warns(ReadingNotice) as notices:
        lists = RUN.recommend([5, 8], 4, titles=titles)
    (notice,) = notices
    expected = f"titles: 2 of the {listed.nunique()} items listed have no title, such as item {min(gone)}"
    assert str(notice.message) == expected
    assert set(lists["item_id"][lists["title"].isna()]) == gone


def test_titles_of_other_items_do_not_matter() -> None:
    wide = pd.concat([TITLES, pd.DataFrame({"item_id": [1, 1], "title": ["x", None]})])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RUN.recommend(5, 4, titles=wide)["title"].notna().all()


def test_the_lower_end_of_an_interval_is_below_the_mean_and_falls_with_the_probability() -> None:
    means = RUN.recommend(n=30).set_index(["user_id", "item_id"])["score"]
    by_default, narrow, wide = (
        RUN.recommend(n=30, score=score).set_index(["user_id", "item_id"])["score"].reindex(means.index)
        for score in ("lower", Lower(0.8), Lower(0.95))
    )
    pd.testing.assert_series_equal(by_default, narrow)
    assert (means > narrow).all()
    assert (narrow > wide).all()


def test_a_draw_is_the_same_for_a_seed_and_for_a_user_among_others() -> None:
    run = posterior_run()
    drawn = run.recommend(n=5, score="draw")
    pd.testing.assert_frame_equal(drawn, run.recommend(n=5, score=Draw(0)))
    assert not drawn.equals(run.recommend(n=5, score=Draw(1)))
    alone = run.recommend(20, 5, score="draw")
    pd.testing.assert_frame_equal(alone, drawn[drawn["user_id"] == 20].reset_index(drop=True))


def test_a_user_for_whom_nothing_is_left_is_counted(tmp_path: Path) -> None:
    assert RUN.rated is not None
    item = RUN.item_vocabulary.entries[int(RUN.rated.items[0])].as_py()
    user = RUN.user_vocabulary.entries[int(RUN.rated.users[0])].as_py()
    with pytest.warns(EmptyListWarning, match="^no items are left for 1 of the users$"):
        assert RUN.recommend(user, among=[item]).empty
    recommender = Recommender(RUN, ListOptions(among=[item]))
    with pytest.warns(EmptyListWarning, match=r"^no items are left for \d+ of the users$"):
        recommend_to_file(recommender, recommender.everyone, tmp_path / "lists.csv")


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown user": ({"user_ids": 6}, DataError, r"user ids: the run has no user with this id \(saw 6\); the run has"),
    "unknown users": ({"user_ids": [5, 6, 7, 9]}, DataError, r"\(saw 6 and 2 more\); the run has ids like 5"),
    "unknown users, a set": ({"user_ids": {6}}, DataError, r"the run has no user with this id \(saw 6\)"),
    "no users": ({"user_ids": []}, DataError, r"user ids: no user ids \(saw an empty list\); give at least"),
    "users are text": ({"user_ids": ["5"]}, DataError, r"user ids: the ids are strings, but the model was trained on"),
    "null user": ({"user_ids": [5, None]}, DataError, r"user ids, row 1: null id"),
    "a table as users": ({"user_ids": TITLES}, DataError, "user ids: ids must be integers or text"),
    "n 0": ({"n": 0}, ConfigError, r"n: out of range \(saw 0\); give a whole number, 1 or more"),
    "n 1.5": ({"n": 1.5}, ConfigError, r"n: not a whole number \(saw 1.5\)"),
    "n True": ({"n": True}, ConfigError, r"n: not a whole number \(saw True\)"),
    "unknown item": ({"among": [100, 3]}, DataError, r"among, item ids: the run has no item with this id \(saw 3\);"),
    "no items": ({"among": []}, DataError, r"among, item ids: no item ids \(saw an empty list\)"),
    "items are text": ({"among": "100"}, DataError, "among, item ids: the ids are strings, but the model"),
    "misspelt": ({"exclude": "ratd"}, ConfigError, r"exclude: neither a choice nor a file \(saw 'ratd'\); give 'rated"),
    "no file": ({"exclude": Path("none.csv")}, DataError, "none.csv: no such file"),
    "no file, text": ({"exclude": "none.csv"}, DataError, "none.csv: no such file"),
    "no table": ({"exclude": None}, ConfigError, r"exclude: neither a choice nor a table \(saw None\); give 'rated"),
    "a list of items": ({"exclude": [100]}, DataError, r"exclude: not a table \(saw list\); give a pandas, Polars"),
    "an iterator": ({"user_ids": (u for u in [5])}, DataError, r"user ids: an iterator is not a column of ids \(saw"),
    "mixed users": ({"user_ids": [5, "8"]}, DataError, r"user ids: not a column .* \(saw int 5, str '8'\)"),
    "no items in it": ({"exclude": pd.DataFrame({"user_id": [5]})}, DataError, "no column is recognised as the item i"),
    "text in it": (
        {"exclude": pd.DataFrame({"user_id": ["5"], "item_id": [100]})}, DataError,
        "exclude, column user_id: the ids are strings, but the model was trained on integer ids",
    ),
    "text in ratings": ({"exclude": small_table(strings=True)}, DataError, "user ids: the ids are strings, but the mo"),
    "null in it": ({"exclude": pd.DataFrame({"user_id": [5, 5], "item_id": [100, None]})}, DataError, "null id"),
    "score": ({"score": "best"}, ConfigError, r"score: unknown value \(saw 'best'\); choose one of: mean, lower, draw"),
    "score 3": ({"score": 3}, ConfigError, r"score: unknown value \(saw 3\)"),
    "probability": ({"score": Lower(1.0)}, ConfigError, r"probability out of range \(saw 1.0\); give a number between"),
    "draw": ({"score": "draw"}, ConfigError, r"the model has no samples to draw from \(saw a factorisation\); order b"),
}  # fmt: skip


@pytest.mark.parametrize("given", WRONG)
def test_what_cannot_be_is_refused_by_name(given: str) -> None:
    arguments, kind, message = WRONG[given]
    with pytest.raises(kind, match=message):
        RUN.recommend(**{"user_ids": 5, **arguments})


def test_a_score_that_the_model_does_not_have_is_refused_before_the_lists() -> None:
    assert isinstance(RUN.model, Factorization)
    plain = replace(RUN, fit=replace(RUN.fit, model=replace(RUN.model, spread=None)))
    with pytest.raises(ConfigError, match="the model has no intervals to order by"):
        Recommender(plain, ListOptions(score="lower"))


@pytest.mark.parametrize("options", [{"device": "tpu"}, {"threads": 0}])
def test_where_it_is_computed_is_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"unknown device|number of threads out of range"):
        Recommender(RUN, ListOptions(**options))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv"])
@pytest.mark.parametrize("strings", [False, True])
def test_a_file_holds_the_lists_of_the_frame(suffix: str, strings: bool, tmp_path: Path) -> None:
    run = factor_run(strings=strings)
    items = run.item_vocabulary.entries.to_pylist()
    titles = pd.DataFrame({"item_id": items, "title": [f'a "film", {item}' for item in items]})
    recommender = Recommender(run, ListOptions(n=4, titles=titles))
    watched: list[int] = []
    rows = recommend_to_file(recommender, recommender.everyone, tmp_path / f"o{suffix}", watch=watched.append)
    expected = run.recommend(n=4, titles=titles)
    if suffix == ".parquet":
        written = pq.read_table(tmp_path / "o.parquet").to_pandas()
    else:
        written = pd.read_csv(tmp_path / f"o{suffix}", sep="\t" if suffix == ".tsv" else ",")
    pd.testing.assert_frame_equal(written, expected, check_dtype=False, rtol=1e-5)
    assert (rows, sum(watched)) == (len(expected), 40)


def test_a_file_is_written_in_parts_and_does_not_depend_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender = Recommender(RUN, ListOptions(n=4))
    recommend_to_file(recommender, recommender.everyone, tmp_path / "whole.csv")
    monkeypatch.setattr(recommending, "_ENTRIES", 14)
    watched: list[int] = []
    recommend_to_file(recommender, recommender.everyone, tmp_path / "parts.csv", watch=watched.append)
    assert watched == [3] * 13 + [1]
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_file_of_no_lists_has_its_columns(tmp_path: Path) -> None:
    recommender = Recommender(replace(RUN, rated=everything_rated()), ListOptions())
    with pytest.warns(EmptyListWarning, match="no items are left for"):
        assert recommend_to_file(recommender, recommender.everyone, tmp_path / "o.csv") == 0
    assert (tmp_path / "o.csv").read_text() == "user_id,rank,item_id,score\n"


def everything_rated() -> RatedPairs:
    m, n = len(USERS), len(ITEMS)
    items = np.tile(np.arange(n, dtype=np.int32), m)
    return RatedPairs(np.arange(m + 1) * n, items, np.zeros(m * n, np.float32))


def test_one_notice_for_a_file_counts_the_items_of_all_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommending, "_ENTRIES", 14)
    recommender = Recommender(RUN, ListOptions(n=4, titles=TITLES[:3]))
    with pytest.warns(ReadingNotice) as notices:
        recommend_to_file(recommender, recommender.everyone, tmp_path / "o.csv")
    listed = set(RUN.recommend(n=4)["item_id"])
    untitled = len(listed - set(ITEMS[:3]))
    assert [str(notice.message).split(" have")[0] for notice in notices] == [
        f"titles: {untitled} of the {len(listed)} items listed"
    ]


def test_an_output_is_not_replaced_unless_asked_and_a_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender, output = Recommender(RUN, ListOptions(n=1)), tmp_path / "o.csv"
    output.write_text("mine")
    with pytest.raises(ConfigError, match=r"o.csv: the file exists; give another name, or --force"):
        recommend_to_file(recommender, recommender.everyone, output)
    assert output.read_text() == "mine"
    recommend_to_file(recommender, recommender.everyone, output, force=True)
    assert output.read_text().startswith("user_id,")
    with pytest.raises(ConfigError, match=r"unknown file type for the output; end the name in .parquet, .csv or .tsv"):
        recommend_to_file(recommender, recommender.everyone, tmp_path / "o.json")
    with pytest.raises(ConfigError, match=r"nowhere: no such folder; create it first"):
        recommend_to_file(recommender, recommender.everyone, tmp_path / "nowhere" / "o.csv")

    def fail(users: int) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        recommend_to_file(recommender, recommender.everyone, tmp_path / "new.csv", watch=fail)
    assert {path.name for path in tmp_path.iterdir()} == {"o.csv"}
