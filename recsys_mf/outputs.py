"""Files that commands and functions write: checked before the work, and renamed to their name when complete."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from recsys_mf import atomic
from recsys_mf.errors import ConfigError, ResourceError, system_errors


def check_output(output: Path, kind: str, suffixes: tuple[str, ...], *, force: bool) -> None:
    """Raise ConfigError if the file has another suffix or exists already, or if its folder does not exist.

    kind : what the file is, for messages
    force : an existing file may be replaced
    Raises ResourceError if the system refuses to write there.
    """
    if output.suffix not in suffixes:
        names = " or ".join([", ".join(suffixes[:-1]), suffixes[-1]] if len(suffixes) > 1 else suffixes)
        raise ConfigError(f"unknown file type for the {kind}", where=str(output), fix=f"end the name in {names}")
    with _system_errors(output):
        if output.is_dir():
            raise ConfigError("this is a folder", where=str(output), fix="give the name of a file")
        if output.exists() and not force:
            raise ConfigError("the file exists", where=str(output), fix="give another name, or --force")
        if not output.absolute().parent.is_dir():
            raise ConfigError("no such folder", where=str(output.absolute().parent), fix="create it first")
        atomic.prove_writable(output)


@contextlib.contextmanager
def written_output(output: Path, *, force: bool) -> Iterator[Path]:
    """A path to write to, which is renamed to the output at the end if there was no error.

    Raises ResourceError if it cannot be written.
    """
    with _system_errors(output), atomic.written_file(output, replace=force) as aside:
        yield aside


def _system_errors(output: Path) -> contextlib.AbstractContextManager[None]:
    fix = "give another place, or free some space there"
    return system_errors(ResourceError, "cannot be written", where=output, fix=fix)
