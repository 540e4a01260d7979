"""Comparing: the errors are those of single trainings, nothing is fitted twice, and what is kept is what was found."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_mf import SOLVERS, Experiment, compare, evaluate, hold_out, train
from recsys_mf.comparison import Comparison, ComparisonStatus, comparing, tested
from recsys_mf.comparison.rendering import to_text
from recsys_mf.comparison.running import estimate_seconds_left
from recsys_mf.comparison.table import BOOTSTRAP, T_TEST, find_front
from recsys_mf.errors import ArtifactError, DataError, IdMismatchWarning, SolveError
from recsys_mf.evaluation import FoldReport
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import Solver
from tests.trained import small_table

SMALL: dict[str, Solver] = {
    "one": SOLVERS["sgd"](rank=2, epochs=4, members=1),
    "svd": SOLVERS["svd"](ranks=(2,)),
    "mean": SOLVERS["mean"](),
}


class StoppedError(Exception):
    """What ends a comparison in a test."""


def compared(candidates: Any = SMALL, table: Ratings | None = None, **named: Any) -> Comparison:
    return compare(small_table() if table is None else table, candidates, device="cpu", **named)


def without_measurements(comparison: Comparison) -> list[dict[str, Any]]:
    """The rows without what a clock or the system decides."""
    measured = ("fit_seconds", "seconds", "memory", "is_on_front")
    return [{name: value for name, value in asdict(row).items() if name not in measured} for row in comparison.rows]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the solvers that are fitted, as they are."""
    made: list[str] = []
    fit_and_test = tested.fit_and_test

    def counted(split: Any, solver: Solver, *rest: Any, **named: Any) -> Any:
        made.append(solver.name)
        return fit_and_test(split, solver, *rest, **named)

    monkeypatch.setattr("recsys_mf.comparison.running.fit_and_test", counted)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("folds", [None, 2])
def test_errors_on_ratings_with_weights_are_weighted(folds: int | None) -> None:
    plain = small_table()
    weights = np.random.default_rng(0).uniform(0.2, 5, len(plain)).astype(np.float32)
    table = replace(plain, weights=weights)
    comparison = compared(SMALL, table, seed=3, folds=folds)
    assert comparison.setup.weighted
    assert not compared(SMALL, seed=3).setup.weighted
    assert "Errors are weighted" in to_text(comparison)
    if folds is None:
        split = hold_out(table, 0.1, seed=3)
        assert split.test_as_read is not None
        assert {row.name for row in comparison.rows if not SMALL[row.name].takes_weights} == {"svd"}
        for row in comparison.rows:
            if not SMALL[row.name].takes_weights:  # is compared, but not trained for its own sake
                continue
            report = evaluate(train(split, SMALL[row.name], seed=3, device="cpu"), split.test_as_read)
            assert row.rmse == pytest.approx(report.rows[-1].scores["rmse"].value, rel=1e-6)
            assert row.mae == pytest.approx(report.rows[-1].scores["mae"].value, rel=1e-6)
    else:
        other = compared(SMALL, replace(plain, weights=np.roll(weights, 1)), seed=3, folds=folds)
        assert {row.rmse for row in comparison.rows}.isdisjoint(row.rmse for row in other.rows)


@pytest.mark.slow
def test_errors_are_those_of_a_training_and_its_report() -> None:
    chosen = {**SMALL, "gibbs": SOLVERS["gibbs"](rank=2, sweeps=8, burn_in=2)}
    comparison, split = compared(chosen, seed=3), hold_out(small_table(), 0.1, seed=3)
    assert comparison.method == BOOTSTRAP
    rows = {row.name: row for row in comparison.rows}
    for name, solver in chosen.items():
        run = train(split, solver, seed=3, device="cpu")
        report = evaluate(run, split.test_as_read, device="cpu") if split.test_as_read else None
        assert report is not None
        scores = report.rows[-1].scores
        assert rows[name].rmse == pytest.approx(scores["rmse"].value, rel=1e-6)
        assert rows[name].mae == pytest.approx(scores["mae"].value, rel=1e-6)
        assert rows[name].settings[0] == run.fit.settings


@pytest.mark.slow
def test_folds_are_those_of_an_experiment() -> None:
    comparison = compared(folds=3, split_seed=4)
    experiment = Experiment(ratings=small_table(), solver=SMALL["one"], folds=3, split_seed=4)
    report = experiment.run(device="cpu").report
    assert isinstance(report, FoldReport)
    assert comparison.method == T_TEST
    row = next(row for row in comparison.rows if row.name == "one")
    assert row.rmses == pytest.approx(report.rows[-1].scores["rmse"].folds, rel=1e-6)
    assert comparison.setup.test_share == pytest.approx(1 / 2)


