"""Storage: where studies are kept, in memory or in a file that several processes share, and Optuna itself.

The file is a journal: every change is a line that is appended under a lock, so that processes cannot spoil each
other's lines, and one that is killed loses no more than its own trial: a part of a line at the end is removed when the
file is opened. Optuna advises against SQLite for this, where a writer may find the database locked.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_mf import strict_json
from recsys_mf.errors import ArtifactError, ConfigError, ResourceError, system_errors

_BLOCK = 1 << 16

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


def require_optuna() -> None:
    """Raise ConfigError if Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        fix = "install it: pip install 'recsys-mf[tune]'"
        raise ConfigError("tune needs the package optuna", where="tune", fix=fix) from None


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna from printing on stderr inside the block."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def open_storage(file: Path | None) -> BaseStorage:
    """The storage of studies. Raises ArtifactError for a file that is not a study, or cannot be read and written."""
    from optuna.storages import InMemoryStorage, JournalStorage
    from optuna.storages.journal import JournalFileBackend

    class Journal(JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            fix = "free some space there and run the same command again"
            with system_errors(ResourceError, "the study cannot be written", where=file, fix=fix):
                super().append_logs(logs)

    if file is None:
        return InMemoryStorage()
    fix = "give another file, or a new one"
    with system_errors(ArtifactError, "the study cannot be written", where=file, fix=fix):
        if file.exists() and file.stat().st_size:
            with file.open("rb") as lines:
                _check_journal(lines.readline(1 << 20), file)
            _drop_part_of_line(file)
        file.open("ab").close()
        try:
            return JournalStorage(Journal(str(file)))
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError("the study is damaged", where=str(file), seen=error, fix=fix) from error


def _drop_part_of_line(file: Path) -> None:
    """Remove what follows the last complete line: a process that was killed, or had no room, wrote a part of one."""
    from optuna.storages.journal import JournalFileSymlinkLock

    if _end_of_lines(file) == file.stat().st_size:
        return
    lock = JournalFileSymlinkLock(str(file))  # as it is taken to append: another process may be writing this line
    lock.acquire()
    try:
        os.truncate(file, _end_of_lines(file))
    finally:
        lock.release()


def _end_of_lines(file: Path) -> int:
    """Where the last complete line ends."""
    with file.open("rb") as journal:
        end = journal.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            journal.seek(start)
            found = journal.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _check_journal(line: bytes, file: Path) -> None:
    try:
        entry = strict_json.from_text(line)
    except ValueError:
        entry = None
    if not (isinstance(entry, dict) and "op_code" in entry):
        fix = "give another file, or a new one"
        raise ArtifactError("the file exists and is not a study", where=str(file), fix=fix)
