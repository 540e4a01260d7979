"""Tuning: from ratings to the best settings, their run and its error, as `recsys-mf tune` does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from recsys_mf.errors import ConfigError
from recsys_mf.experiment import NO_HOOKS, Experiment, Hooks, Outcome, Record
from recsys_mf.kernels import select
from recsys_mf.solvers import Solver
from recsys_mf.splits import Split
from recsys_mf.storage import on_this_machine
from recsys_mf.training import BASELINE, Progress, Validated, as_solver, baselines, cut_parts, finish_alone, fit_alone
from recsys_mf.tuning.clock import Clock
from recsys_mf.tuning.plan import Plan
from recsys_mf.tuning.searching import Search, TuningStatus, TuningWatcher
from recsys_mf.tuning.space import Space
from recsys_mf.tuning.storage import open_storage, quiet_optuna, require_optuna
from recsys_mf.tuning.study import Study
from recsys_mf.tuning.trying import Job
from recsys_mf.tuning.tuned import Tested, Tuned, score

_BASELINES = 4.5  # time of all baselines, as a multiple of the time of the truncated SVD `BASELINE`


def _ignore(status: TuningStatus) -> None:
    """The default of `watch`."""


def tune(
    ratings: Any,
    solver: Solver | type[Solver] | str | None = None,
    *,
    minutes: float | None = None,
    trials: int | None = None,
    fixed: Mapping[str, Any] | None = None,
    study: str | os.PathLike[str] | None = None,
    watch: TuningWatcher = _ignore,
    **others: Any,
) -> Tuned:
    """Search the settings of a solver on validation rows, fit the best on all training rows, and test them once.

    ratings : the path of a table, a table in memory or Ratings
    solver : the solver to search, its name or its class; None to also choose the solver
    minutes : time for everything, including the fit and the test at the end
    trials : settings to try in total, including those that the study already has; minutes, trials or both must be given
    fixed : settings that are not searched, by name
    study : file in which trials are kept, so that the same call continues after an interruption and several processes
        can share them; None to keep them in memory
    watch : called with a `TuningStatus` before every trial and after every epoch
    others : search_only=True to leave the fit and the test to another call; device, threads as in `train`; and fields
        of `Experiment`: test, hold_out=0.1, by="random", split_seed, validation=0.1, seed=0, baselines, user_features…

        tuned = tune("ratings.parquet", "sgd", minutes=5)
        tuned.best.settings, tuned.tested.difference, tuned.run

    The defaults are always tried first. A trial is pruned when its validation error is clearly worse than those of
    others after as many epochs. With trials instead of minutes the result depends only on the arguments.
    Raises ConfigError if Optuna is not installed and for a value out of range, ResourceError if the time is not even
    enough for the defaults, ArtifactError for a study of other data or settings, and what `train` raises.
    """
    own = {name: others.pop(name) for name in ("device", "threads") if name in others}
    search_only = others.pop("search_only", False)
    plan = Plan(
        experiment=Experiment(ratings=ratings, **others),
        solver=None if solver is None else as_solver(solver, fixed),
        fixed=tuple(fixed or ()),
        minutes=minutes,
        trials=trials,
        study=None if study is None else on_this_machine(study, "study"),
        search_only=search_only,
    )
    if solver is None and fixed:
        raise ConfigError("settings belong to a solver", where="fixed", seen=", ".join(fixed), fix="give a solver too")
    return tune_by_plan(plan, watch=watch, **own)


def tune_by_plan(
    plan: Plan,
    *,
    device: str = "auto",
    threads: int | None = None,
    watch: TuningWatcher = _ignore,
    hooks: Hooks = NO_HOOKS,
    began: float | None = None,
) -> Tuned:
    """`tune` by a plan.

    hooks : as in `Experiment.run`
    began : when the minutes began, by `time.monotonic`; None for now
    """
    require_optuna()
    clock, backend = Clock(plan.minutes, not plan.search_only, began=began), select(device, threads)
    split = plan.experiment.split(hooks.on_read)
    parts = cut_parts(split, plan.experiment.validation, plan.experiment.seed, plan.solvers)
    job = Job(split, parts, backend, plan.experiment.seed, clock)
    with quiet_optuna():
        search = Search(_open_studies(plan, job), job, plan.trials, watch)
        if plan.minutes is not None and not plan.search_only:
            clock.baselines = _seconds_of_baselines(plan.experiment, job)
        search.run()
        study, best = search.best()
        found = Tuned(
            best=best,
            default=study.default,
            lowest=search.lowest(study),
            chance=job.chance,
            trials=search.trials(),
            searched={one.space.solver.name: one.space.to_mapping() for one in search.studies},
            fixed={name: best.settings[name] for name in plan.fixed},
            left_out=search.left_out,
            outcome=None,
            tested=None,
            times_tested=study.times_tested,
            seconds=clock.elapsed,
            minutes=plan.minutes,
            setup=_setup(split, plan.experiment),
        )
        if plan.search_only:
            return found
        study.count_test()
        finished = len(found.trials)

        def told(progress: Progress | None) -> None:
            watch(search.status(best.solver, finished, best.error, progress, is_final=True))

        outcome, tested = _fit_and_test(plan, job, found, study.known, told, hooks.record)
        return replace(found, outcome=outcome, tested=tested, times_tested=study.times_tested, seconds=clock.elapsed)


def _open_studies(plan: Plan, job: Job) -> list[Study]:
    """A study for every solver. Raises ConfigError if there is nothing to search, ArtifactError for other facts."""
    storage, studies = open_storage(plan.study), []
    for solver in plan.solvers:
        space = Space.of(solver, plan.fixed, job.split.train, job.backend)
        if not space.axes and plan.solver is not None:
            fix = "leave a setting free, or use train"
            raise ConfigError(f"solver '{solver.name}' has no setting to search", where="tune", fix=fix)
        facts = {
            "split": dict(job.split.record),
            "validation": plan.experiment.validation,
            "seed": plan.experiment.seed,
            "fixed": {name: solver.settings()[name] for name in plan.fixed},
            "space": space.to_mapping(),
        }
        studies.append(Study(space, facts, storage, str(plan.study), plan.experiment.seed))
    return studies


def _seconds_of_baselines(experiment: Experiment, job: Job) -> float:
    """An estimate of the seconds that the baselines will take at the end."""
    solver = (baselines() if experiment.baselines is None else experiment.baselines)[BASELINE]
    began = job.clock.elapsed
    fit_alone(job.split, solver, job.backend, seed=job.seed, validation=experiment.validation)
    return _BASELINES * (job.clock.elapsed - began)


def _fit_and_test(
    plan: Plan,
    job: Job,
    found: Tuned,
    known: Mapping[int, Validated],
    told: Callable[[Progress | None], None],
    record: Callable[[Record], Record],
) -> tuple[Outcome, Tested | None]:
    """The run of the best settings as `train` makes it, and its error together with that of the defaults."""
    told(None)
    experiment, split = replace(plan.experiment, solver=found.solver), job.split

    def recorded(provenance: Record) -> Record:
        return {**record(provenance), "tuned": _what_was_chosen(plan, found)}

    outcome = experiment.run_on(split, job.backend, watch=told, record=recorded, validated=known.get(found.best.number))
    if split.test is None:
        return outcome, None
    default = None
    if not found.best.is_default and found.default is not None:
        fit = finish_alone(
            split, job.parts, found.default.as_solver(), job.backend, validated=known.get(found.default.number),
            seed=job.seed, watch=told,
        )  # fmt: skip
        default = fit.model
    return outcome, score(outcome.run.model, default, split.test, job.backend.make_prediction())


def _what_was_chosen(plan: Plan, found: Tuned) -> dict[str, Any]:
    """What a run records of the search that chose its settings: with this, `train --repeat` need not search again."""
    return {
        "minutes": plan.minutes,
        "trials": found.counts,
        "trial": found.best.number,
        "valid_rmse": found.best.error,
        "default_valid_rmse": None if found.default is None else found.default.error,
        "among": list(found.searched),
        "left_out": dict(found.left_out),
        "fixed": dict(found.fixed),
    }


def _setup(split: Split, experiment: Experiment) -> dict[str, Any]:
    name = experiment.ratings
    return {
        "data": str(name) if isinstance(name, str | os.PathLike) else None,
        "split": split.rule,
        "split_seed": split.seed,
        "train_ratings": len(split.train),
        "test_ratings": None if split.test is None else len(split.test),
        "weighted": split.train.weights is not None,
        "validation": experiment.validation,
        "seed": experiment.seed,
    }
