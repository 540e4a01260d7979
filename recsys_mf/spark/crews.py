"""Crews: the crew of a training, and another where it is lost."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from recsys_mf.errors import RecsysWarning, ResourceError
from recsys_mf.spark.crew import Crew, LostWorkers

T = TypeVar("T")
_ATTEMPTS = 4  # jobs without an epoch in between, before it is given up


@dataclass
class Seconds:
    """Where the time of workers went, as the driver sees it.

    starting : of jobs; preparing : of what they hold, from reading the table to the first epoch; epochs : in all, and
    kernels : of these in the kernels, of the mean worker: the rest is transport and waiting
    """

    starting: float = 0.0
    preparing: float = 0.0
    epochs: float = 0.0
    kernels: float = 0.0


class Standing(NamedTuple):
    """What is being made, and what is said of where others begin."""

    what: str
    begin: str

    @classmethod
    def of_epochs(cls, epoch: int, kept: int) -> Standing:
        """An epoch, and the last one that need not be made again."""
        return cls(f"epoch {epoch}", f"go on from epoch {kept}")


class Crews:
    """The crew that stands, started when it is first wanted.

    start : starts a crew of at most so many workers
    """

    def __init__(self, start: Callable[[int], Crew]) -> None:
        self._start = start
        self._crew: Crew | None = None
        self.seconds = Seconds()

    def run(self, work: Callable[[Crew], T], standing: Callable[[], Standing], most: int) -> T:
        """What a crew does; where it is lost, another does it from the beginning.

        most : workers that have something to do in it
        standing : gives what is being made
        Raises ResourceError where crews are lost time after time.
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
                what, begin = standing()
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
