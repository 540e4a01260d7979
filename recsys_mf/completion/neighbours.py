"""What nearby rows add to a normal distribution: relations that are not linear.

The residual of an observed entry is its value minus its mean given the other observed entries of its row. A missing
entry moves by the mean residual of its column in the k nearest rows, times a share that is chosen on held-out entries:

    x_ij = E[x_ij | x_io] + share · mean over near rows l of (x_lj − E[x_lj | other observed entries of row l])

Distances are Euclidean between filled rows in standard units, without column j itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.completion.gaussian import Gaussian
from recsys_mf.completion.patterns import F64, Fill

NEAREST = (5, 15)
"""Numbers k of near rows that are tried."""

MOST_DONORS = 2000
"""Rows that a row is compared with."""

_STACK = 1 << 22  # distances at a time


@dataclass(frozen=True, eq=False)
class Donors:
    """Rows that others are compared with: filled [d, n], missing [d, n], and residuals [d, n] of observed entries."""

    filled: F64
    missing: NDArray[np.bool_]
    residuals: F64

    @classmethod
    def of(cls, model: Gaussian, filled: F64, missing: NDArray[np.bool_]) -> Self:
        """Donors from rows [d, n] that the model has filled; missing : the entries that it filled."""
        return cls(filled, missing, model.leave_one_out(filled, missing))

    def corrections(self, fill: Fill, missing: NDArray[np.bool_], nearest: Sequence[int]) -> list[F64]:
        """Per missing entry of filled rows [m, n], the mean residual of its column in the k nearest rows; 0 elsewhere.

        nearest : every k, in ascending order; there is a result [m, n] for each
        """
        moves = [np.zeros_like(fill.means) for _ in nearest]
        n = fill.means.shape[1]
        for j in range(n):
            rows, donors = np.flatnonzero(missing[:, j]), np.flatnonzero(~self.missing[:, j])
            others = np.arange(n) != j
            theirs, residuals = self.filled[np.ix_(donors, others)], self.residuals[donors, j]
            step = max(1, _STACK // max(1, len(donors)))
            for part in (rows[start : start + step] for start in range(0, len(rows), step)):
                near = _nearest(fill.means[np.ix_(part, others)], theirs, nearest)
                for move, k in zip(moves, nearest, strict=True):
                    move[part, j] = residuals[near[:, :k]].mean(axis=1)
        return moves


def _nearest(rows: F64, donors: F64, nearest: Sequence[int]) -> NDArray[np.intp]:
    """The donors nearest to every row, the k nearest in the first k columns for each k of `nearest`."""
    distances = (donors**2).sum(axis=1) - 2 * rows @ donors.T  # without the row's own square
    bounds = [k - 1 for k in nearest if k < len(donors)]
    return np.argpartition(distances, bounds, axis=1) if bounds else np.argsort(distances, axis=1)
