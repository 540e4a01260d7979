"""One solver without the baselines: validated, fitted, or both, with the same results as by `train`, byte for byte."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from recsys_mf.kernels.backend import Backend
from recsys_mf.models import Fit
from recsys_mf.solvers import Solver
from recsys_mf.splits import Split
from recsys_mf.training import provenance
from recsys_mf.training.checkpoint import Checkpoint
from recsys_mf.training.epochs import Watcher
from recsys_mf.training.fitting import Fitting
from recsys_mf.training.preparing import check_features, enough_room, kept_steps
from recsys_mf.training.selection import Validated
from recsys_mf.training.validation import cut_parts


def fit_alone(
    split: Split,
    solver: Solver,
    backend: Backend,
    *,
    seed: int = 0,
    validation: float = 0.1,
    watch: Watcher = lambda progress: None,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """The fit that `train` makes of this solver on split.train, the same byte for byte, without the baselines.

    backend : as `kernels.select` returns it; the other arguments and errors are those of `train`
    """
    parts = cut_parts(split, validation, seed, [solver])
    fit_facts = provenance.of_fit(solver, {}, seed=seed, start=None, compress=None)
    with (
        _prepared(split, parts, solver, backend, seed=seed, watch=watch) as fitting,
        kept_steps(checkpoint, split, validation, fit_facts, backend) as steps,
    ):
        return replace(fitting, steps=steps).fit()


def validate_alone(
    split: Split,
    parts: tuple[Split, ...],
    solver: Solver,
    backend: Backend,
    *,
    seed: int = 0,
    watch: Watcher = lambda progress: None,
) -> Validated:
    """What `train` chooses on validation rows for this solver, with its error, without the fit on all of split.train.

    parts : as `cut_parts` returns them for the split; the other arguments and errors are those of `fit_alone`
    """
    with _prepared(split, parts, solver, backend, seed=seed, watch=watch) as fitting:
        return fitting.validate()


def finish_alone(
    split: Split,
    parts: tuple[Split, ...],
    solver: Solver,
    backend: Backend,
    *,
    validated: Validated | None,
    seed: int = 0,
    watch: Watcher = lambda progress: None,
) -> Fit:
    """The fit of `fit_alone`, given what `validate_alone` returned for the same arguments.

    validated : None to validate first
    """
    with _prepared(split, parts, solver, backend, seed=seed, watch=watch) as fitting:
        return fitting.fit(validated)


@contextlib.contextmanager
def _prepared(
    split: Split, parts: tuple[Split, ...], solver: Solver, backend: Backend, *, seed: int, watch: Watcher
) -> Iterator[Fitting]:
    """The fitting of a solver that suits the table and the device, and has enough memory."""
    check_features(solver, split.train)
    solver.resolved(split.train, backend)  # raises for settings that do not suit the table or the device
    with enough_room((solver,), split.train, parts, backend, None):
        yield Fitting(solver.name, solver, split.train, parts, seed, backend, watch)
