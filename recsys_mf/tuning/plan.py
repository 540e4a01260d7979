"""Plan: what is searched, on which data and how long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recsys_mf.arguments import format_argument, is_finite, is_number, whole
from recsys_mf.errors import ConfigError
from recsys_mf.experiment import Experiment
from recsys_mf.solvers import SOLVERS, Solver
from recsys_mf.tuning.space import declared

CHEAP_FIRST = ("bias", "svd", "als", "sgd", "gibbs")
"""The solvers that are tried if none is given, in the order of what they usually cost."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What `tune` does.

    experiment : the data, what is held out of them, and the seed; its solver is not used
    solver : the solver to search, with the settings that are fixed; None to also choose the solver, among CHEAP_FIRST
    fixed : names of the settings that are fixed
    minutes : time for everything, including the fit and the test at the end; None for no limit
    trials : settings to try in total, including those that the study already has; None for as many as the time allows
    study : file in which trials are kept and shared; None to keep them in memory
    search_only : leave the fit and the test to another call

    Raises ConfigError for a value out of range, if there is nothing to search, and if nothing ends the search.
    """

    experiment: Experiment
    solver: Solver | None = None
    fixed: tuple[str, ...] = ()
    minutes: float | None = None
    trials: int | None = None
    study: Path | None = None
    search_only: bool = False

    def __post_init__(self) -> None:
        if self.solver is not None and not declared(self.solver, self.fixed):
            fix = "leave a setting free, or use train"
            raise ConfigError(f"solver '{self.solver.name}' has no setting to search", where="tune", fix=fix)
        if self.minutes is None and self.trials is None:
            fix = "give minutes, trials or both: --minutes 5 (minutes=5 in Python)"
            raise ConfigError("nothing says when to stop", where="tune", fix=fix)
        if self.minutes is not None and not (is_number(self.minutes) and is_finite(self.minutes) and self.minutes > 0):
            fix = "give a number above 0"
            raise ConfigError("out of range", where="minutes", seen=format_argument(self.minutes), fix=fix)
        if self.trials is not None:
            whole(self.trials, "trials", 1)
        if self.search_only and self.study is None:
            fix = "give a study to keep the trials in: --study FILE (study=FILE in Python)"
            raise ConfigError("without a study, nothing of the search would be kept", where="search_only", fix=fix)
        if not self.experiment.validation:
            fix = "give a fraction above 0"
            raise ConfigError("settings are chosen on validation rows", where="validation", seen=0, fix=fix)
        for name in ("folds", "start", "compress"):
            if getattr(self.experiment, name) is not None:
                raise ConfigError(f"{name} cannot be given", where="tune", fix="leave it out")

    @property
    def solvers(self) -> Iterator[Solver]:
        """The solvers to search, each with its defaults and the settings that are fixed."""
        if self.solver is not None:
            yield self.solver
        else:
            yield from (SOLVERS[name]() for name in CHEAP_FIRST)
