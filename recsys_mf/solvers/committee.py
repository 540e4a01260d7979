"""Committees: the mean of independent runs of a solver, cut back to a plain factorisation.

    r̂_ui = μ + b_u + b_i + [Σ_s p_u^(s) · q_i^(s) / S]_k

The S members differ in their random draws alone. Each has an error of its own beside the one they share, and the
mean has S times less variance of the former: so a member is regularised less than is best for it alone, and its
epochs are another multiple (`overtraining`) of those best for one. Biases are averaged exactly, so that unknown ids
keep the right fallback. The mean of the products has rank S k; [·]_k is its truncated SVD, kept up member by member
(`models.averaging`), so that memory stays at a few models.

Breiman: Bagging predictors, Machine Learning 24(2), 1996.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np

from recsys_mf.kernels import Kernels
from recsys_mf.models import Factorization
from recsys_mf.models.averaging import merged
from recsys_mf.models.member_spread import Disagreement
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.solver import Epoch, Footprint, Solver


class Committee(Solver):
    """A solver with the settings `epochs` and `members` whose model is the mean of that many runs (`member_epochs`).

    overtraining : epochs of a member over those that are best for it alone
    bytes_per_rating : memory that a run takes for its own copies of the table
    """

    overtraining: ClassVar[float]
    bytes_per_rating: ClassVar[int]

    rank: int
    epochs: int
    members: int

    @property
    def n_epochs(self) -> int:
        """The setting `epochs`, or one for every member of a committee."""
        return self.epochs if self.members == 1 else self.members

    def stopped_at(self, epoch: int) -> Self:
        """With `epochs` = epoch; a committee with that many members."""
        return self._with(**{"epochs" if self.members == 1 else "members": epoch})

    def rehearsal(self) -> Self:
        """A single epoch of a single run."""
        return self._with(members=1, epochs=1)

    def alone(self) -> Self | None:
        """One member of a committee."""
        return None if self.members == 1 else self._with(members=1)

    def with_member(self, member: Solver) -> Self:
        """With the epochs of the member, or as many as a committee bears."""
        return self._with(epochs=max(1, round(self.overtraining * member.n_epochs)))

    def footprint(self, train: Ratings) -> Footprint:
        """Of a run: factors, their copy at the start or of the epoch before, and the model made of them. A committee
        has its most when a member is merged into the mean: that, the new one and both side by side in float64.
        """
        rows, width = train.n_users + train.n_items, self.rank + 1
        tables = 15 if self.members == 1 else 44  # bytes an entry
        return Footprint(tables * width * rows + self.bytes_per_rating * len(train), 4 * width * rows)

    def run(
        self,
        train: Ratings,
        *,
        rng: np.random.Generator,
        kernels: Kernels,
        start: Factorization | None = None,
    ) -> Iterator[Epoch]:
        """See `Solver.run`. A start must have the rank of the settings."""
        runs = (self.member_epochs(train, stream, kernels, start) for stream in rng.spawn(self.members))
        if self.members == 1:
            yield from next(runs)
        else:
            yield from averaged((deque(epochs, maxlen=1).pop() for epochs in runs), train)

    def member_epochs(
        self, train: Ratings, rng: np.random.Generator, kernels: Kernels, start: Factorization | None
    ) -> Iterator[Epoch]:
        """The epochs of one run."""
        raise NotImplementedError

    def _with(self, **settings: Any) -> Self:
        return replace(self, **settings)


def averaged(members: Iterable[Epoch], train: Ratings) -> Iterator[Epoch]:
    """An Epoch per member with the committee so far, at the members' rank.

    members : the last Epoch of every member, over the users and items of train
    """
    committee: Factorization | None = None
    disagreement = Disagreement(train)
    for number, member in enumerate(members, start=1):
        one = member.model()
        assert isinstance(one, Factorization)  # what the members, runs of SGD or ALS, end in
        committee = one if committee is None else merged(committee, one, number, one.rank)

        disagreement.add(one.predict(disagreement.users, disagreement.items))

        def model(committee: Factorization = committee) -> Factorization:
            return replace(committee, spread=disagreement.spread())

        yield Epoch(number, member.visits * member.number, None, model)
