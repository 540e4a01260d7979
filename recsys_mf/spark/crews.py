"""Crews: the crew of a training, and another where it is lost."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

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


class Crews:
    """The crew that stands, started when it is first wanted.

    start : starts a crew of at most so many workers
    """

    def __init__(self, start: Callable[[int], Crew]) -> None:
        self._start = start
        self._crew: Crew | None = None
        self.seconds = Seconds()

    def run(self, work: Callable[[Crew], T], standing: Callable[[], tuple[int, int]], most: int) -> T:
        """What a crew does; where it is lost, another does it from the beginning.

        most : workers that have something to do in it
        standing : gives the epoch that is being made, and the last one that need not be made again
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
                epoch, begin = standing()
                text = f"workers were lost in epoch {epoch} ({error}); others go on from epoch {begin}"
                if attempt + 1 < _ATTEMPTS:
                    warnings.warn(text, RecsysWarning, stacklevel=2)
        what = f"workers were lost {_ATTEMPTS} times in a row"
        raise ResourceError(what, where="Spark", fix="look at Spark's log and its memory settings")

    def close(self) -> None:
        """End the job of the workers."""
        if self._crew is not None:
            self._crew.stop()
            self._crew = None
