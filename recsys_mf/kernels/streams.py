"""Triples of a schedule on their way to the kernels: in memory, or read from files stratum by stratum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped


@dataclass(frozen=True, eq=False)
class HostTriples:
    """users, items int32[n], values float32[n], and bounds int64[S, W + 1] as in `reference.sgd_epoch`."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    values: NDArray[np.float32]
    bounds: NDArray[np.int64]

    def passes(self) -> Iterator[tuple[Any, Any, Any, Any]]:
        """All strata at once or, of triples in a file, one after another.

        While a stratum is visited the next is read from the file; then it is dropped from memory.
        """
        triples = self.users, self.items, self.values
        if not mapped.is_mapped(self.users):
            yield *triples, self.bounds
            return
        for stratum, following in zip(self.bounds, np.roll(self.bounds, -1, axis=0), strict=True):
            for column in triples:
                mapped.read_ahead(column, following[0], following[-1])
            yield *triples, stratum[None]
            for column in triples:
                mapped.drop(column, stratum[0], stratum[-1])
