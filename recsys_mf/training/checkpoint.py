"""Checkpoint: a training in a folder while it runs, so that the same call continues after its process was ended.

The rows, the settings and the seed determine every step of a training, so a process that continues takes the same
steps: it reads the finished ones from their files (`kept_files`), and continues the first unfinished one from its last
state.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from recsys_mf.arguments import format_argument, is_finite, is_number
from recsys_mf.errors import ConfigError
from recsys_mf.solvers import Solver
from recsys_mf.solvers.state import State
from recsys_mf.splits import Split
from recsys_mf.storage import on_this_machine
from recsys_mf.training.kept_files import KIND, Kept, KeptFiles
from recsys_mf.training.steps import PROGRESS, Step, Steps

EVERY = 60.0
"""Seconds between two states, by default."""


class Continued(NamedTuple):
    """Where a training continues.

    finished : number of steps that are taken from the folder
    label, stage, epoch : of the step that continues from a state; None if the next step starts from its beginning
    """

    folder: Path
    finished: int
    label: str | None
    stage: str | None
    epoch: int | None


def _ignore(continued: Continued) -> None:
    """The default of `on_continue`."""


class Checkpoint:
    """A folder that keeps a training, or those of a cross-validation, until `remove`. It is closed after use (`with`).

    folder : made by the first training, to which it then belongs
    every : seconds between two states
    on_continue : called once, if there is something to continue from
    earlier : seconds of work that earlier processes saved, as far as it has been used until now

    Raises ArtifactError for a folder with other files, and in `training` for one that belongs to another training or
    that another process uses; ResourceError if it cannot be written. Warns with CheckpointWarning if a file is damaged:
    the previous state is used instead, or the step is repeated.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: float = EVERY,
        *,
        on_continue: Callable[[Continued], None] = _ignore,
    ) -> None:
        if not (is_number(every) and is_finite(every) and every >= 0):
            fix = "give seconds, 0 or more"
            raise ConfigError("every is out of range", seen=format_argument(every), fix=fix)
        self.folder, self._every, self._on_continue = on_this_machine(folder, "checkpoint"), float(every), on_continue
        self._files = KeptFiles(self.folder)
        self._is_stopping = self._has_begun = self._has_told = False
        self._finished = 0
        self._running: Solver | None = None
        self._began = self._saved = time.monotonic()
        self.earlier = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @staticmethod
    def is_at(folder: Path) -> bool:
        """Whether the folder is a checkpoint; does not check whether it is intact."""
        return KIND.is_at(folder)

    @property
    def seconds(self) -> float:
        """Seconds of work in the training until now, including those that earlier processes saved."""
        return self.earlier + time.monotonic() - self._began

    @property
    def unsaved(self) -> float:
        """Seconds since the last state or finished step."""
        return time.monotonic() - self._saved

    def stop(self) -> bool:
        """Ask the training to save after this epoch and to raise KeyboardInterrupt then.

        Returns False if no step is running that can be saved, or if this was called before.
        """
        if self._running is None or not self._running.resumes or self._is_stopping:
            return False
        self._is_stopping = True
        return True

    @contextlib.contextmanager
    def training(self, identity: Mapping[str, Any]) -> Iterator[Steps]:
        """The steps of a training.

        identity : everything that its results depend on (`identity.identity_of`); the folder belongs to the first one
        """
        if not self._files.is_taken:
            self._files.take(identity)
            self._began = self._saved = time.monotonic()
        text = json.dumps(identity, sort_keys=True, default=str)
        try:
            yield partial(self._step, text)
            self._tell(None, None, None)  # if all of its steps were finished
        finally:
            self._running = None

    def close(self) -> None:
        """Let other processes use the folder."""
        self._files.release()

    def remove(self) -> None:
        """Remove what is kept, and the folder if nothing else is in it. Raises ResourceError if that fails."""
        self._files.remove()

    def _step(self, training: str, label: str, stage: str, solver: Solver, parts: tuple[Split, ...]) -> Step:
        """A step, by a digest of all that it depends on."""
        sizes = [(len(part.train), len(part.valid or ())) for part in parts]
        facts = [training, label, stage, solver.name, solver.settings(), sizes]
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:40]
        return Step(
            result=partial(self._result, key),
            begin=partial(self._begin, key, label, stage, solver),
            offer=partial(self._offer, key),
            finish=partial(self._finish, key),
        )

    def _result(self, key: str) -> State | None:
        found = self._files.read_result(key) if self._files.has_result(key) else None
        if found is None:
            return None
        self.earlier = max(self.earlier, found.seconds)
        self._finished += not self._has_begun
        return found.state

    def _begin(self, key: str, label: str, stage: str, solver: Solver) -> State | None:
        self._running = solver
        if self._has_begun:
            return None
        self._has_begun = True
        found = self._files.read_state(key)
        if found is None:
            self._tell(None, None, None)
            return None
        self.earlier = max(self.earlier, found.seconds)
        self._tell(label, stage, found.state.facts[PROGRESS]["epoch"])
        return found.state

    def _tell(self, label: str | None, stage: str | None, epoch: int | None) -> None:
        """Report once where the training continues, if it does."""
        if not self._has_told and (self._finished or label is not None):
            self._on_continue(Continued(self.folder, self._finished, label, stage, epoch))
        self._has_told = True

    def _offer(self, key: str, state: Callable[[], State]) -> None:
        if self._is_stopping or self.unsaved >= self._every:
            self._files.write_state(Kept(key, self.seconds, state()))
            self._saved = time.monotonic()
        if self._is_stopping:
            raise KeyboardInterrupt

    def _finish(self, key: str, result: Callable[[], State]) -> None:
        self._files.write_result(Kept(key, self.seconds, result()))
        self._saved, self._running = time.monotonic(), None
        if self._is_stopping:
            raise KeyboardInterrupt


@contextlib.contextmanager
def opened(checkpoint: Checkpoint | str | os.PathLike[str] | None, every: float) -> Iterator[Checkpoint | None]:
    """The given checkpoint, which its owner removes; for a folder, a checkpoint there, removed at the end if nothing
    was raised.
    """
    if checkpoint is None or isinstance(checkpoint, Checkpoint):
        yield checkpoint
        return
    with Checkpoint(checkpoint, every) as made:
        yield made
        made.remove()
