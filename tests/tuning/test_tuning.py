"""Tuning: test ratings decide nothing, the run is that of train, the time is kept, the report says what was tried."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys_mf import hold_out, train
from recsys_mf.errors import ConfigError, ResourceError
from recsys_mf.loaders.features import features_from_frame
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import SOLVERS, gibbs
from recsys_mf.training import provenance
from recsys_mf.tuning import Tuned, TuningStatus, rendering, tune, tuning
from recsys_mf.tuning.clock import Clock, fit_seconds
from tests.trained import small_table

SGD: dict[str, Any] = {"solver": "sgd", "fixed": {"epochs": 6, "members": 2}}
QUICK: dict[str, dict[str, Any]] = {
    "sgd": SGD,
    "als": {"solver": "als", "fixed": {"epochs": 4, "members": 2}},
    "gibbs": {"solver": "gibbs", "fixed": {"sweeps": 12, "burn_in": 4}},
    "bias": {"solver": "bias"},
}


def facts(tuned: Tuned) -> list[tuple[Any, ...]]:
    return [(trial.solver, trial.state, trial.settings, trial.error, trial.epochs) for trial in tuned.trials]


def garbled(table: Ratings) -> tuple[Ratings, Ratings]:
    """The table, and the same with other ratings in the rows that `hold_out(table, 0.1, seed=0)` holds out."""
    is_test = np.random.default_rng(0).random(len(table)) < 0.1
    return table, replace(table, values=np.where(is_test, 5 - table.values, table.values))


@pytest.mark.parametrize("name", QUICK)
def test_the_defaults_of_every_solver_are_tried_first_and_nothing_is_worse_than_them(name: str) -> None:
    tuned = tune(small_table(), trials=4, **QUICK[name])
    first = tuned.trials[0]
    assert first.is_default
    assert first.settings == SOLVERS[name](**QUICK[name].get("fixed", {})).settings()
    assert not any(trial.is_default for trial in tuned.trials[1:])
    assert tuned.best.error is not None
    assert first.error is not None
    assert tuned.best.error <= first.error
    assert len(tuned.trials) == 4


def test_the_defaults_have_the_error_that_train_chooses_by() -> None:
    split = hold_out(small_table(), 0.1, seed=0)
    assert tune(small_table(), trials=1, **SGD).best.error == train(split, "sgd", epochs=6, members=2).fit.valid_rmse


def test_test_ratings_decide_nothing() -> None:
    one, other = (tune(table, trials=8, **SGD) for table in garbled(small_table()))
    assert facts(one) == facts(other)
    assert one.best == replace(other.best, seconds=one.best.seconds)
    assert provenance.digest(one.run.model) == provenance.digest(other.run.model)
    assert one.tested is not None
    assert other.tested is not None
    assert one.tested.best.value < other.tested.best.value


def test_the_same_arguments_give_the_same_trials_and_the_seed_gives_others() -> None:
    one, again, other = (tune(small_table(), trials=6, seed=seed, **SGD) for seed in (3, 3, 4))
    assert facts(one) == facts(again)
    assert facts(one) != facts(other)


def test_the_run_is_that_of_train_with_the_best_settings() -> None:
    tuned = tune(small_table(), trials=6, **SGD)
    assert not tuned.best.is_default
    run = train(hold_out(small_table(), 0.1, seed=0), tuned.solver)
    assert provenance.digest(tuned.run.model) == provenance.digest(run.model)
    assert tuned.run.provenance["settings"] == tuned.solver.settings()
    assert tuned.run.provenance["tuned"]["trials"] == tuned.counts
    assert tuned.run.fit.valid_rmse == tuned.best.error


def test_settings_are_compared_with_the_defaults_on_the_same_test_rows() -> None:
    tuned = tune(small_table(), trials=6, **SGD)
    rows = {row["label"]: row for row in tuned.outcome.report.to_mapping()["rows"]} if tuned.outcome else {}
    assert tuned.tested is not None
    assert tuned.tested.default is not None
    assert tuned.tested.difference is not None
    assert tuned.tested.best.value == pytest.approx(rows["sgd"]["scores"]["rmse"]["value"], abs=1e-6)
    gained = tuned.tested.best.value - tuned.tested.default.value
    assert tuned.tested.difference.value == pytest.approx(gained, abs=1e-9)
    assert tuned.tested.difference.low <= gained <= tuned.tested.difference.high


def test_without_a_test_part_nothing_is_tested() -> None:
    tuned = tune(small_table(), trials=2, hold_out=0, **SGD)
    assert (tuned.tested, tuned.run.provenance["train_ratings"]) == (None, 601)
    assert "Nothing was held out, so there is no unbiased error to report" in rendering.to_text(tuned)


@pytest.fixture
def short_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    """`gibbs` takes at most 24 sweeps by itself."""
    monkeypatch.setattr(gibbs, "_MAX_SWEEPS", 24)
    monkeypatch.setattr(gibbs, "_MIN_SWEEPS", 12)


def test_without_a_solver_all_are_tried_cheap_ones_first(short_chains: None) -> None:
    told: list[TuningStatus] = []
    tuned = tune(small_table(), trials=9, watch=told.append)
    order = list(dict.fromkeys(status.solver for status in told if not status.is_final))
    assert order == ["bias", "svd", "als", "sgd", "gibbs"]
    assert [trial.solver for trial in tuned.trials if trial.is_default] == order
    assert len(tuned.trials) == 9
    errors = [trial.error for trial in tuned.trials if trial.state == "complete" and trial.error is not None]
    assert tuned.best.error == min(errors)
    assert tuned.run.fit.solver == tuned.best.solver
    assert "svd" in rendering.to_text(tuned)


def test_a_solver_that_does_not_bear_the_table_is_left_out_of_many_and_an_error_of_one(short_chains: None) -> None:
    table = small_table()
    kinds = pd.DataFrame({"item_id": table.to_frame()["item_id"].unique(), "kind": np.arange(table.n_items) % 3})
    known = table.with_features(items=features_from_frame(kinds, role="item"))
    tuned = tune(known, trials=6)
    assert set(tuned.left_out) == {"bias", "svd", "als", "sgd"}
    assert tuned.best.solver == "gibbs"
    with pytest.raises(ConfigError, match="solver 'sgd' does not use side information"):
        tune(known, trials=2, **SGD)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "tune: nothing says when to stop; give minutes, trials or both"),
        ({"minutes": 0}, r"minutes: out of range \(saw 0\); give a number above 0"),
        ({"minutes": math.inf}, "minutes: out of range"),
        ({"minutes": "5"}, r"minutes: out of range \(saw '5'\)"),
        ({"trials": 0}, "trials: out of range"),
        ({"trials": 1, "validation": 0}, "validation: settings are chosen on validation rows"),
        ({"trials": 1, "search_only": True}, "search_only: without a study, nothing of the search would be kept"),
        ({"trials": 1, "folds": 3}, "tune: folds cannot be given; leave it out"),
        ({"trials": 1, "solver": "mean"}, "tune: solver 'mean' has no setting to search"),
        ({"trials": 1, "solver": "svd"}, "tune: solver 'svd' has no setting to search"),
        ({"trials": 1, "fixed": {"user_damping": 1.0, "item_damping": 2.0}}, "solver 'bias' has no setting to search"),
        ({"trials": 1, "solver": None, "fixed": {"rank": 3}}, "fixed: settings belong to a solver"),
        ({"trials": 1, "fixed": {"rang": 3}}, "solver 'bias' has no setting 'rang'"),
        ({"trials": 1, "fixed": {"user_damping": -1}}, "user_damping: setting out of range"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tune(small_table(), **{"solver": "bias", **given})


# The time.


class Ticking:
    """A clock that a watcher moves on: the time of an epoch depends on nothing else."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Ticking:
    clock = Ticking()
    monkeypatch.setattr(tuning, "Clock", partial(Clock, now=clock))
    return clock


