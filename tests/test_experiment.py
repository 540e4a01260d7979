"""Experiments in Python: the same numbers as the command gives, from paths, tables and Ratings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys_mf import SOLVERS, Experiment, from_frame, hold_out, load, read_ratings, save, train
from recsys_mf.cli import main
from recsys_mf.errors import ConfigError
from recsys_mf.evaluation import FoldReport, Report
from recsys_mf.experiment import Hooks
from recsys_mf.features import Features


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    pairs = rng.permutation(60 * 30)[:900]
    users, items = pairs // 30, pairs % 30
    ratings = np.clip(np.round(3 + 0.6 * np.sin(users) + 0.8 * np.cos(items) + 0.4 * rng.standard_normal(900)), 1, 5)
    return pd.DataFrame({"user_id": users, "item_id": items, "rating": ratings})


@pytest.fixture
def path(table: pd.DataFrame, tmp_path: Path) -> Path:
    table.to_parquet(tmp_path / "ratings.parquet")
    return tmp_path / "ratings.parquet"


def arrays_of(model: Any) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.arrays().items()}


def test_an_experiment_gives_what_the_command_gives(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = Experiment(ratings=path, solver="als", seed=3, hold_out=0.2, by="user").run(keep_predictions=True)
    typed = f"train {path} -o {tmp_path / 'run'} --solver als --seed 3 --hold-out 0.2 --by user -q"
    monkeypatch.setattr(sys, "argv", ["recsys-mf", *typed.split(), "--predictions", str(tmp_path / "rows.csv")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    stored = load(tmp_path / "run")
    assert arrays_of(outcome.run.model) == arrays_of(stored.model)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    row = next(row for row in report["rows"] if row["label"] == "als")
    assert isinstance(outcome.report, Report)
    ours = next(row for row in outcome.report.rows if row.label == "als")
    assert ours.scores["rmse"].value == row["scores"]["rmse"]["value"]
    assert outcome.predictions is not None
    written = pd.read_csv(tmp_path / "rows.csv")["prediction"].to_numpy(np.float32)
    np.testing.assert_allclose(outcome.predictions.predictions, written, rtol=1e-6)
    assert outcome.run.report is outcome.report


def test_a_table_in_memory_a_path_and_ratings_give_the_same(table: pd.DataFrame, path: Path) -> None:
    models = [
        Experiment(ratings=given, solver=SOLVERS["als"](rank=4)).run().run.model
        for given in (table, path, str(path), read_ratings(path))
    ]
    assert len({tuple(arrays_of(model).values()) for model in models}) == 1


def test_folds_report_their_means_and_keep_the_model_of_all_ratings(path: Path, table: pd.DataFrame) -> None:
    seen: list[str] = []
    outcome = Experiment(ratings=path, solver="bias", folds=3).run(
        keep_predictions=True, hooks=Hooks(on_read=lambda role, found: seen.append(role))
    )
    assert seen == ["ratings"]
    assert isinstance(outcome.report, FoldReport)
    assert outcome.run.provenance["train_ratings"] == len(table)
    assert outcome.predictions is not None
    assert len(outcome.predictions.predictions) == len(table)


def test_a_test_table_is_tested_and_never_trained_on(table: pd.DataFrame) -> None:
    outcome = Experiment(ratings=table[:700], test=table[700:], solver="bias").run()
    assert outcome.run.provenance["train_ratings"] == 700
    assert isinstance(outcome.report, Report)
    assert outcome.report.held_out is not None
    assert outcome.report.held_out.n_pairs == 200


def test_side_information_goes_to_a_solver_that_takes_it(table: pd.DataFrame, tmp_path: Path) -> None:
    pd.DataFrame({"item_id": range(30), "even": [i % 2 for i in range(30)]}).to_csv(tmp_path / "items.csv", index=False)
    seen: dict[str, Any] = {}
    experiment = Experiment(
        ratings=table, solver=SOLVERS["gibbs"](rank=2, sweeps=5), item_features=tmp_path / "items.csv"
    )
    outcome = experiment.run(hooks=Hooks(on_read=seen.__setitem__))
    assert isinstance(seen["item_features"], Features)
    assert outcome.run.provenance["side_information"]["item"]


def test_without_held_out_rows_the_report_is_of_validation(table: pd.DataFrame) -> None:
    outcome = Experiment(ratings=table, solver="als", hold_out=0).run()
    assert isinstance(outcome.report, Report)
    assert outcome.report.held_out is None
    assert outcome.predictions is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"folds": 3, "test": "other.csv"}, "exclude each other"),
        ({"feature_columns": ["genre"]}, "no table to take these columns from"),
    ],
)
def test_conflicting_arguments_are_refused_before_anything_is_read(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Experiment(ratings="missing.parquet", **given)


def test_train_takes_settings_by_keyword(table: pd.DataFrame) -> None:
    run = train(table, "als", rank=3, members=1)
    assert run.fit.settings["rank"] == 3
    same = train(table, SOLVERS["als"](rank=3, members=1))
    assert arrays_of(run.model) == arrays_of(same.model)
    assert arrays_of(train(table, SOLVERS["als"], rank=3, members=1).model) == arrays_of(run.model)


def test_a_setting_that_the_solver_does_not_have_suggests_the_nearest(table: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="no setting 'rnk'") as error:
        train(table, "als", rnk=3)
    assert "rank" in str(error.value)
    with pytest.raises(ConfigError, match="has its settings"):
        train(table, SOLVERS["als"](), rank=3)


def test_a_run_has_the_report_of_its_validation(table: pd.DataFrame, tmp_path: Path) -> None:
    run = train(hold_out(from_frame(table), 0.2), "als", rank=3)
    assert isinstance(run.report, Report)
    assert run.report.held_out is None
    save(run, tmp_path / "run")
    assert load(tmp_path / "run").report is None
