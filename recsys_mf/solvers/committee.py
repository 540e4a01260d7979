"""Committees: the mean of independent runs of a solver, cut back to a plain factorisation.

    r̂_ui = μ + b_u + b_i + [Σ_s p_u^(s) · q_i^(s) / S]_k

The S members differ in their random draws alone. Each has an error of its own beside the one they share, and the
mean has S times less variance of the former: so a member is regularised less than is best for it alone, and its
epochs are another multiple (`overtraining`) of those best for one. Biases are averaged exactly, so that unknown ids
keep the right fallback. The mean of the products has rank S k; [·]_k is its truncated SVD, kept up member by member
(`averaging`), so that memory stays at a few models.

If there is little noise there is little to average away, and a member stopped early is worse than one run to its
best epoch: validation compares the committee with that single run, with a committee of members run as far, and with
damped biases alone (`epochs` = 0). A rank and a λ that are "auto" are chosen first, for a single run (`search`).

Breiman: Bagging predictors, Machine Learning 24(2), 1996.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import numpy as np

from recsys_mf.kernels.backend import Backend
from recsys_mf.models import Factorization
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.averaging import merged
from recsys_mf.solvers.protocol import Epoch
from recsys_mf.solvers.spread import Disagreement


class Member(Protocol):
    """What a committee is made of: anything with independent runs that end in a factorisation."""

    def run_once(self, train: Ratings, rng: np.random.Generator, backend: Backend) -> Iterator[Epoch]:
        """The epochs of one run."""


@dataclass(frozen=True)
class Committee:
    """The mean of `size` independent runs of a member."""

    member: Member
    size: int

    def run(self, train: Ratings, *, rng: np.random.Generator, backend: Backend) -> Iterator[Epoch]:
        """An Epoch per member, with the committee so far; see `Solver.run`."""
        runs = (self.member.run_once(train, stream, backend) for stream in rng.spawn(self.size))
        return averaged((deque(epochs, maxlen=1).pop() for epochs in runs), train, backend)


def averaged(members: Iterable[Epoch], train: Ratings, backend: Backend) -> Iterator[Epoch]:
    """An Epoch per member with the committee so far, at the members' rank; merged and compared on the device.

    members : the last Epoch of every member, over the users and items of train
    """
    committee: Factorization | None = None
    disagreement = Disagreement(train)
    for number, member in enumerate(members, start=1):
        one = member.model()
        assert isinstance(one, Factorization)  # what the members, runs of SGD or ALS, end in
        committee = one if committee is None else merged(committee, one, number, one.rank, backend.device)

        pairs = disagreement.users, disagreement.items
        disagreement.add(predict(one, *pairs, backend=backend.make_prediction()).values)

        @cache
        def model(committee: Factorization = committee) -> Factorization:
            return replace(committee, spread=disagreement.spread())

        yield Epoch(number, member.visits * member.number, None, model)
