"""Progress on stderr: a bar per fit or per comparison, and a line when kernels are being compiled."""

from __future__ import annotations

import sys
import time
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from recsys_mf.comparison import Standing
    from recsys_mf.training import Progress

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
        self.bar.update(progress.epoch - self.bar.n)  # not 1, if the fit goes on from a checkpoint

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


class ComparisonBar:
    """Watches a comparison and draws one bar over all its fits, with the time left; silent as `Bars` is.

    standing : the last that it was told, None before the comparison began
    """

    def __init__(self, *, quiet: bool) -> None:
        self.silent = is_silent(quiet=quiet)
        self.standing: Standing | None = None
        self._bar: Any = None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def __call__(self, standing: Standing) -> None:
        """Show how far it is."""
        is_new_fit = self.standing is None or self.standing.done != standing.done
        self.standing = standing
        if self.silent or not (is_new_fit or time.monotonic() > self._drawn + _PAUSE):
            return
        if self._bar is None:
            self._bar = self._opened(standing)
        purpose = "" if standing.progress is None else f", {PURPOSES[standing.progress.stage]}"
        now = f"{standing.candidate}{purpose}" if standing.candidate else "done"
        self._bar.set_postfix_str(f"{_time_left(standing.seconds_left)}: {now}", refresh=False)
        self._bar.n = standing.done
        self._bar.refresh()
        self._drawn = time.monotonic()

    def _opened(self, standing: Standing) -> Any:
        from tqdm import tqdm

        shape = "|{bar:20}| {n_fmt} of {total_fmt} fits, {elapsed} gone{postfix}"
        return tqdm(total=standing.total, bar_format=shape, file=sys.stderr, leave=False)


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
