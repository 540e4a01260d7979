"""`train --checkpoint`: whatever ends the command, the same command goes on, and ends in the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.planted import planted
from tests.test_checkpoint import MEASURED

COMMAND = "from recsys_mf.cli import main; main()"
FIXED = ("--svd-ranks", "2", "--threads", "1", "-q", "-p", "rank=16")
CASES = {
    "sgd": ("-p", "regularisation=0.04", "-p", "epochs=40", "-p", "members=1"),
    "sgd, a committee": ("-p", "regularisation=0.04", "-p", "epochs=20", "-p", "members=4"),
    "als": ("--solver", "als", "-p", "regularisation=1", "-p", "epochs=8", "-p", "members=3"),
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

    facts = [plain(json.loads(path.read_text())) for path in sorted(run.glob("*.json"))]
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
        process = started(folder, *options, "-o", "run", "--checkpoint", "kept", "--every", "0")
        try:
            error = process.communicate(timeout=moments.uniform(0.3, 1) * took)[1]
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
    assert error[1].endswith(" s of training are kept in kept: the same command goes on")
    assert error[2:] == [word]
    assert len(list((table.parent / "kept").glob("state-*"))) == 1


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
