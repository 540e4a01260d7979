"""The tree of errors a user can meet, each class with the exit code of the command line.

RecsysError             1
├── ConfigError         2   an option, a setting or their combination
├── DataError           3   a table: its file, column, row
├── SolveError          4   a fit that diverged or a system that is not positive definite
├── ArtifactError       5   a run directory: damaged, foreign, already there
├── DeviceError         6   a device that was asked for and is not there
└── ResourceError       7   would not fit: how much is needed, how much there is

Warnings: IdMismatchWarning (nearly every pair of a table is unknown to the model),
LeakWarning (a model may have trained on what it is asked),
ReadingNotice (a table was read in a way that its owner should know of),
CacheWarning (compiled kernels cannot be kept on disk).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RecsysError(Exception):
    """An error said in one line: where, what, the value seen, what would be right.

    what : the fault in a few words ("null rating")
    where : file, column, row, option or field in which it lies
    seen : the value found there
    fix : what would be right, as an instruction ("give a finite number")
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, seen: object = None, fix: str | None = None) -> None:
        self.what, self.where, self.seen, self.fix = what, where, seen, fix
        line = f"{where}: {what}" if where else what
        line = f"{line} (saw {seen})" if seen is not None else line
        super().__init__(f"{line}; {fix}" if fix else line)


class ConfigError(RecsysError):
    """An option or setting that does not exist, is out of range, or does not go with another."""

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
    """Work that would not fit: the message says how much is needed and how much there is."""

    exit_code = 7


class IdMismatchWarning(UserWarning):
    """Nearly every pair of a table is unknown to the model: its ids are probably spelt differently."""


class LeakWarning(UserWarning):
    """A model may have been trained on ratings that it is now tested on: its error may be too good."""


class ReadingNotice(UserWarning):
    """A table was read in a way that its owner should know of: whole floats as integer ids, times in milliseconds."""


class CacheWarning(UserWarning):
    """Compiled kernels cannot be kept on disk: every process spends seconds to compile them again."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Instruction naming the valid choices, the nearest first: "did you mean 'rank'? (valid: …)"."""
    choices = list(choices)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    listing = ", ".join(choices)
    return f"did you mean '{close[0]}'? (valid: {listing})" if close else f"choose one of: {listing}"
