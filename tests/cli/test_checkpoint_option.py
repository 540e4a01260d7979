"""`train --checkpoint`: whatever ends the command, the same command goes on, and ends in the same bytes."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recsys_mf.cli import keeping
from recsys_mf.solvers import SOLVERS
from recsys_mf.splits import hold_out
from recsys_mf.training import Checkpoint, Progress, train
from tests.cli.conftest import Cli
from tests.planted import planted
from tests.test_checkpoint import MEASURED

COMMAND = "from recsys_mf.cli import main; main()"
FIXED = ("--svd-ranks", "2", "--threads", "1", "-q", "-p", "rank=16")
CASES = {
    "sgd": ("-p", "regularisation=0.04", "-p", "epochs=40", "-p", "members=1"),
    "sgd, a committee": ("-p", "regularisation=0.04", "-p", "epochs=20", "-p", "members=4"),
    "als": ("--solver", "als", "-p", "regularisation=1", "-p", "epochs=8", "-p", "members=3"),
    "gibbs": ("--solver", "gibbs", "--sweeps", "30"),
}
KILLS = 20


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "ratings.csv"
    planted(density=0.2)[0].to_frame().to_csv(path, index=False)
    return path


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command as a process that hears signals, whatever this one does with them."""

    def restore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "train", "ratings.csv", *FIXED, *arguments], cwd=folder, preexec_fn=restore,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def content(run: Path) -> tuple[Any, dict[str, bytes]]:
    """What is in a run directory, but for what is measured and the command."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items() if key not in {*MEASURED, "command"}}
        return [plain(entry) for entry in value] if isinstance(value, list) else value

    facts = [json.dumps(plain(json.loads(path.read_text())), indent=1) for path in sorted(run.glob("*.json"))]
    return facts, {path.name: path.read_bytes() for path in run.iterdir() if path.suffix != ".json"}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_command_killed_at_random_moments_ends_in_the_same_bytes(case: str, table: Path) -> None:
    folder, options = table.parent, CASES[case]
    began = time.monotonic()
    whole = started(folder, *options, "-o", "whole")
    assert whole.communicate()[1] == ""
    assert whole.returncode == 0
    took, moments, kills = time.monotonic() - began, random.Random(case), 0
    while kills < KILLS:
        began = time.monotonic()
        process = started(folder, *options, "-o", "run", "--checkpoint", "kept", "--every", "0")
        try:
            error = process.communicate(timeout=moments.uniform(0.3, 1) * took)[1]
            took = min(took, time.monotonic() - began)  # the first run may have compiled the kernels
        except subprocess.TimeoutExpired:
            process.kill()
            error = process.communicate()[1]
            kills += 1
        assert "error" not in error
        if (folder / "run").exists():  # it came to its end, or was killed just after: the next one begins again
            assert content(folder / "run") == content(folder / "whole")
            assert process.returncode or not (folder / "kept").exists()
            shutil.rmtree(folder / "run")
    last = started(folder, *options, "-o", "run", "--checkpoint", "kept")
    last.communicate()
    assert last.returncode == 0
    assert content(folder / "run") == content(folder / "whole")
    assert not list(folder.glob(".recsys_mf-*"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_finishes_the_epoch_saves_and_says_how_to_go_on(
    table: Path, number: signal.Signals, word: str
) -> None:  # fmt: skip
    options = (
        "-p",
        "regularisation=0.04",
        "-p",
        "epochs=4000",
        "-p",
        "members=2",
        "-p",
        "decay=1",
        "--validation",
        "0",
    )
    process = started(table.parent, *options, "-o", "run", "--checkpoint", "kept", "--log", "log.jsonl")
    while not any('"label": "sgd"' in line for line in lines(table.parent / "log.jsonl")):
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(number)
    error = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 128 + number
    assert error[0] == "saving after this epoch; a second Ctrl-C stops at once"
    assert error[1].endswith(" s of training are kept in kept; run the same command again to continue")
    assert error[2:] == [word]
    assert len(list((table.parent / "kept").glob("state-*"))) == 1


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def small(recsys: Cli) -> Cli:
    """The command in a folder with the table, with settings for a quick training."""
    planted(density=0.2)[0].to_frame().to_csv("ratings.csv", index=False)

    def run(*options: str) -> tuple[int, str, str]:
        return recsys("train", "ratings.csv", "-o", "run", *FIXED[:-1], "rank=2", *CASES["sgd"], "--json", *options)

    return run


def test_a_checkpoint_is_gone_when_the_run_is_saved(small: Cli, tmp_path: Path) -> None:
    code, _, error = small("--checkpoint", "kept", "--every", "0s")
    assert (code, error) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {"ratings.csv", "run"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--every", "5s"), "error: --every has no effect without --checkpoint; give --checkpoint DIR too"),
        (("--checkpoint", "kept", "--every", "soon"), "error: --every: not a time (saw 'soon'); write it as 30s, 5min"),
        (("--checkpoint", "kept", "--every", "-1s"), "error: --every: not a time (saw '-1s')"),
        (("--checkpoint", "run"), "error: run: the checkpoint and the run need separate folders; give two folders"),
        (("--checkpoint", "run/kept"), "error: run/kept: the checkpoint and the run need separate folders"),
        (("--checkpoint", "."), "error: .: --checkpoint would replace RATINGS, which the command reads"),
        (("--checkpoint", "no/kept"), "no: no such folder; create it first"),
        (("--checkpoint", "ratings.csv"), "error: ratings.csv: --checkpoint would replace RATINGS"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(
    small: Cli, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    code, out, error = small(*options)
    assert code
    assert not out
    assert message in error
    assert error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"ratings.csv"}


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The training is interrupted in an epoch of sgd as if by Ctrl-C, once."""
    told = keeping.Work.__call__
    sent: list[int] = []

    def interrupting(work: keeping.Work, progress: Progress) -> None:
        told(work, progress)
        if progress.label == "sgd" and not sent:
            sent.append(1)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(keeping.Work, "__call__", interrupting)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupted")
