"""What nearby rows add to a normal distribution: relations that are not linear.

A missing entry moves by the mean of what the column's observed entries in the k nearest rows lie above their own
conditional means (each given the other observed entries of its row), times a share that held-out entries decide:

    x_ij = E[x_ij | x_io] + share · mean over near rows l of (x_lj − E[x_lj | other observed entries of row l])

Distances are Euclidean between filled rows in standard units, without column j itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_mf.completion.gaussian import Gaussian
from recsys_mf.completion.patterns import F64, Fill

NEAREST = (5, 15)
"""Numbers k of near rows that are tried."""

_DONORS = 2000  # rows at most that a row is compared with
_STACK = 1 << 22  # distances at a time


@dataclass(frozen=True, eq=False)
class Donors:
    """Rows that others are compared with: filled [d, n], missing [d, n], and residuals [d, n] of observed entries.

    nearest : k
    """

    filled: F64
    missing: NDArray[np.bool_]
    residuals: F64
    nearest: int

    def corrections(self, fill: Fill, missing: NDArray[np.bool_]) -> F64:
        """Per missing entry of filled rows [m, n], the mean residual of its column in the nearest rows; 0 elsewhere."""
        moves = np.zeros_like(fill.means)
        for j in range(moves.shape[1]):
            rows, donors = np.flatnonzero(missing[:, j]), np.flatnonzero(~self.missing[:, j])
            others = np.arange(moves.shape[1]) != j
            theirs, residuals = self.filled[np.ix_(donors, others)], self.residuals[donors, j]
            k = min(self.nearest, len(donors))
            step = max(1, _STACK // max(1, len(donors)))
            for part in (rows[start : start + step] for start in range(0, len(rows), step)):
                near = _nearest(fill.means[np.ix_(part, others)], theirs, k)
                moves[part, j] = residuals[near].mean(axis=1)
        return moves


def find_donors(model: Gaussian, X: F64, order: NDArray[np.intp], nearest: int) -> Donors:
    """The first rows of X [m, n] in a random order as donors."""
    X = X[order[:_DONORS]]
    missing = np.isnan(X)
    filled = model.fill(X).means
    return Donors(filled, missing, model.leave_one_out(filled, missing), nearest)


def _nearest(rows: F64, donors: F64, k: int) -> NDArray[np.intp]:
    """The k donors [·, k] nearest to every row."""
    distances = (donors**2).sum(axis=1) - 2 * rows @ donors.T  # without the row's own square
    if k >= len(donors):
        return np.tile(np.arange(len(donors)), (len(rows), 1))
    return np.argpartition(distances, k - 1, axis=1)[:, :k]
