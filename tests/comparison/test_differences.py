"""Differences: their intervals contain the truth as often as they say, also where splits overlap."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recsys_mf.comparison.differences import (
    LEVEL,
    Difference,
    bootstrap_difference,
    correct_by_holm,
    corrected_resampled_difference,
)
from recsys_mf.errors import ConfigError
from recsys_mf.evaluation.metrics import METRICS, PairedBootstrap

_TRIALS = 2000


def reach_of_chance(trials: int, probability: float) -> float:
    """Three standard deviations of the share of trials that have a probability."""
    return 3 * math.sqrt(probability * (1 - probability) / trials)


def overlapping(
    rng: np.random.Generator, count: int, share: float, *shape: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Differences of `count` splits with mean 0, variance 1 and the correlation that overlapping parts give."""
    correlation = share / (1 + share)
    common = math.sqrt(correlation) * rng.standard_normal((*shape, 1))
    return common + math.sqrt(1 - correlation) * rng.standard_normal((*shape, count))


def test_the_corrected_t_test_on_a_worked_example() -> None:
    """Three folds: d̄ = 0.02, s = 0.01, variance (1/3 + 1/2) s², t of 2 degrees of freedom 4.30265."""
    found = corrected_resampled_difference([0.01, 0.02, 0.03], 1 / 2)
    error = math.sqrt((1 / 3 + 1 / 2) * 1e-4)
    assert found.value == pytest.approx(0.02)
    assert found.high - found.value == pytest.approx(4.30265273 * error)
    assert found.value - found.low == pytest.approx(4.30265273 * error)
    t = 0.02 / error
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))  # the distribution with 2 degrees in closed form


@pytest.mark.parametrize(("count", "share"), [(5, 1 / 4), (3, 1 / 2), (15, 1 / 4), (10, 1 / 9)])
def test_corrected_intervals_contain_the_truth_and_uncorrected_ones_do_not(count: int, share: float) -> None:
    rng = np.random.default_rng(0)
    samples = overlapping(rng, count, share, _TRIALS).tolist()
    corrected = [corrected_resampled_difference(sample, share) for sample in samples]
    naive = [corrected_resampled_difference(sample, 0.0) for sample in samples]
    covered, too_few = (np.mean([d.low <= 0 <= d.high for d in found]) for found in (corrected, naive))
    assert abs(covered - 0.95) < reach_of_chance(_TRIALS, 0.95)
    assert too_few < 0.95 - 3 * reach_of_chance(_TRIALS, 0.95)


@pytest.mark.slow
def test_bootstrap_intervals_contain_the_true_difference() -> None:
    """Errors of two models on the same rows share most of their noise; RMSEs are known by construction."""
    rng, covered, trials = np.random.default_rng(1), 0, 400
    truth = math.sqrt(1 + 0.3**2 + 0.1**2) - math.sqrt(1 + 0.3**2)
    for _ in range(trials):
        shared = rng.standard_normal(800)
        bootstrap = PairedBootstrap(800, rng)
        one, other = (
            bootstrap.score(METRICS["rmse"], shared + 0.3 * rng.standard_normal(800) + more)
            for more in (0.1 * rng.standard_normal(800), 0.0)
        )
        found = bootstrap_difference(one, other)
        covered += found.low <= truth <= found.high
    assert abs(covered / trials - 0.95) < reach_of_chance(trials, 0.95)


def test_equal_candidates_differ_by_nothing() -> None:
    rng = np.random.default_rng(2)
    bootstrap, errors = PairedBootstrap(300, rng), rng.standard_normal(300)
    scored = bootstrap.score(METRICS["rmse"], errors)
    assert bootstrap_difference(scored, scored) == Difference(0.0, 0.0, 0.0, 1.0)
    assert corrected_resampled_difference([0.0, 0.0, 0.0], 0.25) == Difference(0.0, 0.0, 0.0, 1.0)


def test_the_same_difference_in_every_split_is_certain() -> None:
    assert corrected_resampled_difference([0.5, 0.5], 0.25) == Difference(0.5, 0.5, 0.5, 0.0)


def test_one_split_has_no_spread() -> None:
    with pytest.raises(ConfigError, match="at least two splits"):
        corrected_resampled_difference([0.1], 0.25)


def test_holm_on_the_example_of_his_method() -> None:
    """Ascending 0.01, 0.02, 0.03, 0.2: 4 x 0.01, 3 x 0.02, 2 x 0.03, 1 x 0.2, none below the one before."""
    assert correct_by_holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert correct_by_holm([0.9, 0.8]) == [1.0, 1.0]
    assert correct_by_holm([]) == []


def test_of_equal_candidates_hardly_ever_one_is_found_worse() -> None:
    """Six candidates, all pairs tested: with the best found on the same splits, a false "worse" is rare."""
    rng, share, count, trials = np.random.default_rng(3), 1 / 4, 5, 1000
    false = 0
    for sample in overlapping(rng, count, share, trials, 6):
        p = [
            corrected_resampled_difference((sample[a] - sample[b]).tolist(), share).p
            for a in range(6)
            for b in range(a)
        ]
        false += min(correct_by_holm(p)) <= LEVEL
    assert false / trials < LEVEL + reach_of_chance(trials, LEVEL)
