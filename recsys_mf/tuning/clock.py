"""Clock: what is left of the time, and what must be kept of it for the fit at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_FINAL = 2.2
"""Seconds of the fit at the end, in those of its trial: the choice on validation rows again, the fit on all of train,
and its test."""


@dataclass
class Clock:
    """What is left of a budget.

    minutes : the budget from now on; None for no limit
    has_end : whether there are a fit and a test at the end
    baselines : seconds that the baselines take there, once they are known
    """

    minutes: float | None
    has_end: bool = True
    now: Callable[[], float] = time.monotonic
    baselines: float = 0.0
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.now()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.now() - self.began

    @property
    def left(self) -> float:
        """Seconds left, infinite without a budget."""
        return math.inf if self.minutes is None else 60 * self.minutes - self.elapsed

    def reserve(self, best: float, default: float | None) -> float:
        """Seconds to keep for the end if the best trial took so long.

        default : seconds of the trial of its solver's defaults, which are fitted beside it; None if it is the best
        """
        return self.baselines + _FINAL * (best + (default or 0.0)) if self.has_end else 0.0

    def allowance(self, best: float | None, default: float | None) -> float:
        """Seconds that a trial may take, so that whichever is then the best can be fitted at the end.

        best : seconds to keep for the best so far (`reserve`), None if there is none
        default : as in `reserve`, for the trial itself
        """
        if not self.has_end:
            return self.left
        as_best = (self.left - self.reserve(0.0, default)) / (1 + _FINAL)
        return as_best if best is None else min(as_best, self.left - best)
