"""The accuracy that the README states for each solver on real tables, with default settings; needs --data DIR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys_mf.evaluation import METRICS, evaluate
from recsys_mf.evaluation.metrics import PairedBootstrap
from recsys_mf.loaders import read_features, read_ratings
from recsys_mf.prediction import predict
from recsys_mf.solvers import SOLVERS, Gibbs
from recsys_mf.splits import Split, given, hold_out
from recsys_mf.training import train


def held_out_rmse(split: Split, solver: str) -> dict[str, float]:
    assert split.test is not None
    report = evaluate(train(split, SOLVERS[solver]()), split.test)
    return {row.label: row.scores["rmse"].value for row in report.rows}


@pytest.mark.parametrize(("solver", "limit"), [("sgd", 0.837), ("als", 0.846)])
def test_the_error_on_movielens_1m_is_below_its_limit(data_dir: Path, solver: str, limit: float) -> None:
    split = hold_out(read_ratings(data_dir / "ml-1m.parquet"), 0.1, seed=0)
    errors = held_out_rmse(split, solver)
    assert errors[solver] < limit
    assert errors["svd bias"] == pytest.approx(0.8784, abs=1e-3)
    assert errors["bias"] == pytest.approx(0.9096, abs=1e-4)


@pytest.mark.parametrize(("solver", "limit"), [("sgd", 0.915), ("als", 0.926)])
def test_the_error_on_movielens_100k_u1_is_below_its_limit(data_dir: Path, solver: str, limit: float) -> None:
    train_table, test_table = (read_ratings(data_dir / f"ml-100k.u1.{part}.parquet") for part in ("train", "test"))
    assert held_out_rmse(given(train_table, test_table), solver)[solver] < limit


@pytest.mark.parametrize(
    ("likelihood", "with_genres", "limit"),
    [("gaussian", False, 0.884), ("ordinal", False, 0.884), ("ordinal", True, 0.882)],
)
def test_the_error_of_the_sampler_on_movielens_100k_u1_is_below_its_limit(
    data_dir: Path, likelihood: str, with_genres: bool, limit: float
) -> None:
    train_table, test_table = (read_ratings(data_dir / f"ml-100k.u1.{part}.parquet") for part in ("train", "test"))
    if with_genres:
        genres = read_features(data_dir / "ml-100k.movies.parquet", role="item", columns=["genres"])
        train_table = train_table.with_features(items=genres)
    split = given(train_table, test_table)
    assert split.test is not None
    run = train(split, Gibbs(likelihood=likelihood))
    report = evaluate(run, split.test)
    row = report.rows[-1]
    assert row.scores["rmse"].value < limit
    assert row.coverage is not None
    assert row.coverage.pit == pytest.approx(0.9, abs=0.02)


def test_time_lowers_the_error_on_movielens_1m(data_dir: Path) -> None:
    """On the part with timestamps, by more than the paired 95 % interval."""
    split = hold_out(read_ratings(data_dir / "ml-1m-timed.parquet"), 0.1, seed=0)
    test = split.test
    assert test is not None
    errors = {}
    for time in ("auto", "none"):
        model = train(split, Gibbs(time=time, sweeps=100, likelihood="gaussian"), validation=0).model
        predicted = predict(model, test.users, test.items, test.times).values
        errors[time] = predicted.astype(np.float64) - test.values
    bootstrap = PairedBootstrap(len(test), np.random.default_rng(0))
    with_time, without = (bootstrap.score(METRICS["rmse"], errors[time]) for time in ("auto", "none"))
    assert with_time.minus(without).high < 0
