"""Keeping: fits in a folder, so that a comparison that was interrupted, or is extended, continues.

    comparison.json       what the folder is
    KEY.safetensors       one fit: `errors` float32[n] of the test rows, `facts` (JSON as bytes) and `digest`, the
                          SHA-256 of both
    KEY/                  the fit that is being made (`training.checkpoint`)

KEY is a digest of everything that a result depends on: the rows, the split, the candidate with its settings, the seed,
the device, its threads and the versions of the software. If any of these changes, the fit is repeated; no file in the
folder is removed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from recsys_mf import atomic, strict_json
from recsys_mf.comparison.plan import Plan, Trial
from recsys_mf.comparison.tested import Facts, Tested
from recsys_mf.errors import ArtifactError, DataError, system_errors
from recsys_mf.kernels.backend import Backend
from recsys_mf.outputs import FolderKind
from recsys_mf.store.tensors import read_sealed, sealed_tensors
from recsys_mf.training import Checkpoint, provenance

_KIND = FolderKind("a comparison", "comparison.json", "recsys_mf comparison", ())
_MACHINE = ("device", "card", "driver", "kernels", "threads", "processor", "libraries")


class KeptFits:
    """The finished fits of a plan in a folder, which is made if it does not exist.

    Raises ArtifactError for a folder with other files, and if it cannot be written.
    """

    def __init__(self, folder: Path, plan: Plan, backend: Backend) -> None:
        self.folder = folder
        machine = provenance.of_machine(backend)
        self._shared = {
            "machine": {name: machine.get(name) for name in _MACHINE},
            "validation": plan.validation,
        }
        self._open()

    def __contains__(self, trial: Trial) -> bool:
        return self._path(trial).is_file()

    def load(self, trial: Trial) -> Tested:
        """A finished fit. Raises ArtifactError if its file is damaged."""
        path = self._path(trial)
        fix = "remove this file: the fit is then repeated"
        with system_errors(ArtifactError, "cannot be read", where=path, fix=fix):
            data = path.read_bytes()
        try:
            return _unpacked(data)
        except (DataError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError("damaged", where=str(path), seen=error, fix=fix) from error

    def save(self, trial: Trial, tested: Tested) -> None:
        """Keep a fit. Raises ArtifactError if it cannot be written."""
        path = self._path(trial)
        with self._writing(), atomic.written_file(path, replace=True) as aside:
            aside.write_bytes(_packed(tested))

    def checkpoint(self, trial: Trial) -> Checkpoint:
        """The checkpoint of a fit that is not finished; to be removed when the fit is saved."""
        return Checkpoint(self._path(trial).with_suffix(""))

    def _open(self) -> None:
        with self._writing():
            if self.folder.exists() and not _KIND.is_at(self.folder) and not atomic.is_free(self.folder):
                fix = "give another folder, or a new one"
                raise ArtifactError("not a folder of a comparison", where=str(self.folder), fix=fix)
            if not self.folder.absolute().parent.is_dir():
                raise ArtifactError("no such folder", where=str(self.folder.absolute().parent), fix="create it first")
            self.folder.mkdir(exist_ok=True)
            with atomic.written_file(self.folder / _KIND.facts, replace=True) as aside:
                aside.write_text(strict_json.to_text({"format": _KIND.format}) + "\n")

    def _path(self, trial: Trial) -> Path:
        solver = trial.candidate.solver
        facts = self._shared | {
            "rule": dict(trial.rule),
            "seed": trial.seed,
            "solver": solver.name,
            "settings": solver.settings(),
        }
        key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
        return self.folder / f"{key[:40]}.safetensors"

    def _writing(self) -> Any:
        fix = "make it writable, free some space, or give another folder"
        return system_errors(ArtifactError, "cannot be written", where=self.folder, fix=fix)


def _packed(tested: Tested) -> bytes:
    return sealed_tensors(dataclasses.asdict(tested.facts), {"errors": tested.errors})


def _unpacked(data: bytes) -> Tested:
    facts, arrays = read_sealed(data)
    return Tested(Facts(**facts), arrays["errors"])
