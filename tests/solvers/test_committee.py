"""A committee is the mean of its members, cut to their rank, and better than any of them."""

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from recsys_mf.errors import ConfigError
from recsys_mf.evaluation.scoring import coverage, predict_ratings
from recsys_mf.kernels import select
from recsys_mf.models import Factorization
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.solvers import Sgd, TruncatedSvd, averaging
from recsys_mf.solvers.averaging import Side, cut, merged
from recsys_mf.solvers.committee import Mean
from recsys_mf.solvers.protocol import Epoch
from recsys_mf.splits import Split, hold_out
from recsys_mf.training import BASELINE, rmse
from recsys_mf.training import train as train_run
from recsys_mf.training.epochs import time_epochs
from tests.backends import BACKENDS, NAMES
from tests.planted import planted
from tests.trained import factorization

SOLVER = Sgd(rank=6, epochs=30, regularisation=0.01, members=4, noise="common")


def fitted(split: Split, solver: Sgd, **options: Any) -> Run:
    return train_run(split, solver, device="cpu", compared_with={BASELINE: TruncatedSvd(ranks=(2,))}, **options)


def models(solver: Sgd, train: Ratings) -> list[Factorization]:
    epochs = solver.run(train, rng=np.random.default_rng(0), backend=select("cpu"))
    return [factorization(epoch) for epoch in epochs]


def members(train: Ratings, n: int) -> list[Factorization]:
    streams = np.random.default_rng(0).spawn(n)
    alone = SOLVER.selection().member
    assert alone is not None
    runs = (alone.run_once(train, stream, select("cpu")) for stream in streams)
    return [factorization(deque(run, maxlen=1).pop()) for run in runs]


def product(model: Factorization) -> np.ndarray:
    return model.user_factors.astype(np.float64) @ model.item_factors.T


def side(X: np.ndarray) -> Side:
    return Side(len(X), X.__getitem__)


