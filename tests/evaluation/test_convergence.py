"""Convergence figures against distributions known exactly, chains of known autocorrelation, and a plain oracle."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from recsys_mf.errors import ConfigError
from recsys_mf.evaluation.convergence import (
    Summary,
    autocovariances,
    effective_sample_size,
    split_r_hat,
    summarise,
)

F64 = NDArray[np.float64]
FIGURES: list[Callable[[F64], float]] = [split_r_hat, effective_sample_size]


def autoregressive(coefficient: float, shape: tuple[int, int], seed: int) -> F64:
    """x_t = φ x_{t-1} + ε_t [chains, n], stationary from its first draw."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    draws = noise.copy()
    draws[:, 0] /= np.sqrt(1 - coefficient**2)
    for t in range(1, shape[1]):
        draws[:, t] += coefficient * draws[:, t - 1]
    return draws


def reach(lags: float, n_draws: int) -> float:
    """Four relative standard deviations of τ, summed over T lags: √(2 (2 T + 1) / N).

    Madras, Sokal: The pivot algorithm, J. Stat. Phys. 50, 1988, appendix C.
    """
    return 4 * math.sqrt(2 * (2 * lags + 1) / n_draws)


def plain_autocovariances(row: F64) -> F64:
    n, centred = len(row), row - row.mean()
    return np.array([sum(centred[s] * centred[s + t] for s in range(n - t)) / n for t in range(n)])


def plain_effective_sample_size(draws: F64) -> float:
    """The definition, a pair of lags at a time."""
    h = draws.shape[1] // 2
    halves = [half for chain in draws for half in (chain[:h], chain[-h:])]
    covariances = np.mean([plain_autocovariances(half) for half in halves], axis=0)
    within = np.mean([np.var(half, ddof=1) for half in halves])
    total = (h - 1) / h * within + np.var([half.mean() for half in halves], ddof=1)
    rho = [1.0, *(1 - (within - covariances[1:]) / total)]
    tau, last, k = -1.0, math.inf, 0
    while 2 * k + 1 < h and rho[2 * k] + rho[2 * k + 1] > 0:
        last = min(last, rho[2 * k] + rho[2 * k + 1])
        tau, k = tau + 2 * last, k + 1
    tau += max(0.0, rho[2 * k]) if 2 * k < h else 0.0
    return float(draws.size / max(tau, 1 / math.log10(draws.size)))


@pytest.mark.parametrize("chains", [1, 4])
def test_r_hat_of_independent_normals_has_the_distribution_that_theory_gives_it(chains: int) -> None:
    """h R̂² - (h - 1) = B / W has the F distribution with 2 · chains - 1 and 2 · chains · (h - 1) degrees of freedom."""
    rng, h, sequences = np.random.default_rng(0), 50, 2 * chains
    within = stats.f(sequences - 1, sequences * (h - 1)).interval(0.9)
    seen = [h * split_r_hat(rng.standard_normal((chains, 2 * h))) ** 2 - (h - 1) for _ in range(1000)]
    covered = np.mean([within[0] <= value <= within[1] for value in seen])
    assert abs(covered - 0.9) < 4 * np.sqrt(0.9 * 0.1 / 1000)


