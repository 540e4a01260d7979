"""Weights of ratings from a table to the report: read where named, used in errors, refused where a run lacks them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys_mf import cli, compare, from_frame, read_ratings, store
from recsys_mf.errors import ConfigError, DataError
from recsys_mf.evaluation import evaluate, to_text, validation_report
from recsys_mf.kernels import select
from recsys_mf.loaders import describe
from recsys_mf.prediction import predict, rmse
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.sklearn import RatingRegressor
from recsys_mf.solvers import SOLVERS, Biases, Mean, TruncatedSvd
from recsys_mf.splits import hold_out
from recsys_mf.training import train
from recsys_mf.training.validation import RunningError, pool_errors
from tests.trained import small_run, small_split, small_table

SVD = {"svd bias": TruncatedSvd(ranks=(1, 2))}


def weighted_table() -> Ratings:
    table = small_table()
    return replace(table, weights=np.exp(np.random.default_rng(1).standard_normal(len(table))))


@cache
def weighted_run() -> Run:
    return train(hold_out(weighted_table(), 0.1), "sgd", rank=2, epochs=4, members=1, compared_with=SVD)


@pytest.fixture(params=["parquet", "csv", "jsonl"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A table with the weights in a column called `much`, and another called `weight`."""
    frame = weighted_table().to_frame().rename(columns={"weight": "much"}).assign(weight=7.0)
    found = tmp_path / f"table.{request.param}"
    if request.param == "parquet":
        frame.to_parquet(found)
    elif request.param == "csv":
        frame.to_csv(found, index=False)
    else:
        frame.to_json(found, orient="records", lines=True)
    return found


# Reading.


def test_a_column_of_weights_is_read_if_it_is_named(path: Path) -> None:
    table = read_ratings(path, weight_column="much")
    assert table.weights is not None
    assert table.weights.tolist() == pytest.approx(np.array(weighted_table().weights).tolist(), rel=1e-6)
    assert read_ratings(path).weights is None
    assert read_ratings(path).fingerprint == small_table().fingerprint


def test_weights_of_a_frame_are_read_if_they_are_named() -> None:
    frame = weighted_table().to_frame()
    assert from_frame(frame, weight_column="weight").fingerprint == weighted_table().fingerprint
    assert from_frame(frame).weights is None


