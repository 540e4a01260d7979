"""Files and folders that commands and functions write: checked before the work, and renamed when they are complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recsys_mf import atomic, strict_json
from recsys_mf.errors import ArtifactError, ConfigError, ResourceError, system_errors

_ELSEWHERE = "give another directory"
_LONGEST_NAME = 240  # bytes: systems allow 255, and archives and backups lengthen names
_NAMED = 3  # files in the way that a message names


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that is written, and by what it is known to be one, so that it may be replaced.

    noun : what messages call it, with its article ("a run")
    facts : name of its JSON file, which has the field `format`
    format : the value of this field
    files : all names that are ever written into it, and so all that may be removed
    """

    noun: str
    facts: str
    format: str
    files: tuple[str, ...]

    def is_at(self, path: Path) -> bool:
        """Whether there is a folder of this kind; does not check whether it is intact."""
        if not (path / self.facts).is_file():
            return False
        try:
            facts = strict_json.from_text((path / self.facts).read_bytes())
        except ValueError:
            return False
        return isinstance(facts, dict) and facts.get("format") == self.format


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


def check_folder(directory: Path, kind: FolderKind, *, force: bool) -> Path:
    """The absolute path of a folder to write. Raises ArtifactError if it cannot be written; leaves no files behind.

    force : an existing folder of this kind may be replaced if it holds no other files; nothing else may be replaced
    """
    with _folder_errors(directory):
        target = atomic.resolved(directory)
        if not target.parent.is_dir():
            raise ArtifactError("no such folder", where=str(target.parent), fix="create it first")
        size = len(os.fsencode(target.name))
        if size > _LONGEST_NAME:
            fix = f"give a name of at most {_LONGEST_NAME} bytes"
            raise ArtifactError("the name is too long", where=f"{target.name[:20]}…", seen=f"{size} bytes", fix=fix)
        _check_occupant(target, directory, kind, force=force)
        atomic.prove_writable(target)
        return target


@contextlib.contextmanager
def written_folder(directory: Path, kind: FolderKind, *, force: bool) -> Iterator[Path]:
    """A new folder to write to, which takes the place of the directory at the end if there was no error.

    Raises ArtifactError as `check_folder` does, also for files that have appeared since, and if the disk is full. An
    existing folder stays until the new one is complete; a link is followed.
    """

    def may_replace(path: Path) -> None:
        _check_occupant(path, directory, kind, force=force)

    with _folder_errors(directory), atomic.written_folder(directory, may_replace=may_replace) as aside:
        yield aside


def _check_occupant(path: Path, directory: Path, kind: FolderKind, *, force: bool) -> None:
    """Raise ArtifactError, naming the directory, unless a folder of this kind may replace what is at the path."""
    if atomic.is_free(path):
        return
    if not kind.is_at(path):
        raise ArtifactError(f"the directory exists and is not {kind.noun}", where=str(directory), fix=_ELSEWHERE)
    if not force:
        fix = f"{_ELSEWHERE}, or --force"
        raise ArtifactError(f"the directory holds {kind.noun} already", where=str(directory), fix=fix)
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in kind.files or not entry.is_file())
    if others:
        what = f"the directory holds files that do not belong to the {kind.noun.partition(' ')[2]}"
        seen = ", ".join(others[:_NAMED]) + (f" and {len(others) - _NAMED} more" if others[_NAMED:] else "")
        fix = f"move them away, or {_ELSEWHERE}"
        raise ArtifactError(what, where=str(directory), seen=seen, fix=fix)


def _folder_errors(directory: Path) -> contextlib.AbstractContextManager[None]:
    fix = f"make it writable, or {_ELSEWHERE}"
    return system_errors(ArtifactError, "cannot be written", where=directory, fix=fix)


def _system_errors(output: Path) -> contextlib.AbstractContextManager[None]:
    fix = "give another place, or free some space there"
    return system_errors(ResourceError, "cannot be written", where=output, fix=fix)
