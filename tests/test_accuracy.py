"""What the README says each solver reaches on real tables, with default settings; needs --data DIR."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_mf.evaluation import evaluate
from recsys_mf.loaders import read_ratings
from recsys_mf.models import Posterior
from recsys_mf.solvers import SOLVERS
from recsys_mf.splits import Split, given, hold_out
from recsys_mf.training import train


def held_out_rmse(split: Split, solver: str) -> dict[str, float]:
    assert split.test is not None
    report = evaluate(train(split, SOLVERS[solver]()), split.test)
    return {row.label: row.scores["rmse"].value for row in report.rows}


@pytest.mark.parametrize(("solver", "limit"), [("sgd", 0.837), ("als", 0.846)])
def test_movielens_1m(data_dir: Path, solver: str, limit: float) -> None:
    split = hold_out(read_ratings(data_dir / "ml-1m.parquet"), 0.1, seed=0)
    errors = held_out_rmse(split, solver)
    assert errors[solver] < limit
    assert errors["svd bias"] == pytest.approx(0.8784, abs=1e-3)
    assert errors["bias"] == pytest.approx(0.9096, abs=1e-4)


@pytest.mark.parametrize(("solver", "limit"), [("sgd", 0.915), ("als", 0.926)])
def test_movielens_100k_u1(data_dir: Path, solver: str, limit: float) -> None:
    train_table, test_table = (read_ratings(data_dir / f"ml-100k.u1.{part}.parquet") for part in ("train", "test"))
    assert held_out_rmse(given(train_table, test_table), solver)[solver] < limit


def test_movielens_100k_u1_sampled(data_dir: Path) -> None:
    train_table, test_table = (read_ratings(data_dir / f"ml-100k.u1.{part}.parquet") for part in ("train", "test"))
    split = given(train_table, test_table)
    assert split.test is not None
    run = train(split, SOLVERS["gibbs"]())
    report = evaluate(run, split.test)
    assert {row.label: row.scores["rmse"].value for row in report.rows}["gibbs"] < 0.884
    assert isinstance(run.model, Posterior)
    _, lower, upper = run.model.predict_interval(split.test.users, split.test.items, split.test.times)
    assert 0.88 < ((lower <= split.test.values) & (split.test.values <= upper)).mean() < 0.92