def test_a_missing_column_of_weights_is_an_error(path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'weights'; did you mean 'weight'\?"):
        read_ratings(path, weight_column="weights")
    with pytest.raises(DataError, match=r"one column cannot be two things \(saw 'rating' for ratings and weights\)"):
        read_ratings(path, weight_column="rating")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, r"t.csv, column w, row 2.*: weight is 0 \(saw 0.0\); leave the row out, or give a number above 0$"),
        (-1, r"t.csv, column w, row 2.*: weight is below 0 \(saw -1.0\); give a finite number above 0$"),
        ("inf", r"t.csv, column w, row 2.*: weight is not finite \(saw inf\); give a finite number above 0$"),
        ("much", r"t.csv, column w, row 2.*: weight is text, not a number \(saw 'much'\); give numbers$"),
        (
            "",
            r"t.csv, column w, row 2.*: null weight \(saw null, one of 1 in the column\); give a finite",
        ),
    ],
)
def test_a_weight_that_is_none_is_named_with_its_row(tmp_path: Path, value: Any, message: str) -> None:
    lines = ["user,item,rating,w", "1,1,3,1", "1,2,3,0.5", f"2,1,3,{value}", "2,2,4,1"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        read_ratings(tmp_path / "t.csv", weight_column="w")


def test_inspect_describes_weights_and_counts_those_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user,item,rating,w\n1,1,3,1\n1,2,3,0.5\n2,1,3,0\n2,2,4,\n")
    facts = describe(tmp_path / "t.csv", weight_column="w")
    assert facts.weights == {"not_valid": 2, "lowest": 0.5, "highest": 1.0, "mean": 0.75}
    assert facts.nulls["weight"] == 1
    assert facts.columns["weight"] == "w"
    assert describe(tmp_path / "t.csv").weights is None


# Errors.


def test_errors_on_ratings_with_weights_are_weighted() -> None:
    test = small_split().test
    assert test is not None
    weights = np.exp(np.random.default_rng(2).standard_normal(len(test))).astype(np.float32)
    weighted = replace(test, weights=weights)
    run, w = small_run(), weights.astype(float)
    errors = predict(run.model, test.users, test.items).values.astype(float) - test.values
    report = evaluate(run, weighted)
    scores = report.rows[-1].scores
    assert scores["rmse"].value == pytest.approx(np.sqrt(w @ errors**2 / w.sum()), rel=1e-12)
    assert scores["mae"].value == pytest.approx(w @ np.abs(errors) / w.sum(), rel=1e-12)
    assert rmse(run.model, weighted) == pytest.approx(scores["rmse"].value, rel=1e-6)
    assert report.held_out is not None
    assert report.held_out.weighted
    assert not report.weighted
    for side in ("user", "item"):
        parts = [part for part in report.rows[-1].segments if part.side == side]
        assert min(part.rmse for part in parts) <= scores["rmse"].value <= max(part.rmse for part in parts)
    said = to_text(report)
    assert f"{len(test):,} test pairs, weighted · ratings from" in said
    assert "Errors on test ratings are weighted" in said


def test_a_common_weight_changes_no_error_and_no_interval() -> None:
    test = small_split().test
    assert test is not None
    plain = evaluate(small_run(), test)
    same = evaluate(small_run(), replace(test, weights=np.full(len(test), 5, np.float32)))
    for one, other in zip(plain.rows, same.rows, strict=True):
        for of in ("scores", "differences"):
            for name, estimate in getattr(one, of).items():
                found = getattr(other, of)[name]
                expected = (estimate.value, estimate.low, estimate.high)
                assert (found.value, found.low, found.high) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert "weighted" not in to_text(plain)


def test_validation_errors_are_weighted() -> None:
    table, backend = weighted_table(), select("cpu", 1)
    (epoch,) = Biases().run(table, rng=np.random.default_rng(0), backend=backend)
    errors = predict(epoch.model(), table.users, table.items).values.astype(float) - table.values
    assert table.weights is not None
    w = table.weights.astype(float)
    expected = np.sqrt(w @ errors**2 / w.sum())
    model = epoch.model()
    given_epoch = replace(epoch, predictor=lambda: lambda users, items, times: predict(model, users, items).values)
    for one in (epoch, given_epoch):
        assert RunningError(table, (), backend)(one) == {None: pytest.approx(expected, rel=1e-6)}
    halves = [table.select(np.arange(len(table)) % 3 == part) for part in range(3)]
    pooled = pool_errors([RunningError(half, (), backend)(epoch) for half in halves], halves)
    assert pooled == {None: pytest.approx(expected, rel=1e-6)}


def test_a_run_says_that_its_ratings_have_weights() -> None:
    assert weighted_run().provenance["weighted"]
    assert not small_run().provenance["weighted"]
    assert "training ratings, weighted · " in to_text(validation_report(weighted_run()))
    assert "Errors on training ratings are weighted" in to_text(validation_report(weighted_run()))


def test_a_run_with_weights_is_stored_and_scored_as_any(tmp_path: Path) -> None:
    store.save(weighted_run(), tmp_path / "run")
    again = store.load(tmp_path / "run")
    test = hold_out(weighted_table(), 0.1).test
    assert test is not None
    one, other = evaluate(weighted_run(), test), evaluate(again, test)
    assert one.rows[-1].scores == other.rows[-1].scores
    assert other.weighted


# What a run does not keep.


def test_a_run_takes_up_no_ratings_with_weights() -> None:
    table = weighted_table()
    message = r"^the new ratings: ratings with weights cannot be added to a run; leave the weights out, or train again"
    with pytest.raises(DataError, match=message):
        small_run().fold_in(table)
    with pytest.raises(DataError, match=message):
        train(hold_out(table, 0), "sgd", start=small_run())


def test_a_run_with_weights_is_neither_continued_nor_explained() -> None:
    run = weighted_run()
    with pytest.raises(ConfigError, match="it was trained with weights, which a run does not keep; train again on all"):
        train(hold_out(small_table(seed=1).select(np.arange(50)), 0), "sgd", start=run)
    user, item = run.user_vocabulary.entries[0].as_py(), run.item_vocabulary.entries[0].as_py()
    with pytest.raises(ConfigError, match=r"^the run: the run was trained with weights, which it does not keep"):
        run.explain(user, item)


def test_new_users_alone_are_folded_into_a_run_with_weights() -> None:
    run = weighted_run()
    items = run.item_vocabulary.entries.to_pylist()[:3]
    folded = run.fold_in(Ratings.from_ids([12345] * 3, items, [1, 2, 3]))
    assert len(folded.user_vocabulary) == len(run.user_vocabulary) + 1
    known = run.user_vocabulary.entries[0].as_py()
    with pytest.raises(ConfigError, match="cannot be folded in: the model was trained with weights, which a run"):
        run.fold_in(Ratings.from_ids([known] * 3, items, [1, 2, 3]))


# The command line.

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recsys(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    monkeypatch.chdir(tmp_path)
    weighted_table().to_frame().rename(columns={"weight": "w"}).to_csv("table.csv", index=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["recsys-mf", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capfd.readouterr()
        return int(stop.value.code or 0), out, err

    return run


@pytest.mark.parametrize("solver", ["sgd", "als", "gibbs"])
def test_a_table_with_weights_is_trained_on_evaluated_and_trained_on_again(recsys: Cli, solver: str) -> None:
    settings = ["-p", "rank=2", *(["-p", "sweeps=12", "-p", "burn_in=4"] if solver == "gibbs" else ["-p", "members=1"])]
    typed = ["table.csv", "--weight-column", "w", "--solver", solver, *settings, "--svd-ranks", "1,2"]
    code, out, err = recsys("train", *typed, "-o", "run", "--json", "--predictions", "p.csv")
    assert code == 0, err
    report, rows = json.loads(out), pd.read_csv("p.csv")
    assert report["weighted"]
    assert report["held_out"]["weighted"]
    errors = (rows["prediction"].astype(np.float32).astype(float) - rows["rating"]).to_numpy()
    weights = rows["weight"].to_numpy()
    expected = np.sqrt(weights @ errors**2 / weights.sum())
    assert report["rows"][-1]["scores"]["rmse"]["value"] == pytest.approx(expected, rel=1e-6)
    code, out, err = recsys("evaluate", "run", "--test", "table.csv", "--weight-column", "w", "--json")
    assert code == 0, err
    assert json.loads(out)["held_out"]["weighted"]
    code, _, err = recsys("train", "--repeat", "run", "-o", "again")
    assert code == 0, err
    assert "same bytes" in err or "byte for byte" in err


def test_inspect_prints_the_weights(recsys: Cli) -> None:
    code, out, err = recsys("inspect", "table.csv", "--weight-column", "w")
    assert code == 0, err
    (line,) = (line for line in out.splitlines() if line.startswith("weights"))
    assert "mean" in line


def test_the_mean_of_a_table_with_weights_is_weighted() -> None:
    table = weighted_table()
    (epoch,) = Mean().run(table, rng=np.random.default_rng(0), backend=select("cpu", 1))
    model: Any = epoch.model()
    assert model.mean == pytest.approx(np.average(table.values, weights=table.weights), rel=1e-6)


# Solvers that do not take them.


@pytest.mark.parametrize("name", list(SOLVERS))
def test_a_chosen_solver_takes_weights_or_refuses_them(name: str) -> None:
    """As the guide says which: docs/guide/tables.md."""
    table = weighted_table()
    solver, frame = SOLVERS[name]().rehearsal(), table.to_frame()
    if solver.takes_weights:
        models = [train(one, solver, compared_with=SVD).model for one in (table, replace(table, weights=None))]
        weighted, plain = (predict(model, table.users, table.items).values for model in models)
        assert not np.array_equal(weighted, plain)
        return
    with pytest.raises(ConfigError, match=f"^solver '{name}' does not take weights of ratings; leave the weights out"):
        train(table, solver, compared_with=SVD)
    with pytest.raises(ValueError, match="does not take weights"):
        RatingRegressor(name).fit(frame[["user_id", "item_id"]], frame["rating"], sample_weight=frame["weight"])


def test_the_baselines_of_a_table_with_weights_are_fitted() -> None:
    assert set(weighted_run().baselines) == set(SVD)


def test_solvers_are_compared_with_the_truncated_svd_on_a_table_with_weights() -> None:
    compared = compare(weighted_table(), {"svd": TruncatedSvd(ranks=(1,)), "bias": Biases()})
    assert {row.name for row in compared.rows} == {"svd", "bias"}
