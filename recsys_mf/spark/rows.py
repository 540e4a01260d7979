"""Row solves by the workers of a Spark job: the family of ALS, whose tables stay with the workers; and long products.

Half of an epoch makes one new table: every worker solves its rows of one side, given all rows of the other side, which
it fetches from its peers. A table never changes once it is made. The driver remembers how each was made until it is in
the storage or on the driver, so that another crew can make it again.
"""

from __future__ import annotations

import itertools
import time
import weakref
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped
from recsys_mf.arrays.aligned import allocate_aligned
from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.cpu.rows import CpuRows
from recsys_mf.kernels.operands import Offsets, Pairs, Regressors, RowPrior, Shrinkage, Tables
from recsys_mf.spark.crew import Crew
from recsys_mf.spark.crews import Crews, RecoveryPoint
from recsys_mf.spark.shares import ARRAYS
from recsys_mf.spark.storage import Storage
from recsys_mf.spark.tables import Making, Side, Table
from recsys_mf.spark.wire import Facts, Rows

F32 = NDArray[np.float32]
_WORTH = 1 << 12  # workers compute a product with at least this many multiplications for each of `least` ratings


class SharedTable:
    """A table that workers hold; a solver uses it like an array (`SparkDevice`)."""

    def __init__(self, kernels: SparkRows, table: Table) -> None:
        self._kernels, self.table = kernels, table

    @property
    def is_finite(self) -> bool:
        """Whether every entry is a finite number."""
        return self.table.is_finite

    def collect(self) -> F32:
        """Its rows on the driver; the caller must not change them."""
        return self._kernels.collect(self.table)


