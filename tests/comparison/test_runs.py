"""Runs that stand are compared on rows that all of them were tested on, and none was trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys_mf import SOLVERS, compare_runs, evaluate, hold_out, train
from recsys_mf.comparison.table import BOOTSTRAP
from recsys_mf.errors import ConfigError, DataError, IdMismatchWarning, LeakWarning, RecsysWarning
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.splits import Split
from tests.trained import small_run, small_split, small_table


@pytest.fixture(scope="module")
def other() -> Run:
    """The truncated SVD on the split of `small_run`."""
    return train(small_split(), SOLVERS["svd"](ranks=(2,)), device="cpu")


def held_out(split: Split) -> Ratings:
    assert split.test_as_read is not None
    return split.test_as_read


def test_errors_and_the_difference_are_those_of_the_reports(other: Run) -> None:
    runs = {"sgd": small_run(), "svd": other}
    comparison = compare_runs(runs, held_out(small_split()), device="cpu")
    assert comparison.method == BOOTSTRAP
    for row in comparison.rows:
        report = evaluate(runs[row.name], held_out(small_split()), device="cpu")
        assert row.rmse == pytest.approx(report.rows[-1].scores["rmse"].value, rel=1e-6)
        assert (row.fit_seconds, row.seconds) == (runs[row.name].fit.seconds, None)


def test_the_difference_from_the_baseline_has_the_interval_of_a_report() -> None:
    """A report takes the same difference, between the model and the truncated SVD of its own run."""
    run = small_run()
    baseline = replace(run, fit=run.baselines[run.baseline])
    comparison = compare_runs({"model": run, "baseline": baseline}, held_out(small_split()), device="cpu")
    reported = evaluate(run, held_out(small_split()), device="cpu").rows[-1].differences["rmse"]
    found = comparison.rows[1].difference
    assert found is not None
    sign = 1 if comparison.rows[1].name == "model" else -1
    assert sign * found.value == pytest.approx(reported.value, abs=1e-6)
    assert sorted(abs(end) for end in (found.low, found.high)) == pytest.approx(
        sorted(abs(end) for end in (reported.low, reported.high)), abs=1e-6
    )


def test_rows_may_be_read_with_times_for_one_and_without_for_another(other: Run) -> None:
    rows = held_out(small_split())
    timeless = replace(rows, times=None)
    both = compare_runs({"a": small_run(), "b": other}, {"a": rows, "b": timeless}, device="cpu")
    assert both.rows[0].rmses == compare_runs({"a": small_run(), "b": other}, rows, device="cpu").rows[0].rmses


def test_different_rows_are_refused(other: Run) -> None:
    rows = held_out(small_split())
    fewer = rows.select(np.arange(len(rows)) > 0)
    changed = replace(rows, values=rows.values + np.float32(1))
    for table, seen in ((fewer, f"{len(rows) - 1} rows and {len(rows)}"), (changed, "other rows")):
        with pytest.raises(DataError, match=f"b and a were tested on different rows .saw {seen}"):
            compare_runs({"a": small_run(), "b": other}, {"a": rows, "b": table}, device="cpu")


def test_rows_that_a_run_was_trained_on_are_refused(other: Run) -> None:
    with pytest.raises(DataError, match=r"a: the run was trained on some of the test rows \(saw 5\d\d of 601 rows\)"):
        compare_runs({"a": small_run(), "b": other}, small_table(), device="cpu")


def test_a_run_that_does_not_say_what_it_was_trained_on_is_warned_of(other: Run) -> None:
    table = held_out(hold_out(small_table(), 0.05, seed=0))  # a part of the rows that were held out
    with pytest.warns(LeakWarning, match="b does not say whether it was trained on some of the test rows"):
        compare_runs({"a": small_run(), "b": replace(other, rated=None)}, table, device="cpu")


def test_the_rows_that_a_run_held_out_are_known_without_its_training_pairs(other: Run) -> None:
    runs = {"a": replace(small_run(), rated=None), "b": replace(other, rated=None)}
    assert len(compare_runs(runs, held_out(small_split()), device="cpu").rows) == 2


def test_seconds_of_different_machines_are_warned_of(other: Run) -> None:
    moved = replace(other, provenance={**other.provenance, "threads": 64})
    with pytest.warns(RecsysWarning, match="different machines or numbers of threads: do not compare their seconds"):
        compare_runs({"a": small_run(), "b": moved}, held_out(small_split()), device="cpu")


def test_rows_with_other_ids_are_warned_of(other: Run) -> None:
    rows = Ratings.from_ids([100_001, 100_002, 100_003], [1, 2, 3], [1.0, 2.0, 3.0])
    with pytest.warns(IdMismatchWarning):
        compare_runs({"a": small_run(), "b": other}, rows, device="cpu")


def test_one_run_and_one_row_are_too_few(other: Run) -> None:
    with pytest.raises(ConfigError, match=r"two runs or more \(saw a\)"):
        compare_runs({"a": other}, held_out(small_split()))
    row = held_out(small_split())
    with pytest.raises(DataError, match="too few test rows"):
        compare_runs({"a": other, "b": small_run()}, row.select(np.arange(len(row)) == 0))
