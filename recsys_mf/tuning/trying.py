"""Trying: one trial of a study, from its start to its end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from recsys_mf.errors import ConfigError, ResourceError, SolveError
from recsys_mf.kernels.backend import Backend
from recsys_mf.splits import Split
from recsys_mf.training import Progress, validate_alone
from recsys_mf.training.epochs import compile_kernels
from recsys_mf.tuning.clock import Clock
from recsys_mf.tuning.study import Attempt, PrunedError, Study, Trial

_FEW = 3  # epochs after which the seconds of all are estimated
_BEFORE_VALIDATION = 4  # total time of a trial, as a multiple of the time up to the choice of the epochs
_CORRELATION = 0.97
_SHARE = 0.5  # share of its most epochs that a solver is expected to need


class TooSlowError(Exception):
    """The trial does not fit into the time that is left.

    seconds : what it would take, estimated from what it took so far
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds:.0f} s")
        self.seconds = seconds


@dataclass(frozen=True, eq=False)
class Job:
    """What is the same for all trials: the split, the parts of its train that settings are validated on, and where."""

    split: Split
    parts: tuple[Split, ...]
    backend: Backend
    seed: int
    clock: Clock

    @property
    def chance(self) -> float:
        """By how much, relatively, one validation RMSE may be lower than another by chance: about a standard error.

        For two models with about normal errors, and a correlation ρ of their squared errors, the relative difference of
        RMSE on n rows has the standard error √(1 - ρ) / √n; for good models of the same ratings, ρ is about 0.97.
        """
        rows = sum(len(part.valid) for part in self.parts if part.valid is not None)
        return math.sqrt((1 - _CORRELATION) / rows)


def try_next(study: Study, job: Job, allowance: float, watch: Callable[[Attempt, Progress | None], None]) -> Trial:
    """Try the next settings of a study; a failure is a failed trial, except for the defaults.

    allowance : seconds after which the trial is given up
    watch : called at the start and after every epoch
    Raises TooSlowError if the allowance is not enough, and what `train` raises for the defaults.
    """
    attempt = study.start()
    compile_kernels(attempt.solver, job.backend)  # not counted among the seconds of the trial
    began = job.clock.elapsed

    def seconds() -> float:
        return job.clock.elapsed - began

    pace = _Pace(allowance, seconds)

    def told(progress: Progress) -> None:
        watch(attempt, progress)
        attempt.saw(progress)
        pace.check(progress)

    try:
        watch(attempt, None)
        found = validate_alone(job.split, job.parts, attempt.solver, job.backend, seed=job.seed, watch=told)
        return attempt.complete(found, seconds())
    except PrunedError:
        return attempt.prune(seconds())
    except TooSlowError as slow:
        attempt.stop(f"about {slow.seconds:.1f} s", seconds())
        raise
    except (ConfigError, ResourceError, SolveError) as error:
        trial = attempt.fail(error, seconds())
        if attempt.is_default:
            raise
        return trial
    except BaseException:
        attempt.fail("interrupted", seconds())
        raise


class _Pace:
    """Estimates whether a trial fits into its allowance, from the seconds of its first epochs and all its seconds."""

    def __init__(self, allowance: float, seconds: Callable[[], float]) -> None:
        self._allowance, self._seconds = allowance, seconds
        self._began = math.nan

    def check(self, progress: Progress) -> None:
        """Raise TooSlowError if the trial will not fit."""
        if progress.stage != "validate" and self._seconds() <= self._allowance:
            return
        if progress.epoch == 1:
            self._began = self._seconds()
        expected = self._seconds() * (1 if progress.stage == "validate" else _BEFORE_VALIDATION)
        if progress.epoch > _FEW:
            per_epoch = (self._seconds() - self._began) / (progress.epoch - 1)
            expected = max(expected, self._began + per_epoch * _SHARE * progress.n_epochs)
        if expected > self._allowance:
            raise TooSlowError(expected)
