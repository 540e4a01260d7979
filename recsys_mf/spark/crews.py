"""Crews: the crew of a training, which is replaced by another if it is lost."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from recsys_mf.errors import RecsysWarning, ResourceError
from recsys_mf.spark.crew import Crew, LostWorkers

T = TypeVar("T")
_ATTEMPTS = 4  # jobs that are lost without an epoch in between, before the training fails


@dataclass
class Seconds:
    """How the workers spent their time, as the driver sees it.

    starting : starting jobs; preparing : from reading the table to the first epoch
    epochs : all epochs; kernels : the part of these in kernels, mean over workers; the rest is transport and waiting
    """

    starting: float = 0.0
    preparing: float = 0.0
    epochs: float = 0.0
    kernels: float = 0.0


class RecoveryPoint(NamedTuple):
    """What is being computed, and from where other workers would begin, in words for a warning."""

    what: str
    begin: str

    @classmethod
    def of_epochs(cls, epoch: int, kept: int) -> RecoveryPoint:
        """For an epoch. kept : the last epoch that need not be computed again"""
        return cls(f"epoch {epoch}", f"go on from epoch {kept}")


class Crews:
    """The current crew, started when it is first needed.

    start : starts a crew of at most the given number of workers
    """

    def __init__(self, start: Callable[[int], Crew]) -> None:
        self._start = start
        self._crew: Crew | None = None
        self.seconds = Seconds()

    def run(self, work: Callable[[Crew], T], recovery: Callable[[], RecoveryPoint], most: int) -> T:
        """The result of work on a crew; if the crew is lost, another one does the work from the beginning.

        standing : gives what is being computed; most : the number of workers that the work can use
        Raises ResourceError if crews are lost several times in a row.
        """
        for attempt in range(_ATTEMPTS):
            try:
                if self._crew is None:
                    began = time.perf_counter()
                    self._crew = self._start(most)
                    self.seconds.starting += time.perf_counter() - began
                return work(self._crew)
            except LostWorkers as error:
                lost, self._crew = self._crew, None
                if lost is not None:
                    lost.cancel()
                what, begin = recovery()
                text = f"workers were lost in {what} ({error}); others {begin}"
                if attempt + 1 < _ATTEMPTS:
                    warnings.warn(text, RecsysWarning, stacklevel=2)
        failed = f"workers were lost {_ATTEMPTS} times in a row"
        raise ResourceError(failed, where="Spark", fix="look at Spark's log and its memory settings")

    def close(self) -> None:
        """End the job of the workers."""
        if self._crew is not None:
            self._crew.stop()
            self._crew = None
