"""Clock: how much time is left, and how much of it must be kept for the fit at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

_FIT = 1.5  # time of the fit on all of train and its test, as a multiple of the time of its trial


def fit_seconds(trial_seconds: float, *, is_known: bool) -> float:
    """Seconds of the fit and the test of settings at the end.

    is_known : whether what validation chose for them is known, so that validation is not repeated
    """
    return (_FIT if is_known else 1 + _FIT) * trial_seconds


@dataclass
class Clock:
    """What is left of a budget.

    minutes : the budget; None for no limit
    has_end : whether there are a fit and a test at the end
    began : when the budget began, by `now`; None for now
    baselines : seconds that the baselines take at the end, once they are known
    """

    minutes: float | None
    has_end: bool = True
    now: Callable[[], float] = time.monotonic
    baselines: float = 0.0
    began: float | None = None

    def __post_init__(self) -> None:
        self._began = self.now() if self.began is None else self.began

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.now() - self._began

    @property
    def left(self) -> float:
        """Seconds left, infinite without a budget."""
        return math.inf if self.minutes is None else 60 * self.minutes - self.elapsed

    def reserve(self, fits: float) -> float:
        """Seconds to keep for the end if its fits take this long (`fit_seconds`)."""
        return self.baselines + fits if self.has_end else 0.0

    def allowance(self, best: float | None, default: float) -> float:
        """Seconds that a trial may take, so that enough time is left to fit the best settings at the end.

        best : seconds to keep for the best so far (`reserve`), None if there is none
        default : seconds of the fit of the defaults of the trial's solver, which are fitted in addition to the best
        """
        if not self.has_end:
            return self.left
        as_best = (self.left - self.reserve(default)) / (1 + _FIT)
        return as_best if best is None else min(as_best, self.left - best)
