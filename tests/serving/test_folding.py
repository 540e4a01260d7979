"""Folding in and forgetting: rows are the closed form of the docstring, nothing else moves, and both can be undone."""

from __future__ import annotations

import functools
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_mf import load, save
from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import ConfigError, DataError, FoldWarning
from recsys_mf.kernels import select
from recsys_mf.models import Factorization, Posterior
from recsys_mf.models.member_spread import MemberSpread
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.serving.folding import precision_of
from recsys_mf.serving.population import Population, Rows
from recsys_mf.serving.sampled_rows import NewRatings, draw_rows
from recsys_mf.solvers import SOLVERS
from recsys_mf.splits import hold_out
from recsys_mf.training import train
from tests.planted import planted
from tests.trained import posterior_run, small_run

NEW = 100_000  # an id that no table here has


@functools.cache
def factor_run() -> Run:
    """SGD of rank 3 on a planted table, whose factors are not zero."""
    return train(hold_out(planted()[0], 0.0), SOLVERS["sgd"].from_texts({"rank": "3", "epochs": "8", "members": "1"}))


def arrays_of(run: Run) -> dict[str, Any]:
    return {
        f"{label} {name}": array
        for label, fit in {"": run.fit, **run.baselines}.items()
        for name, array in fit.model.arrays().items()
    }


def new_ratings(run: Run, *, user: Any = NEW, n: int = 6) -> Ratings:
    """Ratings of one user, of items that the run knows."""
    items = run.item_vocabulary.entries.slice(2, n).to_numpy()
    return Ratings.from_ids([user] * n, items, np.arange(n) % 5 + 0.5, None)


def factorization_of(run: Run) -> Factorization:
    assert isinstance(run.model, Factorization)
    return run.model


