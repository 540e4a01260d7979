"""Keeping a training in a folder while it runs (`train --checkpoint`), and the messages about interrupted commands."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from recsys_mf.cli.failures import Interrupted, Signals, say_error
from recsys_mf.cli.places import local
from recsys_mf.cli.progress import PURPOSES
from recsys_mf.errors import ConfigError, ResourceError, printable
from recsys_mf.storage import Place

if TYPE_CHECKING:
    from recsys_mf.cli.log import LogFile
    from recsys_mf.training import Checkpoint, Continued, Progress

_MUCH = 60.0  # seconds of lost work that are worth a line
_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


def checkpoint_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that keep a training while it runs."""
    text = "How often the training is saved to --checkpoint, e.g. 30s or 5min.  [default: 60s]"
    command = click.option("--every", metavar="TIME", help=text)(command)
    text = (
        "Keep the training in DIR while it runs, so that the same command continues after an interruption of any kind; "
        "DIR is removed when the run is saved."
    )
    return click.option("--checkpoint", type=local("checkpoint"), metavar="DIR", help=text)(command)


def open_checkpoint(
    folder: Path | None, every: str | None, output: Place, log: LogFile, *, quiet: bool
) -> Checkpoint | None:
    """The checkpoint of the options, closed at the end of the command; None without them.

    output : the run directory, which must be another folder
    From now on Ctrl-C and SIGTERM wait for the end of the epoch, if its state can be saved.
    """
    from recsys_mf.training import EVERY, Checkpoint

    if folder is None:
        if every is not None:
            raise ConfigError("--every has no effect without --checkpoint", fix="give --checkpoint DIR too")
        return None
    one = Path(os.path.realpath(folder))
    other = Path(os.path.realpath(output)) if isinstance(output, Path) else None
    if other is not None and (one == other or one in other.parents or other in one.parents):
        fix = "give two folders, neither inside the other"
        raise ConfigError("the checkpoint and the run need separate folders", where=str(folder), fix=fix)

    def tell(continued: Continued) -> None:
        facts = {name: value for name, value in continued._asdict().items() if name != "folder"}
        log.write("continued", checkpoint=str(folder), **facts)
        if not quiet:
            say_error(printable(_in_words(continued)))

    made = Checkpoint(folder, EVERY if every is None else _seconds(every), on_continue=tell)
    context = click.get_current_context()
    signals = context.find_object(Signals)
    if signals is not None:
        signals.defer = lambda: _stop(made)
    context.with_resource(made)
    return made


class Work:
    """Watches training and counts its epochs and seconds."""

    def __init__(self) -> None:
        self.epochs, self._began = 0, time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Count an epoch."""
        self.epochs += 1

    @property
    def seconds(self) -> float:
        """Seconds since this object was made."""
        return time.monotonic() - self._began


class Finished(NamedTuple):
    """How much of the work of a command is finished.

    what : the beginning of a sentence: "3 trials are finished and", which goes on with kept or lost
    where : where it is kept; None if it is lost
    """

    what: str
    where: str | None


@contextlib.contextmanager
def telling_what_is_kept(option: str, measure: Callable[[BaseException], Finished | None]) -> Iterator[None]:
    """If the work of a command fails or is interrupted, print on stderr how much of it is finished and kept.

    option : would have kept it, as it is typed
    measure : what is finished if this error ends the work; None to print nothing
    """
    try:
        yield
    except BaseException as error:
        finished = measure(error)
        if finished is not None:
            kept = f"kept in {finished.where}; run the same command again to continue"
            lost = f"lost; with {option} they would have been kept"
            say_error(printable(f"{finished.what} {lost if finished.where is None else kept}"))
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted from error  # for which click prints nothing of its own
        raise


def measure_training(checkpoint: Checkpoint | None, work: Work, error: BaseException) -> Finished | None:
    """How much of a training is finished, if it is worth a line and was interrupted or ran out of room."""
    if not isinstance(error, KeyboardInterrupt | Interrupted | ResourceError):
        return None
    if checkpoint is None:
        is_worth_it = work.epochs and work.seconds >= _MUCH
        what = f"{_duration(work.seconds)} of training, {work.epochs:,} epochs, are"
        return Finished(what, None) if is_worth_it else None
    if not checkpoint.is_at(checkpoint.folder):
        return None
    kept = max(0.0, checkpoint.seconds - checkpoint.unsaved)
    lost = f", the last {_duration(checkpoint.unsaved)} are lost" if checkpoint.unsaved >= 1 else ""
    return Finished(f"{_duration(kept)} of training are", f"{checkpoint.folder}{lost}")


def _stop(checkpoint: Checkpoint) -> bool:
    """Whether the training is going to stop by itself. If so, a line on stderr says this; it is written with os.write,
    which a signal handler may call.
    """
    if not checkpoint.stop():
        return False
    with contextlib.suppress(OSError):
        os.write(2, b"saving after this epoch; a second Ctrl-C stops at once\n")
    return True


def _in_words(continued: Continued) -> str:
    steps = f"{continued.finished} step{'s are' if continued.finished != 1 else ' is'} finished"
    if continued.label is None:
        return f"continuing from {continued.folder}: {steps}"
    purpose = PURPOSES[str(continued.stage)]
    return f"continuing from {continued.folder}: {steps}; {continued.label}, {purpose}: after epoch {continued.epoch}"


def _duration(seconds: float) -> str:
    """Seconds, minutes, or hours and minutes."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _seconds(text: str) -> float:
    """Seconds of a time in usual notation: 60s, 5min, 1.5h. Raises ConfigError for anything else."""
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{0,9})?)\s*([a-z]*)\s*", text, re.IGNORECASE)
    if found is None or found[2].lower() not in _UNITS:
        raise ConfigError("not a time", where="--every", seen=repr(text), fix="write it as 30s, 5min or 1h")
    return float(found[1]) * _UNITS[found[2].lower()]
