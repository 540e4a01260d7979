"""The models of rows: closed forms, conditions of an optimum, and what EM must not lose."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from recsys_mf.completion.choice import METHODS
from recsys_mf.completion.columns import bend, find_columns, straighten
from recsys_mf.completion.factor_analysis import Factors, factors_path
from recsys_mf.completion.gaussian import Gaussian, fit_gaussian, gaussian_path
from recsys_mf.completion.patterns import F64, Fill, RowModel, stacks
from recsys_mf.completion.soft_impute import soft_impute


def normal(n: int, seed: int = 0) -> Gaussian:
    """A normal distribution of n columns whose parameters are known."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((n, n))
    return Gaussian(rng.standard_normal(n), root @ root.T + 0.1 * np.eye(n))


def drawn(model: Gaussian, m: int, share: float, seed: int = 0) -> tuple[F64, F64]:
    """m rows of a normal distribution, complete and with entries removed."""
    rng = np.random.default_rng(seed)
    rows = rng.multivariate_normal(model.mean, model.covariance, m)
    return rows, np.where(rng.random(rows.shape) < share, np.nan, rows)


def test_stacks_hold_every_missing_entry_once() -> None:
    missing = np.random.default_rng(0).random((50, 7)) < 0.4
    counted = np.zeros_like(missing, int)
    for rows, columns in stacks(missing):
        counted[rows[:, None], columns] += 1
    np.testing.assert_array_equal(counted, missing)


def test_a_gaussian_fills_by_the_closed_form() -> None:
    model = normal(6)
    _, X = drawn(model, 40, 0.4)
    X[0] = np.nan
    means, variances = model.fill(X)
    for row, filled, variance in zip(X, means, variances, strict=True):
        m, o = np.isnan(row), ~np.isnan(row)
        S = model.covariance
        solved = np.linalg.solve(S[np.ix_(o, o)], np.column_stack([row[o] - model.mean[o], S[np.ix_(o, m)]]))
        np.testing.assert_allclose(filled[m], model.mean[m] + S[np.ix_(m, o)] @ solved[:, 0], rtol=1e-7)
        np.testing.assert_allclose(variance[m], np.diag(S[np.ix_(m, m)] - S[np.ix_(m, o)] @ solved[:, 1:]), rtol=1e-7)
        np.testing.assert_array_equal(filled[o], row[o])
        assert not variance[o].any()


def test_leave_one_out_residuals_are_those_of_fills_without_the_entry() -> None:
    model = normal(5)
    _, X = drawn(model, 12, 0.3)
    residuals = model.leave_one_out(model.fill(X).means, np.isnan(X))
    for i, j in zip(*np.nonzero(~np.isnan(X)), strict=True):
        without = X[i : i + 1].copy()
        without[0, j] = np.nan
        assert residuals[i, j] == pytest.approx(X[i, j] - model.fill(without).means[0, j], rel=1e-6, abs=1e-9)
    assert not residuals[np.isnan(X)].any()


def test_factors_fill_as_the_normal_distribution_with_their_covariance() -> None:
    rng = np.random.default_rng(0)
    factors = Factors(rng.standard_normal(7), rng.standard_normal((7, 2)), rng.uniform(0.2, 1, 7))
    same = Gaussian(factors.mean, factors.loadings @ factors.loadings.T + np.diag(factors.noise))
    _, X = drawn(same, 30, 0.4)
    for ours, theirs in zip(factors.fill(X), same.fill(X), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)


def test_em_does_not_lower_the_posterior() -> None:
    _, X = drawn(normal(5), 80, 0.3)
    ridge, model = 2.0, Gaussian(np.zeros(5), np.eye(5))
    heights = []
    for _ in range(15):
        model, _ = model.updated(X, list(stacks(np.isnan(X))), ridge)
        height = -ridge / 2 * (np.linalg.slogdet(model.covariance)[1] + np.trace(np.linalg.inv(model.covariance)))
        for row in X:
            o = ~np.isnan(row)
            S, d = model.covariance[np.ix_(o, o)], row[o] - model.mean[o]
            height -= 0.5 * (np.linalg.slogdet(S)[1] + d @ np.linalg.solve(S, d))
        heights.append(height)
    assert (np.diff(heights) > -1e-9 * np.abs(heights[0])).all()


