"""Masked SGD by the workers of a Spark job: `SgdKernels` whose plans and tables are on the workers."""

from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from recsys_mf.arrays import mapped
from recsys_mf.kernels.cpu.ring import Cut
from recsys_mf.kernels.cpu.sgd import CpuSgd, total_error
from recsys_mf.kernels.operands import RatingTable, SgdState, SgdStep
from recsys_mf.kernels.schedule import ring
from recsys_mf.kernels.schedule.grid import Grid, Places
from recsys_mf.kernels.schedule.plan import PlanSettings, SgdPlan
from recsys_mf.spark.crew import Crew
from recsys_mf.spark.crews import Crews, RecoveryPoint
from recsys_mf.spark.storage import Storage
from recsys_mf.spark.wire import Facts, Peer, Rows

T = TypeVar("T")
_SIDES = ("users", "items")


@dataclass(eq=False)
class Work:
    """The state of a plan.

    facts : what the workers must know about it; places, grid : of the plan
    steps : of all epochs so far
    collected : the last epoch that is in the arrays of the driver
    saved : the last epoch that is in the storage, None if there is none; ranges : of the rows of each file there
    crew : the crew that has the plan, or None; cut : how it is cut for this crew
    """

    name: str
    facts: Facts
    places: Places
    grid: Grid
    steps: list[SgdStep] = field(default_factory=list)
    collected: int = 0
    saved: int | None = None
    ranges: dict[str, list[list[int]]] = field(default_factory=dict)
    crew: Crew | None = None
    cut: Cut | None = None

    def folder(self, epoch: int) -> str:
        """Where in the storage the rows after an epoch are."""
        return f"{self.name}/after-{epoch}"


@dataclass(frozen=True, eq=False)
class RingPlan(SgdPlan):
    """A plan whose triples are on the workers."""

    work: Work