@pytest.mark.parametrize(("m", "n", "columns", "rank"), [(30, 20, 8, 4), (30, 20, 8, 8), (5, 30, 8, 6), (30, 20, 3, 1)])
@pytest.mark.parametrize("rows", [7, 1 << 15])
def test_the_cut_is_the_truncated_svd_of_the_product(
    m: int, n: int, columns: int, rank: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(averaging, "_ROWS", rows)
    rng = np.random.default_rng(1)
    P, Q = rng.standard_normal((m, columns)), rng.standard_normal((n, columns))
    U, singular, Vt = np.linalg.svd(P @ Q.T)
    cut_P, cut_Q = (X @ small for X, small in zip((P, Q), cut(side(P), side(Q), rank), strict=True))
    assert cut_P.shape == (m, rank)
    k = min(rank, len(singular))
    np.testing.assert_allclose(cut_P @ cut_Q.T, (U[:, :k] * singular[:k]) @ Vt[:k], atol=1e-9)


def test_factors_with_a_lower_rank_than_their_columns_are_also_cut() -> None:
    P, Q = np.ones((5, 4)), np.ones((3, 4))
    cut_P, cut_Q = (X @ small for X, small in zip((P, Q), cut(side(P), side(Q), 2), strict=True))
    np.testing.assert_allclose(cut_P @ cut_Q.T, np.full((5, 3), 4.0), atol=1e-12)
    assert not np.any(cut(side(np.zeros((5, 4))), side(Q), 2)[0])


def test_two_members_of_half_the_rank_are_averaged_exactly() -> None:
    train = planted()[0]
    one, other = members(train, 2)
    wide = [
        Factorization(
            model.mean, model.user_bias, model.item_bias,
            np.pad(model.user_factors, ((0, 0), (0, 6))), np.pad(model.item_factors, ((0, 0), (0, 6))),
            model.rating_range,
        )
        for model in (one, other)
    ]  # fmt: skip
    mean = merged(wide[0], wide[1], 2, wide[0].rank)
    np.testing.assert_allclose(product(mean), (product(one) + product(other)) / 2, atol=1e-5)
    np.testing.assert_allclose(mean.user_bias, (one.user_bias + other.user_bias) / 2, atol=1e-6)
    np.testing.assert_allclose(mean.item_bias, (one.item_bias + other.item_bias) / 2, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_members_are_merged_on_the_device(name: str) -> None:
    one, other = members(planted()[0], 2)
    here, there = (merged(one, other, 2, 3, device) for device in (select("cpu").device, BACKENDS[name]().device))
    np.testing.assert_allclose(product(there), product(here), atol=1e-5)


def test_a_committee_is_its_members_merged_and_the_first_is_a_single_run() -> None:
    train = planted()[0]
    found, parts = models(SOLVER, train), members(train, 4)
    assert product(found[0]).tobytes() == product(parts[0]).tobytes()
    epochs = [Epoch(30, len(train), None, partial(lambda part: part, part)) for part in parts]
    mean = Mean(train, select("cpu"))
    expected = [factorization(mean.add(epoch.model(), epoch.visits)) for epoch in epochs]
    assert [product(model).tobytes() for model in found] == [product(model).tobytes() for model in expected]
    # Cut to the rank of the members, the running mean stays near the mean of all of them.
    mean = np.mean([product(part) for part in parts], axis=0)
    U, singular, Vt = np.linalg.svd(mean)
    best = (U[:, :6] * singular[:6]) @ Vt[:6]
    assert np.linalg.norm(product(found[-1]) - mean) < 1.1 * np.linalg.norm(best - mean)


def test_a_committee_is_better_than_a_member_is_on_average() -> None:
    split = hold_out(planted(noise=1.0)[0], 0.1, seed=0)
    assert split.test is not None
    errors = [rmse(model, split.test) for model in models(SOLVER, split.train)]
    alone = [rmse(model, split.test) for model in members(split.train, 4)]
    assert errors[-1] < np.mean(alone)


def test_unknown_ids_get_the_mean_of_the_fallbacks_of_the_members() -> None:
    train = planted()[0]
    parts, committee = members(train, 4), models(SOLVER, train)[-1]
    users, unknown = np.arange(50), np.full(50, -1)
    expected = np.mean([part.mean + part.user_bias[:50] for part in parts], axis=0)
    low, high = train.rating_range
    np.testing.assert_allclose(predict(committee, users, unknown).values, np.clip(expected, low, high), atol=1e-5)


def test_the_spread_is_the_variance_between_members_over_the_pairs_of_a_row() -> None:
    train = planted()[0]
    parts, committee = members(train, 4), models(SOLVER, train)[-1]
    variances = np.var(
        [predict(part, train.users, train.items).values for part in parts], axis=0, ddof=1, dtype=np.float64
    )
    assert committee.spread is not None
    for rows, found in ((train.users, committee.spread.user_variance), (train.items, committee.spread.item_variance)):
        expected = [variances[rows == row].mean() / variances.mean() for row in range(len(found))]
        np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert models(SOLVER, train)[0].spread is None


def test_intervals_of_a_committee_have_about_the_coverage_they_claim() -> None:
    split = hold_out(planted(noise=1.0)[0], 0.2, seed=0)
    run = fitted(split, replace(SOLVER, epochs=8))
    assert split.test is not None
    part = coverage(run.model, predict_ratings(run.model, split.test), split.test.values)
    # 2,500 ratings: three standard errors are 0.018, and as much for the noise found on 1,000 validation rows.
    assert part is not None
    assert part.covered == pytest.approx(0.9, abs=0.03)


def test_without_validation_rows_there_are_no_intervals() -> None:
    split = hold_out(planted()[0], 0.2, seed=0)
    run = fitted(split, SOLVER, validation=0)
    assert split.test is not None
    assert coverage(run.model, predict_ratings(run.model, split.test), split.test.values) is None
    with pytest.raises(ConfigError, match=r"^the model has no intervals \(saw a plain factorisation\); train a comm"):
        predict(run.model, split.test.users, split.test.items, probability=0.9)


def test_what_a_member_holds_is_let_go_before_the_members_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, plans, alive = select("cpu"), list[weakref.ref[Any]](), list[int]()
    make, add = backend.sgd.plan, Mean.add

    def plan(*arguments: Any) -> Any:
        made = make(*arguments)
        plans.append(weakref.ref(made))
        return made

    def counted(*arguments: Any) -> Epoch:
        alive.append(sum(made() is not None for made in plans))
        return add(*arguments)

    monkeypatch.setattr(backend.sgd, "plan", plan)
    monkeypatch.setattr(Mean, "add", counted)
    run = time_epochs(SOLVER.run_from(None, planted()[0], rng=np.random.default_rng(0), backend=backend), backend)
    assert len(list(run)) == len(plans) == SOLVER.members
    assert alive == [0] * len(plans)
