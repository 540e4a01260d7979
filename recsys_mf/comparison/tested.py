"""Tested: the facts and the errors of one candidate after its fit on one split, and how they are computed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf import memory
from recsys_mf.kernels.backend import Backend, PredictionKernels
from recsys_mf.models import Model
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import Solver
from recsys_mf.splits import Split
from recsys_mf.training import Checkpoint, Watcher, fit_alone
from recsys_mf.training.epochs import compile_kernels


@dataclass(frozen=True)
class Facts:
    """The time and memory that a fit needed, and what it chose.

    solver : its name; settings : those of the final fit; rank : of the model
    fit_seconds : of the final fit
    seconds : of choosing settings on validation rows and the final fit; None if not known
    memory : the most that this added to the memory of the process, bytes; None if the system does not say, and for a
        fit that was interrupted. For an existing run, the peak memory of its process
    train_ratings : number of rows that it was fitted on
    """

    solver: str
    settings: Mapping[str, Any]
    rank: int
    fit_seconds: float
    seconds: float | None
    memory: int | None
    train_ratings: int


@dataclass(frozen=True, eq=False)
class Tested:
    """A fit and its errors r̂ - r on all test rows of a split, in their order, float32[n]."""

    facts: Facts
    errors: NDArray[np.float32]


def fit_and_test(
    split: Split,
    solver: Solver,
    backend: Backend,
    *,
    seed: int,
    validation: float,
    watch: Watcher,
    checkpoint: Checkpoint | None = None,
) -> Tested:
    """Fit a solver on the training part of a split, measure what that takes, and test it; arguments as in `train`.

    checkpoint : what the fit continues from; the seconds of earlier processes are counted, their memory is not known
    """
    assert split.test is not None
    compile_kernels(solver, backend)  # neither its seconds nor its memory belong to the candidate
    before, began = memory.reset_peak(), time.perf_counter()
    fit = fit_alone(split, solver, backend, seed=seed, validation=validation, watch=watch, checkpoint=checkpoint)
    earlier = 0.0 if checkpoint is None else checkpoint.earlier
    seconds = earlier + time.perf_counter() - began
    added = None if before is None or earlier else memory.peak() - before
    facts = Facts(fit.solver, dict(fit.settings), fit.rank, fit.seconds, seconds, added, len(split.train))
    return Tested(facts, errors_of(fit.model, split.test, backend.make_prediction()))


def errors_of(model: Model, pairs: Ratings, backend: PredictionKernels) -> NDArray[np.float32]:
    """r̂ - r of all rows of a table under the vocabularies of the model."""
    predicted = predict(model, pairs.users, pairs.items, pairs.times, backend=backend).values
    return (predicted.astype(np.float64) - pairs.values).astype(np.float32)
