"""How the command reports a failure: one line on stderr, and an exit code.

An error of the library has both. Other errors that can happen on a machine are listed in `_MEANINGS`; an error that is
not listed there is reported as a fault of the program. With RECSYS_MF_TRACEBACK=1 the traceback is shown as well.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Self

import click

from recsys_mf.errors import (
    LONGEST,
    ArtifactError,
    ConfigError,
    DataError,
    DeviceError,
    RecsysError,
    ResourceError,
    printable,
)
from recsys_mf.memory import is_allocation

TRACEBACK = "RECSYS_MF_TRACEBACK"
_BROKEN_PIPE = 141  # as a shell reports a process ended by SIGPIPE
_AGAIN = 0.2  # seconds after which a signal is sent again
_SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class _Meaning(NamedTuple):
    kind: type[RecsysError]
    what: str
    fix: str


_MEANINGS = {
    "builtins.MemoryError": _Meaning(
        ResourceError, "out of memory", "free some memory, lower the rank, or limit long columns with --memory"
    ),
    "builtins.RecursionError": _Meaning(DataError, "the data are nested too deeply", "give data with less nesting"),
    "builtins.OverflowError": _Meaning(ConfigError, "a number is too large", "give a smaller number"),
    "builtins.UnicodeEncodeError": _Meaning(
        ConfigError, "a name has letters that cannot be written", "rename the file or its folders in UTF-8"
    ),
    "builtins.UnicodeError": _Meaning(DataError, "the text is not in the expected encoding", "store it as UTF-8"),
    "safetensors.SafetensorError": _Meaning(ArtifactError, "the file of tensors is damaged", "train the run again"),
    "pyarrow.ArrowException": _Meaning(DataError, "the table cannot be processed", "write it again as Parquet"),
    "torch.OutOfMemoryError": _Meaning(ResourceError, "the GPU is out of memory", "use --device cpu"),
    "torch.AcceleratorError": _Meaning(DeviceError, "the GPU failed", "use --device cpu"),
    "builtins.OSError": _Meaning(
        ResourceError, "the operating system refuses", "check free space, permissions and limits"
    ),
}  # by package and class name; the first entry that an error is an instance of applies


def translated(error: BaseException) -> RecsysError:
    """The error of this package that explains another error."""
    if isinstance(error, RecsysError):
        return error
    names = [f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(error).__mro__]
    if is_allocation(error):  # torch and Arrow raise other classes for it
        names = ["builtins.MemoryError"]
    # pyarrow's exceptions are defined in pyarrow.lib, safetensors' in a module without a package
    names = [{"safetensors_rust.SafetensorError": "safetensors.SafetensorError"}.get(name, name) for name in names]
    for name, meaning in _MEANINGS.items():
        if name in names:
            where = getattr(error, "filename", None)
            if isinstance(error, UnicodeEncodeError):
                where = error.object
            if isinstance(error, FileNotFoundError) and where is None and not _has_current_folder():
                return ResourceError("the current folder does not exist any more", fix="cd to another folder")
            seen = getattr(error, "strerror", None) or str(error) or None
            return meaning.kind(meaning.what, where=where and os.fsdecode(where), seen=seen, fix=meaning.fix)
    fix = f"please report it with the output of the same command under {TRACEBACK}=1"
    return RecsysError(f"internal error: {type(error).__name__}", seen=str(error) or None, fix=fix)


def _has_current_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


class Interrupted(BaseException):
    """The process was asked to end: by Ctrl-C or by SIGTERM."""


class Signals:
    """A context in which Ctrl-C and SIGTERM raise an exception, so that the running code can clean up.

    A library may lose the exception, as pyarrow does while it imports pandas. So the signal is sent again until the
    context ends, but has no effect while the exception is being handled.

    received : the signal that arrived, or None. It tells an interruption from an error even if a library turns the
        exception into another one, as numba's compiler does.
    defer : called when a signal arrives; the exception is not raised if it returns True, because the running code is
        going to stop by itself
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.defer: Callable[[], bool] = lambda: False
        self._before: dict[signal.Signals, Any] = {}
        self._unraisable: Callable[[Any], Any] = sys.unraisablehook
        self._is_again, self._ended, self._lock = False, threading.Event(), threading.Lock()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            heard = (number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN)  # as nohup does
            self._before = {number: signal.signal(number, self._raise) for number in heard}
        sys.unraisablehook = self._hide
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:  # so that no signal is on its way when the handlers are put back
            self._ended.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.received is None:  # else objects that were half made may still be freed
            sys.unraisablehook = self._unraisable

    def _raise(self, number: int, frame: FrameType | None) -> None:
        is_again, self._is_again = self._is_again, False
        if is_again and (self._ended.is_set() or _is_handled(sys.exc_info()[1])):
            return
        is_first, self.received = self.received is None, signal.Signals(number)
        if not is_again and self.defer():
            return
        if is_first or not is_again:
            threading.Thread(target=self._send_again, args=(number,), daemon=True).start()
        raise Interrupted

    def _send_again(self, number: int) -> None:
        while not self._ended.wait(_AGAIN):
            with self._lock:
                if not self._ended.is_set():
                    self._is_again = True
                    os.kill(os.getpid(), number)

    def _hide(self, lost: Any) -> None:
        """Do not print an exception that was lost, as in a callback from compiled code: a signal is sent again."""
        if not isinstance(lost.exc_value, Interrupted) and os.environ.get(TRACEBACK):
            self._unraisable(lost)


def _is_handled(error: BaseException | None) -> bool:
    """Whether an exception that is being handled, or one that it came from, is an interruption."""
    while error is not None:
        if isinstance(error, Interrupted | KeyboardInterrupt):
            return True
        error = error.__context__
    return False


def report(error: BaseException, received: signal.Signals | None) -> int:
    """Print on stderr in one line what ended the command, and return the exit code."""
    if isinstance(error, SystemExit):
        if isinstance(error.__context__, BrokenPipeError):  # how click ends
            return _BROKEN_PIPE
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if os.environ.get(TRACEBACK):
        import traceback

        traceback.print_exception(error)
    if received is not None or isinstance(error, KeyboardInterrupt | click.Abort | Interrupted):
        number = received or signal.SIGINT
        say_error(_SIGNALS[number])
        return 128 + number
    if isinstance(error, BrokenPipeError):
        silence_stdout()
        return _BROKEN_PIPE
    if isinstance(error, click.ClickException):
        return _report_usage(error)
    ours = translated(error)
    silence_stdout()
    say_error(f"error: {ours}")
    return ours.exit_code


def _report_usage(error: click.ClickException) -> int:
    """Print what click found wrong with the command line, or the help if nothing was given."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    context = getattr(error, "ctx", None)
    hint = f"; see {context.command_path} --help" if context is not None else ""
    text = printable(error.format_message().rstrip("."), LONGEST - len(f"error: {hint}"))
    say_error(f"error: {text}{hint}")
    return error.exit_code


def say_error(line: str) -> None:
    """Print the line on stderr, if stderr can be written to."""
    try:
        click.echo(line, err=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def silence_stdout() -> None:
    """Discard further output to stdout if a write has failed: the flush at exit would fail again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (AttributeError, ValueError):  # closed before the start
        pass
