"""Worker: a task of the barrier stage. It holds its share of every plan, and runs the actions that the driver calls."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf import __version__
from recsys_mf.kernels.cpu.ring import Cut, Share
from recsys_mf.kernels.cpu.sgd import CpuSgd
from recsys_mf.kernels.operands import RatingScale, SgdState, SgdStep, Triples
from recsys_mf.kernels.schedule import host, ring
from recsys_mf.kernels.schedule.grid import Grid, Places
from recsys_mf.spark.shares import RowShares
from recsys_mf.spark.storage import Storage
from recsys_mf.spark.wire import Endpoint, Facts, Mailbox, Peer, Rows

IDLE = 120.0
"""Seconds without a call from the driver after which a worker ends."""

_ROWS = 1 << 22  # of a table that are read at a time


class Job(NamedTuple):
    """What every task of a job is given.

    name : of the job; token : proves that a caller belongs to the job; storage : shared by all of them
    """

    name: str
    token: str
    storage: Storage


def describe_software() -> dict[str, str]:
    """The versions and the processor, which must be the same on all machines for the same bytes."""
    from importlib import metadata

    from recsys_mf.arrays.jit import target

    libraries = {name: metadata.version(name) for name in ("numpy", "numba", "llvmlite")}
    return {"recsys_mf": __version__, "processor": target()} | libraries


def serve(job: Job, tasks: Iterator[Any]) -> Iterator[Any]:
    """The task: exchange addresses with the other workers, give them to the driver, and work until it says stop."""
    from pyspark import BarrierTaskContext

    context = BarrierTaskContext.get()
    list(tasks)
    worker = Worker(context.partitionId(), job, max(1, context.cpus()))
    address = context.getTaskInfos()[worker.number].address.rpartition(":")[0].strip("[]")
    endpoint = Endpoint(address, job.token, worker.mailbox, worker.act, worker.give)
    try:
        mine = {"address": f"{address}:{endpoint.port}", "software": describe_software()}
        members = [json.loads(text) for text in context.allGather(json.dumps(mine))]
        worker.peers = [Peer(member["address"], job.token) for member in members]
        worker.ready.set()
        if worker.number == 0:
            job.storage.put_facts(f"{job.name}.json", members)
        while not worker.done.wait(0.1):
            if time.monotonic() - worker.heard > IDLE:
                raise ConnectionError("the driver is gone")
    finally:
        worker.done.set()
        endpoint.shutdown()
    yield from ()


@dataclass(eq=False)
class _Held:
    """The part of a plan that a worker holds.

    triples, places : the triples in the order of the table and the places of all rows; None once they are arranged
    share : the arranged triples
    users, items : the rows of its users, and of the items of its own group
    epoch : the number of epochs that these rows have been through
    """

    facts: Facts
    cut: Cut
    triples: Triples | None
    places: Places | None
    share: Share | None = None
    users: Rows | None = None
    items: Rows | None = None
    epoch: int = 0


class Worker:
    """The actions of a worker.

    number : 0 to W - 1; peers : all workers by number
    heard : time of the last call from the driver; ready : set once the peers are known; done : set when it should end
    """

    def __init__(self, number: int, job: Job, threads: int) -> None:
        self.number, self.storage, self._sgd = number, job.storage, CpuSgd(threads)
        self._threads = threads
        self.peers: list[Peer] = []
        self.mailbox = Mailbox()
        self.ready, self.done, self.heard = threading.Event(), threading.Event(), time.monotonic()
        self._plans: dict[str, _Held] = {}
        self._shares = RowShares(number, lambda: self.peers, self.mailbox, job.storage, threads)

    def act(self, name: str, facts: Facts) -> Facts:
        """Run an action of the driver."""
        self.heard = time.monotonic()
        self.ready.wait()
        actions = {
            "ping": self._ping, "stop": self._stop, "count": self._count, "arrange": self._arrange,
            "take": self._take, "load": self._load, "save": self._save, "epoch": self._epoch, "drop": self._drop,
            **self._shares.actions,
        }  # fmt: skip
        return actions[name](facts)

    def give(self, key: str) -> Rows:
        """Rows of a plan (PLAN/users, PLAN/items: those of its own group), or what `RowShares` gives."""
        plan, _, side = key.partition("/")
        if plan in ("rows", "errors", "products"):
            return self._shares.give(key)
        rows: Rows | None = getattr(self._plans[plan], side)
        assert rows is not None
        return rows

    def _ping(self, facts: Facts) -> Facts:
        return {}

    def _stop(self, facts: Facts) -> Facts:
        self.done.set()
        return {}

    def _drop(self, facts: Facts) -> Facts:
        self._plans.pop(facts["plan"], None)
        return {}

    def _count(self, facts: Facts) -> Facts:
        """Read the triples of the worker's users; returns how many there are by stratum and row band."""
        folder, grid = facts["places"], Grid(*facts["grid"])
        places = Places(*(self.storage.get(f"{folder}/{name}", np.int32) for name in Places._fields))
        cut = Cut.of(places, grid, len(self.peers))
        bands = cut.ring.group(self.number)
        rows, columns = (
            (part // parts).astype(np.int32)
            for part, parts in ((places.part_of_user, grid.user_parts), (places.part_of_item, grid.item_parts))
        )
        mine = (rows >= bands.start) & (rows < bands.stop)
        triples = self._read(facts["table"], mine)
        self._plans[facts["plan"]] = _Held(facts, cut, triples, places)
        counts = ring.count_blocks(rows[triples.users], columns[triples.items], grid.bands)
        return {"counts": counts[:, bands.start : bands.stop].tolist()}

    def _read(self, table: Facts, mine: NDArray[np.bool_]) -> Triples:
        """The triples of some users, in the order of the table."""
        names = ["users", "items", "values", *(["weights"] if table["weighted"] else [])]
        found: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        for low in range(0, table["n"], _ROWS):
            part = slice(low, min(low + _ROWS, table["n"]))
            columns = {
                name: self.storage.get(f"{table['folder']}/{name}", np.int32 if name in names[:2] else np.float32, part)
                for name in names
            }
            chosen = mine[columns["users"]]
            for name, column in columns.items():
                found[name].append(column[chosen])
        return Triples(*(np.concatenate(parts) for parts in found.values()))

    def _arrange(self, facts: Facts) -> Facts:
        """Put the triples into the order of their visits."""
        held = self._plans[facts["plan"]]
        assert held.triples is not None
        assert held.places is not None
        made = held.facts
        mean, deviation = made["scale"]
        among = host.Among(np.array(facts["firsts"], np.int64), made["mean_weight"])
        scale = RatingScale(mean, deviation, (0.0, 0.0))
        arranged = host.arrange(
            held.triples, held.places, held.cut.grid, scale, made["seed"], threads=self._threads, among=among
        )
        held.share = Share.of(arranged, held.cut, self.number)
        held.triples = held.places = None
        return {}

    def _take(self, facts: Facts) -> Facts:
        """Take rows that the driver has sent from the mailbox."""
        held = self._plans[facts["plan"]]
        held.users, held.items = (
            self.mailbox.take(f"{facts['plan']}/{side}", lambda: False) for side in ("users", "items")
        )
        held.epoch = facts["epoch"]
        return {}

    def _save(self, facts: Facts) -> Facts:
        """Write the rows into the storage; returns the range of rows of each side."""
        held = self._plans[facts["plan"]]
        ranges = {}
        for side, rows in self._ranges(held).items():
            found: Rows = getattr(held, side)
            ranges[side] = [rows.start, rows.stop]
            if rows.start < rows.stop:
                for name, array in found._asdict().items():
                    self.storage.put(f"{facts['folder']}/{side}-{rows.start}.{name}", array)
        return ranges

    def _load(self, facts: Facts) -> Facts:
        """Read the rows that the workers of another crew, maybe more or fewer, have written."""
        held = self._plans[facts["plan"]]
        width = held.facts["width"]
        for side, wanted in self._ranges(held).items():
            parts: dict[str, list[Any]] = {"factors": [np.empty((0, width), np.float32)], "bias": []}
            for low, high in sorted(facts["ranges"][side]):
                part = slice(max(low, wanted.start) - low, min(high, wanted.stop) - low)
                if part.start < part.stop:
                    for name in Rows._fields:
                        where = f"{facts['folder']}/{side}-{low}.{name}"
                        parts[name].append(self.storage.get(where, np.float32, part, width if name == "factors" else 1))
            factors, bias = np.concatenate(parts["factors"]), np.concatenate([*parts["bias"], np.empty(0, np.float32)])
            setattr(held, side, Rows(self._sgd.put_factors(factors, "float32"), bias))
        held.epoch = facts["epoch"]
        return {}

    def _ranges(self, held: _Held) -> dict[str, slice]:
        return {"users": held.cut.user_rows(self.number), "items": held.cut.item_rows(self.number)}

    def _epoch(self, facts: Facts) -> Facts:
        """An epoch together with the other workers; returns the squared errors of the worker's blocks by stratum and
        row band, and the seconds in kernels.
        """
        held, step = self._plans[facts["plan"]], SgdStep(*facts["step"])
        assert held.share is not None
        assert held.users is not None
        assert held.items is not None
        workers, bands = held.cut.ring, held.cut.ring.group(self.number)
        errors = np.zeros((workers.bands, workers.bands))
        users, items = held.users, held.items
        epoch, visiting = held.epoch + 1, 0.0
        for at in range(workers.workers + 1):
            state = SgdState(users.factors, items.factors, users.bias, items.bias)
            began = time.perf_counter()
            held.share.visit(self._sgd, at, state, step, errors)
            visiting += time.perf_counter() - began
            if workers.workers > 1 and at < workers.workers:
                key = f"{facts['plan']}/{epoch}/{at}"
                self.peers[workers.before(self.number)].send(key, items)
                items = self.mailbox.take(key, lambda: not self.done.is_set())
        held.items, held.epoch = items, epoch
        return {"errors": errors[:, bands.start : bands.stop].tolist(), "seconds": visiting}
