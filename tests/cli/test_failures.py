"""How the command fails: one line, an exit code, and no raw characters of the input on the terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import SafetensorError

from recsys_mf import cli
from recsys_mf.cli import failures
from recsys_mf.cli.solvers import solvers
from recsys_mf.errors import LONGEST, DataError
from recsys_mf.store import save
from tests.trained import small_run, small_table

Cli = Callable[..., tuple[int, str, str]]
EVIL = "x\x1b]0;owned\x07\nerror: forged\x9b31m\u202e"


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `recsys-mf solvers` fail with this error."""

    def fail(**arguments: Any) -> None:
        raise error

    monkeypatch.setattr(solvers, "callback", fail)


FAILURES: list[tuple[BaseException, int, str]] = [
    (MemoryError("Unable to allocate 9 GiB"), 7, "error: out of memory (saw Unable to allocate 9 GiB)"),
    (pa.ArrowMemoryError("malloc failed"), 7, "error: out of memory"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory: you tried"), 7, "error: out of memory"),
    (
        OSError(28, "No space left on device", "a\x1bb"),
        7,
        r"error: a\x1bb: the operating system refuses (saw No space left",
    ),
    (PermissionError(13, "Permission denied", b"\xff"), 7, "Permission denied"),
    (SafetensorError("invalid header"), 5, "error: the file of tensors is damaged (saw invalid header)"),
    (pa.ArrowInvalid("first\nsecond" * 500), 3, "error: the table cannot be processed"),
    (pa.ArrowNotImplementedError("cast"), 3, "error: the table cannot be processed"),
    (RecursionError("maximum recursion depth exceeded"), 3, "error: the data are nested too deeply"),
    (OverflowError("int too large"), 2, "error: a number is too large"),
    (
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        3,
        "error: the text is not in the expected encoding",
    ),
    (ValueError("x" * 5000), 1, "error: internal error: ValueError (saw xxx"),
    (KeyError(EVIL), 1, "error: internal error: KeyError"),
    (DataError("bad", seen=EVIL), 3, "error: bad (saw "),
    (click.UsageError(f"odd {EVIL}"), 2, "error: odd x"),
    (click.Abort(), 130, "interrupted"),
]


@pytest.mark.parametrize(("error", "code", "words"), FAILURES, ids=lambda value: type(value).__name__)
def test_every_failure_is_one_line_with_its_exit_code(
    recsys: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    failing(monkeypatch, error)
    ended, out, err = recsys("solvers")
    assert (ended, out) == (code, "")
    assert words in err
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
    assert len(err) - 1 <= LONGEST


def test_the_traceback_is_shown_if_it_is_asked_for(recsys: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ValueError("odd"))
    monkeypatch.setenv(failures.TRACEBACK, "1")
    err = recsys("solvers")[2]
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: internal error: ValueError (saw odd); please report it")


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize("as_error", [False, True])
def test_signals_end_in_one_word_even_if_a_library_turns_them_into_errors(
    recsys: Cli, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int, word: str, as_error: bool
) -> None:
    def fail(**arguments: Any) -> None:
        try:
            os.kill(os.getpid(), number)
        except BaseException:
            if not as_error:
                raise
        raise RuntimeError("no compiled object yet for <Library>")

    monkeypatch.setattr(solvers, "callback", fail)
    # Tests that run in the background may inherit that the signal is ignored.
    as_found = signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    before = signal.getsignal(number)
    try:
        assert recsys("solvers") == (code, "", f"{word}\n")
        assert signal.getsignal(number) is before
    finally:
        signal.signal(number, as_found)


LOST = """
import os, signal, sys, time
from recsys_mf.cli import main, solvers

def work(**arguments):
    try:
        os.kill(os.getpid(), signal.{signal})
    except BaseException:
        pass  # as a library does
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            pass
        print("finished")
    finally:
        time.sleep(1)
        print("removed what was half written", flush=True)

solvers.callback = work
sys.argv = ["recsys-mf", "solvers"]
main()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_that_a_library_loses_still_ends_the_command_and_waits_for_its_cleanup(name: str, code: int) -> None:
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", LOST.format(signal=name)], capture_output=True, text=True)
    word = {"SIGINT": "interrupted", "SIGTERM": "terminated"}[name]
    assert (done.returncode, done.stdout, done.stderr) == (code, "removed what was half written\n", f"{word}\n")
    assert time.monotonic() - started < 15


@pytest.mark.skipif(os.name != "posix", reason="closes streams by their numbers")
@pytest.mark.parametrize("command", [["train", "{table}", "-o", "{out}", "--solver", "mean"], ["inspect", "{table}"]])
def test_a_command_works_with_stderr_closed(tmp_path: Path, command: list[str]) -> None:
    small_table().to_frame().to_parquet(tmp_path / "table.parquet")
    arguments = [word.format(table=tmp_path / "table.parquet", out=tmp_path / "run") for word in command]
    script = "from recsys_mf.cli import main; main()"
    done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", script, *arguments], stdout=-1)
    assert done.returncode == 0
    assert done.stdout
    assert (tmp_path / "run").exists() == (command[0] == "train")


@pytest.mark.skipif(os.name != "posix", reason="closes streams by their numbers")
def test_a_closed_standard_input_is_one_line() -> None:
    script = "from recsys_mf.cli import main; main()"
    command = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-c", script, "inspect", "-"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == "error: -: standard input is closed; pipe a table into the command, or name a file\n"
    assert done.returncode == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names and folders")
def test_a_name_that_is_not_utf_8_and_a_folder_that_is_gone_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    small_table().to_frame().to_csv(tmp_path / "table.csv", index=False)
    odd = os.fsencode(tmp_path) + b"/n\xe9.csv"
    os.rename(tmp_path / "table.csv", odd)
    main = [sys.executable, "-c", "from recsys_mf.cli import main; main()"]
    done = subprocess.run([*main, "inspect", odd], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*n\\udce9.csv: a name has letters that cannot be .*; rename .*\n", done.stderr)
    script = f"import os; os.rmdir({str(tmp_path / 'gone')!r}); {main[2]}"
    os.rename(odd, tmp_path / "table.csv")
    done = subprocess.run(
        [*main[:2], script, "inspect", str(tmp_path / "table.csv")],
        cwd=tmp_path / "gone",
        capture_output=True,
        text=True,
    )
    assert done.stderr == "error: the current folder does not exist any more; cd to another folder\n"


@pytest.mark.parametrize("named", ["missing", "/proc"])
def test_a_folder_for_temporary_files_that_cannot_be_used_is_not_replaced_by_another(
    tmp_path: Path, named: str
) -> None:
    small_table().to_frame().to_parquet(tmp_path / "table.parquet")
    command = [sys.executable, "-c", "from recsys_mf.cli import main; main()", "inspect", "-"]
    environment = os.environ | {"TMPDIR": str(tmp_path / named)}
    table = (tmp_path / "table.parquet").read_bytes()
    done = subprocess.run(command, input=table, env=environment, capture_output=True)
    assert done.stderr.startswith(f"error: TMPDIR: temporary files cannot be made (saw {tmp_path / named}".encode())
    assert done.returncode == 7


def test_warnings_of_libraries_are_not_shown(recsys: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.setattr(solvers, "callback", lambda **arguments: np.exp(np.float32(1e9)))
    assert recsys("solvers") == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["solvers"], ["--help"], ["datasets", "list"]])
def test_output_to_a_full_disk_is_a_one_line_error(arguments: list[str]) -> None:
    script = "from recsys_mf.cli import main; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 7
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def evil_files(folder: Path) -> None:
    pq.write_table(pa.table({EVIL: [1, 2], "item_id": [1, 2], "rating": [1.0, 2.0]}), folder / "column.parquet")
    (folder / "value.csv").write_text(f"user_id,item_id,rating\n1,2,3\n1,{EVIL},3,4,5\n")
    (folder / "id.csv").write_text(f'user_id,item_id,rating\n"{EVIL}",2,3\n"{EVIL}",2,3\n')
    (folder / EVIL).write_text("user_id,item_id\n1,2\n")
    small_table().to_frame().to_parquet(folder / f"{EVIL}.parquet")
    save(small_run(), folder / "run")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "column.parquet", "-o", "r"],
        ["inspect", "column.parquet"],
        ["train", "value.csv", "-o", "r"],
        ["train", "id.csv", "-o", "r"],
        ["train", EVIL, "-o", "r"],
        ["inspect", EVIL],
        ["inspect", f"{EVIL}.parquet"],
        ["inspect", "column.parquet", "--user-column", EVIL],
        ["evaluate", "run", "--test", f"{EVIL}.parquet"],
        ["evaluate", "run", "--test", f"{EVIL}.parquet", "--markdown"],
        ["evaluate", EVIL, "--test", "id.csv"],
        ["predict", "run", f"{EVIL}.parquet", "-o", f"{EVIL}.csv"],
        ["predict", "run", f"{EVIL}.parquet", "-o", EVIL],
        ["predict", "run", EVIL, "-o", "o.csv"],
        ["solvers", EVIL],
        ["datasets", "fetch", EVIL],
        ["train", f"{EVIL}.parquet", "-o", "r", "-p", EVIL],
        ["train", f"{EVIL}.parquet", "-o", "r", "-p", f"{EVIL}=1"],
        ["train", f"{EVIL}.parquet", "-o", "r", "-p", f"rank={EVIL}"],
        ["train", f"{EVIL}.parquet", "-o", "r", "--solver", EVIL],
        ["train", f"{EVIL}.parquet", "-o", "r", "--memory", EVIL],
        ["train", f"{EVIL}.parquet", "-o", "r", "--device", EVIL],
        ["train", f"{EVIL}.parquet", "-o", "r", f"--{EVIL}"],
        [EVIL],
        ["train", "", "-o", "r"],
        ["train", "x" * 300, "-o", "r"],
        ["train", "\udcff.csv", "-o", "r"],
        ["predict", "run", f"{EVIL}.parquet", "-o", "x" * 300 + ".csv"],
        ["predict", "run", f"{EVIL}.parquet", "-o", "/proc/o.csv"],
        ["train", f"{EVIL}.parquet", "-o", "r", "-p", "epochs=" + "9" * 400],
        ["train", f"{EVIL}.parquet", "-o", "r", "--solver", "gibbs", "-p", "samples=" + "9" * 400],
        ["train", f"{EVIL}.parquet", "-o", "r", "--solver", "gibbs", "-p", "bin_days=1e300"],
        ["train", f"{EVIL}.parquet", "-o", "r", "--memory", "9" * 310],
        ["train", f"{EVIL}.parquet", "-o", "r", "--solver", "gibbs", "--html", "/proc/t.html"],
        ["train", f"{EVIL}.parquet", "-o", "r", "--log", "/proc/t.jsonl"],
    ],
    ids=str,
)  # fmt: skip
def test_nothing_raw_reaches_the_terminal_and_an_error_is_one_line(
    recsys: Cli, tmp_path: Path, arguments: list[str]
) -> None:
    evil_files(tmp_path)
    code, out, err = recsys(*arguments)
    assert all(line.isprintable() for line in (out + err).splitlines())
    assert "Traceback" not in err
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(said) == bool(code)
    assert all(len(line) <= LONGEST for line in err.splitlines())
    assert code != 1
    assert not any(line.startswith("error: forged") for line in (out + err).splitlines())


IDLE = [
    ["train", "t.parquet", "-o", "r", "--by", "random", "--test", "t.parquet"],
    ["train", "t.parquet", "-o", "r", "--by", "time", "--folds", "2"],
    ["train", "t.parquet", "-o", "r", "--test", "t.parquet", "--hold-out", "0.1"],
    ["train", "t.parquet", "-o", "r", "--test", "t.parquet", "--folds", "2"],
    ["train", "t.parquet", "-o", "r", "--hold-out", "0.1", "--folds", "2"],
    ["train", "t.parquet", "-o", "r", "--json", "--markdown"],
    ["train", "t.parquet", "-o", "r", "--master", "local[1]"],
    ["train", "t.parquet", "-o", "r", "--storage", "folder"],
    ["train", "t.parquet", "-o", "r", "--workers", "2"],
    ["train", "t.parquet", "-o", "r", "--engine", "spark", "--device", "cuda"],
    ["train", "t.parquet", "-o", "r", "--engine", "spark", "--encoding", "latin-1"],
    ["train", "t.parquet", "-o", "r", "--engine", "spark", "--solver", "gibbs"],
    ["train", "t.parquet", "-o", "r", "--feature-columns", "a"],
    ["train", "t.parquet", "-o", "r", "--compress", "2"],
    ["train", "t.parquet", "-o", "r", "--titles", "t.csv"],
    ["train", "t.parquet", "-o", "r", "--titles", "t.csv", "--html", "t.html", "--folds", "2"],
    ["train", "t.parquet", "-o", "r", "--titles", "titles.csv", "--html", "t.html", "--hold-out", "0"],
    ["evaluate", "run", "--test", "t.parquet", "--titles", "t.csv"],
    ["train", "t.parquet", "-o", "r", "--sweeps", "3"],
    ["train", "t.parquet", "-o", "r", "--every", "5s"],
    ["train", "t.parquet", "-o", "r", "--chains", "3"],
    ["train", "t.parquet", "-o", "r", "--likelihood", "gaussian"],
    ["train", "t.parquet", "-o", "r", "--solver", "als", "--precision", "half"],
    ["train", "t.parquet", "-o", "r", "--solver", "als", "--schedule", "hogwild"],
    ["train", "t.parquet", "-o", "r", "--precision", "half", "--device", "cpu"],
    ["train", "t.parquet", "-o", "r", "--schedule", "hogwild", "--device", "cpu"],
    ["train", "t.parquet", "-o", "r", "-p", "rank=3", "-p", "rank=4"],
    ["train", "t.parquet", "-o", "r", "--solver", "gibbs", "--sweeps", "3", "-p", "sweeps=4"],
    ["train", "t.parquet", "-o", "r", "--relevant", "4"],
    ["train", "t.parquet", "-o", "r", "--hold-out", "0", "--ranking", "10"],
    ["evaluate", "run", "--test", "t.parquet", "--relevant", "4"],
    ["evaluate", "run", "--test", "t.parquet", "--force"],
    ["evaluate", "run", "--test", "t.parquet", "--json", "--markdown"],
    ["predict", "run", "t.parquet", "-o", "o.csv", "--time-column", "timestamp"],
    ["predict", "run", "t.parquet", "-o", "o.csv", "--distribution"],
    ["predict", "run", "t.parquet", "-o", "o.csv", "--interval", "2"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", IDLE, ids=lambda arguments: " ".join(arguments[1:]))
def test_an_option_that_would_do_nothing_is_refused(recsys: Cli, tmp_path: Path, arguments: list[str]) -> None:
    small_table().to_frame().to_parquet(tmp_path / "t.parquet")
    (tmp_path / "titles.csv").write_text("item_id,title\n100,A\n")
    if arguments[0] != "train":
        save(small_run(), tmp_path / "run")
    before = sorted(path.name for path in tmp_path.iterdir())
    code, out, err = recsys(*arguments)
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


EFFECTIVE = {
    "train": {"output", "force", "solver", "settings", "hold_out", "validation", "seed", "device", "threads", "size",
              "start", "repeat", "predictions", "html", "plots", "log", "config", "checkpoint", "keep_rated",
              "encoding", "by", "svd_ranks", "svd_route", "duplicates", "quiet", "ids", "ranking", "user_features",
              "engine", "item_features", "user_column", "item_column", "rating_column", "time_column", "weight_column",
              "ratings"},
    "evaluate": {"run", "test", "predictions", "html", "plots", "device", "threads", "encoding", "duplicates", "ids",
                 "user_column", "item_column", "rating_column", "time_column", "weight_column", "ranking",
                 "quiet"},
    "predict": {"run", "pairs", "output", "force", "user_column", "item_column", "device", "threads", "encoding", "ids",
                "quiet"},
}  # fmt: skip
"""Parameters that have an effect whatever the other options are; each of the rest is in IDLE."""


@pytest.mark.parametrize("name", EFFECTIVE)
def test_every_option_has_an_effect_or_a_case_in_which_it_is_refused(name: str) -> None:
    refused = {word for arguments in IDLE if arguments[0] == name for word in arguments}
    for parameter in cli.command.commands[name].params:
        assert parameter.name in EFFECTIVE[name] or refused & set(parameter.opts), parameter.opts
