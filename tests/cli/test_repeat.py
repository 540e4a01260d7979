"""`train --repeat RUN`: the record alone gives the same bytes, and every obstacle is a one-line error."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from recsys_mf import cli, hold_out, load, save, splits, train
from recsys_mf.cli.plan import FILES
from recsys_mf.cli.repeating import HARMLESS
from recsys_mf.cli.train import train as train_command
from recsys_mf.errors import LeakWarning
from recsys_mf.evaluation import evaluate
from recsys_mf.prediction import has_intervals
from recsys_mf.solvers import SOLVERS
from tests.trained import small_run, small_table

Cli = Callable[..., tuple[int, str, str]]

SVD = ("--svd-ranks", "1,2")
SMALL = ("-p", "rank=4", "-p", "epochs=6", "-p", "members=2", *SVD)
SINGLE = ("-p", "rank=4", "-p", "epochs=6", "-p", "members=1", *SVD)
CHAINED = ["--solver", "gibbs", "-p", "rank=2", "-p", "burn_in=4", "--sweeps", "9", *SVD]
SAMPLED = ("--solver", "gibbs", "-p", "rank=2", "-p", "sweeps=12", "-p", "burn_in=4", *SVD)


@pytest.fixture
def recsys(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Runs the command in a folder of tables; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    frame = small_table().to_frame()
    frame.assign(w=1 + frame["rating"] % 2).to_parquet("table.parquet")
    frame.rename(columns={"user_id": "who", "item_id": "what", "rating": "stars"}).to_csv("odd.csv", index=False)
    frame.to_csv("plain.csv", index=False)
    Path("c.toml").write_text("seed = 12\n")
    pd.concat([frame, frame.iloc[:20].assign(rating=1.0)]).to_parquet("twice.parquet")
    rows = np.arange(len(frame)) % 5
    frame[rows > 0].to_parquet("train.parquet")
    test = frame[rows == 0].copy()
    test.loc[test.index[3], "user_id"] = 777_777
    test.to_parquet("test.parquet")
    items = np.arange(100, 170, 2)
    pq.write_table(
        pa.table({"item_id": items, "kind": np.array(["a", "b"])[items % 4 // 2], "w": items % 7}), "i.parquet"
    )
    pq.write_table(pa.table({"user_id": np.arange(5, 130, 3), "age": np.arange(42) % 9}), "u.parquet")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["/some/where/recsys-mf", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capfd.readouterr()
        return int(stop.value.code or 0), out, err

    return run


def tensors(directory: str) -> Iterator[tuple[str, bytes]]:
    """Every tensor of a run, in order of the names."""
    for part in ("model.safetensors", "baselines.safetensors"):
        for name, array in sorted(load_file(Path(directory, part)).items()):
            yield f"{part} {name}", array.tobytes()


def record(directory: str) -> dict[str, Any]:
    provenance: dict[str, Any] = json.loads(Path(directory, "run.json").read_text())["provenance"]
    return provenance


def without_seconds(report: Any) -> Any:
    """A report without the figures that depend on the machine, and without the name of the table."""
    if isinstance(report, dict):
        measured = ("fit_seconds", "ratings_per_second", "peak_memory_bytes", "threads", "data")
        return {key: without_seconds(value) for key, value in report.items() if key not in measured}
    return [without_seconds(value) for value in report] if isinstance(report, list) else report


KINDS = {
    "sgd committee": ["table.parquet", *SMALL],
    "sgd alone": ["table.parquet", *SINGLE],
    "als": ["table.parquet", "--solver", "als", *SMALL, "--seed", "3"],
    "gibbs": ["table.parquet", *SAMPLED],
    "gibbs compressed, ordinal": ["table.parquet", *SAMPLED, "--likelihood", "ordinal", "--compress", "3"],
    "gibbs with chains": ["table.parquet", *CHAINED, "--chains", "2", "--sweeps", "9"],
    "features": ["table.parquet", *SAMPLED, "--item-features", "i.parquet", "--user-features", "u.parquet"],
    "some features": ["table.parquet", *SAMPLED, "--item-features", "i.parquet", "--feature-columns", "w"],
    "svd": ["table.parquet", "--solver", "svd", "-p", "ranks=1,2,3", "--svd-route", "dense"],
    "folds": ["table.parquet", "--folds", "3", "--seed", "2", *SINGLE],
    "given test": ["train.parquet", "--test", "test.parquet", *SINGLE],
    "nothing held out": ["table.parquet", "--hold-out", "0", *SINGLE],
    "an odd fraction": ["table.parquet", "--hold-out", "0.155", *SINGLE],
    "by user": ["table.parquet", "--by", "user", *SINGLE],
    "by the time of each user": ["table.parquet", "--by", "user-time", "--hold-out", "2", *SINGLE],
    "by time": ["table.parquet", "--by", "time", "--validation", "0.21", *SINGLE],
    "no validation": ["table.parquet", "--validation", "0", *SINGLE],
    "strings": ["table.parquet", "--ids", "string", *SINGLE],
    "duplicates": ["twice.parquet", "--duplicates", "mean", *SINGLE],
    "columns": ["odd.csv", "--user-column", "who", "--item-column", "what", "--rating-column", "stars", *SINGLE],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_repeating_a_run_from_its_record_gives_the_same_bytes(recsys: Cli, kind: str) -> None:
    code, out, err = recsys("train", "-o", "run", *KINDS[kind], "--threads", "1", "--json")
    assert code == 0, err
    code, again, err = recsys("train", "--repeat", "run", "-o", "new", "--json")
    assert code == 0, err
    assert list(tensors("new")) == list(tensors("run"))
    assert without_seconds(json.loads(again)) == without_seconds(json.loads(out))
    assert "the model and its baselines equal those in run byte for byte" in err
    assert "warning" not in err
    changing = ("command", "threads")
    first, second = ({k: v for k, v in record(name).items() if k not in changing} for name in ("run", "new"))
    assert first == second


def test_a_continued_run_is_repeated(recsys: Cli) -> None:
    for name, options in (("base", SINGLE), ("run", ("--from", "base"))):
        code, _, err = recsys("train", "table.parquet", "-o", name, *options)
        assert code == 0, err
    assert record("run")["files"]["start"]["path"] == "base"
    code, _, err = recsys("train", "--repeat", "run", "-o", "new")
    assert code == 0, err
    assert list(tensors("new")) == list(tensors("run"))
    recsys("train", "table.parquet", "-o", "base", "--force", "--seed", "9", *SINGLE)
    code, _, err = recsys("train", "--repeat", "run", "-o", "new2")
    assert (code, Path("new2").exists()) == (3, False)
    assert "error: base: changed since the run was made" in err


def test_a_repeated_run_can_be_repeated_and_replaced(recsys: Cli) -> None:
    recsys("train", "table.parquet", "-o", "run", *SINGLE)
    first = list(tensors("run"))
    recsys("train", "--repeat", "run", "-o", "new")
    code, _, err = recsys("train", "--repeat", "new", "-o", "new", "--force")
    assert code == 0, err
    assert list(tensors("new")) == first


def test_a_different_result_gives_a_warning_even_if_it_replaces_the_run(
    recsys: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    recsys("train", "table.parquet", "-o", "run", *SINGLE, "--validation", "0")
    facts = record("run") | {"seed": 5}  # as if the arithmetic had changed
    monkeypatch.setattr("recsys_mf.store.load_provenance", lambda directory: facts)
    code, _, err = recsys("train", "--repeat", "run", "-o", "run", "--force")
    assert code == 0
    assert "warning: these models differ from those in run: the model" in err


def test_run_json_alone_is_enough(recsys: Cli) -> None:
    recsys("train", "table.parquet", "-o", "run", *SINGLE)
    Path("alone").mkdir()
    shutil.copy("run/run.json", "alone")
    code, _, err = recsys("train", "--repeat", "alone", "-o", "new")
    assert code == 0, err
    assert "warning: the result was not compared with alone" in err
    assert list(tensors("new")) == list(tensors("run"))


def test_a_run_can_be_repeated_from_another_folder_and_with_moved_files(
    recsys: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    recsys("train", "train.parquet", "--test", "test.parquet", "-o", "run", *SINGLE)
    Path("deep").mkdir()
    monkeypatch.chdir("deep")
    code, _, err = recsys("train", "--repeat", "../run", "-o", "new")
    assert code == 0, err
    shutil.move("../train.parquet", "t")
    shutil.move("../test.parquet", "s.parquet")
    code, _, err = recsys("train", "--repeat", "../run", "-o", "new2")
    assert (code, "error: train.parquet: no such file" in err) == (3, True)
    code, _, err = recsys("train", "t", "--test", "s.parquet", "--repeat", "../run", "-o", "new2")
    assert code == 0, err
    assert list(tensors("new2")) == list(tensors("../run"))


@pytest.mark.parametrize(("role", "name"), [("ratings", "train.parquet"), ("test", "test.parquet")])
def test_a_table_that_has_changed_is_named(recsys: Cli, role: str, name: str) -> None:
    recsys("train", "train.parquet", "--test", "test.parquet", "-o", "run", *SINGLE)
    frame = pd.read_parquet(name)
    frame["rating"] = np.where(np.arange(len(frame)) == 4, 1, 0) + frame["rating"]
    frame.to_parquet(name)
    code, out, err = recsys("train", "--repeat", "run", "-o", "new")
    assert (code, out) == (3, "")
    assert f"error: {name}: changed since the run was made (saw fingerprint " in err
    assert "or train without --repeat" in err
    assert not Path("new").exists()


@pytest.mark.parametrize(("option", "file"), [("--item-features", "i.parquet"), ("--user-features", "u.parquet")])
def test_features_that_have_changed_are_named(recsys: Cli, option: str, file: str) -> None:
    recsys("train", "table.parquet", "-o", "run", *SAMPLED, option, file)
    rows = pq.read_table(file)
    last = rows.column_names[-1]
    pq.write_table(rows.set_column(rows.num_columns - 1, last, pa.array(rows[last].to_numpy()[::-1])), file)
    code, _, err = recsys("train", "--repeat", "run", "-o", "new")
    assert (code, f"error: {file}: changed since the run was made" in err) == (3, True)


def changing_options() -> list[click.Option]:
    return [
        parameter
        for parameter in train_command.params
        if isinstance(parameter, click.Option) and parameter.name not in HARMLESS | FILES.keys()
    ]


@pytest.mark.parametrize("option", changing_options(), ids=lambda option: option.opts[0])
def test_with_repeat_no_option_changes_the_result(recsys: Cli, option: click.Option) -> None:
    given = {"--ids": "auto", "--duplicates": "error", "--config": "c.toml"}
    value = given.get(option.opts[0], "1")  # a given default is also refused
    save(small_run(), "run")
    code, _, err = recsys(
        "train", "--repeat", "run", "-o", "new", *([option.opts[0]] if option.is_flag else [option.opts[0], value])
    )
    assert code == 2
    assert f"{' or '.join(option.opts)} cannot be given with --repeat, which takes this option from the run" in err
    assert not Path("new").exists()


def test_a_file_that_the_run_was_made_without_is_refused(recsys: Cli) -> None:
    recsys("train", "table.parquet", "-o", "run", *SINGLE)
    code, _, err = recsys("train", "--repeat", "run", "-o", "new", "--test", "test.parquet")
    assert (code, "--test with --repeat run: the run was made without such a file" in err) == (2, True)


def test_training_without_a_table_or_a_run_is_refused(recsys: Cli) -> None:
    code, _, err = recsys("train", "-o", "new")
    assert (code, "RATINGS: no table to train on; give the path of a table, or a run directory to --repeat" in err) == (
        2,
        True,
    )


def test_a_run_of_the_library_is_repeated_if_the_table_is_given(recsys: Cli) -> None:
    solver = SOLVERS["sgd"].from_texts({"rank": "3", "epochs": "5", "members": "1"})
    table = small_table()
    save(train(hold_out(table, 0.2, 4, by="user"), solver, seed=6), "run")
    code, _, err = recsys("train", "--repeat", "run", "-o", "new")
    assert (code, "the run does not record the path of its ratings; give RATINGS too" in err) == (2, True)
    code, _, err = recsys("train", "table.parquet", "--repeat", "run", "-o", "new")
    assert code == 0, err
    assert list(tensors("new")) == list(tensors("run"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.pop("split_rule"), "cannot be repeated (saw a record of an earlier version)"),
        (lambda facts: facts.update(split_rule={}), "cannot be repeated (saw a split made by hand)"),
        (
            lambda facts: facts.update(validation=None),
            "the command line cannot repeat this run (saw validation rows chosen by hand)",
        ),
        (
            lambda facts: facts["split_rule"].update(kind="fold"),
            "the command line cannot repeat this run (saw random, 10%",
        ),
        (lambda facts: facts.update(solver="gone"), "this version does not have the solver or its settings"),
        (lambda facts: facts["settings"].update(gone=1), "this version does not have the solver or its settings"),
    ],
)
def test_an_incomplete_record_says_why_it_is_not_enough(
    recsys: Cli, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    recsys("train", "table.parquet", "-o", "run", *SINGLE)
    facts = record("run")
    change(facts)
    monkeypatch.setattr("recsys_mf.store.load_provenance", lambda directory: facts)
    code, _, err = recsys("train", "--repeat", "run", "-o", "new")
    assert (code, message in err) == (5, True), err


def test_another_version_gives_a_one_line_warning(recsys: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    recsys("train", "table.parquet", "-o", "run", *SINGLE)
    facts = record("run")
    facts["libraries"]["numpy"] = "1.0"
    facts["processor"] = "z80"
    monkeypatch.setattr("recsys_mf.store.load_provenance", lambda directory: facts)
    code, _, err = recsys("train", "--repeat", "run", "-o", "new")
    assert code == 0
    (line,) = (line for line in err.splitlines() if line.startswith("warning: "))
    assert line.startswith("warning: run was made with processor z80, now ")
    assert "numpy 1.0, now " in line
    assert line.endswith("the last digits may differ")


# What the record holds.

GIVEN: dict[str, tuple[list[str], Callable[[dict[str, Any]], Any], Any]] = {
    # option -> (arguments, where it is in the record, its value there)
    "--solver": (["--solver", "als"], lambda r: r["solver"], "als"),
    "--set": (["-p", "rank=5"], lambda r: (r["settings"]["rank"], r["given"]), (5, {"rank": "5"})),
    "--hold-out": (["--hold-out", "0.125"], lambda r: r["split_rule"]["fraction"], 0.125),
    "--by": (["--by", "user"], lambda r: r["split_rule"]["by"], "user"),
    "--folds": (["--folds", "2"], lambda r: r["folds"], 2),
    "--validation": (["--validation", "0.123"], lambda r: r["validation"], 0.123),
    "--seed": (["--seed", "12"], lambda r: (r["seed"], r["split_rule"]["seed"]), (12, 12)),
    "--config": (["--config", "c.toml"], lambda r: (r["seed"], r["config"]["options"]), (12, {"seed": 12})),
    "--compress": ([*SAMPLED, "--compress", "2"], lambda r: r["compress"], 2),
    "--feature-columns": (
        [*SAMPLED, "--item-features", "i.parquet", "--feature-columns", "w"], lambda r: r["feature_columns"], "w"
    ),
    "--likelihood": ([*SAMPLED, "--likelihood", "gaussian"], lambda r: r["settings"]["likelihood"], "gaussian"),
    "--sweeps": (CHAINED, lambda r: r["settings"]["sweeps"], 9),
    "--chains": ([*SAMPLED, "--chains", "2"], lambda r: r["settings"]["chains"], 2),
    "--schedule": (["--schedule", "conflict-free"], lambda r: r["given"]["schedule"], "conflict-free"),
    "--precision": (["--precision", "float32"], lambda r: r["given"]["precision"], "float32"),
    "--svd-ranks": (["--svd-ranks", "1,3"], lambda r: r["baselines"]["svd bias"]["settings"]["ranks"], [1, 3]),
    "--svd-route": (["--svd-route", "dense"], lambda r: r["baselines"]["svd zero"]["settings"]["route"], "dense"),
    "--duplicates": (["--duplicates", "mean"], lambda r: r["reading"]["duplicates"], "mean"),
    "--encoding": (["--encoding", "latin-1"], lambda r: r["reading"]["encoding"], "latin-1"),
    "--ids": (["--ids", "string"], lambda r: r["reading"]["ids"], "string"),
    "--user-column": (["--user-column", "user_id"], lambda r: r["reading"]["user_column"], "user_id"),
    "--item-column": (["--item-column", "item_id"], lambda r: r["reading"]["item_column"], "item_id"),
    "--rating-column": (["--rating-column", "rating"], lambda r: r["reading"]["rating_column"], "rating"),
    "--time-column": (["--time-column", "timestamp"], lambda r: r["reading"]["time_column"], "timestamp"),
    "--weight-column": (["--weight-column", "w"], lambda r: r["reading"]["weight_column"], "w"),
}  # fmt: skip


def test_every_option_that_changes_the_result_is_checked_in_the_record() -> None:
    assert {option.opts[0] for option in changing_options()} <= GIVEN.keys()


@pytest.mark.slow
@pytest.mark.parametrize("option", GIVEN)
def test_the_record_holds_every_option(recsys: Cli, option: str) -> None:
    arguments, where, expected = GIVEN[option]
    small = [] if "gibbs" in arguments else ["-p", "members=1", "-p", "epochs=2"]
    table = "plain.csv" if option == "--encoding" else "table.parquet"
    typed = ["train", table, "-o", "run", *small, *([] if "--svd-ranks" in arguments else SVD), *arguments]
    code, _, err = recsys(*typed)
    assert code == 0, err
    facts = record("run")
    assert facts["command"] == ["recsys-mf", *typed]
    found = where(facts)
    if option == "--set":
        found = (found[0], {key: found[1][key] for key in ("rank",)})
    assert found == expected


def test_the_record_names_every_file_with_its_fingerprint(recsys: Cli) -> None:
    code, _, err = recsys(
        "train", "train.parquet", "--test", "test.parquet", "-o", "run", *SAMPLED,
        "--item-features", "i.parquet", "--user-features", "u.parquet",
    )  # fmt: skip
    assert code == 0, err
    files = record("run")["files"]
    assert {role: file["path"] for role, file in files.items()} == {
        "ratings": "train.parquet", "test": "test.parquet", "user_features": "u.parquet", "item_features": "i.parquet",
    }  # fmt: skip
    assert all(len(file["fingerprint"]) == 64 for file in files.values())
    from recsys_mf import read_ratings

    assert files["test"]["fingerprint"] == splits.fingerprint_as_read(read_ratings("test.parquet"))


# Predictions of the test rows.


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["parquet", "csv", "tsv"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["table.parquet", *SMALL],
        ["table.parquet", "--by", "time", *SINGLE],
        ["train.parquet", "--test", "test.parquet", *SINGLE],
        ["table.parquet", "--folds", "3", *SINGLE],
        ["table.parquet", *SAMPLED],
    ],
    ids=["committee", "time", "given", "folds", "gibbs"],
)
def test_predictions_are_the_test_rows_as_the_report_scored_them(
    recsys: Cli, arguments: list[str], suffix: str
) -> None:
    code, out, err = recsys("train", *arguments, "-o", "run", "--json", "--predictions", f"p.{suffix}")
    assert code == 0, err
    report = json.loads(out)
    written = read(f"p.{suffix}")
    errors = written["prediction"].to_numpy(np.float32).astype(float) - written["rating"]
    scores = report["rows"][-1]["scores"]["rmse"]
    if report["kind"] == "folds":
        rmse = [np.sqrt(np.mean(errors[written["fold"] == fold] ** 2)) for fold in (1, 2, 3)]
        assert rmse == pytest.approx(scores["folds"], rel=1e-12)
        source = pd.read_parquet("table.parquet")
    else:
        assert np.sqrt(np.mean(errors**2)) == pytest.approx(scores["value"], rel=1e-12)
        assert "fold" not in written
        source = pd.read_parquet("test.parquet" if "--test" in arguments else "table.parquet")
        if "--test" not in arguments:
            tested = (
                source.index[-60:]
                if "time" in arguments
                else np.flatnonzero(np.random.default_rng(0).random(len(source)) < 0.1)
            )
            source = source.loc[tested]
    for name in ("user_id", "item_id", "rating"):
        assert written[name].tolist() == source[name].tolist()
    timed = "time" in arguments or "gibbs" in arguments
    assert ("timestamp" in written) == timed
    if report["kind"] != "folds":
        assert ("lower" in written) == has_intervals(load("run").model)
    if "lower" in written:
        assert (written["lower"] <= written["upper"]).all()
    model = load("run")
    if report["kind"] != "folds":
        again = model.predict(
            written["user_id"], written["item_id"], written["timestamp"] if "gibbs" in arguments else None
        )
        assert again.tolist() == written["prediction"].to_numpy(np.float32).tolist()
        known = model.user_vocabulary.indices(written["user_id"]) >= 0
        assert [word in ("both", "user") for word in written["known"]] == known.tolist()


def read(path: str) -> pd.DataFrame:
    if path.endswith(".parquet"):
        return pd.read_parquet(path)
    return pd.read_csv(path, sep="," if path.endswith(".csv") else "\t", dtype={"prediction": np.float32})


def test_evaluate_writes_the_same_predictions(recsys: Cli) -> None:
    recsys("train", "train.parquet", "--test", "test.parquet", "-o", "run", *SMALL, "--predictions", "a.parquet")
    code, _, err = recsys("evaluate", "run", "--test", "test.parquet", "--predictions", "b.parquet")
    assert code == 0, err
    first, second = read("a.parquet"), read("b.parquet")
    pd.testing.assert_frame_equal(first, second[first.columns.tolist()])
    assert 777_777 in second["user_id"].tolist()
    code, _, err = recsys("evaluate", "run", "--test", "test.parquet", "--predictions", "b.parquet")
    assert (code, "b.parquet: the file exists" in err) == (2, True)
    assert recsys("evaluate", "run", "--test", "test.parquet", "--predictions", "b.parquet", "--force")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hold-out", "0", "--predictions", "p.csv"], "there are no test rows to predict"),
        (["--predictions", "p.xlsx"], "end the name in .parquet, .csv or .tsv"),
        (["--predictions", "table.parquet"], "--predictions would replace RATINGS, which the command reads"),
        (["--predictions", "none/p.csv"], "no such folder"),
    ],
)
def test_predictions_that_cannot_be_written_are_refused_before_the_fit(
    recsys: Cli, arguments: list[str], message: str
) -> None:
    code, out, err = recsys("train", "table.parquet", "-o", "run", *arguments)
    assert (code, out, message in err) == (2, "", True)
    assert not Path("run").exists()


def test_evaluate_takes_force_only_with_predictions(recsys: Cli) -> None:
    save(small_run(), "run")
    code, _, err = recsys("evaluate", "run", "--test", "test.parquet", "--force")
    assert (code, "--force: there is no output file to replace" in err) == (2, True)


# Rows that the run was trained on.


def test_evaluate_on_the_training_table_says_so(recsys: Cli) -> None:
    recsys("train", "table.parquet", "-o", "run", "--hold-out", "0", *SINGLE)
    code, out, err = recsys("evaluate", "run", "--test", "table.parquet")
    assert code == 0
    assert "warning: the model was trained on 601 of these 601 pairs" in err
    assert out.split("\n\n")[1].startswith("Error on rows the model was trained on: the pairs of table.parquet")
    assert "held-out" not in out.lower()
    out = recsys("evaluate", "run", "--test", "table.parquet", "--json")[1]
    report = json.loads(out)
    assert (report["kind"], report["held_out"]["trained_pairs"]) == ("trained", 601)


def test_a_run_of_the_library_has_the_same_record_as_one_of_the_command_line(recsys: Cli) -> None:
    recsys("train", "table.parquet", "-o", "run", *SINGLE, "--seed", "2")
    from recsys_mf import read_ratings

    table = read_ratings("table.parquet", time_column="none")
    solver = SOLVERS["sgd"].from_texts({"rank": "4", "epochs": "6", "members": "1"})
    run = train(hold_out(table, 0.1, 2), solver, seed=2)
    facts = record("run")
    ours = json.loads(json.dumps(dict(run.provenance)))
    assert ours.keys() <= facts.keys()
    different = {name for name in ours if ours[name] != facts[name]}
    assert different == {"baselines"}  # because of --svd-ranks
    with pytest.warns(LeakWarning):
        assert evaluate(run, table).kind == "partly trained"
