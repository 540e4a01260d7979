"""Triples of a schedule on their way to the kernels: in memory, or read from files stratum by stratum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped
from recsys_mf.kernels.operands import Part


class Passes(Protocol):
    """Triples on their way to the kernels."""

    def passes(self) -> Iterator[Part]:
        """The parts of an epoch: all strata at once, or some strata after others."""
        ...


@dataclass(frozen=True, eq=False)
class HostTriples:
    """users, items int32[n], values float32[n], weights float32[n] or None, bounds int64[S, W + 1] as in `Part`."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    values: NDArray[np.float32]
    weights: NDArray[np.float32] | None
    bounds: NDArray[np.int64]

    def passes(self) -> Iterator[Part]:
        """All strata at once or, for triples in a file, one after another.

        While a stratum is visited, the next one is read from the file; then the visited one is dropped from memory.
        """
        triples = self.users, self.items, self.values, self.weights
        columns = [column for column in triples if column is not None]
        if not mapped.is_mapped(self.users):
            yield Part(*triples, self.bounds)
            return
        for stratum, following in zip(self.bounds, np.roll(self.bounds, -1, axis=0), strict=True):
            for column in columns:
                mapped.read_ahead(column, following[0], following[-1])
            yield Part(*triples, stratum[None])
            for column in columns:
                mapped.drop(column, stratum[0], stratum[-1])
