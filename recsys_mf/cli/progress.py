"""Progress on stderr: a bar per fit or per comparison, and a line when kernels are being compiled."""

from __future__ import annotations

import math
import sys
import time
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from recsys_mf.comparison import ComparisonStatus
    from recsys_mf.training import Progress
    from recsys_mf.tuning import TuningStatus

PURPOSES = {
    "search": "choosing settings",
    "member": "one run of several",
    "validate": "choosing epochs",
    "fit": "fitting all training ratings",
}  # by the stage of a fit
_PAUSE = 0.1  # seconds between two drawings of the bar of a comparison


class Bars:
    """Watches training and draws a tqdm bar per fit; silent if quiet is set or stderr is not a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self.silent = is_silent(quiet=quiet)
        self.fit: tuple[str, str] | None = None
        self.bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def __call__(self, progress: Progress) -> None:
        """Show one epoch."""
        if self.silent:
            return
        if self.fit != (progress.label, progress.stage) or progress.epoch == 1:
            self._close()
            self.fit = progress.label, progress.stage
            self.bar = self._opened(progress)
        figures = {"train RMSE": progress.train_rmse, "validation RMSE": progress.valid_rmse, "noise": progress.noise}
        shown = [f"{name} {value:.4f}" for name, value in figures.items() if value is not None]
        if progress.ess is not None:
            shown.append(f"effective sample size {progress.ess:.0f}")
        self.bar.set_postfix_str(
            ", ".join([*shown, f"{progress.ratings_per_second / 1e6:.1f} million ratings/s"]), refresh=False
        )
        self.bar.update(progress.epoch - self.bar.n)  # not 1 if the fit continues from a checkpoint

    def _opened(self, progress: Progress) -> Any:
        from tqdm import tqdm

        return tqdm(
            total=progress.n_epochs,
            desc=f"{progress.label}, {PURPOSES[progress.stage]}",
            unit="epoch" if progress.noise is None else "sweep",
            file=sys.stderr,
            leave=False,
        )

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = self.fit = None


class _OneBar:
    """One bar over many fits, opened when it is first drawn; silent as `Bars` is."""

    def __init__(self, *, quiet: bool) -> None:
        self.silent = is_silent(quiet=quiet)
        self._bar: Any = None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


class ComparisonBar(_OneBar):
    """Watches a comparison and draws one bar over all its fits, with the time left; silent as `Bars` is.

    status : the last one received, None before the comparison begins
    """

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self.status: ComparisonStatus | None = None

    def __call__(self, status: ComparisonStatus) -> None:
        """Show the progress."""
        is_new_fit = self.status is None or self.status.done != status.done
        self.status = status
        if self.silent or not (is_new_fit or time.monotonic() > self._drawn + _PAUSE):
            return
        if self._bar is None:
            self._bar = self._opened(status)
        purpose = "" if status.progress is None else f", {PURPOSES[status.progress.stage]}"
        now = f"{status.candidate}{purpose}" if status.candidate else "done"
        self._bar.set_postfix_str(f"{_time_left(status.seconds_left)}: {now}", refresh=False)
        self._bar.n = status.done
        self._bar.refresh()
        self._drawn = time.monotonic()

    def _opened(self, status: ComparisonStatus) -> Any:
        from tqdm import tqdm

        shape = "|{bar:20}| {n_fmt} of {total_fmt} fits, {elapsed} elapsed{postfix}"
        return tqdm(total=status.total, bar_format=shape, file=sys.stderr, leave=False)


class TuningBar(_OneBar):
    """Watches a search of settings and draws one bar over its trials or its time; silent as `Bars` is.

    finished : number of trials that ended, 0 until one of them has a result
    """

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self.finished = 0

    def __call__(self, status: TuningStatus) -> None:
        """Show the progress."""
        self.finished = 0 if status.best is None else status.finished
        if self.silent or not (status.ended or time.monotonic() > self._drawn + _PAUSE):
            return
        if self._bar is None:
            self._bar = self._opened(status)
        self._bar.set_postfix_str(describe_tuning(status), refresh=False)
        self._bar.n = status.finished if math.isinf(status.seconds_left) else round(status.elapsed, 1)
        self._bar.refresh()
        self._drawn = time.monotonic()

    def _opened(self, status: TuningStatus) -> Any:
        from tqdm import tqdm

        timed = not math.isinf(status.seconds_left)
        total = status.elapsed + status.seconds_left if timed else status.wanted
        return tqdm(total=total, bar_format="|{bar:20}| {elapsed} elapsed{postfix}", file=sys.stderr, leave=False)


def describe_tuning(status: TuningStatus) -> str:
    """How far a search is, in words."""
    wanted = "" if status.wanted is None else f" of {status.wanted}"
    parts = [f"{status.finished}{wanted} trials"]
    if status.best is not None:
        parts.append(f"best validation RMSE {status.best:.4f}")
    if not math.isinf(status.seconds_left):
        parts.append(_time_left(status.seconds_left))
    purpose = PURPOSES[status.progress.stage] if status.progress is not None else "starting"
    what = f"{status.solver}, {'the best settings: ' if status.is_final else ''}{purpose}"
    return f"{', '.join(parts)}: {what}"


def _time_left(seconds: float | None) -> str:
    """The time left in minutes and seconds, or with hours."""
    if seconds is None:
        return "time left not known yet"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"about {hours}:{minutes:02}:{rest:02} left" if hours else f"about {minutes:02}:{rest:02} left"


def is_silent(*, quiet: bool) -> bool:
    """Whether no bars are drawn: quiet is set, or stderr is not a terminal."""
    return quiet or not sys.stderr.isatty()


def announce_compilation(*, quiet: bool) -> None:
    """Print a line on stderr, once, if the command compiles a kernel instead of reading it from its cache on disk."""
    if quiet:
        return
    from recsys_mf.arrays.jit import on_compilation

    text = "compiling kernels; this takes some seconds, but only once: they are then cached on disk"
    click.get_current_context().with_resource(on_compilation(partial(click.echo, text, err=True)))