def test_a_new_user_gets_the_minimum_of_the_objective() -> None:
    run, ratings = factor_run(), new_ratings(factor_run())
    folded, model = run.fold_in(ratings), factorization_of(run)
    rows = np.column_stack([model.user_factors, model.user_bias]).astype(np.float64)
    rows = rows[rows.any(axis=1)]
    (m, w), C = rows.shape, np.cov(rows.T, ddof=0)
    C += w / (w + m) * (np.diag(np.diag(C)) - C) + 1e-6 * np.diag(np.diag(C))
    prior = precision_of(run.fit) * np.linalg.inv(C)
    j = run.item_vocabulary.indices(new_item_ids(ratings))
    y = np.column_stack([model.item_factors[j], np.ones(len(j))])
    t = ratings.values - model.mean - model.item_bias[j]
    expected = np.linalg.solve(y.T @ y + prior, y.T @ t + prior @ rows.mean(0))
    place = folded.user_vocabulary.indices([NEW])[0]
    found = factorization_of(folded)
    np.testing.assert_allclose(found.user_factors[place], expected[:-1], rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(found.user_bias[place], expected[-1], rtol=2e-4, atol=1e-5)


def new_item_ids(ratings: Ratings) -> Any:
    return ratings.item_vocabulary.ids(ratings.items)


def test_all_other_rows_keep_their_bits() -> None:
    run = factor_run()
    known = run.user_vocabulary.entries[3].as_py()
    before, folded = factorization_of(run), run.fold_in(new_ratings(run, user=known))
    after, changed = factorization_of(folded), run.user_vocabulary.indices([known])[0]
    others = np.arange(before.n_users) != changed
    np.testing.assert_array_equal(before.user_factors[others], after.user_factors[others])
    np.testing.assert_array_equal(before.item_factors, after.item_factors)
    np.testing.assert_array_equal(before.item_bias, after.item_bias)
    assert before.user_bias[changed] != after.user_bias[changed]


def test_a_known_user_is_solved_from_old_and_new_ratings_the_newest_of_a_pair() -> None:
    run = factor_run()
    assert run.rated is not None
    user = int(np.argmax(np.diff(run.rated.starts)))
    row = slice(run.rated.starts[user], run.rated.starts[user + 1])
    ids, items = run.user_vocabulary.ids(np.array([user])), run.item_vocabulary.ids(run.rated.items[row])
    values = run.rated.values[row].copy()
    values[0] = 5 - values[0]
    one = Ratings.from_ids(ids.take([0]), items.slice(0, 1), values[:1], None)
    updated = run.fold_in(one)
    alone = run.fold_in(Ratings.from_ids([NEW] * len(values), items, values, None))
    p, q = (
        factorization_of(r).user_factors[r.user_vocabulary.indices([name])[0]]
        for r, name in ((updated, ids[0].as_py()), (alone, NEW))
    )
    np.testing.assert_allclose(p, q, rtol=1e-4, atol=1e-6)
    assert updated.rated is not None
    assert len(updated.rated) == len(run.rated)


def test_items_are_folded_in_alike() -> None:
    run = factor_run()
    users = run.user_vocabulary.entries.slice(0, 8).to_numpy()
    ratings = Ratings.from_ids(users, [NEW] * 8, np.arange(8) % 5 + 0.0, None)
    folded = run.fold_in(ratings, side="item")
    assert len(folded.item_vocabulary) == len(run.item_vocabulary) + 1
    np.testing.assert_array_equal(factorization_of(run).user_factors, factorization_of(folded).user_factors)
    turned = replace(
        factorization_of(run),
        user_bias=factorization_of(run).item_bias, item_bias=factorization_of(run).user_bias,
        user_factors=factorization_of(run).item_factors, item_factors=factorization_of(run).user_factors, spread=None,
    )  # fmt: skip
    assert run.rated is not None
    flipped = replace(
        run, fit=replace(run.fit, model=turned), baselines={}, user_vocabulary=run.item_vocabulary,
        item_vocabulary=run.user_vocabulary,
        rated=type(run.rated).of(
            Ratings(run.rated.items, run.rated.users, run.rated.values, None, run.item_vocabulary, run.user_vocabulary)
        ),
    )  # fmt: skip
    mirrored = flipped.fold_in(Ratings.from_ids([NEW] * 8, users, ratings.values, None))
    place = folded.item_vocabulary.indices([NEW])[0]
    np.testing.assert_array_equal(
        factorization_of(folded).item_factors[place], factorization_of(mirrored).user_factors[place]
    )


def test_forgetting_takes_back_what_folding_in_added_bit_for_bit() -> None:
    run = factor_run()
    with pytest.warns(FoldWarning, match=r"users forgotten: 1, .* 6 ratings.*train again without them"):
        back = run.fold_in(new_ratings(run)).forget(NEW)
    for name, array in arrays_of(run).items():
        np.testing.assert_array_equal(array, arrays_of(back)[name], err_msg=name)
    assert back.user_vocabulary.fingerprint == run.user_vocabulary.fingerprint
    assert run.rated is not None
    assert back.rated is not None
    np.testing.assert_array_equal(back.rated.items, run.rated.items)
    np.testing.assert_array_equal(back.user_counts, run.user_counts)
    np.testing.assert_array_equal(back.item_counts, run.item_counts)
    assert back.provenance["forgotten"] == {"users": 1, "ratings": 6}


def test_ratings_on_another_scale_are_told() -> None:
    run = small_run()
    low, high = run.model.rating_range
    items = run.item_vocabulary.entries.slice(0, 2).to_numpy()
    for far in (high + 1.1 * (high - low), low - 1.1 * (high - low), 1e6):
        ratings = Ratings.from_ids([NEW] * 2, items, np.array([high, far]), None)
        with pytest.warns(FoldWarning, match=r"^1 of 2 ratings are far outside the range .* on another scale\?$"):
            run.fold_in(ratings)


@pytest.mark.parametrize("make", [small_run, posterior_run])
def test_a_rating_beyond_all_scales_is_refused_by_name(make: Any) -> None:
    for far in (3e38, -3e38, 1e12):
        ratings = Ratings.from_ids([NEW] * 2, [100, 102], np.array([3.0, far]), None)
        message = (
            rf"a rating is too large to be folded in \(saw {re.escape(f'{far:g}')} of user {NEW}, item 102\); give"
        )
        with pytest.raises(DataError, match=message):
            make().fold_in(ratings)


def test_a_sampled_run_forgets_too() -> None:
    run = posterior_run()
    gone = run.user_vocabulary.entries[1].as_py()
    rest = [name for name in run.user_vocabulary.entries.to_pylist() if name != gone]
    items = [run.item_vocabulary.entries[0].as_py()] * len(rest)
    with pytest.warns(FoldWarning):
        back = run.forget([gone])
    np.testing.assert_array_equal(run.predict(rest, items), back.predict(rest, items))
    assert gone not in back.user_vocabulary.entries.to_pylist()


def test_a_folded_run_recommends_predicts_with_intervals_and_is_stored(tmp_path: Path) -> None:
    run = factor_run()
    model = factorization_of(run)
    v_u, v_i = np.ones(model.n_users, np.float32), np.ones(model.n_items, np.float32)
    run = replace(run, fit=replace(run.fit, model=replace(model, spread=MemberSpread(v_u, v_i, 0.5, 0.1))))
    folded = run.fold_in(new_ratings(run))
    save(folded, tmp_path / "run")
    loaded = load(tmp_path / "run")
    assert loaded.fit.fold_in_precision == run.fit.fold_in_precision
    lists = [r.recommend(NEW, 5) for r in (folded, loaded)]
    assert lists[0].equals(lists[1])
    assert not set(lists[0]["item_id"]) & set(new_item_ids(new_ratings(run)).to_pylist())
    place = folded.user_vocabulary.indices([NEW])
    found = predict(folded.model, place, np.array([0]), probability=0.9)
    assert found.lower is not None
    assert found.lower[0] < found.values[0]


@pytest.mark.parametrize("solver", ["sgd", "als"])
def test_the_ridge_is_chosen_in_training_and_near_the_best_for_users_left_out(solver: str) -> None:
    table = planted()[0]
    rng = np.random.default_rng(0)
    out, draw = (rng.random(table.n_users) < 0.3)[table.users], rng.random(len(table))
    run = train(hold_out(table.select(~out).restricted(), 0.0), SOLVERS[solver]())
    given, hidden = table.select(out & (draw < 0.7)).restricted(), table.select(out & (draw >= 0.7))

    def error(precision: float | None) -> float:
        folded = replace(run, fit=replace(run.fit, fold_in_precision=precision)).fold_in(given)
        rows = hidden.reindexed(folded.user_vocabulary, folded.item_vocabulary)
        return float(np.sqrt(np.mean((predict(folded.model, rows.users, rows.items).values - rows.values) ** 2)))

    chosen = run.fit.fold_in_precision
    assert chosen is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FoldWarning)
        tried = [error(chosen * factor) for factor in (1 / 30, 1 / 3, 1, 3, 30)]
    assert tried[2] < min(tried) * 1.03
    assert max(tried) > tried[2] * 1.01


