"""Tuned: what a search found, and its error on the test part."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys_mf.comparison.differences import Difference, bootstrap_difference
from recsys_mf.comparison.tested import errors_of
from recsys_mf.evaluation.metrics import METRICS, Estimate, PairedBootstrap
from recsys_mf.experiment import Outcome
from recsys_mf.kernels.backend import PredictionKernels
from recsys_mf.models import Model
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import Solver
from recsys_mf.tuning.study import COMPLETE, FAILED, PRUNED, RUNNING, STOPPED, Trial


@dataclass(frozen=True)
class Tested:
    """The test RMSE of the best settings and of the defaults of their solver, on the same rows.

    difference : best minus defaults, with its paired 95 % interval
    If the defaults are the best, `default` and `difference` are None.
    """

    best: Estimate
    default: Estimate | None
    difference: Difference | None
    rows: int


@dataclass(frozen=True, eq=False)
class Tuned:
    """What `tune` found.

    best : the trial whose settings are used: that of the defaults, unless another has a clearly lower validation RMSE
    default : that of the defaults of its solver, None if it did not end; lowest : that of lowest validation RMSE
    chance : the relative difference beyond which an error is clearly lower (`trying.Job.chance`)
    trials : all of them, in the order of the solvers
    searched : solver -> the settings that were searched, with what was tried of each; fixed : those that were not
    left_out : solver -> why it was not searched
    outcome : the run of the best settings, fitted on all training rows, and its report; None after a search alone
    tested : None after a search alone, and if nothing was held out
    times_tested : how often the test part was used with this study
    seconds : of everything; minutes : the budget, None if there was none
    setup : the split in words, rows and seed
    """

    best: Trial
    default: Trial | None
    lowest: Trial
    chance: float
    trials: tuple[Trial, ...] = dataclasses.field(repr=False)
    searched: Mapping[str, Mapping[str, Any]]
    fixed: Mapping[str, Any]
    left_out: Mapping[str, str]
    outcome: Outcome | None = dataclasses.field(repr=False)
    tested: Tested | None
    times_tested: int
    seconds: float
    minutes: float | None
    setup: Mapping[str, Any]

    @property
    def solver(self) -> Solver:
        """A solver with the best settings, as it is given to `train`."""
        return self.best.as_solver()

    @property
    def run(self) -> Any:
        """The trained run of the best settings, None after a search alone."""
        return None if self.outcome is None else self.outcome.run

    @property
    def counts(self) -> dict[str, int]:
        """The trials by their states."""
        found = Counter(trial.state for trial in self.trials)
        return {state: found[state] for state in (COMPLETE, PRUNED, STOPPED, FAILED, RUNNING)}

    def to_mapping(self) -> dict[str, Any]:
        """Everything except the run as plain values."""
        plain = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("outcome", "best", "default", "lowest", "trials", "tested")
        }
        trials = {name: None if one is None else dataclasses.asdict(one) for name, one in self._named.items()}
        tested = None if self.tested is None else dataclasses.asdict(self.tested)
        all_trials = [dataclasses.asdict(trial) for trial in self.trials]
        return {"kind": "tuning", **trials, "tested": tested, "counts": self.counts, **plain, "trials": all_trials}

    @property
    def _named(self) -> dict[str, Trial | None]:
        return {"best": self.best, "default": self.default, "lowest": self.lowest}


def score(best: Model, default: Model | None, test: Ratings, backend: PredictionKernels) -> Tested:
    """The models of the best settings and of the defaults on the test rows.

    default : None if the defaults are the best
    """
    weights = None if test.weights is None else test.weights.astype(np.float64)
    bootstrap = PairedBootstrap(len(test), np.random.default_rng(0), weights)

    def scored(model: Model) -> Any:
        return bootstrap.score(METRICS["rmse"], errors_of(model, test, backend).astype(np.float64))

    found = scored(best)
    if default is None:
        return Tested(found.estimate, None, None, len(test))
    other = scored(default)
    return Tested(found.estimate, other.estimate, bootstrap_difference(found, other), len(test))
