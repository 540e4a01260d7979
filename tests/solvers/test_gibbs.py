"""The sampler: links against dense algebra, planted truth found, and draws from the joint distribution it claims."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planted import planted

from recsys_mf.kernels.cpu import CpuKernels
from recsys_mf.models import Posterior
from recsys_mf.ratings import Grouped, Ratings
from recsys_mf.solvers import Gibbs
from recsys_mf.solvers.gibbs import _drawn_precision, _Table
from recsys_mf.solvers.links import no_links, who_rated_what
from recsys_mf.splits import hold_out


def dense_features(train: Ratings) -> np.ndarray[Any, Any]:
    """F_u of who-rated-what links [m, n + 1]: 1/√count for every item rated, and a one."""
    rated = np.zeros((train.n_users, train.n_items))
    rated[train.users, train.items] = 1
    rated /= np.sqrt(np.maximum(rated.sum(axis=1, keepdims=True), 1))
    return np.column_stack([rated, np.ones(train.n_users)])


def test_links_are_the_dense_matrix_of_who_rated_what() -> None:
    train, _ = planted(n_users=30, n_items=20)
    links = who_rated_what(CpuKernels(2), train.by_user(), train.by_item())
    F = dense_features(train)
    rng = np.random.default_rng(0)
    B, X = rng.standard_normal((21, 4)).astype(np.float32), rng.standard_normal((30, 4)).astype(np.float32)
    np.testing.assert_allclose(links.product(B), F @ B, atol=1e-5)
    np.testing.assert_allclose(links.transposed_product(X), F.T @ X, atol=1e-5)
    np.testing.assert_allclose(links.squares[:, 0], np.diag(F.T @ F), rtol=1e-5)


def test_coefficients_solve_their_system() -> None:
    train, _ = planted(n_users=30, n_items=20)
    links = who_rated_what(CpuKernels(1), train.by_user(), train.by_item())
    F = dense_features(train)
    rng = np.random.default_rng(1)
    X, row_noise = (rng.standard_normal((30, 4)).astype(np.float32) for _ in range(2))
    feature_noise = rng.standard_normal((21, 4)).astype(np.float32)
    ridge = np.append(np.full(20, 1.5), 2.0).astype(np.float32)[:, None]
    exact = np.linalg.solve(F.T @ F + np.diag(ridge[:, 0]), F.T @ (X + row_noise) + np.sqrt(ridge) * feature_noise)
    found = links.drawn(X, ridge, np.zeros((21, 4), np.float32), row_noise, feature_noise)
    # The search ends at a residual of 1 %; the smallest eigenvalue is at least the ridge.
    assert np.linalg.norm(found - exact) < 0.02 * np.linalg.norm(exact)


def test_precision_is_drawn_from_its_wishart_distribution() -> None:
    """The mean of Wishart(ν, W) is ν W, and the variance of an entry ν (W_ij² + W_ii W_jj)."""
    rng = np.random.default_rng(0)
    residuals, coefficients = (rng.standard_normal((rows, 3)).astype(np.float32) for rows in (9, 4))
    W = np.linalg.inv(np.eye(3) + residuals.T @ residuals + coefficients.T @ coefficients)
    freedom, draws = 3 + 9 + 4, 4000
    mean = np.mean([_drawn_precision(residuals, coefficients, rng) for _ in range(draws)], axis=0)
    deviation = np.sqrt(freedom * (W**2 + np.outer(np.diag(W), np.diag(W))) / draws)
    assert (np.abs(mean - freedom * W) < 5 * deviation).all()


@pytest.mark.parametrize("linked", [False, True])
def test_geweke_joint_distribution(linked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws of the prior, and draws that alternate a sweep with new ratings, are of the same joint distribution.

    Where one conditional were wrong the second chain would drift. Compared by the mean of statistics of one table,
    of its precision and of its links, each against the error of its mean (Geweke 2004; by batches in the chain).
    """
    monkeypatch.setattr("recsys_mf.solvers.links._TOLERANCE", 1e-5)
    rng = np.random.default_rng(3)
    n_rows, n_others, rank = 6, 4, 1
    users, items = (a.ravel().astype(np.int32) for a in np.mgrid[:n_rows, :n_others])
    observed = (users + items) % 3 > 0
    users, items = users[observed], items[observed]
    Y = np.column_stack([rng.standard_normal((n_others, rank)), rng.normal(0, 0.5, n_others)]).astype(np.float32)
    ids = Ratings.from_ids(users, items, np.zeros(len(users)))
    kernels = CpuKernels(1)
    links = who_rated_what(kernels, ids.by_user(), ids.by_item()) if linked else no_links(kernels, n_rows)
    no_contexts, noise_precision = np.zeros((0, rank + 1), np.float32), 0.05

    def observed_from(X: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        mean = X[users, -1] + Y[items, -1] + X[users, 0] * Y[items, 0]
        return (mean + rng.standard_normal(len(users)) / np.sqrt(noise_precision)).astype(np.float32)

    def statistics(table: _Table) -> list[float]:
        size = np.log(np.square(table.X).mean())
        bounded = np.tanh(table.X)
        return [float(size), bounded[0, 0], bounded[0, 1], float(np.tanh(table.B[-1, 0])), float(abs(bounded).mean())]

    def from_the_prior(table: _Table) -> None:
        width = rank + 1
        empty = np.zeros((0, width), np.float32)
        root = np.linalg.inv(np.linalg.cholesky(_drawn_precision(empty, empty, rng)))
        ridge = np.full((len(table.B), 1), rng.gamma(0.5, 2.0) if linked else 1.0)
        ridge[-1] = 2.0
        table.link_precision = float(ridge[0, 0])
        table.B = (rng.standard_normal((len(table.B), width)) @ root / np.sqrt(ridge)).astype(np.float32)
        table.X = (links.product(table.B) + rng.standard_normal((n_rows, width)) @ root).astype(np.float32)

    def table_with(values: np.ndarray[Any, Any]) -> _Table:
        order = np.argsort(users, kind="stable")
        grouped = Grouped(ids.by_user().starts, items[order], values[order])
        return _Table(kernels, grouped, np.zeros(0, np.int32), links, rank)

    draws = 20000
    direct, chain = [], []
    table = table_with(np.zeros(len(users), np.float32))
    for _ in range(draws):
        from_the_prior(table)
        direct.append(statistics(table))
    for _ in range(draws):
        table.ratings[3] = observed_from(table.X)[np.argsort(users, kind="stable")]
        table.sweep(Y, no_contexts, noise_precision, rng)
        chain.append(statistics(table))
    prior, successive = np.array(direct), np.array(chain)
    batches = successive.reshape(20, -1, successive.shape[1]).mean(axis=1)
    error = np.sqrt(prior.var(axis=0) / draws + batches.var(axis=0, ddof=1) / len(batches))
    assert (np.abs(prior.mean(axis=0) - successive.mean(axis=0)) < 4.5 * error).all(), (
        prior.mean(axis=0),
        successive.mean(axis=0),
        error,
    )


def test_planted_noise_is_found_and_intervals_cover() -> None:
    ratings, truth = planted(n_users=400, n_items=300, noise=0.5)
    split = hold_out(ratings, 0.1, seed=0)
    *_, last = Gibbs(rank=3, sweeps=120, burn_in=20, links="none").run(
        split.train, rng=np.random.default_rng(0), kernels=CpuKernels(2)
    )
    model, test = last.model(), split.test
    assert isinstance(model, Posterior)
    assert test is not None
    assert model.noise_variance == pytest.approx(truth.noise**2, rel=0.1)
    _, lower, upper = model.predict_interval(test.users, test.items, probability=0.9)
    inside = ((lower <= test.values) & (test.values <= upper)).mean()
    assert abs(inside - 0.9) < 4 * np.sqrt(0.9 * 0.1 / len(test))
    error = model.predict(test.users, test.items) - truth.expected(test.users, test.items)
    assert np.sqrt(np.mean(error**2)) < 0.25 * truth.noise * 2
