"""The log of training: every epoch and stage as it comes, and a line now and then without a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys_mf import cli
from recsys_mf.cli.log import Lines, LogFile
from recsys_mf.training import Progress

Train = Callable[..., tuple[int, str]]
TABLE = "user,item,rating\n" + "\n".join(
    f"{u},{i},{(u * i) % 5 + 1}" for u in range(30) for i in range(20) if (u + i) % 3
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "ratings.csv"
    path.write_text(TABLE)
    return path


@pytest.fixture
def train(table: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Train:
    """Trains on the table with these options; returns the exit code and stderr."""

    def run(*options: object, ratings: Path = table) -> tuple[int, str]:
        settings = ("-q", "-p", "rank=2", "-p", "epochs=3", "-p", "members=1", "-p", "regularisation=0.04")
        arguments = ("train", ratings, "-o", table.parent / "run", *settings, *options)
        monkeypatch.setattr(sys, "argv", ["recsys-mf", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0), capfd.readouterr().err

    return run


def test_every_epoch_of_every_stage_has_a_line(table: Path, train: Train) -> None:
    log = table.parent / "log.jsonl"
    assert train("--log", log)[0] == 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [e["event"] for e in (events[0], events[-1])] == ["read", "saved"]
    assert events[0]["rows"] == TABLE.count("\n")
    seconds = [event["seconds"] for event in events]
    assert seconds == sorted(seconds)
    of_sgd = [e for e in events if e.get("label") == "sgd"]
    stages = [(e["stage"], e["n_epochs"]) for e in of_sgd if e["event"] == "stage"]
    assert {"validate", "fit"} <= {stage for stage, _ in stages}
    fitted = [e for e in of_sgd if (e["event"], e["stage"]) == ("epoch", "fit")]
    assert [e["epoch"] for e in fitted] == list(range(1, len(fitted) + 1))
    assert all(e["ratings_per_second"] > 0 and e["memory_bytes"] > 0 for e in fitted)
    validated = [e for e in of_sgd if (e["event"], e["stage"]) == ("epoch", "validate")]
    assert all(e["valid_rmse"] > 0 for e in validated)
    assert validated


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("log.txt", "unknown file type for the log; end the name in .jsonl"),
        ("there.jsonl", "the file exists; give another name, or --force"),
        ("none/log.jsonl", "no such folder; create it first"),
    ],
)
def test_a_log_that_cannot_be_written_is_refused_before_anything_is_read(
    table: Path, train: Train, name: str, message: str
) -> None:
    (table.parent / "there.jsonl").write_text("kept")
    code, err = train("--log", table.parent / name, ratings=table.parent / "missing.csv")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert (table.parent / "there.jsonl").read_text() == "kept"
    assert not (table.parent / "run").exists()


def test_lines_are_there_while_the_command_runs(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with LogFile(path, force=False) as log:
        log.write("read", role="ratings", rows=3)
        assert json.loads(path.read_text())["rows"] == 3


def epoch(number: int) -> Progress:
    return Progress("sgd", "fit", number, 60, 0.9, None, 1e6)


def test_without_a_terminal_a_line_comes_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([100.0, 105.0, 110.5, 115.0, 121.0])
    lines = Lines(quiet=False, clock=lambda: next(times))
    for number in range(1, 6):
        lines(epoch(number))
    assert capsys.readouterr().err.splitlines() == [
        "sgd, fitting all training ratings: epoch 3 of at most 60, train RMSE 0.9000",
        "sgd, fitting all training ratings: epoch 5 of at most 60, train RMSE 0.9000",
    ]


def test_quiet_means_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 50.0])
    lines = Lines(quiet=True, clock=lambda: next(times))
    lines(epoch(1))
    lines(epoch(2))
    assert capsys.readouterr().err == ""
