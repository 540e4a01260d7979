"""Study: which settings of one solver were tried, and which are tried next; kept by Optuna (`storage`)."""

from __future__ import annotations

import contextlib
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from recsys_mf import strict_json
from recsys_mf.errors import ArtifactError
from recsys_mf.solvers import SOLVERS, Solver
from recsys_mf.training import Progress, Validated
from recsys_mf.tuning.sampling import fixed_sampler, pruner, sampler
from recsys_mf.tuning.space import Space

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

COMPLETE, PRUNED, STOPPED, FAILED, RUNNING = "complete", "pruned", "stopped", "failed", "running"
_TO_SIGN = timedelta(minutes=1)  # within which a process must record itself in a trial that it has started
_DIFFERS = {
    "split": "ratings or another split of them",
    "validation": "validation rows",
    "seed": "seed",
    "fixed": "settings that are fixed",
    "space": "settings that are searched",
}
"""Facts of a study, and what a message calls them if they differ."""


class PrunedError(Exception):
    """The settings that are being tried are clearly worse than others so far."""


@dataclass(frozen=True)
class Trial:
    """Settings that were tried.

    number : in its study, from 0
    state : complete, pruned (given up as clearly worse), stopped (too slow for the time left), failed or running
    settings : as they were requested; chosen : with the values that validation chose, such as epochs; None unless
        complete
    error : the validation RMSE, for pruned settings that of the last epoch; None if not known
    epochs : epochs that ran, in all stages
    is_default : whether these are the defaults of the solver
    problem : why it failed or was stopped, or None
    """

    number: int
    solver: str
    state: str
    settings: Mapping[str, Any]
    chosen: Mapping[str, Any] | None
    error: float | None
    seconds: float
    epochs: int
    is_default: bool
    problem: str | None

    def as_solver(self) -> Solver:
        """The solver that was tried."""
        return SOLVERS[self.solver](**self.settings)


