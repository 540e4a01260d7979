"""Searching: which solver is tried next, until the trials or the time are used up."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from recsys_mf.errors import RecsysError, ResourceError
from recsys_mf.solvers.search import is_better
from recsys_mf.training import Progress
from recsys_mf.tuning.clock import fit_seconds
from recsys_mf.tuning.study import COMPLETE, FAILED, RUNNING, Attempt, Study, Trial
from recsys_mf.tuning.trying import Job, TooSlowError, try_next

_PROMISING = 0.02  # of the best error, relative: a solver whose best is worse by more is not searched any further
_HOPELESS = 10  # failures in a row after which a solver is given up
_MARGIN = 1.2  # on an estimate of the time needed


@dataclass(frozen=True)
class TuningStatus:
    """The progress of a search, as it is reported to a watcher before every trial, after every epoch and after it.

    finished : number of trials that ended, in this process and others; wanted : the number to reach, None if only the
        time decides
    best : the lowest validation RMSE so far, None before the first
    solver : what is being tried or, at the end, fitted; is_final : whether that is the fit at the end
    progress : the epoch, None before the first
    ended : the trial that has just ended, or None
    elapsed, seconds_left : of the budget; infinite seconds are left without one
    """

    finished: int
    wanted: int | None
    best: float | None
    solver: str
    is_final: bool
    progress: Progress | None
    ended: Trial | None
    elapsed: float
    seconds_left: float


TuningWatcher = Callable[[TuningStatus], None]


@dataclass(eq=False)
class Search:
    """The studies of all solvers that are searched.

    wanted : trials of all studies together, None for no limit
    left_out : solver -> why it is not searched, in words
    """

    studies: Sequence[Study]
    job: Job
    wanted: int | None
    watch: TuningWatcher
    left_out: dict[str, str] = field(default_factory=dict)
    _needed: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Try the defaults of every solver, then continue with those that are promising, in turns.

        Raises ResourceError if the time is not even enough for the defaults of one solver, and what `train` raises for
        the defaults of the only solver.
        """
        for study in self.studies:
            if study.needs_defaults and not self._is_enough():
                self._try_defaults(study)
        while not self._is_enough() and (turn := self._next()) is not None:
            study, allowance = turn
            with contextlib.suppress(TooSlowError):
                self._try(study, allowance)
        if not self._complete():
            self._raise_nothing()

    def best(self) -> tuple[Study, Trial]:
        """The settings to use: for every solver, the settings of lowest error if it is clearly lower than that of the
        defaults, else the defaults; then the solver with the lowest error of these.

        The defaults are good on many tables, so a gain that may be due to chance does not replace them (`Job.chance`).
        """
        return min((self._of_solver(study) for study in self._tried()), key=lambda found: _error(found[1]))

    def lowest(self, study: Study) -> Trial:
        """The complete trial of a solver with the lowest error, the earliest if several are equal."""
        return min(self._complete(study), key=lambda trial: (_error(trial), trial.number))

    def _of_solver(self, study: Study) -> tuple[Study, Trial]:
        lowest, default = self.lowest(study), study.default
        if default is None or is_better(_error(lowest), _error(default), self.job.chance):
            return study, lowest
        return study, default

    def _tried(self) -> list[Study]:
        return [study for study in self.studies if self._complete(study)]

    def _complete(self, *studies: Study) -> list[Trial]:
        found = (trial for study in studies or self.studies for trial in study.trials)
        return [trial for trial in found if trial.state == COMPLETE and trial.error is not None]

    def trials(self) -> tuple[Trial, ...]:
        """The trials of all studies."""
        return tuple(trial for study in self.studies for trial in study.trials)

    def _is_enough(self) -> bool:
        return self.wanted is not None and self._n_finished() >= self.wanted

    def _n_finished(self) -> int:
        return sum(trial.state != RUNNING for trial in self.trials())

    def _try_defaults(self, study: Study) -> None:
        """Try the defaults; a solver that cannot be tried is left out, if there are others."""
        name = study.space.solver.name
        clock, allowance = self.job.clock, self.job.clock.allowance(self._reserve(), 0.0)
        try:
            self._try(study, allowance)
        except TooSlowError as slow:
            fit = fit_seconds(slow.seconds, is_known=True)
            self._needed.append(clock.elapsed + slow.seconds + clock.reserve(fit))
            self.left_out[name] = (
                f"its defaults take about {slow.seconds:.1f} s, but only {max(0, allowance):.1f} s were left"
            )
        except RecsysError as error:
            if len(self.studies) == 1:
                raise
            self.left_out[name] = str(error)

    def _raise_nothing(self) -> None:
        """Raise the ResourceError that no trial is complete."""
        if not self._needed:
            reasons = "; ".join(dict.fromkeys(trial.problem or trial.state for trial in self.trials()))
            fix = "give more time or more trials"
            raise ResourceError("no settings could be tried to the end", where="tune", seen=reasons or None, fix=fix)
        minutes = math.ceil(10 * _MARGIN * min(self._needed) / 60) / 10
        fix, seen = f"give about {minutes:g} or more", f"{self.job.clock.minutes:g}"
        raise ResourceError("too little time even for the default settings", where="minutes", seen=seen, fix=fix)

    def _next(self) -> tuple[Study, float] | None:
        """The promising solver that has used the least time, of those that still fit into it; and its allowance."""
        reserve, turns = self._reserve(), []
        for study in self.studies:
            allowance = self.job.clock.allowance(reserve, _fit_seconds(study, study.default))
            if self._is_promising(study) and _usual_seconds(study) <= allowance:
                turns.append((sum(trial.seconds for trial in study.trials), study, allowance))
        return min(turns, key=lambda turn: turn[0])[1:] if turns else None

    def _is_promising(self, study: Study) -> bool:
        """Whether a solver has settings to search and may still become the best."""
        name, trials = study.space.solver.name, study.trials
        over = [trial for trial in trials if trial.state != RUNNING]
        is_hopeless = len(over) >= _HOPELESS and all(trial.state == FAILED for trial in over[-_HOPELESS:])
        if not study.space.axes or name in self.left_out or is_hopeless:
            return False
        errors = list(map(_error, self._complete(study)))
        return not errors or min(errors) <= (1 + _PROMISING) * min(map(_error, self._complete()))

    def _reserve(self) -> float | None:
        """Seconds to keep for the best so far, None if there is none."""
        if not self._complete():
            return None
        study, best = self.best()
        default = None if best.is_default else study.default
        return self.job.clock.reserve(_fit_seconds(study, best) + _fit_seconds(study, default))

    def _try(self, study: Study, allowance: float) -> None:
        best = min(map(_error, self._complete()), default=None)
        finished = self._n_finished()

        def told(attempt: Attempt, progress: Progress | None) -> None:
            self.watch(self.status(attempt.solver.name, finished, best, progress))

        ended = try_next(study, self.job, allowance, told)
        errors = [error for error in (best, ended.error if ended.state == COMPLETE else None) if error is not None]
        self.watch(replace(self.status(ended.solver, finished + 1, min(errors, default=None), None), ended=ended))

    def status(
        self, solver: str, finished: int, best: float | None, progress: Progress | None, *, is_final: bool = False
    ) -> TuningStatus:
        """The progress now."""
        clock = self.job.clock
        left = max(0.0, clock.left)
        return TuningStatus(finished, self.wanted, best, solver, is_final, progress, None, clock.elapsed, left)


def _usual_seconds(study: Study) -> float:
    """The usual seconds of a complete trial, those of the defaults if there is no other; 0 if there is none."""
    done = [trial for trial in study.trials if trial.state == COMPLETE]
    tuned = [trial.seconds for trial in done if not trial.is_default] or [trial.seconds for trial in done]
    return float(np.median(tuned)) if tuned else 0.0


def _fit_seconds(study: Study, trial: Trial | None) -> float:
    """Seconds of the fit of a trial at the end, 0 without a trial."""
    return 0.0 if trial is None else fit_seconds(trial.seconds, is_known=trial.number in study.known)


def _error(trial: Trial) -> float:
    return math.inf if trial.error is None else trial.error