class SparkRows(CpuRows):
    """`kernels.backend.RowKernels` to the bytes of `CpuRows`: workers solve the systems of ALS and make long products.

    The driver does everything else.

    every : epochs between two states in the storage
    least : the driver solves a table with fewer ratings alone
    """

    def __init__(self, crews: Crews, storage: Storage, *, threads: int, every: int, least: int) -> None:
        super().__init__(threads)
        self._crews, self._storage, self._every, self._least = crews, storage, every, least
        self._numbers = itertools.count()
        self._sides: list[Side] = []
        self._left_sides: list[str] = []
        self._unwanted: list[Table] = []

    def refine(self, ratings: Csr, X: Any, regressors: Regressors, prior: Shrinkage, steps: int) -> tuple[Any, F32]:
        """As `reference.refine`."""
        if len(ratings.columns) < self._least:
            return super().refine(ratings, X, regressors, prior, steps)
        side = self._find_side(ratings, regressors.weights, prior.weights)
        return self._make(Making(side, self._as_table(X), self._as_table(regressors.rows), _plain(prior), steps))

    def solve(
        self, ratings: Csr, regressors: Regressors, prior: RowPrior, noise_precision: float, normals: F32 | None
    ) -> tuple[Any, F32]:
        """As `reference.solve`."""
        is_plain = isinstance(prior, Shrinkage) and normals is None and noise_precision == 1.0
        is_plain = is_plain and regressors.contexts is None and regressors.scales is None
        if not is_plain or len(ratings.columns) < self._least:
            return super().solve(ratings, regressors, prior, noise_precision, normals)
        assert isinstance(prior, Shrinkage)
        side = self._find_side(ratings, regressors.weights, prior.weights)
        return self._make(Making(side, None, self._as_table(regressors.rows), _plain(prior), 0))

    def multiply(self, matrix: Csr, X: NDArray[Any], offsets: Offsets | None = None) -> NDArray[Any]:
        """As `reference.multiply`, in the precision of X; by workers if it is long."""
        if len(matrix.columns) * X.shape[1] < self._least * _WORTH:
            return super().multiply(matrix, X, offsets)
        side, name = self._find_side(matrix, None, None), self._new_name("product")
        facts = {"side": side.name, "name": name, "dtype": X.dtype.str, "has_offsets": offsets is not None}
        factor = Rows.of_bytes(X)

        def multiply(crew: Crew) -> list[Rows]:
            self._tidy(crew)
            self._bring_side(crew, side)
            crew.for_all([partial(peer.send, name, factor) for peer in crew.peers])
            if offsets is not None:
                a, c = (Rows.of_bytes(vector[:, None]) for vector in offsets)
                crew.for_all([partial(peer.send, f"{name}/columns", c) for peer in crew.peers])
                crew.for_all([
                    partial(peer.send, f"{name}/rows", Rows(*(array[low:high] for array in a)))
                    for peer, (low, high) in zip(crew.peers, itertools.pairwise(side.edges), strict=True)
                ])  # fmt: skip
            crew.call_all("multiply", facts)
            return crew.for_all([partial(peer.fetch, f"products/{name}") for peer in crew.peers])

        found = self._crews.run(multiply, lambda: RecoveryPoint("a product", "make it again"), matrix.n_rows)
        product = allocate_aligned(matrix.n_rows, X.shape[1], X.dtype)[:, : X.shape[1]]  # as on one machine
        np.concatenate([rows.to_bytes(X.dtype) for rows in found], out=product)
        return product

    def pair_values(self, pairs: Pairs, tables: Tables) -> F32:
        """As `reference.pair_values`."""
        collected = (table.collect() if isinstance(table, SharedTable) else table for table in tables)
        return super().pair_values(pairs, Tables(*collected))

    def collect(self, table: Table) -> F32:
        """The rows of a table on the driver."""
        if table.array is None:

            def fetch(crew: Crew) -> list[Rows]:
                self._bring(crew, table)
                return crew.for_all([partial(peer.fetch, f"rows/{table.name}") for peer in crew.peers])

            parts = self._crews.run(
                fetch, lambda: RecoveryPoint.of_epochs(table.epoch, table.find_kept()), table.shape[0]
            )
            table.array, table.making = np.concatenate([rows.to_table() for rows in parts]), None
        return table.array

    def _make(self, making: Making) -> tuple[SharedTable, F32]:
        """A table made by workers, and the squared errors of its rows."""
        others = making.others
        shape = (len(making.side.ratings[0]) - 1, others.shape[1])
        table = Table(self._new_name("rows"), shape, others.half + 1, making)

        def make(crew: Crew) -> list[Rows]:
            self._tidy(crew)
            self._bring(crew, table)
            errors = crew.for_all([partial(peer.fetch, f"errors/{table.name}") for peer in crew.peers])
            if table.epoch % self._every == 0:
                self._save(crew, table)
            return errors

        found = self._crews.run(
            make, lambda: RecoveryPoint.of_epochs(table.epoch, others.find_kept()), max(shape[0], others.shape[0])
        )
        shared = SharedTable(self, table)
        weakref.finalize(shared, self._let_go, table)
        return shared, np.concatenate([rows.bias for rows in found])

    def _bring(self, crew: Crew, table: Table, edges: tuple[int, ...] = ()) -> None:
        """Give the workers a table, cut at edges if these are given: send it, load it, or make it again."""
        if table.crew is crew and edges in ((), table.edges):
            return
        if table.making is not None:
            edges = self._solve(crew, table, table.making)
        else:
            edges = edges or tuple((table.shape[0] * np.arange(crew.size + 1) // crew.size).tolist())
            ranges = list(itertools.pairwise(edges))
            if table.array is not None:
                array = table.array
                sends = [
                    partial(peer.send, f"rows/{table.name}", Rows.of_table(array[low:high]))
                    for peer, (low, high) in zip(crew.peers, ranges, strict=True)
                ]
                crew.for_all(sends)
                crew.call_all("take_rows", {"name": table.name})
            else:
                facts = {"name": table.name, "edges": table.saved, "width": table.shape[1]}
                crew.call_all("load_rows", [facts | {"rows": own} for own in ranges])
        table.crew, table.edges = crew, edges
        if not table.is_wanted:
            self._unwanted.append(table)

    def _solve(self, crew: Crew, table: Table, making: Making) -> tuple[int, ...]:
        """Have the workers make a table; returns the edges at which it is cut."""
        began = time.perf_counter()
        side = making.side
        self._bring_side(crew, side)
        if making.rows is not None:
            self._bring(crew, making.rows, side.edges)
        self._bring(crew, making.others)
        self._crews.seconds.preparing += time.perf_counter() - began
        facts: Facts = {
            "side": side.name, "into": table.name, "others": making.others.name, "ridge": making.ridge,
            "rows": None if making.rows is None else making.rows.name, "steps": making.steps,
        }  # fmt: skip
        began = time.perf_counter()
        found = crew.call_all("solve", facts)
        self._crews.seconds.epochs += time.perf_counter() - began
        self._crews.seconds.kernels += sum(own["seconds"] for own in found) / len(found)
        table.is_finite = all(own["finite"] for own in found)
        return side.edges

    def _bring_side(self, crew: Crew, side: Side) -> None:
        """Have the workers read their ratings of a side."""
        if side.crew is crew:
            return
        starts, n_columns = side.ratings
        edges = side.cut(crew.size)
        facts = {"side": side.name, "n_columns": n_columns, "arrays": list(side.arrays)}
        own = [
            facts | {"rows": [low, high], "entries": [int(starts[low]), int(starts[high])]}
            for low, high in itertools.pairwise(edges)
        ]
        crew.call_all("read_side", own)
        side.crew, side.edges = crew, edges

    def _save(self, crew: Crew, table: Table) -> None:
        """Write a table into the storage, where it stays as long as it can be needed."""
        crew.call_all("save_rows", [{"name": table.name, "first": first} for first in table.edges[:-1]])
        table.saved, table.making = table.edges, None
        weakref.finalize(table, self._storage.remove, table.name).atexit = False

    def _find_side(self, ratings: Csr, weights: F32 | None, prior: F32 | None) -> Side:
        """The side with these ratings, weights, and weights of the rows' prior, written into the storage once."""
        every = {**ratings._asdict(), "weights": weights, "prior": prior}
        arrays = {name: every[name] for name in ARRAYS if every[name] is not None}
        for side in self._sides:
            if side.holds(arrays):
                return side
        name = self._new_name("side")
        for key, array in arrays.items():
            self._storage.put(f"{name}/{key}", array)
        mapped.release_pages()
        references = {key: weakref.ref(array) for key, array in arrays.items()}
        side = Side(name, (ratings.starts, ratings.n_columns), references)
        self._sides.append(side)
        weakref.finalize(side, self._left_sides.append, name)  # once no table needs it any more
        return side

    def _as_table(self, rows: Any) -> Table:
        """The table of a solver's array, or of a `SharedTable`."""
        if isinstance(rows, SharedTable):
            return rows.table
        return Table(self._new_name("rows"), rows.shape, array=rows, is_wanted=False)

    def _let_go(self, table: Table) -> None:
        """Mark a table that the solver no longer uses; only tables made from it can still need it."""
        table.is_wanted = False
        self._unwanted.append(table)

    def _tidy(self, crew: Crew) -> None:
        """Drop the tables and sides that are no longer needed."""
        unwanted = [self._unwanted.pop() for _ in range(len(self._unwanted))]
        names = [table.name for table in unwanted if table.crew is crew]
        for table in unwanted:
            table.crew = None
        if names:
            crew.call_all("drop_rows", {"names": names})
        self._sides = [side for side in self._sides if all(array() is not None for array in side.arrays.values())]
        while self._left_sides:
            name = self._left_sides.pop()
            crew.call_all("drop_side", {"side": name})
            self._storage.remove(name)

    def _new_name(self, kind: str) -> str:
        return f"{kind}-{next(self._numbers)}"


def _plain(prior: Shrinkage) -> list[float]:
    """The ridge as plain numbers, equal to its float32 values."""
    found: list[float] = prior.ridge.tolist()
    return found
