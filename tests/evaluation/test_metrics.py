"""Metrics and their intervals against values computed by hand, and against the coverage that they claim."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_mf.errors import DataError
from recsys_mf.evaluation.metrics import METRICS, PairedBootstrap


def test_metrics_equal_values_computed_by_hand() -> None:
    errors = np.array([3.0, -4.0, 0.0, 0.0])
    rmse, mae = METRICS["rmse"].estimate(errors), METRICS["mae"].estimate(errors)
    assert rmse.value == 2.5
    assert mae.value == 1.75
    # MAE: losses 3, 4, 0, 0 have the variance 4.25 (n - 1 = 3), so the standard error is √(4.25 / 4).
    assert mae.high - mae.value == pytest.approx(1.959964 * np.sqrt(4.25 / 4), rel=1e-6)
    # RMSE: losses 9, 16, 0, 0 have the variance 59.58…, g' = 1 / (2 · 2.5).
    assert rmse.value - rmse.low == pytest.approx(1.959964 * np.std([9, 16, 0, 0], ddof=1) / 2 / 5, rel=1e-6)


def test_weighted_metrics_equal_values_computed_by_hand() -> None:
    errors, weights = np.array([3.0, -4.0, 0.0]), np.array([2.0, 1.0, 1.0])
    rmse, mae = (METRICS[name].estimate(errors, weights) for name in ("rmse", "mae"))
    assert rmse.value == np.sqrt((2 * 9 + 16) / 4)
    assert mae.value == 2.5
    # Losses 3, 4, 0 lie 0.5, 1.5 and -2.5 from their mean; weighted, 1, 1.5 and -2.5; n / (n - 1) is 3 / 2.
    assert mae.high - mae.value == pytest.approx(1.959964 * np.sqrt(1.5 * (1 + 1.5**2 + 2.5**2)) / 4, rel=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_the_interval_of_a_weighted_metric_covers_the_truth_95_times_in_100(name: str) -> None:
    rng = np.random.default_rng(3)
    truth = {"rmse": 1.0, "mae": np.sqrt(2 / np.pi)}[name]
    estimates = [METRICS[name].estimate(rng.standard_normal(800), 1 + rng.random(800)) for _ in range(1000)]
    covered = np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 1000)


@pytest.mark.parametrize("n", [300, 1500])
def test_resamples_have_the_weights_of_their_pairs(n: int) -> None:
    rng = np.random.default_rng(4)
    errors, weights = rng.standard_normal(n), rng.exponential(size=n)
    scored = PairedBootstrap(n, rng, weights).score(METRICS["mae"], errors)
    reach = (scored.estimate.high - scored.estimate.low) / 2 / 1.959964
    assert scored.resampled.mean() == pytest.approx(scored.estimate.value, abs=reach / 5)
    assert scored.resampled.std() == pytest.approx(reach, rel=0.15)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_zero_for_no_error_grows_with_error_and_ignores_order(name: str) -> None:
    metric, errors = METRICS[name], np.random.default_rng(0).standard_normal(1000)
    assert metric.estimate(np.zeros(10)) == type(metric.estimate(errors))(0.0, 0.0, 0.0)
    assert metric.estimate(errors * 2).value == pytest.approx(2 * metric.estimate(errors).value)
    assert metric.estimate(errors[::-1]).value == pytest.approx(metric.estimate(errors).value)
    assert metric.estimate(-errors) == metric.estimate(errors)


@pytest.mark.parametrize("name", METRICS)
def test_one_error_has_no_interval(name: str) -> None:
    with pytest.raises(DataError, match=r"an error interval needs at least two test pairs \(saw 1\)"):
        METRICS[name].estimate(np.array([1.0]))


@pytest.mark.parametrize("name", METRICS)
def test_the_interval_covers_the_truth_95_times_in_100(name: str) -> None:
    rng = np.random.default_rng(1)
    truth = {"rmse": 1.0, "mae": np.sqrt(2 / np.pi)}[name]
    estimates = [METRICS[name].estimate(rng.standard_normal(400)) for _ in range(1000)]
    covered = np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 1000)


@pytest.mark.slow
@pytest.mark.parametrize("n", [300, 1500])  # below and above the number of groups
def test_the_paired_interval_of_a_difference_covers_it_95_times_in_100(n: int) -> None:
    rng, covered = np.random.default_rng(2), []
    for _ in range(100):
        shared = rng.standard_normal(n)
        one, other = shared + 0.3 * rng.standard_normal(n), shared + 0.5 * rng.standard_normal(n)
        bootstrap = PairedBootstrap(n, rng)
        scores = (bootstrap.score(METRICS["rmse"], errors) for errors in (one, other))
        difference = next(scores).minus(next(scores))
        covered.append(difference.low <= np.sqrt(1.09) - np.sqrt(1.25) <= difference.high)
    assert abs(np.mean(covered) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 100)


def test_errors_in_common_cancel_in_a_difference() -> None:
    rng = np.random.default_rng(3)
    shared = rng.standard_normal(5000)
    bootstrap = PairedBootstrap(5000, rng)
    scores = [bootstrap.score(METRICS["rmse"], shared + 0.1 * rng.standard_normal(5000)) for _ in range(2)]
    difference = scores[0].minus(scores[1])
    alone = [score.estimate for score in scores]
    independent = np.linalg.norm([estimate.high - estimate.low for estimate in alone])
    assert difference.high - difference.low < 0.3 * independent
    assert scores[0].minus(scores[0]).low == scores[0].minus(scores[0]).high == 0
