"""Ranking: the lists are those of a sort of all scores, for every class of model and every score."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import ConfigError, DataError
from recsys_mf.kernels.cpu.prediction import CPU
from recsys_mf.models import Factorization, Model, Posterior
from recsys_mf.models.member_spread import MemberSpread
from recsys_mf.prediction import inner, ranking
from recsys_mf.prediction.pairs import moments
from recsys_mf.prediction.ranking import Draw, Lower, Mean, Score, rank_items
from tests.trained import posterior_run, small_run

MODELS = ("factorization", "committee", "gaussian", "ordinal")
M, N = 40, 30


def model_of(kind: str) -> Model:
    if kind in ("gaussian", "ordinal"):
        return posterior_run(kind).model
    model = small_run().model
    assert isinstance(model, Factorization)
    rng = np.random.default_rng(3)
    v_u, v_i = (rng.random(size).astype(np.float32) for size in (model.n_users, model.n_items))
    return replace(model, spread=MemberSpread(v_u, v_i, 0.5, 0.4) if kind == "committee" else None)


def oracle(model: Model, users: NDArray[Any], score: Score) -> NDArray[np.float64]:
    """The score of every item for every user."""
    u, i = np.repeat(users, model.n_items).astype(np.int32), np.tile(np.arange(model.n_items), len(users))
    means, variances = moments(model, u, i.astype(np.int32), CPU, with_variances=isinstance(score, Lower))
    scores = means.astype(np.float64)
    if isinstance(score, Lower):
        assert variances is not None
        scores -= NormalDist().inv_cdf((1 + score.probability) / 2) * np.sqrt(variances)
    return scores.reshape(len(users), -1)


def check_lists(found: ranking.Ranked, scores: NDArray[np.float64], allowed: NDArray[np.bool_]) -> None:
    """The lists hold allowed items alone, in order of their scores, and nothing better is missing."""
    scores = np.where(allowed, scores, -np.inf)
    best = -np.sort(-scores, axis=1)[:, : found.items.shape[1]]
    wide = np.hstack([scores, np.full((len(scores), 1), -np.inf)])
    np.testing.assert_allclose(found.scores[:, : best.shape[1]], best, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(wide, found.items, 1), found.scores, rtol=1e-5, atol=1e-5)
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in found.items)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("score", [Mean(), Lower(0.5)], ids=["mean", "lower"])
def test_lists_are_a_sort_of_all_scores(kind: str, score: Score) -> None:
    model = model_of(kind)
    users = np.array([3, -1, 0, model.n_users - 1, 3])
    if kind == "factorization" and isinstance(score, Lower):
        with pytest.raises(ConfigError, match="no intervals to order by"):
            rank_items(model, users, 5, score=score)
        return
    found = rank_items(model, users, 5, score=score)
    check_lists(found, oracle(model, users, score), np.ones((5, model.n_items), np.bool_))
    np.testing.assert_array_equal(found.items[0], found.items[4])


@pytest.mark.parametrize("kind", MODELS)
def test_excluded_items_and_items_that_are_not_chosen_from_do_not_occur(kind: str) -> None:
    model, rng = model_of(kind), np.random.default_rng(0)
    users = np.arange(12)
    rated = rng.random((12, model.n_items)) < 0.4
    excluded = Csr(
        np.concatenate([[0], np.cumsum(rated.sum(1))]), np.nonzero(rated)[1].astype(np.int32), None, model.n_items
    )
    among = np.flatnonzero(rng.random(model.n_items) < 0.5).astype(np.int32)
    allowed = ~rated
    check_lists(rank_items(model, users, 50, excluded=excluded), oracle(model, users, Mean()), allowed)
    allowed &= np.isin(np.arange(model.n_items), among)
    found = rank_items(model, users, 50, excluded=excluded, among=among)
    check_lists(found, oracle(model, users, Mean()), allowed)
    assert ((found.items >= 0).sum(1) == allowed.sum(1)).all()


def test_items_above_the_scale_are_ordered_by_what_is_cut_off() -> None:
    model = Factorization(
        mean=4.0, user_bias=np.array([2.0]), item_bias=np.array([0.0, 0.5, 1.5, 0.5]),
        user_factors=np.zeros((1, 0), np.float32), item_factors=np.zeros((4, 0), np.float32), rating_range=(1, 5),
    )  # fmt: skip
    found = rank_items(model, np.array([0]), 4)
    assert found.items.tolist() == [[2, 1, 3, 0]]
    np.testing.assert_allclose(found.scores, [[7.5, 6.5, 6.5, 6.0]])


@pytest.mark.parametrize("kind", ["gaussian", "ordinal"])
def test_a_draw_orders_by_one_sample_per_user(kind: str) -> None:
    model = model_of(kind)
    assert isinstance(model, Posterior)
    users = np.arange(20)
    found = rank_items(model, users, 6, score=Draw(seed=4))
    samples = [inner.inner_rows_of_sample(model, s) for s in range(model.n_samples)]
    lists = [rows.of_users(users.astype(np.int32)) @ rows.items.T for rows in samples]
    matches = np.stack(
        [np.abs(np.take_along_axis(all_scores, found.items, 1) - found.scores).max(1) < 1e-4 for all_scores in lists]
    )
    assert matches.any(0).all()
    assert len(set(matches.argmax(0).tolist())) > 1
    np.testing.assert_array_equal(found.items, rank_items(model, users, 6, score=Draw(seed=4)).items)
    assert (found.items != rank_items(model, users, 6, score=Draw(seed=5)).items).any()
    with pytest.raises(ConfigError, match="no samples to draw from"):
        rank_items(model_of("factorization"), users, 3, score=Draw())


def test_a_draw_for_a_user_does_not_depend_on_the_others_asked_for() -> None:
    model = model_of("gaussian")
    together = rank_items(model, np.array([-1, *range(20)]), 6, score=Draw(seed=4))
    for place, user in ((0, -1), (8, 7), (20, 19)):
        alone = rank_items(model, np.array([user]), 6, score=Draw(seed=4))
        np.testing.assert_array_equal(alone.items[0], together.items[place])


@pytest.mark.parametrize("seed", [-1, 0.5, None, True])
def test_a_seed_that_is_not_a_whole_number_is_refused(seed: Any) -> None:
    with pytest.raises(ConfigError, match=r"seed: .*give a whole number, 0 or more"):
        rank_items(model_of("gaussian"), np.array([0]), 3, score=Draw(seed))


@pytest.mark.parametrize("kind", MODELS)
def test_lists_do_not_depend_on_how_many_users_are_held_at_a_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(kind)
    whole = rank_items(model, np.arange(model.n_users), 7)
    monkeypatch.setattr(ranking, "_PAIRS", 100)
    monkeypatch.setattr(ranking, "_QUERIES", 7)
    parts = rank_items(model, np.arange(model.n_users), 7)
    np.testing.assert_array_equal(whole.items, parts.items)
    np.testing.assert_array_equal(whole.scores, parts.scores)


def test_an_index_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(DataError, match="users: index out of range"):
        rank_items(small_run().model, np.array([1000]), 3)
    with pytest.raises(DataError, match="among: index out of range"):
        rank_items(small_run().model, np.array([0]), 3, among=np.array([1000]))


@pytest.mark.parametrize("among", [[3, 2], [2, 2], [-1, 2]])
def test_items_to_choose_from_must_ascend(among: list[int]) -> None:
    with pytest.raises(DataError, match="among: items to choose from do not ascend; give every item once"):
        rank_items(small_run().model, np.array([0]), 3, among=np.array(among))