class RingSgd(CpuSgd):
    """`kernels.backend.SgdKernels` by the workers of a job, to the bytes of `CpuSgd`.

    every : epochs between two states in the storage
    least : a table with fewer ratings is trained by the driver alone
    """

    def __init__(self, crews: Crews, storage: Storage, *, threads: int, every: int, least: int) -> None:
        super().__init__(threads)
        self._crews, self._storage, self._every, self._least = crews, storage, every, least
        self.seconds = crews.seconds
        self._tables: weakref.WeakKeyDictionary[Any, Facts] = weakref.WeakKeyDictionary()
        self._numbers = itertools.count()
        self._dropped: list[str] = []

    def plan(self, ratings: RatingTable, settings: PlanSettings, rng: np.random.Generator) -> SgdPlan:
        """See `SgdKernels.plan`."""
        if len(ratings.users) < self._least:
            return super().plan(ratings, settings, rng)
        drawn = self.draw(ratings, settings, rng)
        name = f"plan-{next(self._numbers)}"
        for key, array in drawn.places._asdict().items():
            self._storage.put(f"{name}/{key}", array)
        facts = {
            "plan": name,
            "table": self._stored(ratings),
            "places": name,
            "grid": list(drawn.grid),
            "width": drawn.width,
            "scale": [settings.scale.mean, settings.scale.deviation],
            "seed": drawn.seed,
            "mean_weight": 1.0 if ratings.weights is None else mapped.mean(ratings.weights),
        }
        work = Work(name, facts, drawn.places, drawn.grid)
        nothing: Any = None
        plan = RingPlan(nothing, drawn.places.users, drawn.places.items, drawn.width, 1, work)
        weakref.finalize(plan, self._dropped.append, name)
        return plan

    def epoch(self, plan: SgdPlan, state: SgdState, step: SgdStep) -> float:
        """As `reference.epoch`."""
        if not isinstance(plan, RingPlan):
            return super().epoch(plan, state, step)
        work = plan.work
        error = self._done(work, state, lambda crew: self._epoch(crew, work, step))
        work.steps.append(step)
        if len(work.steps) % self._every == 0:
            self._done(work, state, partial(self._save, work))
        return error

    def collect(self, plan: SgdPlan, state: SgdState) -> None:
        """See `SgdKernels.collect`."""
        if not isinstance(plan, RingPlan) or plan.work.collected == len(plan.work.steps):
            return
        work = plan.work
        found = self._done(work, state, lambda crew: _fetch(crew, work))
        cut = work.cut
        assert cut is not None
        for worker, (users, items) in enumerate(found):
            at, to = cut.user_rows(worker), cut.item_rows(worker)
            state.P[at], state.user_bias[at] = users
            state.Q[to], state.item_bias[to] = items
        work.collected = len(work.steps)

    def _done(self, work: Work, state: SgdState, what: Callable[[Crew], T]) -> T:
        """The result of a call on a crew that has the plan in its current state; if it is lost, another continues."""

        def done(crew: Crew) -> T:
            began = time.perf_counter()
            self._tidy(crew)
            if work.crew is not crew:
                self._bring(crew, work, state)
                self.seconds.preparing += time.perf_counter() - began
            return what(crew)

        def recovery() -> RecoveryPoint:
            return RecoveryPoint.of_epochs(len(work.steps) + 1, max(work.collected, work.saved or 0))

        return self._crews.run(done, recovery, work.grid.bands)

    def _bring(self, crew: Crew, work: Work, state: SgdState) -> None:
        """Give the plan to a crew, and bring it to its current state."""
        work.crew = None
        counted = crew.call_all("count", work.facts)
        counts = np.concatenate([np.array(found["counts"], np.int64) for found in counted], axis=1)
        work.cut = cut = Cut.of(work.places, work.grid, crew.size)
        firsts = [ring.first_places(counts, cut.ring.edges[worker]).tolist() for worker in range(crew.size)]
        crew.call_all("arrange", [{"plan": work.name, "firsts": own} for own in firsts])
        if work.saved is not None and work.saved >= work.collected:
            begin = work.saved
            folder = {"plan": work.name, "folder": work.folder(begin), "ranges": work.ranges, "epoch": begin}
            crew.call_all("load", folder)
        else:
            begin = work.collected
            crew.for_all([partial(_send, crew, worker, cut, work.name, state) for worker in range(crew.size)])
            crew.call_all("take", {"plan": work.name, "epoch": begin})
        for step in work.steps[begin:]:
            self._epoch(crew, work, step)
        work.crew = crew

    def _epoch(self, crew: Crew, work: Work, step: SgdStep) -> float:
        """An epoch; returns the sum of the squared errors."""
        began = time.perf_counter()
        found = crew.call_all("epoch", {"plan": work.name, "step": list(step)})
        self.seconds.epochs += time.perf_counter() - began
        self.seconds.kernels += sum(own["seconds"] for own in found) / len(found)
        return total_error(np.concatenate([np.array(own["errors"]) for own in found], axis=1))

    def _save(self, work: Work, crew: Crew) -> None:
        """Write the rows into the storage, and remove those written before."""
        before, now = work.saved, len(work.steps)
        found = crew.call_all("save", {"plan": work.name, "folder": work.folder(now)})
        work.saved, work.ranges = now, {side: [ranges[side] for ranges in found] for side in _SIDES}
        if before is not None and before != now:
            self._storage.remove(work.folder(before))

    def _tidy(self, crew: Crew) -> None:
        """Drop the plans that no longer exist on the driver."""
        while self._dropped:
            name = self._dropped.pop()
            crew.call_all("drop", {"plan": name})
            self._storage.remove(name)

    def _stored(self, ratings: RatingTable) -> Facts:
        """The facts by which workers read a table; it is written into the storage once."""
        facts = self._tables.get(ratings)
        if facts is None:
            folder = f"table-{next(self._numbers)}"
            for name in ("users", "items", "values", "weights"):
                column = getattr(ratings, name)
                if column is not None:
                    self._storage.put(f"{folder}/{name}", column)
            mapped.release_pages()
            facts = {"folder": folder, "n": len(ratings.users), "weighted": ratings.weights is not None}
            self._tables[ratings] = facts
            weakref.finalize(ratings, self._storage.remove, folder).atexit = False
        return facts


def _fetch(crew: Crew, work: Work) -> list[list[Rows]]:
    """The rows of users and items of every worker."""

    def fetched(peer: Peer) -> list[Rows]:
        return [peer.fetch(f"{work.name}/{side}") for side in _SIDES]

    return crew.for_all([partial(fetched, peer) for peer in crew.peers])


def _send(crew: Crew, worker: int, cut: Cut, plan: str, state: SgdState) -> None:
    """Send a worker its rows."""
    users, items = cut.user_rows(worker), cut.item_rows(worker)
    crew.peers[worker].send(f"{plan}/users", Rows(state.P[users], state.user_bias[users]))
    crew.peers[worker].send(f"{plan}/items", Rows(state.Q[items], state.item_bias[items]))
