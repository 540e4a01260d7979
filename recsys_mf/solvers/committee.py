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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np

from recsys_mf.kernels.backend import Backend
from recsys_mf.models import Factorization
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.averaging import merged
from recsys_mf.solvers.biases import Biases
from recsys_mf.solvers.protocol import Epoch, Footprint, Solver
from recsys_mf.solvers.settings import AUTO, Auto, figure
from recsys_mf.solvers.spread import Disagreement

_RANKS = (2, 4, 8, 16, 32, 64)
_POWERS = range(-8, 9)  # of two


class Committee(Solver):
    """A solver with the settings `epochs` and `members` whose model is the mean of that many runs (`member_epochs`).

    overtraining : epochs of a member over those that are best for it alone
    usual : numbers for the settings that are "auto", before validation chooses
    bytes_per_rating : memory that a run takes for its own copies of the table
    """

    overtraining: ClassVar[float]
    usual: ClassVar[dict[str, float]]
    bytes_per_rating: ClassVar[int]

    rank: int | Auto
    epochs: int
    regularisation: float | Auto
    members: int

    @property
    def n_epochs(self) -> int:
        """The setting `epochs`, or one for every member of a committee."""
        return max(1, self.epochs) if self.members == 1 else self.members

    def stopped_at(self, epoch: int) -> Self:
        """With `epochs` = epoch; a committee with that many members; biases alone as they are."""
        if self.epochs == 0:
            return self
        return self._with(**{"epochs" if self.members == 1 else "members": epoch})

    def has_settled(self, epochs: int) -> bool:
        """Whether a run has come so far after these epochs that a rising validation error means overfitting."""
        raise NotImplementedError

    def finished(self, errors: Sequence[float]) -> bool:
        """See `Solver.finished`; not before a run has settled."""
        return super().finished(errors) and (self.members > 1 or self.has_settled(len(errors)))

    def resolved(self, train: Ratings, backend: Backend) -> Self:
        """With the usual numbers for "auto"."""
        return self._with(**{name: number for name, number in self.usual.items() if getattr(self, name) == AUTO})

    def axes(self) -> dict[str, tuple[float, ...]]:
        """Ranks and multiples of λ, if they are "auto"; none for biases alone."""
        λ = self.usual["regularisation"]
        every = {"regularisation": tuple(λ * 2.0**power for power in _POWERS), "rank": _RANKS}
        return {name: values for name, values in every.items() if getattr(self, name) == AUTO and self.epochs}

    def rehearsal(self) -> Self:
        """A single epoch of a single run."""
        return self._with(members=1, epochs=1)

    def alone(self) -> Self | None:
        """One member of a committee."""
        return None if self.members == 1 or not self.epochs else self._with(members=1)

    def with_member(self, member: Solver) -> Sequence[Self]:
        """With so many of the member's epochs as a committee bears, then with all of them."""
        fewer = max(1, round(self.overtraining * member.n_epochs))
        return [self._with(epochs=epochs) for epochs in dict.fromkeys((fewer, member.n_epochs))]

    def plainest(self) -> Self | None:
        """The damped biases alone."""
        return self._with(members=1, epochs=0)

    def footprint(self, train: Ratings) -> Footprint:
        """Of a run: factors, their copy at the start or of the epoch before, and the model made of them. A committee
        has its most when a member is merged into the mean: that, the new one and both side by side in float64.
        """
        rows, width = train.n_users + train.n_items, figure(self.rank) + 1
        tables = 15 if self.members == 1 else 44  # bytes an entry
        return Footprint(tables * width * rows + self.bytes_per_rating * len(train), 4 * width * rows)

    def run(
        self,
        train: Ratings,
        *,
        rng: np.random.Generator,
        backend: Backend,
    ) -> Iterator[Epoch]:
        """See `Solver.run`."""
        solver = self.resolved(train, backend)
        if solver.epochs == 0:
            yield from _biases_alone(train, rng, backend, figure(solver.rank))
            return
        runs = (solver.member_epochs(train, stream, backend) for stream in rng.spawn(solver.members))
        if solver.members == 1:
            yield from next(runs)
        else:
            yield from averaged((deque(epochs, maxlen=1).pop() for epochs in runs), train)

    def member_epochs(self, train: Ratings, rng: np.random.Generator, backend: Backend) -> Iterator[Epoch]:
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

        disagreement.add(predict(one, disagreement.users, disagreement.items).values)

        @cache
        def model(committee: Factorization = committee) -> Factorization:
            return replace(committee, spread=disagreement.spread())

        yield Epoch(number, member.visits * member.number, None, model)


def _biases_alone(train: Ratings, rng: np.random.Generator, backend: Backend, rank: int) -> Iterator[Epoch]:
    """The damped biases as a factorisation whose factors, of that rank, are zero."""
    for epoch in Biases().run(train, rng=rng, backend=backend):

        def model(epoch: Epoch = epoch) -> Factorization:
            biases = epoch.model()
            assert isinstance(biases, Factorization)
            P, Q = (np.zeros((rows, rank), np.float32) for rows in (train.n_users, train.n_items))
            return replace(biases, user_factors=P, item_factors=Q)

        yield replace(epoch, model=model)