@pytest.mark.slow
def test_the_rows_are_in_order_and_the_worse_are_known() -> None:
    comparison = compared(folds=2, seeds=3)
    assert [row.rmse for row in comparison.rows] == sorted(row.rmse for row in comparison.rows)
    assert comparison.best.difference is None
    assert comparison.rows[-1].name == "mean"
    assert comparison.rows[-1].is_worse
    assert comparison.n_pairs == 3
    assert len(comparison.setup.splits) == 6
    worst = comparison.rows[-1].difference
    assert worst is not None
    assert worst.value == pytest.approx(np.mean(np.subtract(comparison.rows[-1].rmses, comparison.best.rmses)))


@pytest.mark.slow
def test_candidates_that_predict_the_same_differ_by_nothing() -> None:
    same = {"one": SOLVERS["bias"](), "other": SOLVERS["sgd"](epochs=0, members=1)}
    same["third"] = SOLVERS["als"](epochs=0, members=1)
    for folds in (None, 2):
        comparison = compared(same, folds=folds)
        equal = [row for row in comparison.rows if row.rmses == comparison.best.rmses]
        assert not any(row.is_worse for row in equal)
        assert all(row.difference is None or row.difference.value == 0 for row in equal)


@pytest.mark.slow
def test_the_same_comparison_gives_the_same_numbers() -> None:
    assert without_measurements(compared(folds=2)) == without_measurements(compared(folds=2))


@pytest.mark.slow
def test_an_interrupted_comparison_continues(tmp_path: Path, fits: list[str]) -> None:
    whole = without_measurements(compared(folds=2))
    fits.clear()

    def stop(status: ComparisonStatus) -> None:
        if status.done == 4:
            raise StoppedError

    with pytest.raises(StoppedError):
        compared(folds=2, state=tmp_path / "state", watch=stop)
    assert fits == ["sgd", "svd", "mean", "sgd"]
    fits.clear()
    seen: list[ComparisonStatus] = []
    again = compared(folds=2, state=tmp_path / "state", watch=seen.append)
    assert fits == ["svd", "mean"]
    assert without_measurements(again) == whole
    assert (seen[0].done, seen[0].total, seen[0].kept, seen[0].candidate) == (4, 6, 4, "svd")
    assert seen[0].seconds_left is not None
    assert (seen[-1].done, seen[-1].candidate, seen[-1].seconds_left) == (6, None, 0)


@pytest.mark.slow
def test_a_comparison_goes_on_inside_the_fit_that_was_interrupted(tmp_path: Path) -> None:
    whole = without_measurements(compared())

    def stop(status: ComparisonStatus) -> None:
        if status.progress is not None and status.progress.stage == "fit":
            raise StoppedError

    with pytest.raises(StoppedError):
        compared(state=tmp_path / "state", watch=stop)
    seen: list[ComparisonStatus] = []
    again = compared(state=tmp_path / "state", watch=seen.append)
    assert without_measurements(again) == whole
    stages = {each.progress.stage for each in seen if each.progress is not None and each.candidate == "one"}
    assert stages == {"fit"}  # its validation was finished
    assert [row.memory is None for row in again.rows if row.name == "one"] == [True]
    kinds = {path.suffix for path in (tmp_path / "state").iterdir()}
    assert kinds == {".json", ".safetensors"}  # no fit is under way


@pytest.mark.slow
def test_what_is_kept_is_used_for_the_same_inputs_alone(tmp_path: Path, fits: list[str]) -> None:
    def fitted(candidates: Any = SMALL, table: Ratings | None = None, **named: Any) -> list[str]:
        fits.clear()
        compared(candidates, table, state=tmp_path, **named)
        return list(fits)

    everything = ["sgd", "svd", "mean"]
    assert fitted() == everything
    assert fitted() == []
    assert fitted({**SMALL, "renamed": SOLVERS["bias"]()}) == ["bias"]
    assert fitted({"any": SMALL["svd"], "name": SMALL["mean"]}) == []
    assert fitted({**SMALL, "one": SOLVERS["sgd"](rank=2, epochs=5, members=1)}) == ["sgd"]
    changed = small_table()
    values = changed.values.copy()
    values[0] = 1 - values[0]
    assert fitted(table=replace(changed, values=values)) == everything
    for named in (
        {"seed": 1},
        {"split_seed": 1},
        {"hold_out": 0.2},
        {"validation": 0.2},
        {"by": "user"},
        {"threads": 1},
    ):
        assert fitted(**named) == everything, named