class Study:
    """The trials of one solver in a storage.

    facts : what every trial depends on, as plain values
    where : name of the storage, for messages
    known : number -> what validation chose, for the defaults and for the best trial of this process
    Raises ArtifactError if the storage has a study of this solver with other facts.
    """

    def __init__(self, space: Space, facts: Mapping[str, Any], storage: BaseStorage, where: str, seed: int) -> None:
        import optuna

        self.space, self._seed = space, seed
        self.known: dict[int, Validated] = {}
        name, facts = space.solver.name, strict_json.from_text(strict_json.to_text(facts).encode())
        self._study = optuna.create_study(study_name=name, storage=storage, direction="minimize", load_if_exists=True)
        known = self._study.user_attrs.get("facts")
        if known is None:
            self._study.set_user_attr("facts", facts)
        elif known != facts:
            other = next((word for key, word in _DIFFERS.items() if known.get(key) != facts.get(key)), "facts")
            fix = "give another file, or the options that the study was made with"
            raise ArtifactError(f"the study of '{name}' has other {other}", where=where, fix=fix)
        self._fail_lost()

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, including those of other processes."""
        return tuple(map(self._as_trial, self._frozen()))

    @property
    def default(self) -> Trial | None:
        """The trial of the defaults, None if it was not completed."""
        return next((trial for trial in self.trials if trial.is_default and trial.state == COMPLETE), None)

    @property
    def needs_defaults(self) -> bool:
        """Whether the defaults were not tried, or their trial was lost."""
        frozen = self._frozen()
        return _are_defaults_due(frozen, len(frozen))

    @property
    def times_tested(self) -> int:
        """How often the best settings were fitted on all of train and tested."""
        return int(self._study.user_attrs.get("tested", 0))

    def count_test(self) -> None:
        """Count one more test."""
        self._study.set_user_attr("tested", self.times_tested + 1)

    def start(self) -> Attempt:
        """The next settings to try: the defaults if they were not tried, else what the sampler suggests."""
        frozen = self._frozen()
        drawn = sampler([self._seed, len(frozen)])
        given: dict[str, Any] = {}
        self._study.sampler = fixed_sampler(given) if _are_defaults_due(frozen, len(frozen)) else drawn
        trial = self._study.ask()
        trial.set_user_attr("process", [platform.node(), os.getpid()])
        is_default = _are_defaults_due(self._frozen(), trial.number)
        if not is_default:  # two processes that start at the same time then draw different settings
            self._study.sampler = sampler([self._seed, trial.number, 1])
        solver = self.space.solver if is_default else self.space.draw(trial)
        trial.set_user_attr("settings", solver.settings())
        trial.set_user_attr("defaults", is_default)
        return Attempt(self, trial, solver, given if is_default else None)

    def tell(self, trial: optuna.Trial, state: str, value: float | None = None) -> Trial:
        """End a trial."""
        from optuna.trial import TrialState

        states = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED}
        return self._as_trial(self._study.tell(trial, value, state=states.get(state, TrialState.FAIL)))

    def keep(self, trial: Trial, found: Validated) -> None:
        """Keep what validation chose if it may be needed at the end."""
        if trial.is_default:
            self.known[trial.number] = found
            return
        others = [number for number in self.known if self.default is None or number != self.default.number]
        if all(found.error < self.known[number].error for number in others):
            for number in others:
                del self.known[number]
            self.known[trial.number] = found

    def _frozen(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _fail_lost(self) -> None:
        """Mark as failed the trials whose process on this machine has ended, and those in which no process is recorded:
        it ended between starting the trial and recording itself.
        """
        from optuna.trial import TrialState

        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            node, process = trial.user_attrs.get("process", (None, None))
            begun = trial.datetime_start or datetime.min
            is_lost = node == platform.node() and process != os.getpid() and not _is_alive(process)
            if is_lost or (node is None and datetime.now() - begun > _TO_SIGN):
                with contextlib.suppress(ValueError):  # another process was quicker
                    self._study.tell(trial.number, state=TrialState.FAIL)

    def _as_trial(self, trial: FrozenTrial) -> Trial:
        from optuna.trial import TrialState

        names = {TrialState.COMPLETE: COMPLETE, TrialState.PRUNED: PRUNED, TrialState.FAIL: FAILED}
        facts, state = trial.user_attrs, names.get(trial.state, RUNNING)
        state = STOPPED if state == FAILED and facts.get("stopped") else state
        lost = "the process ended" if state == FAILED else None
        return Trial(
            number=trial.number,
            solver=self.space.solver.name,
            state=state,
            settings=facts.get("settings", {}),
            chosen=facts.get("chosen"),
            error=trial.value if trial.value is not None and math.isfinite(trial.value) else None,
            seconds=facts.get("seconds", 0.0),
            epochs=facts.get("epochs", 0),
            is_default=facts.get("defaults", trial.number == 0),
            problem=facts.get("problem", lost),
        )


class Attempt:
    """Settings that are being tried.

    place : filled at the end with the point of the space that validation chose for the defaults; None for others
    """

    def __init__(self, study: Study, trial: optuna.Trial, solver: Solver, place: dict[str, Any] | None) -> None:
        self._study, self._trial, self.solver, self._place = study, trial, solver, place
        self._curve, self.epochs = _Curve(solver), 0
        trial.study.pruner = pruner(self._curve.length)

    @property
    def is_default(self) -> bool:
        """Whether these are the defaults, which are never pruned."""
        return self._place is not None

    def saw(self, progress: Progress) -> None:
        """Report an epoch. Raises PrunedError if its validation error is clearly worse than others at this epoch."""
        self.epochs += 1
        step = self._curve.step(progress)
        if step is None or progress.valid_rmse is None:
            return
        self._trial.report(progress.valid_rmse, step)
        if not self.is_default and self._trial.should_prune():
            raise PrunedError

    def complete(self, found: Validated, seconds: float) -> Trial:
        """End the trial with the error of what validation chose."""
        if self._place is not None:
            self._place.update(self._study.space.nearest(found.solver))
            self._study.space.draw(self._trial)  # so that the sampler knows where the defaults are
        trial = self._end(COMPLETE, seconds, found.error, chosen=found.solver.settings())
        self._study.keep(trial, found)
        return trial

    def prune(self, seconds: float) -> Trial:
        """End the trial as clearly worse than others."""
        return self._end(PRUNED, seconds)

    def stop(self, problem: str, seconds: float) -> Trial:
        """End the trial as too slow."""
        return self._end(STOPPED, seconds, problem=problem, stopped=True)

    def fail(self, problem: object, seconds: float) -> Trial:
        """End the trial without an error to compare."""
        return self._end(FAILED, seconds, problem=str(problem))

    def _end(self, state: str, seconds: float, value: float | None = None, **facts: Any) -> Trial:
        for name, fact in {"seconds": seconds, "epochs": self.epochs, **facts}.items():
            self._trial.set_user_attr(name, fact)
        return self._study.tell(self._trial, state, value)


class _Curve:
    """The validation curve of a solver: its epochs; for a committee, those of a member, then the members.

    length : the most epochs in the first of these two parts
    """

    _POINTS = 20  # at most in each part: every point is a line in a file

    def __init__(self, solver: Solver) -> None:
        member = solver.selection().member
        self.length = (member or solver).n_epochs
        self._offsets = {"validate": 0} if member is None else {"member": 0, "validate": self.length}
        self._last = 0

    def step(self, progress: Progress) -> int | None:
        """The step of an epoch, None for one that is not compared with those of other trials."""
        if progress.stage not in self._offsets or self.length == 1:
            return None
        step = self._offsets[progress.stage] + progress.epoch
        if step <= self._last or progress.epoch % max(1, progress.n_epochs // self._POINTS):
            return None
        self._last = step
        return step


def _are_defaults_due(trials: list[FrozenTrial], number: int) -> bool:
    """Whether the trial with this number is for the defaults: the first one, or the next if that was lost."""
    from optuna.trial import TrialState

    earlier = (trial for trial in trials if trial.number < number)
    tried = (trial for trial in earlier if trial.number == 0 or trial.user_attrs.get("defaults"))
    return all(trial.state == TrialState.FAIL for trial in tried)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
