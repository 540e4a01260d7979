"""Storage: where studies are kept, in memory or in a file that several processes share, and Optuna itself.

The file is a journal: every change is a line that is appended under a lock, so that processes cannot spoil each
other's lines, and one that is killed loses no more than its own trial. Optuna advises against SQLite for this, where a
writer may find the database locked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_mf import strict_json
from recsys_mf.errors import ArtifactError, ConfigError, system_errors

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

    if file is None:
        return InMemoryStorage()
    fix = "give another file, or a new one"
    with system_errors(ArtifactError, "the study cannot be written", where=file, fix=fix):
        if file.exists() and file.stat().st_size:
            with file.open("rb") as lines:
                _check_journal(lines.readline(1 << 20), file)
        file.open("ab").close()
        try:
            return JournalStorage(JournalFileBackend(str(file)))
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError("the study is damaged", where=str(file), seen=error, fix=fix) from error


def _check_journal(line: bytes, file: Path) -> None:
    try:
        entry = strict_json.from_text(line)
    except ValueError:
        entry = None
    if not (isinstance(entry, dict) and "op_code" in entry):
        fix = "give another file, or a new one"
        raise ArtifactError("the file exists and is not a study", where=str(file), fix=fix)
