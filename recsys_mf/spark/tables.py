"""The tables of factors that workers hold, and the ratings that their rows are solved from."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.spark.crew import Crew

F32 = NDArray[np.float32]

_ROW = 4  # the solution of a row costs as much as this number of ratings, in addition to its own ratings


@dataclass(eq=False)
class Side:
    """The ratings of one side in the storage.

    arrays : weak references to the arrays that were written there, by name
    crew : the crew whose workers have read their rows; edges [W + 1] : the first row of each, and the number of rows
    """

    name: str
    ratings: tuple[NDArray[np.int64], int]
    arrays: dict[str, weakref.ref[Any]]
    crew: Crew | None = None
    edges: tuple[int, ...] = ()

    def holds(self, arrays: dict[str, Any]) -> bool:
        """Whether this side was written from these arrays."""
        return self.arrays.keys() == arrays.keys() and all(self.arrays[name]() is arrays[name] for name in arrays)

    def cut(self, workers: int) -> tuple[int, ...]:
        """Edges of contiguous rows of about equal work."""
        starts, _ = self.ratings
        done = starts[1:] + _ROW * np.arange(1, len(starts))
        inner = np.searchsorted(done, done[-1] * np.arange(1, workers) / workers)
        return (0, *inner.tolist(), len(done))


class Making(NamedTuple):
    """How a table is made: the rows of a side, from their previous values or None if these do not matter, given the
    rows of the other side.
    """

    side: Side
    rows: Table | None
    others: Table
    ridge: list[float]
    steps: int


@dataclass(eq=False)
class Table:
    """A table of rows (factors, bias) float32[n, k + 1].

    half : number of halves of epochs up to it
    making : how to make it again, None once that is not needed; array : its copy on the driver
    saved : the edges of its parts in the storage
    crew : the crew whose workers hold it, cut at edges
    is_finite : whether every number is finite; is_wanted : False once only later tables can need it
    """

    name: str
    shape: tuple[int, int]
    half: int = 0
    making: Making | None = None
    array: F32 | None = None
    saved: tuple[int, ...] | None = None
    crew: Crew | None = None
    edges: tuple[int, ...] = ()
    is_finite: bool = True
    is_wanted: bool = True

    @property
    def epoch(self) -> int:
        """The epoch in which it is made."""
        return (self.half + 1) // 2

    def find_kept(self) -> int:
        """The last epoch, up to this table, that need not be computed again."""
        table = self
        while table.making is not None:
            table = table.making.others
        return table.epoch