@pytest.mark.slow
def test_a_kept_fit_that_is_damaged_is_named(tmp_path: Path) -> None:
    compared(state=tmp_path)
    path = max(tmp_path.glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    for place in (len(data) - 1, 20):
        broken = data.copy()
        broken[place] ^= 1
        path.write_bytes(broken)
        with pytest.raises(ArtifactError, match=rf"{path.name}: damaged .*; remove this file"):
            compared(state=tmp_path)
    path.unlink()
    assert len(compared(state=tmp_path).rows) == 3


@pytest.mark.slow
def test_a_folder_with_other_files_and_one_without_a_place_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ArtifactError, match="not a folder of a comparison"):
        compared(state=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(ArtifactError, match="no such folder"):
        compared(state=tmp_path / "none" / "state")
    with pytest.raises(ArtifactError, match=r"cannot be written|not a folder"):
        compared(state=tmp_path / "mine.txt")
    (tmp_path / "empty").mkdir()
    compared(state=tmp_path / "empty")
    shutil.rmtree(tmp_path / "empty")


def test_a_candidate_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any, **named: Any) -> None:
        raise SolveError("diverged", where="epoch 3", fix="use a lower step")

    monkeypatch.setattr("recsys_mf.comparison.running.fit_and_test", fail)
    with pytest.raises(SolveError, match=r"^one: epoch 3: diverged; use a lower step$"):
        compared()


@pytest.mark.slow
def test_a_given_test_table_is_tested_on(tmp_path: Path) -> None:
    table = small_table()
    is_test = np.arange(len(table)) % 5 == 0
    test = table.select(is_test)
    comparison = compared(table=table.select(~is_test), test=test)
    assert comparison.setup.test_ratings == (int(is_test.sum()),)
    frame = test.to_frame()
    frame.to_parquet(tmp_path / "test.parquet")
    of_path = compared(table=table.select(~is_test), test=tmp_path / "test.parquet")
    assert without_measurements(comparison) == without_measurements(of_path)


def test_one_test_row_is_too_few() -> None:
    table = small_table()
    with pytest.raises(DataError, match="too few test rows"):
        compared(table=table.select(np.arange(len(table)) > 0), test=table.select(np.arange(len(table)) == 0))


@pytest.mark.slow
def test_a_test_table_with_other_ids_is_warned_of() -> None:
    test = Ratings.from_ids([100_001, 100_002, 100_003], [1, 2, 3], [1.0, 2.0, 3.0])
    with pytest.warns(IdMismatchWarning):
        compared(test=test)


@pytest.mark.parametrize(
    ("pending", "durations", "elapsed", "left"),
    [
        (["a", "b"], {}, 3.0, None),
        ([], {}, 3.0, 0.0),
        (["a", "b", "a"], {"a": [1.0, 3.0], "b": [10.0]}, 0.5, 13.5),
        (["c", "a"], {"a": [2.0], "b": [4.0]}, 0.0, 5.0),
        (["a"], {"a": [2.0]}, 9.0, 0.0),
    ],
)
def test_the_time_left_is_that_of_finished_fits_of_the_same_candidates(
    pending: list[str], durations: dict[str, list[float]], elapsed: float, left: float | None
) -> None:
    assert estimate_seconds_left(pending, durations, elapsed) == left


def test_the_front_has_those_that_no_other_beats() -> None:
    costs = {"good": (0.8, 9.0), "quick": (0.9, 1.0), "slow": (0.9, 2.0), "bad": (1.0, 9.5), "same": (0.8, 9.0)}
    assert find_front(costs) == {"good", "quick", "same"}


@pytest.mark.slow
def test_a_table_in_memory_and_its_path_give_the_same(tmp_path: Path) -> None:
    small_table().to_frame().to_parquet(tmp_path / "table.parquet")
    named = comparing.compare(tmp_path / "table.parquet", SMALL, device="cpu")
    assert named.setup.data == str(tmp_path / "table.parquet")
    assert [row.rmse for row in named.rows] == pytest.approx([row.rmse for row in compared().rows], rel=1e-6)
