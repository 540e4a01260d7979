"""Updates: how strongly new ratings move a model, chosen on some of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from recsys_mf.kernels.backend import Backend
from recsys_mf.models import Factorization
from recsys_mf.prediction import rmse
from recsys_mf.run import Run
from recsys_mf.serving.joining import Joined
from recsys_mf.solvers import SOLVERS
from recsys_mf.solvers.updating import update

DEFAULT_REGULARISATION = 1.0  # λ of an update, for ratings with standard deviation 1
MAX_PASSES, MAX_SEARCH, MIN_VALID_ROWS = 3, 4, 100


@dataclass(frozen=True)
class Step:
    """A pass of an update: the regularisation of the update, the number of the pass, its validation error."""

    regularisation: float
    epoch: int
    valid_rmse: float | None


def choose_update(
    model: Factorization, joined: Joined, validation: float, rng: np.random.Generator, backend: Backend
) -> tuple[Step, ...]:
    """All updates that were tried, with their errors on a fraction of the new ratings that they did not see.

    A line search over the regularisation, from its default in factors of two to where the error rises; for each value,
    passes until the error rises. If the fraction has too few rows for a choice, only the default, without an error.
    """
    is_valid = joined.is_new & (rng.random(len(joined.ratings)) < validation)
    if is_valid.sum() < MIN_VALID_ROWS:
        return (Step(DEFAULT_REGULARISATION, 1, None),)
    train, is_new = joined.ratings.select(~is_valid), joined.is_new[~is_valid]
    valid = joined.ratings.select(is_valid)

    def tried(regularisation: float) -> list[Step]:
        steps: list[Step] = []
        for epoch in islice(update(model, train, is_new, regularisation, backend), MAX_PASSES):
            steps.append(Step(regularisation, epoch.number, rmse(epoch.model(), valid)))
            if best_of(steps) is not steps[-1]:
                break
        return steps

    steps = tried(DEFAULT_REGULARISATION)
    for factor in (2.0, 0.5):
        regularisation, before = DEFAULT_REGULARISATION, best_of(steps)
        for _ in range(MAX_SEARCH):
            regularisation *= factor
            more = tried(regularisation)
            improved = best_of([*steps, *more]) in more
            steps += more
            if not improved:
                break
        if best_of(steps) is not before:
            break
    return tuple(steps)


def best_of(steps: Sequence[Step]) -> Step:
    """The pass with the lowest validation error, the first if they are equal."""
    return min(steps, key=lambda step: math.inf if step.valid_rmse is None else step.valid_rmse)


def is_updatable(run: Run) -> bool:
    """Whether the model is one that `update` moves: biases and factors that were fitted to the ratings themselves."""
    return isinstance(run.model, Factorization) and SOLVERS[run.fit.solver].takes_updates
