"""What is settled before a fit: that the solver takes the table, that memory is enough, where its steps are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from recsys_mf import memory
from recsys_mf.arrays import mapped
from recsys_mf.errors import ConfigError
from recsys_mf.kernels.backend import Backend
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import Solver
from recsys_mf.solvers.compression import bytes_to_compress
from recsys_mf.splits import Split
from recsys_mf.training import provenance
from recsys_mf.training.checkpoint import Checkpoint
from recsys_mf.training.identity import identity_of
from recsys_mf.training.steps import Steps, unkept


@contextlib.contextmanager
def kept_steps(
    checkpoint: Checkpoint | None, split: Split, validation: float, fit_facts: dict[str, Any], backend: Backend
) -> Iterator[Steps]:
    """The steps of a training, kept in the checkpoint if there is one.

    fit_facts : `provenance.of_fit`
    """
    if checkpoint is None:
        yield unkept
        return
    record = provenance.of_rows(split, validation) | fit_facts | provenance.of_machine(backend)
    with checkpoint.training(identity_of(record, split)) as steps:
        yield steps


def check_features(solver: Solver, train: Ratings) -> None:
    """Raise ConfigError if there is side information and the solver does not take it."""
    if not solver.takes_features and (train.user_features or train.item_features):
        fix = "leave it out, or use a solver that takes it: gibbs"
        raise ConfigError(f"solver '{solver.name}' does not use side information", fix=fix)


def check_weights(solver: Solver, train: Ratings) -> None:
    """Raise ConfigError if the ratings have weights and the solver of the model does not take them."""
    if not solver.takes_weights and train.weights is not None:
        fix = "leave the weights out, or use a solver that takes them: sgd, als, gibbs, bias or mean"
        raise ConfigError(f"solver '{solver.name}' does not take weights of ratings", fix=fix)


@contextlib.contextmanager
def enough_room(
    methods: tuple[Solver, ...], train: Ratings, parts: tuple[Split, ...], backend: Backend, compress: int | None
) -> Iterator[None]:
    """Raise ResourceError before the block if these fits need too much memory, and for an allocation that fails inside.

    methods : the baselines, then the solver of the model
    """
    what = f"training '{methods[-1].name}' on {train.n_users:,} users and {train.n_items:,} items"
    files = "" if mapped.is_mapped(train.users) else ", give --memory (columns in files)"
    fix = f"lower the rank{files} or train on another machine"
    if backend.device.name == "cpu":
        memory.require(_needed(methods, train, parts, backend, compress), what, fix=fix)
    with memory.guarded(what, fix=fix):
        yield


def _needed(
    methods: Iterable[Solver], train: Ratings, parts: tuple[Split, ...], backend: Backend, compress: int | None
) -> int:
    """The most bytes needed to fit these one after another, if every model is kept."""
    in_files = mapped.is_mapped(train.users)
    per_rating = sum(16 if part.train.times is None else 24 for part in parts)  # of the validated parts of train
    kept = 0 if in_files else per_rating * len(train)
    most = kept
    for method in methods:
        found = method.resolved(train, backend).footprint(train)
        working = found.working - (found.columns if in_files else 0)
        validated = 0 if not parts or method.samples_posterior else found.model
        most, kept = max(most, kept + validated + working), kept + found.model
    if compress is not None:
        working = bytes_to_compress(train, compress, **method.resolved(train, backend).settings())
        most = max(most, kept + working)
    return most
