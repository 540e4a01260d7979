"""Shares: what a worker holds of the tables of ALS, and its part of the solution of a side, or of a product.

A worker solves contiguous rows. It reads their ratings from the storage, and the other side's rows from all workers.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.cpu.device import CpuDevice
from recsys_mf.kernels.cpu.rows import CpuRows
from recsys_mf.kernels.operands import Offsets, Regressors, Shrinkage
from recsys_mf.spark.storage import Storage
from recsys_mf.spark.wire import Facts, Mailbox, Peer, Rows

F32 = NDArray[np.float32]
ARRAYS = ("starts", "columns", "values", "weights", "prior")
"""The arrays of a side in the storage: starts and prior have an entry per row, the others one per rating."""


class _Side(NamedTuple):
    """The ratings of a worker's rows, their weights, and the weights of the rows' prior; None for those not given."""

    ratings: Csr
    weights: F32 | None
    prior: F32 | None


class RowShares:
    """The actions of a worker on tables of rows (factors, bias) float32[rows, k + 1]; it holds a part of each table.

    number : of the worker, 0 to W - 1; peers : gives all workers by number
    mailbox : where rows from the driver arrive; threads : of the worker
    """

    def __init__(
        self, number: int, peers: Callable[[], list[Peer]], mailbox: Mailbox, storage: Storage, threads: int
    ) -> None:
        self._number, self._peers, self._mailbox, self._storage = number, peers, mailbox, storage
        self._kernels, self._put = CpuRows(threads), CpuDevice(threads).put
        self._sides: dict[str, _Side] = {}
        self._tables: dict[str, F32] = {}
        self._errors: dict[str, F32] = {}
        self._products: dict[str, NDArray[Any]] = {}
        self.actions: dict[str, Callable[[Facts], Facts]] = {
            "read_side": self._read_side, "drop_side": self._drop_side, "solve": self._solve,
            "multiply": self._multiply,
            "take_rows": self._take, "save_rows": self._save, "load_rows": self._load, "drop_rows": self._drop,
        }  # fmt: skip

    def give(self, key: str) -> Rows:
        """The worker's part of a table (rows/NAME); or the squared errors of its rows (errors/NAME), as biases of rows
        without factors; or, only once, its rows of a product (products/NAME).
        """
        kind, _, name = key.partition("/")
        if kind == "products":
            return Rows.of_bytes(self._products.pop(name))
        if kind == "errors":
            errors = self._errors[name]
            return Rows(np.empty((len(errors), 0), np.float32), errors)
        return Rows.of_table(self._tables[name])

    def _read_side(self, facts: Facts) -> Facts:
        """Read the ratings of the worker's rows of a side."""
        folder, (low, high), entries = facts["side"], facts["rows"], slice(*facts["entries"])

        def read(name: str, dtype: Any, part: slice) -> Any:
            if name not in facts["arrays"]:
                return None
            return self._put(self._storage.get(f"{folder}/{name}", dtype, part))

        starts = read("starts", np.int64, slice(low, high + 1))
        columns, values = read("columns", np.int32, entries), read("values", np.float32, entries)
        ratings = Csr(starts - starts[0], columns, values, facts["n_columns"])
        prior = read("prior", np.float32, slice(low, high))
        self._sides[folder] = _Side(ratings, read("weights", np.float32, entries), prior)
        return {}

    def _drop_side(self, facts: Facts) -> Facts:
        self._sides.pop(facts["side"], None)
        return {}

    def _solve(self, facts: Facts) -> Facts:
        """Solve the worker's rows of a side, given all rows of the other; returns whether all are finite numbers, and
        the seconds in kernels.
        """
        ratings, weights, prior = self._sides[facts["side"]]
        regressors = Regressors(self._put(self._gather(facts["others"])), weights=weights)
        shrinkage = Shrinkage(prior, np.array(facts["ridge"], np.float32))
        began = time.perf_counter()
        if facts["steps"]:
            before = self._tables[facts["rows"]]
            found = self._kernels.refine(ratings, before, regressors, shrinkage, facts["steps"])
        else:
            found = self._kernels.solve(ratings, regressors, shrinkage, 1.0, None)
        seconds = time.perf_counter() - began
        self._tables[facts["into"]], self._errors[facts["into"]] = found
        return {"finite": bool(np.isfinite(found[0]).all()), "seconds": seconds}

    def _multiply(self, facts: Facts) -> Facts:
        """The worker's rows of a product of a side's ratings with a factor; this and `offsets` come from the driver."""
        name, offsets = facts["name"], None
        factor = self._mailbox.take(name, lambda: False).to_bytes(facts["dtype"])
        if facts["has_offsets"]:
            vectors = (self._mailbox.take(f"{name}/{kind}", lambda: False) for kind in ("rows", "columns"))
            offsets = Offsets(*(vector.to_bytes(np.float64)[:, 0] for vector in vectors))
        self._products[name] = self._kernels.multiply(self._sides[facts["side"]].ratings, factor, offsets)
        return {}

    def _gather(self, name: str) -> F32:
        """All rows of a table, from the workers that hold them, the next worker first, so that requests are spread."""
        peers = self._peers()
        others = [(self._number + step) % len(peers) for step in range(1, len(peers))]
        with ThreadPoolExecutor(max(1, len(others))) as pool:
            parts = dict(zip(others, pool.map(lambda other: peers[other].fetch(f"rows/{name}"), others), strict=True))
        tables = [
            self._tables[name] if number == self._number else parts[number].to_table() for number in range(len(peers))
        ]
        return np.concatenate(tables)

    def _take(self, facts: Facts) -> Facts:
        """Take rows that the driver has sent from the mailbox."""
        name = facts["name"]
        self._tables[name] = self._put(self._mailbox.take(f"rows/{name}", lambda: False).to_table())
        return {}

    def _save(self, facts: Facts) -> Facts:
        """Write the worker's part of a table into the storage, named by the number of its first row."""
        part = self._tables[facts["name"]]
        if len(part):
            self._storage.put(f"{facts['name']}/{facts['first']}", part)
        return {}

    def _load(self, facts: Facts) -> Facts:
        """Read a part of a table that the workers of another crew, maybe more or fewer, have written.

        facts : the name of the table, the rows wanted, the edges of the parts that were written, its columns
        """
        name, (low, high), edges, width = facts["name"], facts["rows"], facts["edges"], facts["width"]
        parts = [np.empty((0, width), np.float32)]
        for first, end in itertools.pairwise(edges):
            part = slice(max(first, low) - first, min(end, high) - first)
            if part.start < part.stop:
                parts.append(self._storage.get(f"{name}/{first}", np.float32, part, width))
        self._tables[name] = self._put(np.concatenate(parts))
        return {}

    def _drop(self, facts: Facts) -> Facts:
        for name in facts["names"]:
            self._tables.pop(name, None)
            self._errors.pop(name, None)
        return {}