@pytest.mark.parametrize("chains", [1, 4])
def test_independent_normals_have_an_effective_sample_size_equal_to_their_number(chains: int) -> None:
    draws = np.random.default_rng(1).standard_normal((chains, 40_000 // chains))
    # A pair of lags is positive by chance with probability ½, ten lags in a row with 2⁻⁵.
    assert effective_sample_size(draws) == pytest.approx(40_000, rel=reach(10, 40_000))


@pytest.mark.parametrize("coefficient", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("chains", [1, 4])
def test_an_autoregressive_chain_is_worth_its_known_share_of_the_draws(coefficient: float, chains: int) -> None:
    n = 100_000
    # ρ_t = φᵗ is lost in noise of 1 / √N at the lag log √N / log(1 / φ); the sum may go on by chance, twice as far.
    lags = 2 * math.log(math.sqrt(n)) / math.log(1 / coefficient)
    share = (1 - coefficient) / (1 + coefficient)
    draws = autoregressive(coefficient, (chains, n // chains), seed=2)
    assert effective_sample_size(draws) == pytest.approx(n * share, rel=reach(lags, n))


def test_a_chain_of_alternating_signs_is_worth_more_than_its_draws() -> None:
    n, coefficient = 100_000, -0.3
    lags = 2 * math.log(math.sqrt(n)) / math.log(1 / abs(coefficient))
    # τ is the small difference of 1 and the sum over lags, so its relative error is that of the sum, over τ.
    tau = (1 + coefficient) / (1 - coefficient)
    seen = effective_sample_size(autoregressive(coefficient, (2, n // 2), seed=3))
    assert seen == pytest.approx(n / tau, rel=reach(lags, n) / tau)
    assert seen > n


def test_the_effective_sample_size_is_never_more_than_n_log_n() -> None:
    draws = np.tile([1.0, -1.0], (2, 50))
    assert effective_sample_size(draws) == pytest.approx(200 * math.log10(200))


@pytest.mark.parametrize("shape", [(1, 8), (1, 9), (3, 64), (2, 101)])
@pytest.mark.parametrize("coefficient", [-0.6, 0.0, 0.8])
def test_both_figures_follow_their_definitions(shape: tuple[int, int], coefficient: float) -> None:
    draws = 5 + autoregressive(coefficient, shape, seed=4)
    rounding = np.finfo(float).eps * 1e4  # a few hundred sums, divided by a τ that can be as small as 0.4
    assert effective_sample_size(draws) == pytest.approx(plain_effective_sample_size(draws), rel=rounding)
    h = shape[1] // 2
    halves = np.concatenate([draws[:, :h], draws[:, -h:]])
    within, between = halves.var(axis=1, ddof=1).mean(), halves.mean(axis=1).var(ddof=1)
    assert split_r_hat(draws) == pytest.approx(np.sqrt(((h - 1) / h * within + between) / within), rel=rounding)


@pytest.mark.parametrize("n", [2, 7, 64, 101])
def test_autocovariances_by_fft_are_the_sums_of_products(n: int) -> None:
    rows = np.random.default_rng(5).standard_normal((3, n)) + 10
    # A transform of L numbers errs by about ε log₂ L of their norm, and three steps follow one another.
    tolerance = 3 * np.finfo(float).eps * math.log2(2 * n) * 10**2
    expected = np.array([plain_autocovariances(row) for row in rows])
    np.testing.assert_allclose(autocovariances(rows), expected, rtol=0, atol=tolerance)


def test_chains_at_different_means_have_the_r_hat_of_their_distance() -> None:
    draws = np.random.default_rng(6).standard_normal((2, 2000)) + np.array([[0.0], [10.0]])
    # The four halves have the means 0, 0, 10, 10: variance 100 / 3. Each mean errs by 1 / √1000, W by √(2 / 4000).
    assert split_r_hat(draws) == pytest.approx(math.sqrt(1 + 100 / 3), rel=4 * (2 / 10 / math.sqrt(1000) + 0.5 * 0.023))
    assert effective_sample_size(draws) < 8  # two chains that never meet are worth hardly more than two draws


def test_a_chain_that_drifts_disagrees_with_itself() -> None:
    draws = np.random.default_rng(7).standard_normal((1, 1000)) + np.linspace(0, 3, 1000)
    # Means of the halves 1.5 apart: B / h = 1.125. W = 1 + 1.5² / 12. So R̂ = 1.40.
    assert split_r_hat(draws) > 1.1
    assert split_r_hat(draws) == pytest.approx(math.sqrt(1 + 1.125 / 1.1875), abs=0.1)


@pytest.mark.parametrize("chains", [1, 3])
def test_draws_that_are_all_equal_agree(chains: int) -> None:
    draws = np.full((chains, 100), 0.1)  # their computed mean is not exactly 0.1
    assert split_r_hat(draws) == 1
    assert effective_sample_size(draws) == chains * 100


def test_constant_chains_at_different_values_do_not_agree() -> None:
    draws = np.repeat([[0.1], [0.2]], 100, axis=1)
    assert split_r_hat(draws) == math.inf
    assert effective_sample_size(draws) < 8


@pytest.mark.parametrize("figure", FIGURES)
def test_shift_scale_and_order_of_chains_change_nothing(figure: Callable[[F64], float]) -> None:
    draws = autoregressive(0.5, (3, 200), seed=8)
    # Adding 100 rounds a draw by 100 ε, and the figures sum all of them.
    rounding = 100 * draws.size * np.finfo(float).eps
    assert figure(100 - 2 * draws[::-1]) == pytest.approx(figure(draws), rel=rounding)


def test_a_summary_holds_the_figures_of_each_trace_in_their_order() -> None:
    traces = {"noise": autoregressive(0.5, (2, 100), seed=9), "a constant": np.ones((1, 20))}
    first, second = summarise(traces)
    draws = traces["noise"]
    assert first.name == "noise"
    assert (first.mean, first.standard_deviation) == pytest.approx((draws.mean(), draws.std(ddof=1)))
    assert (first.ess, first.r_hat) == (effective_sample_size(draws), split_r_hat(draws))
    assert second == Summary("a constant", 1.0, 0.0, 20.0, 1.0)


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        (np.zeros((2, 7)), r"^too few draws to judge convergence \(saw 7\); sample 8 or more after burn-in$"),
        (np.zeros(50), r"^the draws have the wrong shape \(saw \[50\]\); give one row per chain: \[chains, draws\]$"),
        (np.array([[1.0] * 9 + [np.nan]]), r"^a draw is not finite \(saw nan as draw 9 of chain 0\); leave the"),
    ],
)
def test_draws_that_are_too_few_or_not_finite_are_refused(draws: Any, message: str) -> None:
    for figure in FIGURES:
        with pytest.raises(ConfigError, match=message):
            figure(draws)
    with pytest.raises(ConfigError, match=f"^noise: {message[1:]}"):
        summarise({"noise": draws})