def test_ratings_of_unknown_items_are_left_out_and_counted() -> None:
    run = small_run()
    known = run.item_vocabulary.entries[0].as_py()
    with pytest.warns(FoldWarning, match="2 of 3 ratings are of items that the model does not know"):
        folded = run.fold_in({"user_id": [NEW] * 3, "item_id": [known, NEW, NEW + 1], "rating": [5.0, 4.0, 3.0]})
    assert folded.user_counts[folded.user_vocabulary.indices([NEW])[0]] == 1
    with pytest.raises(DataError, match=r"the model knows no item of these ratings \(saw 1 ratings\); give ratings"):
        run.fold_in({"user_id": [NEW], "item_id": [NEW], "rating": [5.0]})


def test_what_cannot_be_folded_into_is_refused_in_one_line() -> None:
    run = small_run()
    timed = posterior_run()
    known = timed.user_vocabulary.entries[0].as_py()
    with pytest.raises(ConfigError, match=r"user ids: new ratings of a known user cannot be folded in: .* \(saw 5\)"):
        timed.fold_in(new_ratings(timed, user=known))
    with pytest.raises(ConfigError, match="its training ratings were not kept"):
        replace(run, rated=None).fold_in(new_ratings(run))
    with pytest.raises(ConfigError, match=r"side: unknown value \(saw 'film'\)"):
        run.fold_in(new_ratings(run), side="film")
    for seed, wrong in (("x", r"not a whole number \(saw 'x'\)"), (-1, r"out of range \(saw -1\)")):
        with pytest.raises(ConfigError, match=f"^seed: {wrong}; give a whole number, 0 or more$"):
            run.fold_in(new_ratings(run), seed=seed)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the run has no user with this id"):
        run.forget(NEW)
    with pytest.raises(ConfigError, match="cannot forget all of its users"):
        run.forget(run.user_vocabulary.entries)


