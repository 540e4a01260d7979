"""The plan of masked SGD for a table: the triples in the order of their visits, and how a backend visits them.

A backend says what its kernels need (`Planner`); the steps that make a plan are the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped
from recsys_mf.kernels.operands import Part, RatingScale, RatingTable, SgdState, SgdStep, Triples
from recsys_mf.kernels.schedule.grid import Arranged, Grid, Places
from recsys_mf.kernels.schedule.passes import HostTriples, Passes

_RUN = 256  # ratings that hogwild takes in a row


class PlanSettings(NamedTuple):
    """What a plan depends on besides the table.

    rank k; scale : the mean and deviation that values are standardised with
    schedule : "conflict-free" or "hogwild"; rate : the larger of the first steps of factors and biases
    """

    rank: int
    scale: RatingScale
    schedule: str
    rate: float


@dataclass(frozen=True, eq=False)
class SgdPlan:
    """The triples in the order of their visits.

    triples : `passes()` gives them part by part, under permuted indices
    user_places int32[m], item_places int32[n] : permuted index of every user and item
    width : columns that factors have, at least the rank; the rest are zeros
    batch : ratings of a block that are taken at a time
    """

    triples: Passes
    user_places: NDArray[np.int32]
    item_places: NDArray[np.int32]
    width: int
    batch: int

    @classmethod
    def in_given_order(cls, triples: Triples, n_users: int, n_items: int, width: int) -> SgdPlan:
        """One triple after another in the given order, on the host."""
        order = HostTriples(*triples, np.array([[0, len(triples.values)]]))
        return cls(order, np.arange(n_users, dtype=np.int32), np.arange(n_items, dtype=np.int32), width, 1)


class Drawn(NamedTuple):
    """The random choices of a plan: the places of rows in a grid, and the seed of the order within parts."""

    width: int
    grid: Grid
    places: Places
    seed: int


class Planner(ABC):
    """The part of `SgdKernels` that backends share; what differs between them is abstract."""

    @abstractmethod
    def width(self, rank: int) -> int:
        """Columns that factors must have for the kernels, at least rank; the rest are zeros."""

    @abstractmethod
    def grid(self, n_ratings: int, n_users: int, n_items: int, width: int) -> Grid:
        """The grid for a table of this size and factors of this width."""

    @abstractmethod
    def batch(self, share: float, rate: float) -> int:
        """Ratings taken at a time. share : of the sum of all weights, that of the most rated row; rate : of the step"""

    @abstractmethod
    def arrange(self, triples: Triples, places: Places, grid: Grid, scale: RatingScale, seed: int) -> Arranged:
        """As `host.arrange`; the columns may be on the device."""

    @abstractmethod
    def stream(self, triples: Triples, bounds: NDArray[np.int64]) -> Passes:
        """The triples of a schedule, on the device or on their way there."""

    @abstractmethod
    def visit(self, part: Part, batch: int, state: SgdState, step: SgdStep) -> float:
        """Visit the blocks of a part as in `reference.epoch`; returns the sum of the squared errors."""

    def draw(self, ratings: RatingTable, settings: PlanSettings, rng: np.random.Generator) -> Drawn:
        """The random choices of a plan, drawn from rng in the order of `Drawn`."""
        n, m, n_items = len(ratings.users), len(ratings.user_counts), len(ratings.item_counts)
        width = self.width(settings.rank)
        grid = self.grid(n, m, n_items, width)
        places = Places.draw(ratings.user_counts, ratings.item_counts, grid, rng)
        return Drawn(width, grid, places, int(rng.integers(2**63)))

    def plan(self, ratings: RatingTable, settings: PlanSettings, rng: np.random.Generator) -> SgdPlan:
        """See `SgdKernels.plan`. Draws from rng the two permutations, then the seed of the order within parts."""
        width, grid, places, seed = self.draw(ratings, settings, rng)
        triples = Triples(ratings.users, ratings.items, ratings.values, ratings.weights)
        arranged = self.arrange(triples, places, grid, settings.scale, seed)
        mapped.release_pages()
        return SgdPlan(
            self.stream(Triples(*arranged[:4]), find_bounds(arranged, grid, settings.schedule)),
            places.users,
            places.items,
            width,
            self.batch(_largest_share(ratings), settings.rate),
        )

    def collect(self, plan: SgdPlan, state: SgdState) -> None:  # noqa: B027 (nothing to do for most)
        """See `SgdKernels.collect`: the state is where it was put."""

    def epoch(self, plan: SgdPlan, state: SgdState, step: SgdStep) -> float:
        """As `reference.epoch`."""
        squared_error = 0.0
        for part in plan.triples.passes():
            squared_error += self.visit(part, plan.batch, state, step)
        return squared_error


def _largest_share(ratings: RatingTable) -> float:
    """The share of all ratings that the most rated row has; with weights, of the sum of the weights."""
    if ratings.weights is None:
        return float(max(ratings.user_counts.max(), ratings.item_counts.max()) / len(ratings.users))
    users, items = ratings.user_weights, ratings.item_weights
    return float(max(users.max(), items.max()) / users.sum())


def find_bounds(arranged: Arranged, grid: Grid, schedule: str) -> NDArray[Any]:
    """Bounds of the blocks; for hogwild those of short runs, as a single stratum, so that no run waits for another."""
    if schedule == "conflict-free":
        return arranged.bounds(grid)
    n = len(arranged.users)
    return np.append(np.arange(0, n, _RUN), n)[None]
