"""`recsys-mf tune`: the file of the best settings, the run that repeats without a clock, one line for every fault."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tqdm

from recsys_mf import cli
from recsys_mf.cli.log import Lines
from recsys_mf.cli.progress import TuningBar, describe_tuning
from recsys_mf.training import Progress
from recsys_mf.tuning import Standing
from tests.trained import small_table

Cli = Callable[..., tuple[int, str, str]]

SGD = ("--solver", "sgd", "-p", "epochs=6", "-p", "members=2")
DRAWN = tqdm.tqdm


@pytest.fixture
def recsys(recsys: Cli) -> Cli:
    """Runs the command in a folder that has `table.parquet`; returns (exit code, stdout, stderr)."""
    small_table().to_frame().to_parquet("table.parquet")
    return recsys


def record(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(run) / "run.json").read_text())["provenance"]
    return found


def test_the_file_of_the_best_settings_makes_the_same_run(recsys: Cli) -> None:
    options = (*SGD, "--hold-out", "0.2", "--seed", "1", "--time-column", "none")
    code, out, err = recsys("tune", "table.parquet", *options, "--trials", "6", "-o", "best.toml", "--run", "run", "-q")
    assert (code, err) == (0, "")
    assert "6 settings were tried on the validation rows" in out
    written = Path("best.toml").read_text()
    assert 'solver = "sgd"\nhold-out = 0.2\nseed = 1\ntime-column = "none"\n\n[settings]\nepochs = 6\n' in written or (
        'time-column = "none"' in written and "members = 2" in written
    )
    assert recsys("train", "table.parquet", "--config", "best.toml", "-o", "again", "-q")[0] == 0
    for name in ("model.safetensors", "baselines.safetensors", "users.parquet", "items.parquet"):
        assert Path("run", name).read_bytes() == Path("again", name).read_bytes()
    assert record("run")["settings"] == record("again")["settings"]


def test_the_run_says_what_the_clock_chose_and_is_repeated_without_it(recsys: Cli) -> None:
    assert recsys("tune", "table.parquet", *SGD, "--minutes", "1", "--trials", "4", "--run", "run", "-q")[0] == 0
    found = record("run")["tuned"]
    assert (found["minutes"], sum(found["trials"].values()), found["among"]) == (1.0, 4, ["sgd"])
    assert found["fixed"] == {"epochs": 6, "members": 2}
    code, _, err = recsys("train", "--repeat", "run", "-o", "new")
    assert (code, "the model and its baselines equal those in run byte for byte" in err) == (0, True)


@pytest.mark.slow
def test_without_a_solver_the_best_of_all_is_trained(recsys: Cli) -> None:
    code, out, _ = recsys("tune", "table.parquet", "--trials", "6", "--run", "run", "-o", "best.toml", "--json", "-q")
    found = json.loads(out)
    assert code == 0
    assert {trial["solver"] for trial in found["trials"]} == {"bias", "svd", "als", "sgd", "gibbs"}
    assert record("run")["solver"] == found["best"]["solver"]
    assert f'solver = "{found["best"]["solver"]}"' in Path("best.toml").read_text()
    assert recsys("train", "table.parquet", "--config", "best.toml", "-o", "again", "-q")[0] == 0
    assert Path("run", "model.safetensors").read_bytes() == Path("again", "model.safetensors").read_bytes()


def test_a_search_alone_is_finished_by_another_call(recsys: Cli) -> None:
    code, out, _ = recsys("tune", "table.parquet", *SGD, "--trials", "3", "--study", "s", "--search-only", "-q")
    assert (code, "has the lowest validation RMSE" in out, "test RMSE" in out) == (0, True, False)
    code, out, _ = recsys("tune", "table.parquet", *SGD, "--trials", "3", "--study", "s", "-q")
    assert (code, "3 settings were tried" in out, "The test part was scored once" in out) == (0, True, True)


def test_a_test_table_takes_the_place_of_the_held_out_part(recsys: Cli) -> None:
    frame = small_table().to_frame()
    frame.iloc[::5].to_parquet("test.parquet")
    frame.drop(frame.index[::5]).to_parquet("train.parquet")
    options = ("--test", "test.parquet", "--trials", "3", "-o", "best.toml", "--run", "run", "-q")
    assert recsys("tune", "train.parquet", *SGD, *options)[0] == 0
    assert 'test = "test.parquet"' in Path("best.toml").read_text()
    assert recsys("train", "--repeat", "run", "-o", "new", "-q")[0] == 0


def test_the_log_has_a_line_per_trial_and_per_epoch(recsys: Cli) -> None:
    assert recsys("tune", "table.parquet", *SGD, "--trials", "3", "--run", "run", "--log", "l.jsonl", "-q")[0] == 0
    events = [json.loads(line) for line in Path("l.jsonl").read_text().splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["read", "saved"]
    trials = [event for event in events if event["event"] == "trial"]
    assert [trial["number"] for trial in trials] == [0, 1, 2]
    assert all(trial["trial_seconds"] > 0 and trial["state"] in ("complete", "pruned") for trial in trials)
    seconds = [event["seconds"] for event in events]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "tune: nothing says when to stop; give minutes, trials or both: --minutes 5"),
        (("--minutes", "-1"), "minutes: out of range (saw -1.0); give a number above 0"),
        (("--trials", "0"), "trials: out of range (saw 0)"),
        (("--trials", "2", "--solver", "sgdd"), "no solver 'sgdd'; did you mean 'sgd'?"),
        (("--trials", "2", "-p", "rank=2"), "-p: settings belong to a solver (saw rank); give --solver too"),
        (("--trials", "2", "--solver", "sgd", "-p", "rang=2"), "solver 'sgd' has no setting 'rang'"),
        (("--trials", "2", "--solver", "sgd", "-p", "rank"), "-p: not a setting (saw 'rank'); write it as NAME=VALUE"),
        (("--trials", "2", "--solver", "svd"), "tune: solver 'svd' has no setting to search"),
        (("--trials", "2", "-o", "best.json"), "best.json: unknown file type for the best settings"),
        (("--trials", "2", "-o", "there.toml"), "there.toml: the file exists; give another name, or --force"),
        (("--trials", "2", "--validation", "0"), "validation: settings are chosen on validation rows"),
        (("--trials", "2", "--search-only"), "search_only: without a study, nothing of the search would be kept"),
        (("--trials", "2", "--search-only", "-o", "b.toml"), "--output has no effect together with --search-only"),
        (("--trials", "2", "--search-only", "--run", "r"), "--run has no effect together with --search-only"),
        (("--trials", "2", "--test", "t", "--hold-out", "0.1"), "--test has no effect together with --hold-out"),
        (("--trials", "2", "--run", "."), ".: --run would replace RATINGS, which the command reads"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_trained(recsys: Cli, options: tuple[str, ...], message: str) -> None:
    Path("there.toml").touch()
    code, out, err = recsys("tune", "table.parquet", *options)
    assert (code in (2, 5), out) == (True, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_a_study_of_other_ratings_and_a_table_as_a_study_are_one_line(recsys: Cli) -> None:
    recsys("tune", "table.parquet", *SGD, "--trials", "1", "--study", "s", "--search-only", "-q")
    small_table(seed=1).to_frame().to_parquet("other.parquet")
    code, _, err = recsys("tune", "other.parquet", *SGD, "--trials", "2", "--study", "s")
    assert (code, err.count("\n")) == (5, 1)
    assert err.startswith("error: s: the study of 'sgd' has other ratings or another split of them; give another file")
    before = Path("other.parquet").read_bytes()
    code, _, err = recsys("tune", "table.parquet", *SGD, "--trials", "2", "--study", "other.parquet")
    assert (code, "other.parquet: the file exists and is not a study" in err) == (5, True)
    assert Path("other.parquet").read_bytes() == before


def test_without_optuna_one_line_says_what_to_install(recsys: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = recsys("tune", "no.parquet", "--trials", "2")
    message = "error: tune: tune needs the package optuna; install it: pip install 'recsys-mf[tune]'\n"
    assert (code, err) == (2, message)


@pytest.mark.parametrize("study", [None, "s"])
def test_an_interruption_says_what_is_kept(recsys: Cli, monkeypatch: pytest.MonkeyPatch, study: str | None) -> None:
    def interrupted(self: TuningBar, standing: Standing) -> None:
        self.finished = standing.finished
        if standing.finished == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(TuningBar, "__call__", interrupted)
    kept = () if study is None else ("--study", study)
    code, _, err = recsys("tune", "table.parquet", *SGD, "--trials", "5", *kept)
    said = "and lost; with --study FILE they would" if study is None else "and kept in s; run the same command again"
    assert (code != 0, f"2 trials are finished {said}" in err) == (True, True)
    monkeypatch.undo()
    if study is not None:
        assert cli.command is not None


# Progress.


def standing(**given: Any) -> Standing:
    usual: dict[str, Any] = {
        "finished": 3, "wanted": None, "best": 0.91234, "solver": "sgd", "is_final": False, "progress": None,
        "ended": None, "elapsed": 30.0, "seconds_left": 90.0,
    }  # fmt: skip
    return Standing(**usual | given)


def test_progress_names_the_trials_the_best_and_the_time_left() -> None:
    assert describe_tuning(standing()) == "3 trials, best validation RMSE 0.9123, about 01:30 left: sgd, starting"
    epoch = Progress("sgd", "validate", 1, 6, None, 0.95, 1.0)
    told = describe_tuning(standing(wanted=8, best=None, seconds_left=float("inf"), progress=epoch, is_final=True))
    assert told == "3 of 8 trials: sgd, the best settings: choosing epochs"


def test_the_bar_goes_with_the_time_or_with_the_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float, str]] = []

    class Bar(DRAWN):  # type: ignore[misc,valid-type]
        def refresh(self, *given: Any, **named: Any) -> None:
            drawn.append((self.n, self.total, str(self.postfix)))

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with TuningBar(quiet=False) as bar:
        bar(standing())
    with TuningBar(quiet=False) as bar:
        bar(standing(wanted=8, seconds_left=float("inf")))
    shown = [(n, total) for n, total, text in drawn if text != "None"]
    assert shown == [(30.0, 120.0), (3, 8)]


def test_without_a_terminal_a_line_comes_every_ten_seconds(capfd: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 5.0, 11.0, 12.0])
    lines = Lines(quiet=False, clock=lambda: next(times))
    for _ in range(4):
        lines.tell_tuning(standing())
    assert capfd.readouterr().err == f"{describe_tuning(standing())}\n"
