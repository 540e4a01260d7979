"""Atomic writing: the target is the whole old or the whole new one, whatever fails, and no other file is left."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recsys_mf import atomic

STEPS = ("os.rename", "os.replace", "os.link", "os.mkdir", "os.fsync", "os.chmod", "shutil.rmtree")
EXCHANGES = [True, False]


def put(target: Path, content: str, *, replace: bool = True) -> None:
    """Write a folder with the file a, and an inner folder with b."""

    def may_replace(path: Path) -> None:
        if not replace:
            raise FileExistsError(path)

    with atomic.written_folder(target, may_replace=may_replace) as path:
        (path / "a").write_text(content)
        (path / "inner").mkdir()
        (path / "inner" / "b").write_text(content)


def put_file(target: Path, content: str, *, replace: bool = True) -> None:
    with atomic.written_file(target, replace=replace) as path:
        path.write_text(content)


def content(target: Path) -> str | None:
    """What `put` wrote there, after a check that it is from a single call."""
    if not target.exists():
        return None
    if target.is_file():
        return target.read_text()
    assert (target / "a").read_text() == (target / "inner" / "b").read_text()
    return (target / "a").read_text()


@pytest.fixture
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the system can exchange two names; if False, it is made unable to."""
    if not request.param:
        monkeypatch.setattr(atomic, "_exchanged", lambda path, other: False)
    return bool(request.param)


