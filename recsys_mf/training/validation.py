"""Validation: rows cut from train, and the error of epoch after epoch on them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recsys_mf import splits
from recsys_mf.arrays import mapped
from recsys_mf.errors import DataError
from recsys_mf.kernels.backend import Backend
from recsys_mf.prediction import rmse
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import Epoch, Solver
from recsys_mf.solvers.state import State
from recsys_mf.splits import Split

VALIDATION, FIT, SEARCH, FOLD = 1, 2, 3, 4  # what a stream of random numbers derived from the seed is for
MIN_VALIDATED = 1000  # rows in all cuts of a small table together
_MAX_CUTS, _TRIES = 5, 50
_SEARCHED = 20_000  # rows, about, that the search for settings trains on


def cut_parts(split: Split, validation: float, seed: int, methods: Iterable[Solver]) -> tuple[Split, ...]:
    """Parts of train to choose on: the validation rows given, or cut by the rule of the split, or none.

    methods : that choose on them; parts that are cut have times only if one of these uses times
    A few rows would decide little: for a small table, several cuts are made, until they have MIN_VALIDATED validation
    rows in total.
    """
    if split.valid is not None:
        return (split,)
    if validation == 0:
        return ()
    parts: list[Split] = []
    with_times = any(method.takes_times for method in methods)
    for cut in range(1 if split.by in splits.BY_TIME else _TRIES):
        derived = int(np.random.SeedSequence([seed, VALIDATION, *([cut] if cut else [])]).generate_state(1)[0])
        try:
            parts.append(splits.with_validation(split, validation, derived, with_times=with_times))
        except DataError:
            continue
        validated = sum(len(part.valid) for part in parts if part.valid is not None)
        if validated >= MIN_VALIDATED or len(parts) == _MAX_CUTS:
            break
    if not parts:
        raise DataError(
            f"too few ratings to cut {validation:.3g} of them off for validation",
            where="validation", seen=f"{len(split.train):,}",
            fix="give --validation 0 (validation=0 in Python), or more ratings",
        )  # fmt: skip
    return tuple(parts)


def take_fewer_users(part: Split, seed: int) -> Split:
    """The part with the rows of some users, about _SEARCHED rows to train on; the part itself if not much larger."""
    share = _SEARCHED / len(part.train)
    if share > 0.5 or part.valid is None:
        return part
    kept = np.random.default_rng([seed, SEARCH]).random(part.train.n_users) < share
    train = part.train.select(kept[part.train.users])
    valid = part.valid.select((part.valid.users >= 0) & kept[part.valid.users])
    if not (len(train) and len(valid)):
        return part
    train = train.restricted()
    valid = valid.reindexed(train.user_vocabulary, train.item_vocabulary)
    return replace(part, train=train, test=None, valid=valid)


class RunningError:
    """RMSE of epoch after epoch on the same table, on the device; for draws of a posterior, of their running mean.
    If the table has weights, √(Σ w e² / Σ w).

    burn_ins : a running mean is taken after each of these, and the one with the lowest error counts
    """

    def __init__(self, ratings: Ratings, burn_ins: tuple[int, ...], backend: Backend) -> None:
        self._ratings, self._backend = ratings, backend
        pairs = ratings.users, ratings.items, ratings.times, ratings.values, ratings.weights
        self._parts = [
            tuple(None if column is None else backend.device.put(column[part]) for column in pairs)
            for part in mapped.parts(len(ratings))
        ]
        self._totals: dict[int, list[Any]] = {burn_in: [] for burn_in in burn_ins}

    def __call__(self, epoch: Epoch) -> dict[int | None, float]:
        """The error by burn-in; the only key is None if the epoch's model is not a mean over draws."""
        if epoch.predictor is None:
            return {None: rmse(epoch.model(), self._ratings, self._backend.make_prediction())}
        predict = epoch.predictor()
        predictions = [predict(users, items, times) for users, items, times, *_ in self._parts]
        if not epoch.is_draw:
            return {None: self._rmse(predictions)}
        errors: dict[int | None, float] = {min(self._totals): self._rmse(predictions)}  # of the draw alone
        for burn_in, totals in self._totals.items():
            if epoch.number > burn_in:
                xp = self._backend.device.xp
                wide = [xp.asarray(predicted, dtype=xp.float64) for predicted in predictions]
                totals[:] = [total + more for total, more in zip(totals, wide, strict=True)] if totals else wide
                errors[burn_in] = self._rmse([total / (epoch.number - burn_in) for total in totals])
        return errors

    def state(self) -> State:
        """The sums so far of the predictions of draws."""
        get = self._backend.device.get
        named = {f"{b}/{part}": get(total) for b, totals in self._totals.items() for part, total in enumerate(totals)}
        return State({}, named)

    def restore(self, state: State) -> None:
        """Restore the sums of a state."""
        for burn_in, totals in self._totals.items():
            named = (f"{burn_in}/{part}" for part in range(len(self._parts)))
            totals[:] = [self._backend.device.put(state.arrays[name]) for name in named if name in state.arrays]

    def _rmse(self, predictions: list[Any]) -> float:
        xp, total = self._backend.device.xp, 0.0
        for predicted, (*_, values, weights) in zip(predictions, self._parts, strict=True):
            squares = xp.asarray(predicted, dtype=xp.float64) - values
            squares *= squares
            total += float(xp.sum(squares if weights is None else squares * weights))
        mapped.release_pages()
        return math.sqrt(total / self._ratings.total_weight)


def pool_errors(errors: Sequence[dict[int | None, float]], tables: Sequence[Ratings]) -> dict[int | None, float]:
    """Root mean squared error over the rows of all tables, with their weights, from those of each, by burn-in."""
    weights = [table.total_weight for table in tables]
    return {
        burn_in: math.sqrt(sum(w * of[burn_in] ** 2 for of, w in zip(errors, weights, strict=True)) / sum(weights))
        if len(errors) > 1
        else errors[0][burn_in]
        for burn_in in errors[0]
    }
