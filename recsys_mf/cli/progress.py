"""Progress on stderr: a bar per fit, and a line when kernels are being compiled."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from recsys_mf.training import Progress


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
        self.bar.update(1)

    def _opened(self, progress: Progress) -> Any:
        from tqdm import tqdm

        purpose = {
            "search": "choosing settings",
            "member": "one run of several",
            "validate": "choosing epochs",
            "fit": "fitting all training ratings",
        }[progress.stage]
        return tqdm(
            total=progress.n_epochs,
            desc=f"{progress.label}, {purpose}",
            unit="epoch" if progress.noise is None else "sweep",
            file=sys.stderr,
            leave=False,
        )

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = self.fit = None


def is_silent(*, quiet: bool) -> bool:
    """Whether no bars are drawn: quiet is set, or stderr is not a terminal."""
    return quiet or not sys.stderr.isatty()


def announce_compilation(*, quiet: bool) -> None:
    """Print a line on stderr, once, if numba compiles a kernel instead of reading it from its cache on disk."""
    if quiet:
        return
    from recsys_mf.arrays.jit import call_on_compilation

    call_on_compilation(
        lambda: click.echo(
            "compiling kernels; this takes some seconds, but only once: they are then cached on disk", err=True
        )
    )