class Failing:
    """Counts the calls of the functions that `atomic` uses and raises at the chosen one, before or after it has run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int, *, after: bool) -> None:
        self.calls, self.error, self.at, self.after = 0, error, at, after
        for step in STEPS:
            monkeypatch.setattr(step, self.wrapped(_named(step)))
        monkeypatch.setattr(atomic, "_exchanged", self.wrapped(atomic._exchanged))

    def wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            mine = self.calls
            if mine == self.at and not self.after:
                raise self.error
            result = call(*arguments, **named)
            if mine == self.at and self.after:
                raise self.error
            return result

        return counted


def _named(name: str) -> Callable[..., Any]:
    module, function = name.split(".")
    found: Callable[..., Any] = getattr(sys.modules[module], function)
    return found


@pytest.mark.parametrize("write", [put, put_file])
@pytest.mark.parametrize("before", ["old", None])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("exchange", EXCHANGES, indirect=True)
def test_a_failure_at_any_step_leaves_the_whole_old_or_new_target_and_nothing_else(
    tmp_path: Path, write: Callable[..., None], before: str | None, after: bool, error: BaseException, exchange: bool
) -> None:
    at, done = 0, False
    while not done:
        at += 1
        folder = tmp_path / f"step-{at}"
        folder.mkdir()
        if before:
            write(folder / "x", before)
        with pytest.MonkeyPatch.context() as monkeypatch:
            failing = Failing(monkeypatch, error, at, after=after)
            with contextlib.suppress(type(error)):
                write(folder / "x", "new")
            done = failing.calls < at
        assert content(folder / "x") in ((before, "new") if not done else ("new",)), f"step {at}"
        if isinstance(error, OSError):  # the next writer removes a folder that could not be removed
            write(folder / "y", "another")
            (folder / "y").rename(tmp_path / f"y-{at}")
        assert [path.name for path in folder.iterdir() if path.name != "x"] == [], f"step {at}"
    assert at > 5


@pytest.mark.parametrize("exchange", EXCHANGES, indirect=True)
def test_an_existing_target_is_replaced_only_if_that_is_allowed(tmp_path: Path, exchange: bool) -> None:
    put(tmp_path / "x", "old")
    with pytest.raises(FileExistsError):
        put(tmp_path / "x", "new", replace=False)
    assert content(tmp_path / "x") == "old"
    put(tmp_path / "x", "new")
    assert content(tmp_path / "x") == "new"
    put_file(tmp_path / "f", "old")
    with pytest.raises(FileExistsError):
        put_file(tmp_path / "f", "new", replace=False)
    put_file(tmp_path / "f", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "x"]


@pytest.mark.parametrize("exchange", EXCHANGES, indirect=True)
def test_what_appears_at_the_target_meanwhile_is_kept(tmp_path: Path, exchange: bool) -> None:
    def may_replace(path: Path) -> None:
        raise FileExistsError(path)

    target = tmp_path / "x"
    with (  # noqa: PT012
        pytest.raises(FileExistsError),
        atomic.written_folder(target, may_replace=may_replace) as path,
    ):
        (path / "a").write_text("new")
        target.mkdir()
        (target / "thesis.tex").write_text("years of work")
    assert (target / "thesis.tex").read_text() == "years of work"
    with (  # noqa: PT012
        pytest.raises(FileExistsError),
        atomic.written_file(tmp_path / "f", replace=False) as path,
    ):
        path.write_text("new")
        (tmp_path / "f").write_text("years of work")
    assert (tmp_path / "f").read_text() == "years of work"


@pytest.mark.parametrize("exchange", EXCHANGES, indirect=True)
def test_a_folder_that_must_not_be_removed_is_moved_back(tmp_path: Path, exchange: bool) -> None:
    """A file that appears between the check of the old folder and the exchange."""
    target, looks = tmp_path / "x", []

    def may_replace(path: Path) -> None:
        looks.append(path)
        if len(looks) == 2:
            raise PermissionError(path)

    put(target, "old")
    with pytest.raises(PermissionError), atomic.written_folder(target, may_replace=may_replace) as path:
        (path / "a").write_text("new")
    assert content(target) == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o027])
def test_modes_follow_the_umask(tmp_path: Path, mask: int) -> None:
    old = os.umask(mask)
    try:
        with atomic.written_folder(tmp_path / "x", may_replace=lambda path: None) as path:
            (path / "a").touch(mode=0o600)
        with atomic.written_file(tmp_path / "f", replace=True) as path:
            path.touch(mode=0o600)
    finally:
        os.umask(old)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "x", tmp_path / "x" / "a", tmp_path / "f")]
    assert modes == [0o777 & ~mask, 0o666 & ~mask, 0o666 & ~mask]


@pytest.mark.parametrize("exchange", EXCHANGES, indirect=True)
def test_what_takes_the_place_of_another_gets_its_mode(tmp_path: Path, exchange: bool) -> None:
    put(tmp_path / "x", "old")
    put_file(tmp_path / "f", "old")
    (tmp_path / "x").chmod(0o700)
    (tmp_path / "f").chmod(0o600)
    put(tmp_path / "x", "new")
    put_file(tmp_path / "f", "new")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "xf"] == [0o700, 0o600]
    assert content(tmp_path / "x") == content(tmp_path / "f") == "new"


@pytest.mark.parametrize("protected", ["there/f", "there/x", "there/x/a"])
@pytest.mark.parametrize("through_a_link", [False, True])
def test_what_is_read_only_is_not_replaced(tmp_path: Path, protected: str, through_a_link: bool) -> None:
    (tmp_path / "there").mkdir()
    put(tmp_path / "there" / "x", "old")
    put_file(tmp_path / "there" / "f", "old")
    mode = stat.S_IMODE((tmp_path / protected).stat().st_mode) & 0o555
    (tmp_path / protected).chmod(mode)
    name = protected.split("/")[1]
    (tmp_path / "link").symlink_to(f"there/{name}")
    target = tmp_path / "link" if through_a_link else tmp_path / "there" / name
    write = put_file if name == "f" else put
    with pytest.raises(PermissionError, match=f"{tmp_path / protected} is read-only"):
        write(target, "new")
    with pytest.raises(PermissionError, match=f"{tmp_path / protected} is read-only"):
        atomic.prove_writable(target)
    assert stat.S_IMODE((tmp_path / protected).stat().st_mode) == mode
    assert content(tmp_path / "there" / name) == "old"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "f", "inner", "link", "there", "x"]


@pytest.mark.parametrize("length", [1, 200, 250, 255])
def test_any_name_that_the_system_accepts_is_written(tmp_path: Path, length: int) -> None:
    atomic.prove_writable(tmp_path / ("x" * length))
    put(tmp_path / ("x" * length), "new")
    put_file(tmp_path / ("y" * length), "new")
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    for target in ("/proc/x", "x" * 256, "missing/x", "file/x", "circle", "null\0"):
        with pytest.raises(OSError):  # noqa: PT011
            atomic.prove_writable(tmp_path / target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["circle", "file"]


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("run", "nothing"):
        (tmp_path / name).symlink_to(f"there/{name}")
    put(tmp_path / "there" / "run", "old")
    for name in ("run", "nothing"):
        put(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
        assert content(tmp_path / "there" / name) == "new"
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["nothing", "run"]
    (tmp_path / "f").symlink_to("there/f")
    put_file(tmp_path / "f", "new")
    assert (tmp_path / "there" / "f").read_text() == "new"
    assert (tmp_path / "f").is_symlink()


WRITER = """
import sys, time
from pathlib import Path
from recsys_mf import atomic
with atomic.written_folder(Path(sys.argv[1]), may_replace=lambda path: None) as path:
    (path / "a").write_text("new")
    print("ready", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def writer(target: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is writing the target."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_of_a_running_one(tmp_path: Path) -> None:
    with writer(tmp_path / "dead") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(list(tmp_path.iterdir())) == 1
    with writer(tmp_path / "alive"):
        (left,) = tmp_path.iterdir()  # the running one has removed what the dead one left
        put(tmp_path / "x", "new")
        assert sorted(tmp_path.iterdir()) == sorted([left, tmp_path / "x"])
        assert (left / "new" / "alive" / "a").read_text() == "new"
    put_file(tmp_path / "f", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "x"]


def test_what_a_killed_writer_had_moved_away_is_put_back(tmp_path: Path) -> None:
    """If the system cannot exchange two names, there is a moment at which the name is free."""
    put(tmp_path / "x", "old")
    with writer(tmp_path / "x"):
        (left,) = (path for path in tmp_path.iterdir() if path.name != "x")
        (left / "old").mkdir()
        (tmp_path / "x").rename(left / "old" / "x")
    put(tmp_path / "y", "new")
    assert content(tmp_path / "x") == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]


def test_folders_that_only_look_like_leftovers_are_kept(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.tex").touch()
    (tmp_path / ".recsys_mf-linked").symlink_to("elsewhere")
    (tmp_path / ".recsys_mf-file").touch()
    put(tmp_path / "x", "new")
    assert (tmp_path / "elsewhere" / "thesis.tex").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", ".recsys_mf-linked", ".recsys_mf-file", "x"}


def test_many_writers_at_once_all_succeed_and_leave_one_whole_target(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(10):
                put(tmp_path / "x", f"{number}-{turn}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]  # type: ignore[func-returns-value]
    seen = 0
    while any(thread.is_alive() for thread in threads):
        seen += content_of_a(tmp_path / "x") is not None
        time.sleep(0.001)
    assert errors == []
    assert seen
    assert content(tmp_path / "x") is not None
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def content_of_a(target: Path) -> str | None:
    with contextlib.suppress(FileNotFoundError):
        return (target / "a").read_text()
    return None