def test_a_model_without_rows_stays_without() -> None:
    zero = Rows(np.zeros((3, 2), np.float32), np.zeros(3, np.float32))
    assert Population.of(zero) is None
    run = small_run()
    folded = run.fold_in(new_ratings(run))
    mean = folded.baselines["mean"].model
    assert isinstance(mean, Factorization)
    assert not mean.user_bias.any()


@functools.cache
def sampled_run(likelihood: str, links: str = "none") -> Run:
    """Gibbs sampling of rank 3 without times on a planted table, of stars if it is ordinal."""
    table = planted(seed=3)[0]
    values = np.clip(np.rint(table.values), 1, 6) if likelihood == "ordinal" else table.values
    texts = {"rank": "3", "sweeps": "60", "burn_in": "20", "likelihood": likelihood, "links": links}
    settings = SOLVERS["gibbs"].from_texts(texts)
    return train(hold_out(replace(table, values=values.astype(np.float32)), 0.0), settings)


@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_a_twin_of_a_known_user_is_predicted_like_it_by_samples(likelihood: str) -> None:
    run = sampled_run(likelihood)
    assert run.rated is not None
    errors, intervals = [], []
    for user in range(0, 300, 25):
        own = slice(run.rated.starts[user], run.rated.starts[user + 1])
        twin = Ratings.from_ids([NEW] * len(run.rated.items[own]), run.rated.items[own], run.rated.values[own], None)
        folded = run.fold_in(twin)
        items = np.arange(200)
        both = [
            predict(r.model, np.full(200, place), items, probability=0.9)
            for r, place in ((run, user), (folded, folded.user_vocabulary.indices([NEW])[0]))
        ]
        errors.append(both[1].values - both[0].values)
        assert both[0].lower is not None
        assert both[0].upper is not None
        assert both[1].lower is not None
        assert both[1].upper is not None
        intervals.append((both[1].upper - both[1].lower).mean() / (both[0].upper - both[0].lower).mean())
    spread = float(np.std(run.rated.values))
    assert np.sqrt(np.mean(np.square(errors))) < 0.12 * spread
    assert 0.9 < np.mean(intervals) < 1.15


def test_draws_are_those_of_their_seed_and_leave_other_rows_alone() -> None:
    run = sampled_run("gaussian")
    assert isinstance(run.model, Posterior)
    ratings = new_ratings(run)
    first, again, other = (run.fold_in(ratings, seed=seed).model for seed in (1, 1, 2))
    assert isinstance(first, Posterior)
    assert isinstance(again, Posterior)
    assert isinstance(other, Posterior)
    np.testing.assert_array_equal(first.user_rows, again.user_rows)
    assert not np.array_equal(first.user_rows, other.user_rows)
    np.testing.assert_array_equal(first.user_rows[:-1], run.model.user_rows)
    np.testing.assert_array_equal(first.item_rows, run.model.item_rows)


