"""A run that is continued with new ratings: what it keeps, what it learns, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys_mf import training
from recsys_mf.errors import ConfigError, DataError, FoldWarning, LeakWarning
from recsys_mf.experiment import Experiment
from recsys_mf.kernels import select
from recsys_mf.models import Factorization, RatedPairs
from recsys_mf.prediction import has_intervals, predict, rmse
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.serving.joining import join
from recsys_mf.solvers import SOLVERS
from recsys_mf.splits import Split, hold_out
from recsys_mf.training import train
from tests.planted import planted

SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"rank": 4, "members": 2},
    "als": {"rank": 4, "members": 2},
    "gibbs": {"rank": 3, "sweeps": 30, "burn_in": 10, "likelihood": "gaussian"},
    "svd": {"ranks": (1, 2, 4)},
    "bias": {},
    "mean": {},
}
UPDATED = ("sgd", "als")


def fitted(ratings: Ratings, name: str, **more: Any) -> Run:
    """A run trained on all rows."""
    return train(hold_out(ratings, 0), SOLVERS[name](**SETTINGS[name]), device="cpu", **more)


def parts(*shares: float, seed: int = 1, noise: float = 0.5) -> list[Ratings]:
    """A planted table cut into parts at random; the last part is the rest."""
    ratings, _ = planted(400, 150, noise=noise)
    ends = np.cumsum(shares)
    place = np.searchsorted(ends, np.random.default_rng(seed).random(len(ratings)))
    return [ratings.select(place == part).restricted() for part in range(len(shares) + 1)]


def together(*tables: Ratings) -> Ratings:
    """The rows of tables one after another."""
    users, items = (
        pa.chunked_array([getattr(t, f"{side}_vocabulary").ids(getattr(t, f"{side}s")) for t in tables])
        for side in ("user", "item")
    )
    return Ratings.from_ids(users, items, np.concatenate([t.values for t in tables]))


def error(run: Run, test: Ratings) -> float:
    """Held-out RMSE, with the indices of the run."""
    return rmse(run.model, test.reindexed(run.user_vocabulary, run.item_vocabulary))


@pytest.fixture(scope="module", params=UPDATED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def old_new_test() -> list[Ratings]:
    return parts(0.85, 0.006)


@pytest.mark.parametrize("solver", SOLVERS)
def test_nothing_is_forgotten_whatever_the_solver(solver: str) -> None:
    few, _ = planted(60, 40)
    old = fitted(few, solver)
    new = Ratings.from_ids([1000, 1001, 1000], [0, 1, 2000], [4.0, 2.0, 3.0])
    run = fitted(new, solver, start=old)
    assert set(run.user_vocabulary.entries.to_pylist()) == {*range(60), 1000, 1001}
    assert set(run.item_vocabulary.entries.to_pylist()) == {*range(40), 2000}
    assert run.rated is not None
    assert len(run.rated) == len(few) + 3
    assert run.user_counts.sum() == len(few) + 3
    assert np.isfinite(run.predict([1000, 5, 1001], [2000, 7, 3])).all()
    facts = run.provenance["continued"]
    assert facts["kept"] == {"ratings": len(few), "users": 60, "items": 40}
    assert facts["added"] == {"ratings": 3, "users": 2, "items": 1}


def test_new_ratings_alone_give_the_same_as_all_ratings(name: str, old_new_test: list[Ratings]) -> None:
    old, new, _ = old_new_test
    start = fitted(old, name)
    alone, all_rows = (fitted(table, name, start=start) for table in (new, together(old, new)))
    ids = np.arange(400).repeat(10), np.tile(np.arange(10), 400)
    np.testing.assert_array_equal(alone.predict(*ids), all_rows.predict(*ids))
    assert alone.provenance["continued"] == all_rows.provenance["continued"]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.006, 0.1])
def test_a_continued_run_is_not_worse_than_before_and_near_a_cold_fit(name: str, share: float) -> None:
    errors = []
    for seed in range(3):
        old, new, test = parts(0.75, share, seed=seed)
        start = fitted(old, name)
        run = fitted(new, name, start=start)
        assert run.provenance["continued"]["how"] == ("updated" if share < 0.01 else "fitted again")
        errors.append([error(start, test), error(run, test), error(fitted(together(old, new), name), test)])
    before, after, cold = np.mean(errors, axis=0)
    assert after < before + 0.0005
    assert after < 1.015 * cold


def test_an_update_predicts_new_users_better_than_the_fallback(name: str) -> None:
    ratings, _ = planted(400, 150, noise=0.3)
    is_new_user = ratings.users >= 396
    test = is_new_user & (np.random.default_rng(0).random(len(ratings)) < 0.3)
    start = fitted(ratings.select(~is_new_user).restricted(), name)
    run = fitted(ratings.select(is_new_user & ~test).restricted(), name, start=start)
    assert run.provenance["continued"]["how"] == "updated"
    held = ratings.select(test)
    assert error(run, held) < 0.75 * error(start, held)


def test_rows_without_a_new_rating_stay_bit_for_bit(name: str) -> None:
    ratings, _ = planted(400, 150)
    start = fitted(ratings, name)
    run = fitted(Ratings.from_ids([500, 500], [3, 4], [1.0, 5.0]), name, start=start)
    assert isinstance(start.model, Factorization)
    assert isinstance(run.model, Factorization)
    np.testing.assert_array_equal(run.model.user_factors[:400], start.model.user_factors)
    still = np.setdiff1d(np.arange(150), [3, 4])
    np.testing.assert_array_equal(run.model.item_factors[still], start.model.item_factors[still])
    assert (run.model.item_factors[3] != start.model.item_factors[3]).any()


def test_a_continued_run_keeps_its_intervals(name: str) -> None:
    old, new, test = parts(0.85, 0.006, noise=1.0)
    start = fitted(old, name)
    assert has_intervals(start.model) or name == "als"  # whose validation may choose a single run
    for table in (new, test):  # one is an update, the other a fit
        run = fitted(table, name, start=start)
        assert has_intervals(run.model) == has_intervals(start.model)
        if not has_intervals(run.model):
            continue
        pairs = test.reindexed(run.user_vocabulary, run.item_vocabulary)
        _, lower, upper, *_ = predict(run.model, pairs.users, pairs.items, probability=0.9)
        assert lower is not None
        assert upper is not None
        assert (lower <= upper).all()


def test_a_changed_rating_replaces_the_old_one(name: str) -> None:
    ratings, _ = planted(400, 150)
    start = fitted(ratings, name)
    user, item = ratings.users[0], ratings.items[0]
    value = -4.0 if ratings.values[0] > 3.5 else 9.0
    same = ratings.select(np.arange(100) + 1)
    changed = Ratings.from_ids([user, *same.users], [item, *same.items], [value, *same.values])
    joined = join(start, changed)
    assert (joined.changed, int(joined.is_new.sum()), len(joined.ratings)) == (1, 1, len(ratings))
    run = fitted(changed, name, start=start)
    assert run.provenance["continued"]["changed"] == {"ratings": 1}
    assert run.rated is not None
    assert run.rated.values[run.rated.find(np.array([user]), np.array([item]))] == np.float32(value)
    assert abs(run.predict([user], [item])[0] - value) < abs(start.predict([user], [item])[0] - value)


def test_a_table_without_a_new_rating_changes_nothing(name: str) -> None:
    ratings, _ = planted(100, 50)
    start = fitted(ratings, name)
    run = fitted(ratings, name, start=start)
    pairs = np.arange(100), np.arange(100) % 50
    np.testing.assert_array_equal(run.predict(*pairs), start.predict(*pairs))
    assert run.provenance["continued"]["added"]["ratings"] == 0


def test_updates_add_up_until_everything_is_fitted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MAX_UPDATED_SHARE", 0.012)
    old, first, second, _ = parts(0.8, 0.007, 0.007)
    run = fitted(old, "sgd")
    ways = []
    for table in (first, second):
        run = fitted(table, "sgd", start=run)
        ways.append((run.provenance["continued"]["how"], run.provenance["continued"]["since_full_fit"]))
    assert ways == [("updated", len(first)), ("fitted again", 0)]


def test_no_rating_that_the_run_has_seen_is_validated_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys_mf.serving import joining
    from recsys_mf.training import updates

    old, new, _ = parts(0.8, 0.006)
    start = fitted(old, "sgd")
    scored: list[Ratings] = []

    def score(model: Factorization, valid: Ratings) -> float:
        scored.append(valid)
        return 1.0

    monkeypatch.setattr(updates, "MIN_VALID_ROWS", 5)
    monkeypatch.setattr(updates, "rmse", score)
    joined = join(start, together(old, new))
    assert isinstance(start.model, Factorization)
    model = joining.align(start.model, start, joined.ratings.user_vocabulary, joined.ratings.item_vocabulary)
    backend = select("cpu")
    updates.choose_update(model, joined, 0.3, np.random.default_rng(0), backend)
    assert scored
    assert all(not joining.seen_by(start, valid).any() for valid in scored)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rated": None}, r"its training ratings were not kept"),
        ({"provenance": {"side_information": {"user": ["age"]}}}, "its model uses side information"),
    ],
)
def test_a_run_that_keeps_too_little_is_refused(changes: dict[str, Any], message: str) -> None:
    start = fitted(planted(60, 40)[0], "bias")
    with pytest.raises(ConfigError, match=message):
        fitted(planted(60, 40)[0], "bias", start=replace(start, **changes))


def test_another_solver_than_that_of_the_run_is_refused() -> None:
    start = fitted(planted(60, 40)[0], "bias")
    with pytest.raises(ConfigError, match=r"is of another solver \(saw mean\); continue it with 'bias'"):
        fitted(planted(60, 40)[0], "mean", start=start)


def test_ids_of_another_kind_are_refused() -> None:
    start = fitted(planted(60, 40)[0], "bias")
    with pytest.raises(DataError, match="the ids are strings, but the model was trained on integer ids"):
        fitted(Ratings.from_ids(["a", "b"], ["x", "y"], [1, 2]), "bias", start=start)


def test_test_pairs_that_the_run_has_seen_give_a_warning() -> None:
    ratings, _ = planted(60, 40)
    start = fitted(ratings, "bias")
    split = hold_out(ratings, 0.1, seed=1)
    assert split.test is not None
    with pytest.warns(LeakWarning, match=f"trained on {len(split.test):,} of the {len(split.test):,} test pairs"):
        train(split, SOLVERS["bias"](), start=start, device="cpu")


def test_rated_pairs_are_found_by_binary_search() -> None:
    ratings, _ = planted(80, 60)
    pairs = RatedPairs.of(ratings)
    found = pairs.find(ratings.users, ratings.items)
    np.testing.assert_array_equal(pairs.values[found], ratings.values)
    np.testing.assert_array_equal(pairs.users[found], ratings.users)
    every = np.arange(-1, 80).repeat(61), np.tile(np.arange(-1, 60), 81)
    assert pairs.contains(*every).sum() == len(ratings)


def test_a_split_keeps_its_rule(old_new_test: list[Ratings]) -> None:
    old, new, _ = old_new_test
    run = train(Split(new, None, None, "given", None), SOLVERS["bias"](), start=fitted(old, "bias"), device="cpu")
    assert run.provenance["split"] == "given"


def test_ratings_on_another_scale_are_told(name: str) -> None:
    few, _ = planted(60, 40)
    start = fitted(few, name)
    with pytest.warns(FoldWarning, match=r"^2 of 3 ratings are far outside the range .* on another scale\?$"):
        fitted(Ratings.from_ids([1000, 1001, 1000], [0, 1, 2], [80.0, 100.0, 3.0]), name, start=start)


def test_a_table_of_known_pairs_alone_cannot_be_split(name: str) -> None:
    few, _ = planted(60, 40)
    start, known = fitted(few, name), few.select(np.arange(100)).restricted()
    message = (
        r"the run to continue from has all pairs of this table already, so none can be held out \(saw 100 ratings\)"
    )
    with pytest.raises(DataError, match=message):
        Experiment(ratings=known, solver=SOLVERS[name](**SETTINGS[name]), start=start).run()


def test_users_folded_in_stay_out_of_the_prior_until_all_is_fitted_again(name: str) -> None:
    ratings, _ = planted(400, 150)
    start = fitted(ratings, name).fold_in(Ratings.from_ids([500, 500], [3, 4], [1.0, 5.0]))
    updated = fitted(Ratings.from_ids([600, 600], [3, 4], [1.0, 5.0]), name, start=start)
    assert updated.provenance["continued"]["how"] == "updated"
    assert updated.folded is not None
    assert updated.user_vocabulary.ids(np.flatnonzero(updated.folded.users)).to_pylist() == [500]
    assert not updated.folded.items.any()
    many = Ratings.from_ids(np.repeat(np.arange(600, 640), 40), np.tile(np.arange(40), 40), np.tile([1.0, 5.0], 800))
    again = fitted(many, name, start=start)
    assert again.provenance["continued"]["how"] == "fitted again"
    assert again.folded is None
