"""Committees: the mean of independent runs of a solver, cut back to a plain factorisation.

    r̂_ui = μ + b_u + b_i + [Σ_s p_u^(s) · q_i^(s) / S]_k

The S members differ only in their random draws. The error of each has a part of its own and a part that all share;
averaging divides the variance of the former by S. So a member is regularised less than would be best for it alone, and
trained for another number of epochs: `overtraining` times the number that is best for a single run. Biases are averaged
exactly, so that unknown ids keep the right fallback. The mean of the products has rank S k; [·]_k is its truncated SVD,
updated with every member (`averaging`), so that only a few models are in memory.

If there is little noise there is little to average away, and a member stopped early is worse than a single run to its
best epoch. So validation compares the committee with that single run, with a committee whose members run as long, and
with damped biases alone (`epochs` = 0). A rank and a λ that are "auto" are chosen first, for a single run (`search`).

Breiman: Bagging predictors, Machine Learning 24(2), 1996.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Protocol

import numpy as np

from recsys_mf.kernels.backend import Backend
from recsys_mf.models import Factorization, Model
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.averaging import merged
from recsys_mf.solvers.protocol import Epoch, Pause
from recsys_mf.solvers.spread import Disagreement
from recsys_mf.solvers.state import State


class Member(Protocol):
    """What a committee is made of: anything with independent runs that end in a factorisation."""

    def run_once(
        self, train: Ratings, rng: np.random.Generator, backend: Backend, start: State | None = None
    ) -> Iterator[Epoch]:
        """The epochs of one run, after a state of it or from the first."""


@dataclass(frozen=True)
class Committee:
    """The mean of `size` independent runs of a member."""

    member: Member
    size: int

    def run_from(
        self, start: State | None, train: Ratings, *, rng: np.random.Generator, backend: Backend
    ) -> Iterator[Epoch | Pause]:
        """An Epoch per member, with the committee so far, and a pause after every epoch of a member; see
        `Solver.run_from`.
        """
        mean = Mean(train, backend)
        inside = None
        if start is not None:
            mean.restore(start.part("mean"))
            inside = start.part("member")
        for stream in rng.spawn(self.size)[mean.number :]:
            for epoch in self.member.run_once(train, stream, backend, inside):
                if epoch.state is not None:
                    yield Pause(partial(_both, mean, epoch))
            inside = None
            one, visits = epoch.model(), epoch.visits * epoch.number
            del epoch  # and with it what the run of the member holds
            merged_epoch = mean.add(one, visits)
            del one
            if mean.number == self.size:
                merged_epoch = replace(merged_epoch, state=None)
            yield merged_epoch


class Mean:
    """The mean of the members so far at their rank, merged and compared on the device, over the ids of train."""

    def __init__(self, train: Ratings, backend: Backend) -> None:
        self.number = 0
        self._model: Factorization | None = None
        self._disagreement = Disagreement(train)
        self._backend = backend

    def add(self, one: Model, visits: int) -> Epoch:
        """Add the model of a member, with all its visits, and return the Epoch of the committee so far."""
        assert isinstance(one, Factorization)  # members are runs of SGD or ALS
        self.number += 1
        before, disagreement = self._model, self._disagreement
        committee = one if before is None else merged(before, one, self.number, one.rank, self._backend.device)
        self._model = committee
        pairs = disagreement.users, disagreement.items
        disagreement.add(predict(one, *pairs, backend=self._backend.make_prediction()).values)

        @cache
        def model() -> Factorization:
            return replace(committee, spread=disagreement.spread())

        return Epoch(self.number, visits, None, model, state=partial(_both, self, None))

    def state(self) -> State | None:
        """The state of the members so far; None before the first."""
        if self._model is None:
            return None
        parts = {"model": State.of_model(self._model), "disagreement": self._disagreement.state()}
        return State.joined(parts)

    def restore(self, state: State | None) -> None:
        """Restore the members of a state."""
        if state is None:
            return
        model, disagreement = state.part("model"), state.part("disagreement")
        assert model is not None
        assert disagreement is not None
        self._model = Factorization.from_parts(model.arrays, model.facts)
        self._disagreement.restore(disagreement)
        self.number = self._disagreement.members


def _both(mean: Mean, epoch: Epoch | None) -> State:
    """The state of the members so far and, inside one, of its run."""
    inside = None if epoch is None or epoch.state is None else epoch.state()
    return State.joined({"mean": mean.state(), "member": inside})