def test_the_fit_at_the_end_begins_in_time_and_no_trial_after_it(ticking: Ticking) -> None:
    begun: list[float] = []

    def watch(status: TuningStatus) -> None:
        ticking.time += 0.5  # per epoch
        if status.is_final:
            begun.append(ticking.time)

    tuned = tune(small_table(), minutes=4, watch=watch, **SGD)
    assert len(tuned.trials) > 3
    assert begun[0] < 240
    assert tuned.seconds <= 240 * 1.05
    assert tuned.seconds > 120  # the time is used


def test_too_little_time_is_refused_with_what_would_do(ticking: Ticking) -> None:
    def watch(status: TuningStatus) -> None:
        ticking.time += 60.0

    with pytest.raises(
        ResourceError, match=r"^minutes: too little time even for the default settings \(saw 1\); give ab"
    ):
        tune(small_table(), minutes=1, watch=watch, **SGD)


def test_a_solver_that_is_too_slow_is_left_out_and_the_others_are_searched(
    ticking: Ticking, short_chains: None
) -> None:
    def watch(status: TuningStatus) -> None:
        ticking.time += 80.0 if status.solver == "gibbs" else 0.1

    tuned = tune(small_table(), minutes=10, trials=12, watch=watch)
    assert set(tuned.left_out) == {"gibbs"}
    assert "its defaults take about" in tuned.left_out["gibbs"]
    assert [trial.state for trial in tuned.trials if trial.solver == "gibbs"] == ["stopped"]
    assert tuned.best.solver != "gibbs"
    assert "gibbs was left out: its defaults take about" in rendering.to_text(tuned)


