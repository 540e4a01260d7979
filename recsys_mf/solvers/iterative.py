"""Iterative: what sgd and als share: epochs of a run, several runs as a committee, a rank and a λ that may be open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from recsys_mf.errors import ConfigError
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import RatingScale
from recsys_mf.models import Factorization
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.biases import Biases
from recsys_mf.solvers.committee import Committee, Member
from recsys_mf.solvers.noise_weights import weigh_by_noise
from recsys_mf.solvers.protocol import Epoch, Footprint, Pause, Solver
from recsys_mf.solvers.selection import Selection, has_stalled
from recsys_mf.solvers.settings import AUTO, Auto, figure
from recsys_mf.solvers.standardisation import find_scale
from recsys_mf.solvers.state import State

_RANKS = (2, 4, 8, 16, 32, 64)
_POWERS = range(-8, 9)  # of two
_MAX_WEIGHED = 2_000_000  # ratings of a table that is weighed by its noise by default


class IterativeSolver(Solver):
    """A solver with the settings `epochs` and `members`; with more members than one it runs a `Committee` of itself.

    overtraining : epochs of a member over those that are best for it alone
    patience : epochs without a better validation error after which training stops
    usual : numbers for the settings that are "auto", before validation chooses
    bytes_per_rating, bytes_per_weight : memory that a run takes for its own copies of the table, and of its weights
    bytes_per_noise : more memory per rating if the noise is personal
    """

    takes_updates: ClassVar[bool] = True
    resumes: ClassVar[bool] = True
    overtraining: ClassVar[float]
    patience: ClassVar[int] = 3
    usual: ClassVar[dict[str, float]]
    bytes_per_rating: ClassVar[int]
    bytes_per_weight: ClassVar[int]
    bytes_per_noise: ClassVar[int]

    rank: int | Auto
    epochs: int
    regularisation: float | Auto
    members: int
    noise: str

    @property
    def n_epochs(self) -> int:
        """The setting `epochs`, or one for every member of a committee."""
        return max(1, self.epochs) if self.members == 1 else self.members

    def stopped_at(self, epoch: int) -> Self:
        """With `epochs` = epoch; a committee with that many members; biases alone unchanged."""
        if self.epochs == 0:
            return self
        return self.with_settings(epochs=epoch) if self.members == 1 else self.with_settings(members=epoch)

    def with_settings(self, **settings: Any) -> Self:
        """The solver with other values of these settings."""
        return replace(self, **settings)

    def has_settled(self, epochs: int) -> bool:
        """Whether a run is far enough after these epochs that a rising validation error means overfitting."""
        raise NotImplementedError

    def selection(self) -> CommitteeSelection[Self]:
        """See `Solver.selection`."""
        return CommitteeSelection(self)

    def resolved(self, train: Ratings, backend: Backend) -> Self:
        """With the usual numbers for "auto"; the noise is personal if the ratings have no weights, the kernels take
        weights, and the table is not large: weights need memory and more epochs.
        """
        numbers: dict[str, Any] = {n: number for n, number in self.usual.items() if getattr(self, n) == AUTO}
        if self.noise == AUTO:
            is_personal = train.weights is None and backend.sgd.takes_weights and len(train) <= _MAX_WEIGHED
            numbers["noise"] = "personal" if is_personal else "common"
        elif self.noise == "personal" and train.weights is not None:
            fix = "use noise=common, or give ratings without weights"
            raise ConfigError("cannot be combined with weights", where="noise", seen=self.noise, fix=fix)
        return self.with_settings(**numbers)

    def rehearsal(self) -> Self:
        """A single epoch of a single run."""
        return self.with_settings(members=1, epochs=1)

    def footprint(self, train: Ratings) -> Footprint:
        """A run holds the factors, a copy of them (of the start, or the previous epoch) and the model made of them. A
        committee holds the mean of its members besides; when one is merged it holds the mean before and after it, the
        member, and parts in float64, which is less.
        """
        rows, width = train.n_users + train.n_items, figure(self.rank) + 1
        tables = 15 if self.members == 1 else 20  # bytes per entry
        of_weights = 0 if train.weights is None else self.bytes_per_weight
        of_noise = self.bytes_per_noise if self.noise == "personal" else 0
        columns = (self.bytes_per_rating + of_weights + of_noise) * len(train)
        return Footprint(tables * width * rows + columns, 4 * width * rows, columns)

    def run(self, train: Ratings, *, rng: np.random.Generator, backend: Backend) -> Iterator[Epoch]:
        """See `Solver.run`."""
        steps = self.run_from(None, train, rng=rng, backend=backend)
        return (step for step in steps if isinstance(step, Epoch))

    def run_from(
        self, start: State | None, train: Ratings, *, rng: np.random.Generator, backend: Backend
    ) -> Iterator[Epoch | Pause]:
        """See `Solver.run_from`."""
        solver = self.resolved(train, backend)
        if solver.epochs == 0:
            yield from _biases_alone(train, rng, backend, figure(solver.rank))
            return
        runs: Member = solver
        if solver.noise == "personal":
            runs = Weighed(solver, train, backend)
        if solver.members == 1:
            yield from runs.run_once(train, rng.spawn(1)[0], backend, start)
        else:
            yield from Committee(runs, solver.members).run_from(start, train, rng=rng, backend=backend)

    def run_once(
        self,
        train: Ratings,
        rng: np.random.Generator,
        backend: Backend,
        start: State | None = None,
        scale: RatingScale | None = None,
    ) -> Iterator[Epoch]:
        """The epochs of one run, after a state of it or from the first.

        scale : that the ratings are standardised to; None for that of train
        """
        raise NotImplementedError


class Weighed:
    """The runs of a solver on ratings weighed by their noise, once for all, on the scale of the unweighted ratings."""

    def __init__(self, solver: IterativeSolver, train: Ratings, backend: Backend) -> None:
        self._solver, self._scale = solver, find_scale(train)
        self._train, self._excess = weigh_by_noise(train, backend)

    def run_once(
        self, train: Ratings, rng: np.random.Generator, backend: Backend, start: State | None = None
    ) -> Iterator[Epoch]:
        """See `IterativeSolver.run_once`; train is the table without the weights."""
        for epoch in self._solver.run_once(self._train, rng, backend, start, self._scale):
            error = None if epoch.train_rmse is None else self._excess * epoch.train_rmse
            yield replace(epoch, train_rmse=error)


Iterative = TypeVar("Iterative", bound=IterativeSolver)


class CommitteeSelection(Selection[Iterative]):
    """The choice of the epochs of a member, of the committee's size, of rank and λ; or of damped biases alone."""

    def __init__(self, solver: Iterative) -> None:
        super().__init__(solver)
        λ = solver.usual["regularisation"]
        every = {"regularisation": tuple(λ * 2.0**power for power in _POWERS), "rank": _RANKS}
        axes: dict[str, Any] = {
            n: values for n, values in every.items() if getattr(solver, n) == AUTO and solver.epochs
        }
        if axes and solver.noise == AUTO:  # signal that the biases miss may look like noise
            axes["noise"] = ("common", "personal")
        self.axes = axes

    @property
    def member(self) -> Iterative | None:
        """One member of a committee."""
        solver = self.solver
        return None if solver.members == 1 or not solver.epochs else solver.with_settings(members=1)

    def committees(self, member: Iterative) -> Sequence[Iterative]:
        """With `overtraining` times the member's epochs, then with all of them."""
        fewer = max(1, round(self.solver.overtraining * member.n_epochs))
        return [self.solver.with_settings(epochs=epochs) for epochs in dict.fromkeys((fewer, member.n_epochs))]

    def plainest(self) -> Iterative | None:
        """The damped biases alone."""
        return self.solver.with_settings(members=1, epochs=0)

    def is_finished(self, errors: Sequence[float]) -> bool:
        """After `patience` epochs without a better error, but not before a run has settled."""
        solver = self.solver
        return has_stalled(errors, solver.patience) and (solver.members > 1 or solver.has_settled(len(errors)))


def _biases_alone(train: Ratings, rng: np.random.Generator, backend: Backend, rank: int) -> Iterator[Epoch]:
    """The damped biases as a factorisation whose factors, of that rank, are zero."""
    for epoch in Biases().run(train, rng=rng, backend=backend):

        def model(epoch: Epoch = epoch) -> Factorization:
            biases = epoch.model()
            assert isinstance(biases, Factorization)
            P, Q = (np.zeros((rows, rank), np.float32) for rows in (train.n_users, train.n_items))
            return replace(biases, user_factors=P, item_factors=Q)

        yield replace(epoch, model=model)
