"""Continuing: new ratings are added to a run, by an update of its model or by a new fit."""

from __future__ import annotations

import warnings
from dataclasses import asdict, fields, replace
from itertools import islice

import numpy as np

from recsys_mf import memory
from recsys_mf.errors import LeakWarning
from recsys_mf.kernels.backend import Backend
from recsys_mf.models import Factorization, Fit, RatedPairs
from recsys_mf.prediction import rmse
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.serving import joining
from recsys_mf.solvers import SOLVERS, Solver
from recsys_mf.solvers.spread import calibrated_as
from recsys_mf.solvers.updating import update
from recsys_mf.splits import Split
from recsys_mf.training import provenance, updates
from recsys_mf.training.epochs import Progress, Watcher, time_epochs
from recsys_mf.training.fitting import Fitting, compress_fit
from recsys_mf.training.steps import Steps, unkept
from recsys_mf.training.validation import VALIDATION

MAX_UPDATED_SHARE = 0.01  # of all ratings: those added since the last full fit


def continued(
    start: Run,
    split: Split,
    backend: Backend,
    *,
    seed: int = 0,
    validation: float = 0.1,
    watch: Watcher = lambda progress: None,
    steps: Steps = unkept,
) -> Run:
    """The run with the ratings of split.train added; split.test is only checked for a leak.

    Ratings of pairs that the run was trained on replace the old ones; all its other ratings, users and items stay.
    If at most 1 % of all ratings were added since the last full fit and the model is of `sgd` or `als`, it is updated
    (`solvers.updating`): the strength of the update and its passes are chosen on a fraction of the new ratings, and
    baselines stay as they are. Otherwise every model is fitted again, to the ratings of the run and the new ones, with
    the settings that were chosen for the run.

    validation : fraction of the new ratings to choose an update on; 0 makes a default one
    steps : how the steps of a new fit are kept (`checkpoint`); an update takes only seconds and is not kept
    Raises ConfigError for a run that cannot be continued, DataError when ids are integers on one side and strings on
    the other. Warns with LeakWarning when the run was trained on pairs of split.test.
    """
    joining.check_start(start)
    joined = joining.join(start, split.train)
    if split.test is not None:
        _warn_of_leak(start, split.test)
    users, items = joined.ratings.user_vocabulary, joined.ratings.item_vocabulary
    earlier = start.provenance.get("continued", {}).get("since_full_fit", 0)
    since = earlier + int(joined.is_new.sum())

    def aligned(fit: Fit) -> Fit:
        assert isinstance(fit.model, Factorization)
        return replace(fit, model=joining.align(fit.model, start, users, items))

    def again(label: str, fit: Fit) -> Fit:
        return _fitted_again(Fitting(label, solver_of(fit), joined.ratings, (), seed, backend, watch, steps), fit)

    if since <= MAX_UPDATED_SHARE * len(joined.ratings) and updates.is_updatable(start):
        how = "updated"
        fits = {label: aligned(fit) for label, fit in start.baselines.items()}
        fit = _updated(aligned(start.fit), joined, validation, seed, backend, watch)
        folded = joining.align_folded(start, users, items, is_new_folded=False)
    else:
        how, since, folded = "fitted again", 0, None
        fits = {label: again(label, fit) for label, fit in start.baselines.items()}
        fit = again(start.fit.solver, start.fit)
    facts = joining.describe(start, joined) | {"how": how, "since_full_fit": since}
    return Run(
        fit=fit,
        baselines=fits,
        baseline=start.baseline,
        user_vocabulary=users,
        item_vocabulary=items,
        user_counts=joined.ratings.user_counts,
        item_counts=joined.ratings.item_counts,
        provenance=provenance.of_rows(replace(split, train=joined.ratings), validation)
        | provenance.of_fit(
            solver_of(start.fit),
            {label: solver_of(fit) for label, fit in start.baselines.items()},
            seed=seed,
            start=start,
            compress=start.fit.details.compressed,
        )
        | provenance.of_machine(backend)
        | {"continued": facts},
        rated=RatedPairs.of(joined.ratings),
        folded=folded,
    )


def _updated(
    fit: Fit, joined: joining.Joined, validation: float, seed: int, backend: Backend, watch: Watcher
) -> Fit:  # fmt: skip
    """The fit, whose model is over the vocabularies of the joined ratings, updated by the new ones."""
    model = fit.model
    assert isinstance(model, Factorization)
    if not joined.is_new.any():
        return fit
    steps = updates.choose_update(model, joined, validation, np.random.default_rng([seed, VALIDATION]), backend)
    best = updates.best_of(steps)
    total, visits = 0.0, 0
    epochs = update(model, joined.ratings, joined.is_new, best.regularisation, backend)
    for epoch, seconds in islice(time_epochs(epochs, backend), best.epoch):
        total, visits = total + seconds, visits + epoch.visits
        rate = epoch.visits / max(seconds, 1e-9)
        watch(Progress(fit.solver, "fit", epoch.number, best.epoch, None, None, rate))
    updated = epoch.model()
    assert isinstance(updated, Factorization)
    return replace(
        fit,
        model=updated,
        history=tuple({"stage": "update", **asdict(step)} for step in steps),
        seconds=total,
        ratings_per_second=visits / max(total, 1e-9),
        train_rmse=rmse(updated, joined.ratings, backend.make_prediction()),
        valid_rmse=best.valid_rmse,
        peak_memory=memory.peak(),
    )


def solver_of(fit: Fit) -> Solver:
    """The solver with the settings that a fit has, chosen ones included."""
    kind = SOLVERS[fit.solver]
    return kind(**{field.name: fit.settings[field.name] for field in fields(kind) if field.name in fit.settings})


def _fitted_again(task: Fitting, old: Fit) -> Fit:
    """The fit of a task, in the form of the old fit: compressed to its rank, or with its spread calibrated."""
    fit = task.fit()
    if old.details.compressed is not None:
        return compress_fit(fit, old.details.compressed, task.train, task.backend)
    if isinstance(old.model, Factorization) and isinstance(fit.model, Factorization):
        return replace(fit, model=calibrated_as(fit.model, old.model))
    return fit


def _warn_of_leak(start: Run, test: Ratings) -> None:
    """Warn if the run to continue from was trained on pairs that are tested."""
    seen = int(joining.seen_by(start, test).sum())
    if seen:
        message = (
            f"the run to continue from was trained on {seen:,} of the {len(test):,} test pairs: "
            "the error reported may be too low"
        )
        warnings.warn(message, LeakWarning, stacklevel=4)