def test_the_same_command_goes_on_and_says_from_where_and_adds_to_its_log(small: Cli) -> None:
    options = ("--checkpoint", "kept", "--log", "log.jsonl", "--validation", "0")
    code, out, error = small(*options)
    assert (code, out) == (130, "")
    lines = error.splitlines()
    assert lines[0] == "saving after this epoch; a second Ctrl-C stops at once"
    assert re.fullmatch(r"\d+ s of training are kept in kept; run the same command again to continue", lines[1])
    assert lines[2:] == ["interrupted"]
    assert not Path("run").exists()
    code, out, error = small(*options)
    assert code == 0
    events = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events if event["event"] not in ("epoch", "stage")] == [
        "read", "read", "continued", "saved",
    ]  # fmt: skip
    (continued,) = (event for event in events if event["event"] == "continued")
    assert {key: continued[key] for key in ("checkpoint", "finished", "label", "stage", "epoch")} == {
        "checkpoint": "kept", "finished": 6, "label": "sgd", "stage": "fit", "epoch": 1,
    }  # fmt: skip
    assert [e["epoch"] for e in events if e.get("label") == "sgd" and e["event"] == "epoch"] == list(range(1, 41))


@pytest.mark.usefixtures("interrupted")
def test_where_the_training_goes_on_is_said_on_stderr(small: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "FIXED", tuple(word for word in FIXED if word != "-q"))
    options = ("--checkpoint", "kept", "--validation", "0")
    assert small(*options)[0] == 130
    told = "continuing from kept: 6 steps are finished; sgd, fitting all training ratings: after epoch 1"
    assert told in small(*options)[2].splitlines()


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("much", [0.0, 60.0])
def test_without_a_checkpoint_an_interruption_says_what_is_lost_if_it_is_much(
    small: Cli, monkeypatch: pytest.MonkeyPatch, much: float
) -> None:
    monkeypatch.setattr(keeping, "_MUCH", much)
    code, _, error = small("--validation", "0")
    lost = r"\d+ s of training, \d+ epochs, are lost; with --checkpoint DIR they would have been kept\n"
    assert code == 130
    assert re.fullmatch("interrupted\n" if much else f"{lost}interrupted\n", error)


def test_the_checkpoint_of_another_command_is_refused_in_one_line(small: Cli) -> None:
    options = ("--checkpoint", "kept", "--validation", "0")
    with Checkpoint("kept") as one:
        train(hold_out(planted(density=0.2, seed=9)[0], 0.1), SOLVERS["bias"](), checkpoint=one, validation=0)
    code, out, error = small(*options)
    assert (code, out) == (5, "")
    assert re.fullmatch(
        r"error: kept: the checkpoint belongs to another training \(saw other ratings; solver bias, now sgd; other "
        r"baselines\); repeat its command, or give another folder\n",
        error,
    )


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.6, "60 s"), (100, "2 min"), (3599, "1 h 0 min"), (9000, "2 h 30 min")]
)
def test_durations_read_as_people_say_them(seconds: float, words: str) -> None:
    assert keeping._duration(seconds) == words


@pytest.mark.parametrize(("text", "seconds"), [("60", 60), ("2.5 s", 2.5), ("5min", 300), ("1h", 3600), ("0", 0)])
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert keeping._seconds(text) == seconds
