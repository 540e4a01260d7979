"""Scores of predictive distributions against integrals, and what a report says of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from recsys_mf.evaluation import Report, evaluate, to_json, to_text
from recsys_mf.evaluation.calibration import Calibration, crps_of_levels, crps_of_normal
from recsys_mf.run import Run
from recsys_mf.solvers import Gibbs
from recsys_mf.splits import Split, hold_out
from recsys_mf.training import train
from tests.planted import planted

LEVELS = np.array([1.0, 2, 3, 5])


def integrated(below: Any, value: float, low: float, high: float) -> float:
    """∫ (F - 1{x ≥ value})² over the range, and the distance of a value from it."""
    x = np.linspace(low, high, 400_001)
    middle = (x[1:] + x[:-1]) / 2
    at = min(max(value, low), high)
    return float(np.sum((below(middle) - (middle >= at)) ** 2) * (x[1] - x[0])) + abs(value - at)


@pytest.mark.parametrize("value", [0.5, 1.0, 2.2, 4.999, 5.0, 7.0])
@pytest.mark.parametrize(("mean", "deviation"), [(3.0, 0.8), (4.9, 1.5), (-2.0, 0.3), (3.0, 20.0)])
def test_crps_of_a_normal_distribution_is_its_integral(mean: float, deviation: float, value: float) -> None:
    found = crps_of_normal(np.array([mean]), np.array([deviation]), (1.0, 5.0), np.array([value]))
    expected = integrated(lambda x: norm.cdf(x, mean, deviation), value, 1.0, 5.0)
    np.testing.assert_allclose(found, expected, atol=3e-5)


@pytest.mark.parametrize("value", [0.5, 1.0, 2.0, 2.7, 5.0, 6.0])
def test_crps_of_levels_is_its_integral(value: float) -> None:
    p = np.array([0.1, 0.3, 0.4, 0.2])
    found = crps_of_levels(p[None], LEVELS, np.array([value]))
    expected = integrated(lambda x: np.cumsum(p)[np.searchsorted(LEVELS, x, side="right") - 1], value, 1.0, 5.0)
    np.testing.assert_allclose(found, expected, atol=3e-5)


def test_crps_of_a_sure_model_is_the_absolute_error() -> None:
    values = np.array([1.0, 2.0, 5.0])
    np.testing.assert_allclose(crps_of_levels(np.tile([0, 0, 1.0, 0], (3, 1)), LEVELS, values), [2, 1, 2])
    found = crps_of_normal(np.full(3, 3.0), np.full(3, 1e-6), (1.0, 5.0), values)
    np.testing.assert_allclose(found, [2, 1, 2], atol=1e-5)


def noisy() -> Split:
    """Stars of a planted table whose users differ in their noise."""
    table = planted(n_users=200, n_items=150, density=0.4)[0]
    gammas = np.random.default_rng(1).gamma(2, 0.5, 200)
    values = table.values + 0.7 * np.random.default_rng(2).standard_normal(len(table)) / np.sqrt(gammas[table.users])
    return hold_out(replace(table, values=np.clip(np.rint(values), 1, 6).astype(np.float32)), 0.2, seed=0)


def fitted(split: Split, **settings: Any) -> tuple[Run, Report]:
    assert split.test is not None
    run = train(split, Gibbs(rank=3, sweeps=70, burn_in=30, **settings), device="cpu", validation=0)
    return run, evaluate(run, split.test)


def calibration_of(report: Report) -> Calibration:
    found = report.rows[-1].calibration
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_personal_noise_scores_better_where_users_differ_and_covers_each_third(likelihood: str) -> None:
    split = noisy()
    common = calibration_of(fitted(split, likelihood=likelihood, noise="common")[1])
    _, report = fitted(split, likelihood=likelihood, noise="personal")
    personal = calibration_of(report)
    assert personal.crps < common.crps
    assert common.thirds == ()
    assert split.test is not None
    assert sum(third.n_pairs for third in personal.thirds) == len(split.test)
    first, _, last = personal.thirds
    assert first.width < last.width
    if likelihood == "ordinal":
        assert personal.log_score is not None
        assert common.log_score is not None
        assert personal.log_score < common.log_score
        # A share of 800 pairs has a standard error of 0.011.
        assert all(abs(third.pit - 0.9) < 0.05 for third in personal.thirds)
    said = " ".join(to_text(report).split())
    assert f"Their mean width is {personal.width:.3f}; CRPS {personal.crps:.4f}" in said
    assert f"{last.pit:.1%} (width {last.width:.3f})." in said
    assert Report.from_mapping(json.loads(to_json(report))) == report


def test_a_report_without_the_calibration_is_read() -> None:
    """Reports of earlier releases have none."""
    mapping = json.loads(to_json(fitted(noisy(), likelihood="gaussian")[1]))
    for row in mapping["rows"]:
        del row["calibration"]
    assert Report.from_mapping(mapping).rows[-1].calibration is None
