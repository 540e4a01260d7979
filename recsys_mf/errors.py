"""The classes of errors that a user can get, each with its exit code on the command line.

RecsysError             1
├── ConfigError         2   an option, a setting or their combination
├── DataError           3   a table: its file, column, row
├── SolveError          4   a fit that diverged or a system that is not positive definite
├── ArtifactError       5   a run directory: damaged, foreign, or in the way
├── DeviceError         6   a device that was asked for and is not available
└── ResourceError       7   no room: in memory, or on the disk

Warnings, each a RecsysWarning: IdMismatchWarning (nearly every pair of a table is unknown to the model),
LeakWarning (a model may have been trained on its test ratings),
FoldWarning (some ratings to add to a run are not used, or seem to be on another scale),
EmptyRowWarning (a matrix has a row in which nothing is observed),
EmptyListWarning (no items are left to recommend to some users),
ConstantColumnWarning (all observed entries of a column are equal, so the error of filled ones is unknown),
CheckpointWarning (a file of a checkpoint is damaged: work that was saved is done again),
ReadingNotice (a table was read in a way that its owner should know about),
DeviceWarning (some kernels compute wrong results on the GPU of this machine: slower ones are used),
CacheWarning (compiled kernels cannot be kept on disk).
"""

from __future__ import annotations

import contextlib
import difflib
import errno
from collections.abc import Iterable, Iterator, Mapping

LONGEST = 300
"""Characters of a message on the terminal, including the word (error, warning, note) that it begins with."""

_ROOM = LONGEST - len("warning: ")
_MAX_SEEN = 120
_MIN_LENGTHS = {
    "seen": 40,
    "fix": 90,
    "what": 70,
    "where": 70,
}  # characters that each part keeps; parts are shortened in this order


def printable(text: object, most: int | None = None) -> str:
    """The text as one line that is safe on a terminal: unprintable characters are escaped, so that a name from a file
    can neither move the cursor nor start a line.

    most : number of characters; the middle of a longer text is left out
    """
    try:
        text = str(text)
    except Exception:  # e.g. an integer of 5,000 digits
        text = f"a value of type {type(text).__name__}"
    if most is not None and len(text) > 2 * most:
        text = text[:most] + text[-most:]  # enough text: escapes only make it longer
    text = escaped(text)
    if most is None or len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[len(text) - tail :]}"


def escaped(text: str) -> str:
    """The text with unprintable characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class RecsysError(Exception):
    """An error as one line: where, what, the value seen, what would be right.

    what : the fault in a few words ("null rating")
    where : the file, column, row, option or field with the fault
    seen : the value found there
    fix : what would be right, as an instruction ("give a finite number")

    The line is printable (`printable`) and has at most `LONGEST` characters: longer parts are shortened.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, seen: object = None, fix: str | None = None) -> None:
        self.what, self.where, self.seen, self.fix = what, where, seen, fix
        given = {"what": what, "where": where, "seen": seen, "fix": fix}
        most = {"seen": _MAX_SEEN}
        parts = {name: printable(part, most.get(name, LONGEST)) for name, part in given.items() if part is not None}
        super().__init__(_line(parts))


def _line(parts: dict[str, str]) -> str:
    """The parts as one line, shortened to the length allowed."""
    for name, least in _MIN_LENGTHS.items():
        over = len(_joined(parts)) - _ROOM
        if over > 0 and name in parts and len(parts[name]) > least:
            parts[name] = printable(parts[name], max(least, len(parts[name]) - over))
    return printable(_joined(parts), _ROOM)


def _joined(parts: Mapping[str, str]) -> str:
    line = f"{parts['where']}: {parts['what']}" if parts.get("where") else parts["what"]
    line = f"{line} (saw {parts['seen']})" if "seen" in parts else line
    return f"{line}; {parts['fix']}" if parts.get("fix") else line


class ConfigError(RecsysError):
    """An option or setting that does not exist, is out of range, or cannot be combined with another."""

    exit_code = 2


class DataError(RecsysError):
    """A table that cannot be read as ratings."""

    exit_code = 3


class SolveError(RecsysError):
    """A fit that diverged, or a linear system that is not positive definite."""

    exit_code = 4


class ArtifactError(RecsysError):
    """A run directory that is missing, damaged, foreign, or in the way."""

    exit_code = 5


class DeviceError(RecsysError):
    """A device that was asked for by name and is not usable."""

    exit_code = 6


class ResourceError(RecsysError):
    """Work that has no room: in memory (the message says how much is needed and how much there is), or on a disk."""

    exit_code = 7


class RecsysWarning(UserWarning):
    """What a user should know about a result, as one printable line."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text, _ROOM))


class IdMismatchWarning(RecsysWarning):
    """Nearly every pair of a table is unknown to the model: its ids are probably written differently."""


class LeakWarning(RecsysWarning):
    """A model may have been trained on ratings that it is now tested on: its error may be too good."""


class FoldWarning(RecsysWarning):
    """Some ratings to add to a run are not used because the run does not know their items or users, or they seem to be
    on another scale.
    """


class EmptyRowWarning(RecsysWarning):
    """A matrix has a row in which nothing is observed: its entries are filled, with wide deviations."""


class EmptyListWarning(RecsysWarning):
    """No items are left to recommend to some users: all are left out, or none is among those to choose from."""


class ConstantColumnWarning(RecsysWarning):
    """All observed entries of a column are equal: the others are filled with this value, without a deviation."""


class CheckpointWarning(RecsysWarning):
    """A file of a checkpoint is damaged: the previous state is used instead, or a step is repeated."""


class ReadingNotice(RecsysWarning):
    """A table was read in a way that its owner should know about, e.g. whole floats as integer ids."""


class DeviceWarning(RecsysWarning):
    """Some kernels compute wrong results on the GPU of this machine: slower ones are used instead."""


class CacheWarning(RecsysWarning):
    """Compiled kernels cannot be kept on disk: every process spends some seconds compiling them again."""


class RemoteError(OSError):
    """A store on the network refuses or cannot be reached. `system_errors` turns it into an error for the user.

    what, where, seen, fix : as in `RecsysError`; where is the address
    """

    def __init__(self, what: str, *, where: str, seen: object = None, fix: str) -> None:
        super().__init__(f"{where}: {what}")
        self.what, self.where, self.seen, self.fix = what, where, seen, fix


@contextlib.contextmanager
def system_errors(kind: type[RecsysError], what: str, *, where: object, fix: str) -> Iterator[None]:
    """Turn an OSError inside the block into an error of this module, with the operating system's message.

    A broken pipe is passed on unchanged, because it is not a fault. A RemoteError keeps its own message. If a disk has
    no room, it is a ResourceError.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except RemoteError as fault:
        raise kind(fault.what, where=fault.where, seen=fault.seen, fix=fault.fix) from fault
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and kind is not ResourceError:
            kind, fix = ResourceError, "free some space there"
        raise kind(what, where=str(where), seen=error.strerror or error, fix=fix) from error


def nearest(name: object, choices: Iterable[str], synonyms: Mapping[str, Iterable[str]] | None = None) -> str:
    """Instruction naming the valid choices, the nearest first: "did you mean 'rank'? (valid: …)".

    synonyms : name from other software, in lower case -> choices with the same meaning
    """
    choices, name = list(choices), str(name)[:100]
    meant = [choice for choice in (synonyms or {}).get(name.lower(), ()) if choice in choices]
    close = meant or difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    listing = ", ".join(choices)
    return f"did you mean '{close[0]}'? (valid: {listing})" if close else f"choose one of: {listing}"
