"""`recsys-mf compare`: solvers and runs, kept fits, an interruption, and one line for what cannot be compared."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tqdm

from recsys_mf import cli
from recsys_mf.cli.compare import _PLANNED
from recsys_mf.cli.options import READING
from recsys_mf.loaders.catalog import sample
from recsys_mf.store import save
from recsys_mf.training.epochs import Progress
from tests.trained import small_run, small_table

Cli = Callable[..., tuple[int, str, str]]
DRAWN = tqdm.tqdm

QUICK = ("--solvers", "svd,bias,mean", "-p", "svd.ranks=2")
TRAINED = ("-p", "rank=2", "-p", "epochs=3", "-p", "members=1", "--svd-ranks", "1,2", "-q")


@pytest.fixture
def recsys(recsys: Cli) -> Cli:
    """Runs the command in a folder that has `table.parquet`; returns (exit code, stdout, stderr)."""
    small_table().to_frame().to_parquet("table.parquet")
    return recsys


def rows(out: str) -> dict[str, Any]:
    """The rows of a comparison as JSON, by their names."""
    return {row["name"]: row for row in json.loads(out)["rows"]}


# Solvers on a table.


@pytest.mark.slow
def test_solvers_on_the_sample_are_compared_and_the_mean_is_worse(recsys: Cli) -> None:
    code, out, err = recsys("compare", str(sample()), *QUICK, "--folds", "2", "-q")
    assert (code, err) == (0, "")
    assert out.startswith("svd rank 2 is best; the next is bias, 0.0")
    assert "Held-out error over 2 folds" in out
    assert re.search(r"^mean +0 +1\.\d{4} +\+0\.\d{4} ±0\.\d{4} +worse ", out, re.MULTILINE)
    assert "\x1b" not in out


@pytest.mark.slow
@pytest.mark.parametrize("form", [[], ["--json"], ["--markdown"]])
def test_the_comparison_comes_in_every_form(recsys: Cli, form: list[str]) -> None:
    code, out, _ = recsys("compare", "table.parquet", *QUICK, *form)
    assert code == 0
    assert out.startswith("{") == (form == ["--json"])
    assert ("| svd rank 2 |" in out) == (form == ["--markdown"])


@pytest.mark.slow
def test_worse_candidates_are_grey_on_a_terminal(recsys: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    out = recsys("compare", str(sample()), *QUICK)[1]
    assert [line.split()[0] for line in out.split("\n") if line.startswith("\x1b[2m")] == ["\x1b[2mbias", "\x1b[2mmean"]


@pytest.mark.slow
def test_ranks_and_settings_make_candidates(recsys: Cli) -> None:
    settings = ("-p", "sgd.epochs=2", "-p", "sgd.members=1,2")
    out = recsys("compare", "table.parquet", "--solvers", "sgd,svd", "--ranks", "1,2", *settings, "--json")[1]
    assert set(rows(out)) == {
        "svd rank 1", "svd rank 2", "sgd rank 1, epochs 2, members 1", "sgd rank 1, epochs 2, members 2",
        "sgd rank 2, epochs 2, members 1", "sgd rank 2, epochs 2, members 2",
    }  # fmt: skip


@pytest.mark.slow
def test_every_option_of_the_split_changes_what_is_tested(recsys: Cli) -> None:
    def errors(*arguments: str) -> tuple[float, ...]:
        out = recsys("compare", "table.parquet", "--solvers", "svd,bias", *arguments, "--json")[1]
        return tuple(round(row["rmse"], 9) for _, row in sorted(rows(out).items()))

    options = {
        "none": (), "hold_out": ("--hold-out", "0.3"), "user": ("--by", "user"), "time": ("--by", "time"),
        "folds": ("--folds", "2"), "seeds": ("--seeds", "2"), "seed": ("--seed", "1"), "split": ("--split-seed", "2"),
        "validation": ("--validation", "0.4"),
    }  # fmt: skip
    found = {name: errors(*arguments) for name, arguments in options.items()}
    assert len(set(found.values())) == len(options), found


@pytest.mark.slow
def test_a_test_table_is_read_with_the_ids_of_the_ratings(recsys: Cli) -> None:
    frame = small_table(strings=True).to_frame()
    frame[10:].to_csv("train.csv", index=False)
    frame[:10].to_csv("test.csv", index=False)
    out = recsys("compare", "train.csv", *QUICK, "--test", "test.csv", "--json")[1]
    assert json.loads(out)["setup"]["test_ratings"] == [10]


def test_solvers_without_times_are_compared_on_a_table_with_a_broken_time_column(recsys: Cli) -> None:
    small_table().to_frame().assign(timestamp="noon").to_csv("broken.csv", index=False)
    assert recsys("train", "broken.csv", "--solver", "mean", "--svd-ranks", "1", "-o", "run", "-q")[0] == 0
    assert recsys("compare", "broken.csv", "--solvers", "mean,bias", "-q")[0] == 0
    code, _, err = recsys("compare", "broken.csv", "--solvers", "mean,gibbs", "-q")
    assert (code, "column timestamp, row 0 (line 2): text is not a time" in err) == (3, True)


def test_a_broken_time_column_does_not_stop_commands_on_runs_without_times(recsys: Cli) -> None:
    small_table().to_frame().assign(timestamp="noon").to_csv("broken.csv", index=False)
    for number, solver in enumerate(("mean", "bias")):
        assert recsys("train", "broken.csv", "--solver", solver, "--svd-ranks", "1", "-o", f"run{number}", "-q")[0] == 0
    more = small_table(seed=1).to_frame().assign(timestamp="noon")
    more.to_csv("more.csv", index=False)
    more.assign(user_id=more["user_id"] + 10_000).to_csv("others.csv", index=False)
    for command in (
        ("evaluate", "run1", "--test", "more.csv"),
        ("fold-in", "run1", "more.csv", "-o", "folded"),
        ("recommend", "run1", "--ratings", "more.csv", "--top", "1"),
        ("compare", "run0", "run1", "--test", "others.csv", "-q"),
    ):
        code, _, err = recsys(*command)
        assert code == 0, (command, err)
    code, _, err = recsys("evaluate", "run1", "--test", "more.csv", "--time-column", "timestamp")
    assert (code, "text is not a time" in err) == (3, True)


@pytest.mark.slow
def test_the_same_command_makes_no_fit_twice(recsys: Cli) -> None:
    first = recsys("compare", "table.parquet", *QUICK, "--state", "state", "--json")
    assert first[0] == 0
    code, out, err = recsys("compare", "table.parquet", *QUICK, "--state", "state", "--json")
    assert (code, out, err) == (0, first[1], "3 of 3 fits are taken from state\n")
    assert recsys("compare", "table.parquet", *QUICK, "--state", "state", "-q")[2] == ""


@pytest.mark.slow
@pytest.mark.parametrize("state", [True, False])
def test_an_interruption_says_what_is_left_and_the_same_command_goes_on(tmp_path: Path, state: bool) -> None:
    small_table().to_frame().to_parquet(tmp_path / "table.parquet")
    script = (
        "import os, signal, sys\n"
        "from recsys_mf.comparison import running\n"
        "from recsys_mf.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in what a shell runs in the background
        "fit = running.fit_and_test\n"
        "def slow(split, solver, *rest, **named):\n"
        "    if solver.name == 'mean': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return fit(split, solver, *rest, **named)\n"
        "if os.environ['STOPPED'] == '1': running.fit_and_test = slow\n"
        "main()\n"
    )
    arguments = ["compare", "table.parquet", *QUICK, "--json", *(["--state", "kept"] if state else [])]

    def run(stopped: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script, *arguments], cwd=tmp_path, env=os.environ | {"STOPPED": stopped},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = run("1")
    assert (done.returncode, done.stdout) == (128 + signal.SIGINT, "")
    kept = "and kept in kept; run the same command again to continue"
    lost = "and lost; with --state DIR they would have been kept"
    assert done.stderr.split("\n")[-3:] == [f"2 of 3 fits are finished {kept if state else lost}", "interrupted", ""]
    again = run("0")
    assert again.returncode == 0
    assert ("2 of 3 fits are taken from kept" in again.stderr) == state
    assert len(rows(again.stdout)) == 3


# Progress.


@pytest.mark.slow
def test_one_bar_shows_all_fits_and_the_time_left(recsys: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(tqdm, "tqdm", partial(DRAWN, ncols=100))
    err = recsys("compare", "table.parquet", *QUICK, "--folds", "2")[2]
    assert "0 of 6 fits, 00:00 elapsed, time left not known yet: svd rank 2" in err
    assert re.search(r"3 of 6 fits, 00:\d\d elapsed, about 00:\d\d left: svd rank 2", err)
    assert "6 of 6 fits" in err
    assert "of 6 fits" not in recsys("compare", "table.parquet", *QUICK, "--folds", "2", "-q")[2]


def test_the_bar_names_what_is_being_done() -> None:
    from recsys_mf.cli.progress import PURPOSES, _time_left

    assert set(PURPOSES) == {"search", "member", "validate", "fit"}
    assert Progress.__doc__ is not None
    assert all(stage in Progress.__doc__ for stage in PURPOSES)
    assert (_time_left(None), _time_left(62.4), _time_left(7384)) == (
        "time left not known yet", "about 01:02 left", "about 2:03:04 left",
    )  # fmt: skip


# Runs that stand.


def test_runs_are_compared_on_the_rows_that_both_held_out(recsys: Cli) -> None:
    recsys("train", "table.parquet", "-o", "sgd", *TRAINED)
    sampled = ("--solver", "gibbs", "-p", "rank=2", "-p", "sweeps=8", "-p", "burn_in=2", "--svd-ranks", "1", "-q")
    recsys("train", "table.parquet", "-o", "gibbs", *sampled)  # reads the times, sgd does not
    code, out, err = recsys("compare", "sgd", "gibbs", "--json")
    assert (code, err) == (0, "")
    for name in ("sgd", "gibbs"):
        reported = json.loads(Path(name, "report.json").read_text())["rows"][-1]["scores"]["rmse"]["value"]
        assert rows(out)[name]["rmse"] == pytest.approx(reported, rel=1e-6)
    text = recsys("compare", "sgd", "gibbs")[1]
    assert "random, 10% of ratings held out, seed 0 · table.parquet" in text


def test_runs_are_compared_on_a_table(recsys: Cli) -> None:
    frame = small_table().to_frame()
    frame[50:].to_parquet("train.parquet")
    frame[:50].to_parquet("test.parquet")
    for name, seed in (("one", "1"), ("two", "2")):
        recsys("train", "train.parquet", "-o", name, *TRAINED, "--seed", seed)
    code, out, _ = recsys("compare", "one", "two", "--test", "test.parquet", "--json")
    assert code == 0
    assert set(rows(out)) == {"one", "two"}
    assert json.loads(out)["setup"]["splits"] == ["the pairs of test.parquet"]
    code, _, err = recsys("compare", "one", "two")
    assert (code, "two and one were tested on different rows" in err) == (3, True)
    code, _, err = recsys("compare", "one", "two", "--test", "train.parquet")
    assert (code, "one: the run was trained on some of the test rows" in err) == (3, True)


def test_runs_whose_rows_cannot_be_found_need_a_test_table(recsys: Cli) -> None:
    recsys("train", "table.parquet", "-o", "one", *TRAINED)
    recsys("train", "table.parquet", "-o", "none", *TRAINED, "--hold-out", "0")
    recsys("train", "table.parquet", "-o", "folds", *TRAINED, "--folds", "2")
    save(small_run(), "python")
    for name, words in (
        ("none", "none: the run held no rows out; give a table of test ratings with --test FILE"),
        ("folds", "folds: the run held no rows out"),
        ("python", "python: the rows that the run held out cannot be found again"),
    ):
        code, out, err = recsys("compare", "one", name)
        assert (code, out, err.count("\n")) == (5, "", 1)
        assert words in err
    pd.read_parquet("table.parquet").assign(rating=1.0).to_parquet("table.parquet")
    code, _, err = recsys("compare", "one", "python")
    assert (code, "changed since the run was made" in err) == (5, True)
    Path("table.parquet").unlink()
    code, _, err = recsys("compare", "one", "python")
    assert (code, "one: the rows that the run held out cannot be found again" in err) == (5, True)


# What cannot be compared.


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.parquet"], 3, "none.parquet"),
        (["none", "nothing"], 5, "none: no such directory"),
        (["run", "table.parquet"], 5, "table.parquet: not a run directory"),
        (["table.parquet", "table.parquet"], 5, "not a run directory; give one table to train on, or two"),
        (["run"], 2, "run: one run alone cannot be compared"),
        (["run", "run"], 2, "a run is given twice"),
        (["run", "./run/"], 2, "a run is given twice"),
        (["table.parquet", "--solvers", "sgdd,als"], 2, "no solver 'sgdd'; did you mean 'sgd'"),
        (["table.parquet", "--solvers", ""], 2, "--solvers: an empty name in a list"),
        (["table.parquet", "--solvers", "sgd,,als"], 2, "--solvers: an empty name in a list"),
        (["table.parquet", "--solvers", "sgd"], 2, "a comparison needs two candidates or more (saw sgd)"),
        (["table.parquet", "--solvers", "sgd,sgd"], 2, "two candidates are the same"),
        (["table.parquet", "--solvers", "sgd,mean", "--ranks", "4"], 2, "--ranks: solver 'mean' has no rank"),
        (["table.parquet", "--ranks", "4,"], 2, "--ranks: an empty name in a list"),
        (["table.parquet", "--ranks", "four"], 2, "rank: setting of another type"),
        (["table.parquet", "-p", "rank=4"], 2, "-p: not a setting of a solver (saw 'rank=4')"),
        (["table.parquet", "-p", "sgd.rank"], 2, "-p: not a setting of a solver"),
        (["table.parquet", "-p", "gibbs.rank=4"], 2, "-p: a setting of no candidate"),
        (["table.parquet", "-p", "sgd.rank=4", "-p", "sgd.rank=5"], 2, "setting sgd.rank: given twice"),
        (["table.parquet", "--folds", "1"], 2, "folds: out of range"),
        (["table.parquet", "--folds", "700"], 2, "number of folds is out of range"),
        (["table.parquet", "--seeds", "0"], 2, "seeds: out of range"),
        (["table.parquet", "--seeds", "2", "--by", "time"], 2, "the split by 'time' is the same for every seed"),
        (["table.parquet", "--hold-out", "0"], 2, "nothing is held out to compare on"),
        (["table.parquet", "--folds", "3", "--hold-out", "0.2"], 2, "--hold-out has no effect together with --folds"),
        (["table.parquet", "--folds", "3", "--by", "user"], 2, "--by has no effect together with --folds"),
        (["table.parquet", "--test", "t.csv", "--folds", "2"], 2, "--test has no effect together with --folds"),
        (["table.parquet", "--test", "t.csv", "--by", "user"], 2, "--by has no effect together with --test"),
        (["table.parquet", "--test", "t.csv", "--hold-out", "0.2"], 2, "--test has no effect together with --hold-out"),
        (["table.parquet", "--state", "none/state"], 5, "no such folder"),
        (["table.parquet", "--state", "run"], 5, "not a folder of a comparison"),
        (["table.parquet", "--device", "gpu"], 2, "unknown device"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    recsys: Cli, arguments: list[str], code: int, message: str
) -> None:
    save(small_run(), "run")
    before = sorted(path.name for path in Path.cwd().rglob("*"))
    ended, out, err = recsys("compare", *arguments)
    assert (ended, out, err.count("\n")) == (code, "", 1), err
    assert message in err
    assert sorted(path.name for path in Path.cwd().rglob("*")) == before


VALUES = {
    "solvers": "sgd,als", "ranks": "4", "settings": "sgd.rank=2", "folds": "2", "seeds": "2", "hold_out": "0.2",
    "by": "user", "validation": "0.2", "seed": "1", "split_seed": "1", "state": "state", "quiet": None,
    "duplicates": "last", "user_column": "u", "item_column": "i", "rating_column": "r", "time_column": "t",
    "weight_column": "w", "ids": "string", "encoding": "utf-8",
}  # fmt: skip


@pytest.mark.parametrize("name", [*_PLANNED, *READING])
def test_an_option_that_does_nothing_for_runs_is_refused(recsys: Cli, name: str) -> None:
    for run in ("one", "two"):
        save(small_run(), run)
    option = next(p.opts[0] for p in cli.command.commands["compare"].params if p.name == name)
    value = VALUES[name]
    code, _, err = recsys("compare", "one", "two", option, *([] if value is None else [value]))
    assert (code, f"{option}" in err, "has no effect with runs" in err) == (2, True, True)
