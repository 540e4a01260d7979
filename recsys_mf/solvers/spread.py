"""Spread: how much the members of a committee differ, and its calibration on validation rows (`MemberSpread`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.models import Factorization
from recsys_mf.models.member_spread import MemberSpread
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.state import State

F32 = NDArray[np.float32]
_MAX_PAIRS = 1 << 20  # the most pairs of train that the spread is taken over


class Disagreement:
    """Mean and variance of the members' predictions at the pairs of train, member by member (Welford's update).

    members : the number of members so far
    """

    def __init__(self, train: Ratings) -> None:
        step = -(-len(train) // _MAX_PAIRS)
        self.users, self.items = train.users[::step], train.items[::step]
        self._sizes = train.n_users, train.n_items
        self._mean, self._squares = np.zeros(len(self.users)), np.zeros(len(self.users))
        self.members = 0

    def add(self, predictions: F32) -> None:
        """Add a member's predictions of the pairs (users, items)."""
        self.members += 1
        change = predictions - self._mean
        self._mean += change / self.members
        self._squares += change * (predictions - self._mean)

    def state(self) -> State:
        """The mean and the sum of squares of every pair."""
        return State({"members": self.members}, {"mean": self._mean, "squares": self._squares})

    def restore(self, state: State) -> None:
        """Restore the members of a state."""
        self.members = state.facts["members"]
        self._mean, self._squares = (np.array(state.arrays[name]) for name in ("mean", "squares"))

    def spread(self) -> MemberSpread | None:
        """The spread of the members so far; None for a single one. A row without pairs has the mean variance."""
        if self.members < 2:
            return None
        mean = float(self._squares.mean())
        variances = self._squares / (mean or 1.0)
        overall = variances.mean()

        def averaged(rows: NDArray[Any], size: int) -> F32:
            counts, sums = (np.bincount(rows, weights=w, minlength=size) for w in (None, variances))
            return np.where(counts > 0, sums / np.maximum(counts, 1), overall).astype(np.float32)

        v_u, v_i = (averaged(rows, size) for rows, size in zip((self.users, self.items), self._sizes, strict=True))
        return MemberSpread(v_u, v_i)


def calibrated(model: Factorization, validated: Factorization, valid: Ratings) -> Factorization:
    """The model with its spread calibrated by the errors of a similar committee on rows that were not fitted.

    validated : that committee; valid : the rows
    """
    if model.spread is None or validated.spread is None:
        return model
    squares = (predict(validated, valid.users, valid.items).values.astype(np.float64) - valid.values) ** 2
    both = (valid.users >= 0) & (valid.items >= 0)
    if not both.any():
        return model
    noise, weight = validated.spread.calibrated(squares[both], valid.users[both], valid.items[both])
    return replace(model, spread=replace(model.spread, noise=noise, weight=weight))


def calibrated_as(model: Factorization, other: Factorization) -> Factorization:
    """The model with its spread calibrated like that of another model of the same solver."""
    if model.spread is None or other.spread is None:
        return model
    return replace(model, spread=replace(model.spread, noise=other.spread.noise, weight=other.spread.weight))
