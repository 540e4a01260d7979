"""Kept files: the folder of a checkpoint, its files, and the training that it belongs to.

    checkpoint.json            which training it is
    step-KEY.safetensors       a finished step
    state-NUMBER.safetensors   a state of the step that was running; the last two are kept

Every file is written under a temporary name and renamed, and has a digest of its contents
(`store.tensors.sealed_tensors`).
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recsys_mf import atomic, strict_json
from recsys_mf.errors import ArtifactError, CheckpointWarning, DataError, ResourceError, system_errors
from recsys_mf.outputs import FolderKind
from recsys_mf.solvers.state import State
from recsys_mf.store.tensors import read_sealed, sealed_tensors
from recsys_mf.training.identity import describe_differences

KIND = FolderKind("a checkpoint", "checkpoint.json", "recsys_mf checkpoint 1", ())
_STEP, _STATE, _SUFFIX = "step-", "state-", ".safetensors"
_KEPT_STATES = 2


class Kept(NamedTuple):
    """The contents of a file.

    key : of the step that it belongs to; seconds : of work in the training until it was written
    """

    key: str
    seconds: float
    state: State


class KeptFiles:
    """The folder of a checkpoint. Raises ArtifactError if it is another folder, or cannot be made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None
        self.is_taken = False
        with self._writing():
            parent = folder.absolute().parent
            if not parent.is_dir():
                raise ArtifactError("no such folder", where=str(parent), fix="create it first")
            if not os.path.lexists(folder):
                atomic.prove_writable(folder)
                return
            if folder.is_dir():
                atomic.prove_writable(folder / KIND.facts)  # removes what a killed writer left
            if not (KIND.is_at(folder) or atomic.is_free(folder)):
                fix = "give another folder, or a new one"
                raise ArtifactError("not a folder of a checkpoint", where=str(folder), fix=fix)

    def take(self, identity: Mapping[str, Any]) -> None:
        """Lock the folder for a training, and make it if there is none.

        Raises ArtifactError if another process uses it, and if it belongs to another training.
        """
        path = self.folder / KIND.facts
        now = json.loads(json.dumps(identity, default=str))
        with self._writing():
            self.folder.mkdir(exist_ok=True)
            with contextlib.suppress(FileExistsError), atomic.written_file(path, replace=False) as aside:
                aside.write_text(strict_json.to_text({"format": KIND.format, "training": now}) + "\n")
            try:
                self._lock = atomic.lock(path)
            except BlockingIOError:
                fix = "wait for it, or give another folder"
                raise ArtifactError("another process uses this checkpoint", where=str(self.folder), fix=fix) from None
        self.is_taken = True
        try:
            self._check_owner(path, now)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let other processes use the folder."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock, self.is_taken = None, False

    def has_result(self, key: str) -> bool:
        """Whether a step is finished."""
        return self._step(key).is_file()

    def read_result(self, key: str) -> Kept | None:
        """The result of a finished step; None, with a warning, if its file is damaged."""
        return self._read(self._step(key), "this step is repeated", key)

    def write_result(self, kept: Kept) -> None:
        """Keep the result of a step. Raises ResourceError if it cannot be written."""
        self._write(self._step(kept.key), kept)

    def read_state(self, key: str) -> Kept | None:
        """The last state, if it is one of this step; the one before, with a warning, if that is damaged."""
        paths = self._paths(_STATE)
        for index, path in enumerate(reversed(paths), start=1):
            instead = "the previous state is used instead" if index < len(paths) else "this step is repeated"
            found = self._read(path, instead)
            if found is not None:
                return found if found.key == key else None
        return None

    def write_state(self, kept: Kept) -> None:
        """Keep a state, and only the last of the earlier ones. Raises ResourceError if it cannot be written."""
        paths = self._paths(_STATE)
        number = int(paths[-1].stem.removeprefix(_STATE)) + 1 if paths else 1
        self._write(self.folder / f"{_STATE}{number:08}{_SUFFIX}", kept)
        with self._writing():
            for path in paths[: 1 - _KEPT_STATES]:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all files of the checkpoint, and the folder if nothing else is in it."""
        with self._writing():
            atomic.clean(self.folder)
            for path in (*self._paths(_STATE), *self._paths(_STEP), self.folder / KIND.facts):
                path.unlink(missing_ok=True)
            self.release()
            with contextlib.suppress(OSError):  # it holds other files
                self.folder.rmdir()

    def _check_owner(self, path: Path, now: Mapping[str, Any]) -> None:
        fix = "remove the folder, to train from the beginning"
        with system_errors(ArtifactError, "cannot be read", where=path, fix=fix):
            text = path.read_bytes()
        try:
            differences = describe_differences(strict_json.from_text(text)["training"], now)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError("damaged", where=str(path), seen=error, fix=fix) from error
        if differences:
            what, fix = "the checkpoint belongs to another training", "repeat its command, or give another folder"
            raise ArtifactError(what, where=str(self.folder), seen=differences, fix=fix)

    def _step(self, key: str) -> Path:
        return self.folder / f"{_STEP}{key}{_SUFFIX}"

    def _paths(self, prefix: str) -> list[Path]:
        """The files of a kind, ascending."""
        return sorted(self.folder.glob(f"{prefix}*{_SUFFIX}"))

    def _read(self, path: Path, instead: str, key: str | None = None) -> Kept | None:
        """What a file holds; None, with a warning, if it is damaged or holds another step than that of the key."""
        fix = "make it readable, or remove it"
        with system_errors(ArtifactError, "cannot be read", where=path, fix=fix):
            data = path.read_bytes()
        try:
            facts, arrays = read_sealed(data)
            state = State(facts["facts"], {name: np.array(array) for name, array in arrays.items()})
            if key not in (None, facts["key"]):
                raise DataError("the file is of another step")
            return Kept(facts["key"], facts["seconds"], state)
        except (DataError, KeyError, TypeError, ValueError):
            warnings.warn(f"{path} is damaged: {instead}", CheckpointWarning, stacklevel=2)
            return None

    def _write(self, path: Path, kept: Kept) -> None:
        facts = {"key": kept.key, "seconds": kept.seconds, "facts": dict(kept.state.facts)}
        data = sealed_tensors(facts, kept.state.arrays)
        with self._writing(), atomic.written_file(path, replace=True) as aside:
            aside.write_bytes(data)

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        fix = "free some space there and run the same command again: it continues from what was saved"
        return system_errors(ResourceError, "the checkpoint cannot be written", where=self.folder, fix=fix)