@pytest.mark.parametrize("prior_kept", [True, False])
def test_the_mean_of_the_draws_is_the_posterior_mean_of_a_row(prior_kept: bool) -> None:
    """With one sample repeated, draws of a Gaussian row have the mean and covariance of the regression."""
    run = sampled_run("gaussian", "both" if prior_kept else "none")
    assert isinstance(run.model, Posterior)
    many, kept = np.zeros(4000, np.int64), run.model.user_prior
    assert kept is not None
    prior = replace(
        kept, coefficients=kept.coefficients[:, many], units=kept.units[many], precisions=kept.precisions[many]
    )
    model = replace(
        run.model, user_rows=run.model.user_rows[:, many], item_rows=run.model.item_rows[:, many],
        context_rows=run.model.context_rows[:, many], scales=run.model.scales[:, many],
        offsets=run.model.offsets[many], noises=run.model.noises[many], thresholds=run.model.thresholds[many],
        user_prior=prior if prior_kept else None, noise=None,
    )  # fmt: skip
    items, values = np.array([3, 50, 99], np.int32), np.array([4.0, 1.0, 2.5], np.float32)
    new = NewRatings(Csr(np.array([0, 3]), items, values, 200), None)
    drawn, _ = draw_rows(model, "user", new, np.random.default_rng(0), select("cpu"))
    rows = drawn[0] * model.scales[0, 0].astype(np.float64)
    population = Population.of_rows(model.rows("user", 0))
    assert population is not None
    Q = model.rows("item", 0)[items].astype(np.float64)
    y, alpha = np.column_stack([Q[:, :-1], np.ones(3)]), 1 / float(model.noises[0]) ** 2
    t = (values - model.scale.mean) / model.scale.deviation - model.offsets[0] - Q[:, -1]
    precision, at = population.precision(np.ones(y.shape[1])), population.mean
    if prior_kept:
        draw = kept.draw(0)
        precision, at = draw.precision.astype(np.float64), draw.coefficients[items].sum(0) / np.sqrt(3)
    A = precision + alpha * y.T @ y
    mean = np.linalg.solve(A, precision @ at + alpha * y.T @ t)
    deviations = np.sqrt(np.diag(np.linalg.inv(A)))
    np.testing.assert_allclose(rows.mean(0), mean, atol=5 * deviations.max() / np.sqrt(4000))
    np.testing.assert_allclose(np.cov(rows.T), np.linalg.inv(A), atol=0.1 * deviations.max() ** 2)


def _run_of(name: str) -> Run:
    """A run whose new users have a prior of rows: of a factorisation, and of samples without and with a prior kept."""
    if name == "factors":
        return factor_run()
    run = sampled_run("gaussian")
    assert isinstance(run.model, Posterior)
    return run if name == "samples" else replace(run, fit=replace(run.fit, model=replace(run.model, user_prior=None)))


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("name", ["factors", "samples", "samples without a prior"])
@pytest.mark.parametrize("side", ["user", "item"])
def test_new_rows_do_not_depend_on_rows_folded_in_before(name: str, side: str, stored: bool, tmp_path: Path) -> None:
    run = _run_of(name)
    others = (run.item_vocabulary if side == "user" else run.user_vocabulary).entries.slice(2, 40).to_numpy()
    ids = {f"{'item' if side == 'user' else 'user'}_id": np.tile(others, 30), "rating": np.tile([5.5, 4.0], 600)}
    crowd = ids | {f"{side}_id": np.repeat(np.arange(30) + NEW, len(others))}
    late = {column: values[:7] for column, values in ids.items()} | {f"{side}_id": [NEW - 1] * 7}
    first = run.fold_in(crowd, side=side)
    if stored:
        save(first, tmp_path / "run")
        first = load(tmp_path / "run")
    both, alone = first.fold_in(late, side=side), run.fold_in(late, side=side)
    pairs = ([NEW - 1] * len(others), others) if side == "user" else (others, [NEW - 1] * len(others))
    np.testing.assert_array_equal(both.predict(*pairs), alone.predict(*pairs))
    assert both.folded is not None
    assert (both.folded.users.sum(), both.folded.items.sum()) == ((31, 0) if side == "user" else (0, 31))
    if side == "item":
        return
    with pytest.warns(FoldWarning, match="users forgotten: 30"):
        back = both.forget(np.arange(30) + NEW)
    for label, array in arrays_of(alone).items():
        np.testing.assert_array_equal(arrays_of(back)[label], array, err_msg=label)
    assert back.provenance["train_fingerprint"] == alone.provenance["train_fingerprint"]
    assert back.provenance["train_fingerprint"] != both.provenance["train_fingerprint"]
    with pytest.warns(FoldWarning, match="users forgotten: 1,"):
        assert back.forget(NEW - 1).folded is None


