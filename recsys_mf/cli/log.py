"""Logs of training: a line of JSON per stage and per epoch in a file and, without a terminal, lines on stderr.

Every line of the file is an object with `event`, `time` (UTC, ISO 8601) and `seconds` since the command began:

    read     role, rows                             a table was read
    continued  checkpoint, finished, label, stage, epoch   where an interrupted training continues
    stage    label, stage, n_epochs                 a fit, or its validation, begins
    epoch    label, stage, n_epochs and the rest of `training.Progress`; memory_bytes, the peak of this process
    trial    of a search of settings, what was tried and how it ended (`tuning.Trial`); trial_seconds, how long it took
    saved    run                                    the run directory is complete

Each line is flushed at once, so that other programs can follow. The last line of a command that finished is `saved`.
With --checkpoint, lines are appended to an existing file, because the command may continue an interrupted one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import click

from recsys_mf import memory, strict_json
from recsys_mf.cli.progress import PURPOSES, describe_tuning
from recsys_mf.errors import ResourceError, printable
from recsys_mf.outputs import check_output

if TYPE_CHECKING:
    from recsys_mf.training import Progress, Watcher
    from recsys_mf.tuning import TuningStatus

_INTERVAL = 10.0  # seconds between two lines on stderr


class LogFile:
    """The file; without a path every method does nothing."""

    def __init__(self, path: Path | None, *, force: bool, goes_on: bool = False) -> None:
        """Raises ConfigError or ResourceError if the file cannot be written.

        goes_on : add to the file if it exists
        """
        self._goes_on = goes_on
        self._path, self._began = path, time.monotonic()
        self._file: IO[str] | None = None
        self._fit: tuple[str, str] | None = None
        if path is not None:
            check_output(path, "log", (".jsonl",), force=force or goes_on)

    def __enter__(self) -> Self:
        self._file = None if self._path is None else self._path.open("a" if self._goes_on else "w", encoding="utf-8")
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def write(self, event: str, **facts: Any) -> None:
        """Write a line. Raises ResourceError if the disk is full."""
        if self._file is None:
            return
        seconds = round(time.monotonic() - self._began, 3)
        line = {"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), "seconds": seconds}
        try:
            self._file.write(strict_json.to_text(line | facts, indent=None) + "\n")
            self._file.flush()
        except OSError as error:
            fix = "free some space there, or leave --log out"
            raise ResourceError(
                "the log cannot be written", where=str(self._path), seen=error.strerror, fix=fix
            ) from error

    def __call__(self, progress: Progress) -> None:
        """Write an epoch, and before the first of a fit its stage."""
        facts = asdict(progress)
        fit = {"label": facts.pop("label"), "stage": facts.pop("stage"), "n_epochs": facts.pop("n_epochs")}
        if self._fit != (progress.label, progress.stage) or progress.epoch == 1:
            self._fit = progress.label, progress.stage
            self.write("stage", **fit)
        self.write("epoch", **fit, **facts, memory_bytes=memory.peak())


class Lines:
    """Prints a line every ten seconds on stderr if that is no terminal; silent if quiet is set."""

    def __init__(self, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._silent, self._clock = quiet or sys.stderr.isatty(), clock
        self._last: float | None = None

    def __call__(self, progress: Progress) -> None:
        """Print how far the training is, if the last line is long enough ago."""
        if not self._is_time():
            return
        unit = "epoch" if progress.noise is None else "sweep"
        figures = {"train RMSE": progress.train_rmse, "validation RMSE": progress.valid_rmse}
        shown = [f"{name} {value:.4f}" for name, value in figures.items() if value is not None]
        what = f"{progress.label}, {PURPOSES[progress.stage]}: {unit} {progress.epoch} of at most {progress.n_epochs}"
        click.echo(printable(", ".join([what, *shown])), err=True)

    def tell_tuning(self, status: TuningStatus) -> None:
        """The same for a search of settings."""
        if self._is_time():
            click.echo(printable(describe_tuning(status)), err=True)

    def _is_time(self) -> bool:
        now = self._clock()
        if self._last is None:
            self._last = now
        if self._silent or now < self._last + _INTERVAL:
            return False
        self._last = now
        return True


def tell_all(*watchers: Watcher) -> Watcher:
    """A watcher that calls each of these."""

    def told(progress: Progress) -> None:
        for watcher in watchers:
            watcher(progress)

    return told
