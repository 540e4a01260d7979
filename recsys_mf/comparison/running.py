"""Running: the fits of a plan one after another, and how long the rest will take."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from recsys_mf.comparison.keeping import KeptFits
from recsys_mf.comparison.plan import Plan, Trial
from recsys_mf.comparison.tested import Tested, fit_and_test
from recsys_mf.errors import DataError, IdMismatchWarning, RecsysError
from recsys_mf.evaluation.leakage import describe_mismatch
from recsys_mf.kernels.backend import Backend
from recsys_mf.ratings import Ratings
from recsys_mf.splits import Split
from recsys_mf.training import Checkpoint, Progress


@dataclass(frozen=True)
class ComparisonStatus:
    """The progress of a comparison, as it is reported to a watcher before every fit, after every epoch and after it.

    done, total : numbers of fits; kept : how many of them are loaded from the folder of the comparison
    candidate : name of the one that is being fitted, None at the end
    progress : the epoch of this fit, None before its first
    seconds_left : an estimate for all other fits and the rest of this one, None before anything is known
    """

    done: int
    total: int
    kept: int
    candidate: str | None
    progress: Progress | None
    seconds_left: float | None


ComparisonWatcher = Callable[[ComparisonStatus], None]


class Finished(NamedTuple):
    """A fit of a plan, the split that it was tested on, and what was found."""

    trial: Trial
    split: Split
    tested: Tested


def run_plan(
    plan: Plan, ratings: Ratings, backend: Backend, kept: KeptFits | None, watch: ComparisonWatcher
) -> Iterator[Finished]:
    """Yield every fit of the plan, loaded if it was kept, else made now and kept.

    Raises what `train` raises, with the name of the candidate.
    """
    trials = plan.trials(ratings)
    clock = _Clock(trials, kept, watch)
    for number, split in enumerate(plan.splits(ratings)):
        _check_test(split)
        for trial in (trial for trial in trials if trial.split == number):
            if kept is not None and trial in kept:
                yield Finished(trial, split, kept.load(trial))
                continue
            clock.start(trial)
            with contextlib.nullcontext() if kept is None else kept.checkpoint(trial) as checkpoint:
                tested = _fitted(plan, trial, split, backend, clock, checkpoint)
                if kept is not None and checkpoint is not None:
                    kept.save(trial, tested)
                    checkpoint.remove()
            clock.stop(trial)
            yield Finished(trial, split, tested)


def _check_test(split: Split) -> None:
    """Raise DataError for fewer than two test rows; warn with IdMismatchWarning if nearly all have unknown ids."""
    assert split.test is not None
    assert split.test_as_read is not None
    if len(split.test) < 2:
        raise DataError("too few test rows", where=split.rule, seen=len(split.test), fix="hold out more")
    message = describe_mismatch(split.train, split.test_as_read, split.test)
    if message:
        warnings.warn(message, IdMismatchWarning, stacklevel=5)


def _fitted(
    plan: Plan, trial: Trial, split: Split, backend: Backend, clock: _Clock, checkpoint: Checkpoint | None
) -> Tested:
    candidate = trial.candidate
    try:
        return fit_and_test(
            split, candidate.solver, backend, seed=trial.seed, validation=plan.validation, watch=clock.tell,
            checkpoint=checkpoint,
        )  # fmt: skip
    except RecsysError as error:
        where = candidate.name if error.where is None else f"{candidate.name}: {error.where}"
        raise type(error)(error.what, where=where, seen=error.seen, fix=error.fix) from error


class _Clock:
    """Measures the fits of a plan and reports the progress to a watcher."""

    def __init__(self, trials: Sequence[Trial], kept: KeptFits | None, watch: ComparisonWatcher) -> None:
        found = [] if kept is None else [trial for trial in trials if trial in kept]
        self._pending = [trial.candidate.name for trial in trials if trial not in found]
        self._total, self._kept, self._watch = len(trials), len(found), watch
        self._durations: dict[str, list[float]] = {}
        for trial in found if self._pending else ():
            assert kept is not None
            seconds = kept.load(trial).facts.seconds
            if seconds is not None:
                self._durations.setdefault(trial.candidate.name, []).append(seconds)
        self._began = time.perf_counter()
        self.tell(None)

    def start(self, trial: Trial) -> None:
        self._began = time.perf_counter()
        self.tell(None)

    def stop(self, trial: Trial) -> None:
        self._durations.setdefault(trial.candidate.name, []).append(time.perf_counter() - self._began)
        self._pending.pop(0)
        self._began = time.perf_counter()
        self.tell(None)

    def tell(self, progress: Progress | None) -> None:
        elapsed = time.perf_counter() - self._began
        left = estimate_seconds_left(self._pending, self._durations, elapsed)
        current = self._pending[0] if self._pending else None
        self._watch(
            ComparisonStatus(self._total - len(self._pending), self._total, self._kept, current, progress, left)
        )


def estimate_seconds_left(pending: Sequence[str], durations: dict[str, list[float]], elapsed: float) -> float | None:
    """Seconds that the pending fits will take, the first of which has run for `elapsed` seconds.

    durations : candidate -> seconds of its finished fits
    A fit is expected to take the mean of the finished fits of its candidate; if there are none, the mean over the other
    candidates. None if no fit is finished. A fit that has run longer than expected counts as about to end.
    """
    means = {name: sum(seconds) / len(seconds) for name, seconds in durations.items()}
    if not means:
        return None if pending else 0.0
    usual = sum(means.values()) / len(means)
    expected = [means.get(name, usual) for name in pending]
    return sum(expected) - min(elapsed, *expected[:1]) if expected else 0.0