def test_without_missing_entries_the_gaussian_is_the_shrunk_sample_covariance() -> None:
    rows, _ = drawn(normal(4), 50, 0.0)
    model = fit_gaussian(rows, 3.0, start=Gaussian(np.zeros(4), np.eye(4)))
    np.testing.assert_allclose(model.mean, rows.mean(axis=0))
    expected = (50 * np.cov(rows.T, bias=True) + 3 * np.eye(4)) / 53
    np.testing.assert_allclose(model.covariance, expected)


def test_soft_impute_meets_its_optimality_condition() -> None:
    """Z = S_λ(P(X) + P⊥(Z))."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 3)) @ rng.standard_normal((3, 12)) + 0.3 * rng.standard_normal((30, 12))
    missing = rng.random(X.shape) < 0.3
    X = np.where(missing, np.nan, X)
    penalty = 4.0
    B = soft_impute(X, penalty, start=np.zeros((12, 0)), tolerance=1e-12, most_steps=20_000)
    A = np.linalg.solve(B.T @ B + penalty * np.eye(B.shape[1]), B.T @ np.where(missing, 0, X).T)  # not yet filled
    for _ in range(5000):
        A = np.linalg.solve(B.T @ B + penalty * np.eye(B.shape[1]), B.T @ np.where(missing, (B @ A).T, X).T)
    Z = (B @ A).T
    U, sizes, Vt = np.linalg.svd(np.where(missing, Z, X), full_matrices=False)
    np.testing.assert_allclose(Z, (U * np.maximum(sizes - penalty, 0)) @ Vt, atol=1e-6)
    assert B.shape[1] == (sizes > penalty).sum()


def test_soft_impute_of_a_complete_matrix_takes_the_penalty_off_its_singular_values() -> None:
    X = np.random.default_rng(0).standard_normal((20, 8))
    sizes = np.linalg.svd(X, compute_uv=False)
    B = soft_impute(X, 2.0, start=np.zeros((8, 0)))
    np.testing.assert_allclose((B**2).sum(axis=0), np.maximum(sizes - 2, 0)[: B.shape[1]], rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_path_does_not_depend_on_the_order_of_columns_or_rows(method: str) -> None:
    rng = np.random.default_rng(0)
    _, X = drawn(normal(9), 60, 0.2)
    X = find_columns(X, straightening=False).standardise(X)
    rows, columns = rng.permutation(60), rng.permutation(9)

    def filled(X: F64) -> F64:
        models: list[RowModel] = list(islice(METHODS[method](X, tolerance=1e-9), 3))
        return models[-1].fill(X).means

    np.testing.assert_allclose(filled(X[rows][:, columns]), filled(X)[rows][:, columns], atol=1e-5)


def test_a_path_of_ranks_has_these_ranks() -> None:
    _, X = drawn(normal(8), 40, 0.2)
    assert [model.rank for model in factors_path(X, tolerance=1e-2, ranks=(1, 2, 5))] == [1, 2, 5]
    assert next(gaussian_path(X, tolerance=1e-2)).rank is None


@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0])
def test_bending_undoes_straightening(power: float) -> None:
    x = np.linspace(-3, 3, 25)
    np.testing.assert_allclose(bend(straighten(x, power), power), x, atol=1e-9)
    assert (np.diff(straighten(x, power)) > 0).all()


def test_the_logarithm_of_a_log_normal_column_is_found() -> None:
    rng = np.random.default_rng(0)
    A = np.exp(rng.standard_normal((500, 1)))
    columns = find_columns(A, straightening=True)
    assert columns.straightened == 1
    X = columns.standardise(A)
    assert abs(np.mean(X**3)) < 0.5 < np.mean(((A - A.mean()) / A.std()) ** 3)


def test_an_even_column_is_not_straightened() -> None:
    A = np.random.default_rng(0).standard_normal((500, 3))
    assert find_columns(A, straightening=True).straightened == 0


def test_a_restored_mean_is_that_of_the_bent_distribution() -> None:
    """Quadrature against draws."""
    rng = np.random.default_rng(0)
    A = np.exp(rng.standard_normal((2000, 1)))
    columns = find_columns(A, straightening=True)
    restored = columns.restore(Fill(np.array([[0.2]]), np.array([[0.25]])))
    draws = 0.2 + 0.5 * rng.standard_normal(200_000)
    x = bend(draws * columns.spreads[0] + columns.centres[0], columns.powers[0])
    assert restored.means[0, 0] == pytest.approx(x.mean(), abs=4 * x.std() / np.sqrt(len(x)) + 1e-3)
    assert np.sqrt(restored.variances[0, 0]) == pytest.approx(x.std(), rel=0.02)