def test_a_run_whose_trained_users_are_all_forgotten_still_folds_in() -> None:
    run = factor_run()
    items, rng = run.item_vocabulary.entries.slice(2, 40).to_pylist(), np.random.default_rng(0)
    crowd = {"user_id": np.repeat(np.arange(30) + NEW, 40), "item_id": items * 30, "rating": rng.random(1200) * 5}
    with pytest.warns(FoldWarning):
        rest = run.fold_in(crowd).forget(run.user_vocabulary.entries)
    again = factorization_of(rest.fold_in(new_ratings(run, user=NEW + 40)))
    assert again.user_factors[-1].any()


def test_the_terms_of_a_folded_row_add_up_to_its_prediction() -> None:
    run = factor_run()
    items = run.item_vocabulary.entries.slice(2, 40).to_pylist()
    crowd = {"user_id": np.repeat(np.arange(30) + NEW, 40), "item_id": items * 30, "rating": [5.5, 4.0] * 600}
    why = run.fold_in(crowd).explain(NEW, items[0])
    assert why.folded == pytest.approx(why.prediction, rel=1e-4)


def test_a_rating_off_the_scale_of_a_model_of_stars_is_refused() -> None:
    run = sampled_run("ordinal")
    ratings = {"user_id": [NEW], "item_id": [3], "rating": [2.5]}
    with pytest.raises(DataError, match=r"a rating is not on the scale of the model \(saw 2.5\); give one of 1, 2, 3"):
        run.fold_in(ratings)


@pytest.mark.parametrize("with_times", [True, False])
def test_a_new_user_of_a_model_with_times_is_folded_in(with_times: bool) -> None:
    run = posterior_run()
    ratings = new_ratings(run)
    if with_times:
        ratings = replace(ratings, times=np.arange(len(ratings)) * 20_000)
    folded = run.fold_in(ratings)
    predictions = folded.predict([NEW] * 3, run.item_vocabulary.entries.slice(0, 3).to_pylist(), 0)
    assert np.isfinite(predictions).all()
    assert len(folded.user_vocabulary) == len(run.user_vocabulary) + 1


@pytest.mark.parametrize("scale", [1e-25, 1e-5, 1e5, 1e25])
def test_folding_in_does_not_depend_on_the_scale_of_the_ratings(scale: float) -> None:
    run, folded = factor_run(), factor_run().fold_in(new_ratings(factor_run()))
    model = factorization_of(run)
    root, (low, high) = np.float32(np.sqrt(scale)), model.rating_range
    scaled = Factorization(
        model.mean * scale, model.user_bias * np.float32(scale), model.item_bias * np.float32(scale),
        model.user_factors * root, model.item_factors * root, (low * scale, high * scale),
    )  # fmt: skip
    assert run.rated is not None
    rated = replace(run.rated, values=run.rated.values * np.float32(scale))
    precision = precision_of(run.fit) * scale**2
    fit = replace(run.fit, model=scaled, fold_in_precision=precision)
    ratings = new_ratings(run)
    ratings = replace(ratings, values=ratings.values * np.float32(scale))
    other = replace(run, fit=fit, baselines={}, rated=rated).fold_in(ratings)
    place, expected, found = folded.user_vocabulary.indices([NEW])[0], factorization_of(folded), factorization_of(other)
    np.testing.assert_allclose(found.user_factors[place] / root, expected.user_factors[place], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.user_bias[place] / scale, expected.user_bias[place], rtol=1e-3, atol=1e-5)
