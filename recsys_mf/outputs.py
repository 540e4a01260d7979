"""Files and folders that commands and functions write: checked before the work, and renamed when they are complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recsys_mf import atomic, strict_json
from recsys_mf.errors import ArtifactError, ConfigError, ResourceError, system_errors
from recsys_mf.storage import Address, Place

_ELSEWHERE = "give another directory"
_LONGEST_NAME = 240  # bytes: systems allow 255, and archives and backups lengthen names
_MOST_FACTS = 1 << 28  # bytes of the JSON file that describes a folder
_NAMED = 3  # the most files in the way that a message lists by name


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that this package writes, and how to recognise one, so that it may be replaced.

    noun : what messages call it, with its article ("a run")
    facts : name of its JSON file, which has the field `format`
    format : the value of this field
    files : all file names that are ever written into it; only these may be removed
    """

    noun: str
    facts: str
    format: str
    files: tuple[str, ...]

    def is_at(self, path: Path) -> bool:
        """Whether there is a folder of this kind; does not check whether it is intact."""
        return (path / self.facts).is_file() and self.is_described((path / self.facts).read_bytes())

    def is_described(self, text: bytes) -> bool:
        """Whether these are the contents of the JSON file of a folder of this kind."""
        try:
            facts = strict_json.from_text(text)
        except ValueError:
            return False
        return isinstance(facts, dict) and facts.get("format") == self.format


def check_output(output: Place, kind: str, suffixes: tuple[str, ...], *, force: bool) -> None:
    """Raise ConfigError if the file has another suffix or exists already, or if its folder does not exist.

    kind : what the file is, for messages
    force : an existing file may be replaced
    Raises ResourceError if the system refuses to write there.
    """
    if output.suffix not in suffixes:
        names = " or ".join([", ".join(suffixes[:-1]), suffixes[-1]] if len(suffixes) > 1 else suffixes)
        raise ConfigError(f"unknown file type for the {kind}", where=str(output), fix=f"end the name in {names}")
    with _system_errors(output):
        if isinstance(output, Address):
            _check_sent_file(output, force=force)
            return
        if output.is_dir():
            raise ConfigError("this is a folder", where=str(output), fix="give the name of a file")
        if output.exists() and not force:
            raise ConfigError(
                "the file exists", where=str(output), fix="give another name, or --force (force=True in Python)"
            )
        if not output.absolute().parent.is_dir():
            raise ConfigError("no such folder", where=str(output.absolute().parent), fix="create it first")
        atomic.prove_writable(output)


@contextlib.contextmanager
def written_output(output: Place, *, force: bool) -> Iterator[Path]:
    """A path to write to, which is renamed to the output, or sent there, at the end if there was no error.

    Raises ResourceError if it cannot be written.
    """
    with _system_errors(output), contextlib.ExitStack() as stack:
        if isinstance(output, Address):
            from recsys_mf.storage import writing

            yield stack.enter_context(writing.written_file(output, replace=force))
        else:
            yield stack.enter_context(atomic.written_file(output, replace=force))


def check_folder(directory: Place, kind: FolderKind, *, force: bool) -> Place:
    """The absolute path or the address of a folder to write. Raises ArtifactError if it cannot be written; leaves no
    files behind.

    force : an existing folder of this kind may be replaced if it holds no other files; nothing else may be replaced
    """
    with _folder_errors(directory):
        if isinstance(directory, Address):
            from recsys_mf.storage import writing

            writing.refuse_web(directory)
            _check_remote_occupant(directory, kind, force=force)
            writing.check_writable(directory)
            return directory
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
def written_folder(directory: Place, kind: FolderKind, *, force: bool) -> Iterator[Path]:
    """A new folder to write to, which takes the place of the directory at the end if there was no error.

    Raises ArtifactError as `check_folder` does, also for files that have appeared since, and if the disk is full. An
    existing folder stays until the new one is complete; a link is followed. At an address, the existing folder is
    removed before the new one is sent, and the new one counts as a folder of this kind only once all of it is there.
    """
    if isinstance(directory, Address):
        from recsys_mf.storage import writing

        address = directory
        with (
            _folder_errors(address),
            writing.written_folder(
                address, kind.facts, may_replace=lambda: _check_remote_occupant(address, kind, force=force)
            ) as aside,
        ):
            yield aside
        return

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
        fix = f"{_ELSEWHERE}, or --force (force=True in Python)"
        raise ArtifactError(f"the directory holds {kind.noun} already", where=str(directory), fix=fix)
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in kind.files or not entry.is_file())
    _refuse_others(others, directory, kind)


def _check_remote_occupant(address: Address, kind: FolderKind, *, force: bool) -> None:
    """The same for an address. The remains of a folder that was only partly sent count as one of this kind."""
    from recsys_mf.storage import reading

    names = [entry.path for entry in reading.files_in(address) if not entry.path.startswith(".")]
    if not names:
        if address.path and reading.exists(address):
            raise ArtifactError("this is a file", where=str(address), fix=_ELSEWHERE)
        return
    is_whole = kind.facts in names
    if is_whole and not kind.is_described(reading.read_bytes(address / kind.facts, _MOST_FACTS)):
        raise ArtifactError(f"the directory exists and is not {kind.noun}", where=str(address), fix=_ELSEWHERE)
    others = [name for name in names if name not in kind.files]
    if not is_whole and others:
        raise ArtifactError(f"the directory exists and is not {kind.noun}", where=str(address), fix=_ELSEWHERE)
    if not force:
        what = f"holds {kind.noun} already" if is_whole else f"holds a part of {kind.noun}"
        raise ArtifactError(
            f"the directory {what}", where=str(address), fix=f"{_ELSEWHERE}, or --force (force=True in Python)"
        )
    _refuse_others(others, address, kind)


def _check_sent_file(output: Address, *, force: bool) -> None:
    from recsys_mf.storage import reading, writing

    writing.refuse_web(output)
    if not output.path:
        raise ConfigError("this is a bucket", where=str(output), fix="give the name of a file in it")
    if reading.exists(output) and not force:
        raise ConfigError(
            "the file exists", where=str(output), fix="give another name, or --force (force=True in Python)"
        )
    writing.check_writable(output.parent)


def _refuse_others(others: list[str], directory: Place, kind: FolderKind) -> None:
    if others:
        what = f"the directory holds files that do not belong to the {kind.noun.partition(' ')[2]}"
        seen = ", ".join(others[:_NAMED]) + (f" and {len(others) - _NAMED} more" if others[_NAMED:] else "")
        fix = f"move them away, or {_ELSEWHERE}"
        raise ArtifactError(what, where=str(directory), seen=seen, fix=fix)


def _folder_errors(directory: Place) -> contextlib.AbstractContextManager[None]:
    fix = f"make it writable, or {_ELSEWHERE}"
    return system_errors(ArtifactError, "cannot be written", where=directory, fix=fix)


def _system_errors(output: Place) -> contextlib.AbstractContextManager[None]:
    fix = "give another place, make it writable, or free some space there"
    return system_errors(ResourceError, "cannot be written", where=output, fix=fix)