def test_the_clock_keeps_time_for_the_end() -> None:
    now = Ticking()
    clock = Clock(1.0, now=now)
    clock.baselines = 4.0
    assert clock.reserve(10.0) == 14.0
    for default in (0.0, 5.0):  # a trial that takes as long as allowed and becomes the best leaves time for its fit
        seconds = clock.allowance(None, default)
        assert seconds + clock.reserve(fit_seconds(seconds, is_known=True) + default) == pytest.approx(60)
    now.time = 50.0
    assert clock.allowance(9.0, 0.0) == 1.0  # or that of the best so far
    assert fit_seconds(1.0, is_known=False) == 1 + fit_seconds(1.0, is_known=True)
    assert Clock(None).allowance(None, 0.0) == math.inf
    assert Clock(1.0, has_end=False, now=now).allowance(None, 0.0) == 60


# The report.


@pytest.fixture(scope="module")
def tuned() -> Tuned:
    return tune(small_table(), trials=8, **SGD)


def test_the_report_says_what_was_tried_and_how_far_to_trust_it(tuned: Tuned) -> None:
    text = rendering.to_text(tuned)
    assert "8 settings were tried on the validation rows: " in text
    assert "The validation RMSE of the best is optimistic" in text
    assert "The test part was scored once, at the end" in text
    assert f"sgd, trial {tuned.best.number}" in text
    assert "SVD, bias fill" in text
    counts = tuned.counts
    assert sum(counts.values()) == 8
    assert f"{counts['complete']} to the end" in text


def test_the_report_comes_as_markdown_and_as_json(tuned: Tuned) -> None:
    assert "| sgd, defaults |" in rendering.to_markdown(tuned)
    plain = json.loads(rendering.to_json(tuned))
    assert (plain["kind"], plain["best"]["number"], len(plain["trials"])) == ("tuning", tuned.best.number, 8)
    assert plain["tested"]["difference"]["value"] == tuned.tested.difference.value  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-0.03, -0.01, "are 0.0200 better than its defaults on the test ratings (95 % interval 0.0100 to 0.0300)."),
        (0.01, 0.03, "are 0.0200 worse than its defaults on the test ratings (95 % interval 0.0100 to 0.0300)."),
        (-0.01, 0.02, "It is not clear that the settings found for sgd are better than its defaults"),
    ],
)
def test_the_verdict_is_that_of_the_interval(tuned: Tuned, low: float, high: float, words: str) -> None:
    assert tuned.tested is not None
    assert tuned.tested.difference is not None
    difference = replace(tuned.tested.difference, value=(low + high) / 2, low=low, high=high)
    other = replace(tuned, tested=replace(tuned.tested, difference=difference))
    assert words in rendering.describe_verdict(other)


def test_a_test_part_that_was_looked_at_before_is_called_so(tuned: Tuned) -> None:
    text = rendering.to_text(replace(tuned, times_tested=3))
    assert "was scored for the third time with this study" in text.replace("\n", " ")
    assert "Do not choose anything by it any more" in text
