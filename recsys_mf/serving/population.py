"""Population: the distribution of the rows of the users (or items) of a model, as a prior for one more."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.models import Factorization
from recsys_mf.serving.trained import Side

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_FLOOR = 1e-6  # smallest deviation of a number, relative to the others; also added to the diagonal


class Rows(NamedTuple):
    """The rows of one side of a factorisation: factors [rows, k], bias [rows]."""

    factors: F32
    bias: F32

    @classmethod
    def of(cls, model: Factorization, side: Side) -> Rows:
        """The rows of the users or of the items of a model."""
        if side == "user":
            return cls(model.user_factors, model.user_bias)
        return cls(model.item_factors, model.item_bias)

    def select(self, rows: NDArray[np.bool_]) -> Rows:
        """Some of the rows, bool[rows]."""
        return Rows(self.factors[rows], self.bias[rows])

    def stacked(self) -> F32:
        """(factors, bias) [rows, k + 1]."""
        return np.column_stack([self.factors, self.bias])


class Population(NamedTuple):
    """The mean m [k + 1] of the rows of a side, their deviations D [k + 1] and the inverse R⁻¹ [k + 1, k + 1] of their
    correlations: rows are m + D z with z ~ N(0, R)."""

    mean: F64
    deviations: F64
    inverse: F64

    @classmethod
    def of(cls, rows: Rows) -> Population | None:
        """As `of_rows`, for the rows of a factorisation."""
        return cls.of_rows(rows.stacked())

    @classmethod
    def of_rows(cls, rows: F32) -> Population | None:
        """The population of the rows [rows, k + 1] that are not zero, which had ratings; None if there is none.

        For m rows of w numbers, correlations are shrunk towards zero by the share w / (w + m). A number that does not
        vary is given a small deviation.
        """
        known = rows[rows.any(axis=1)].astype(np.float64)
        if not len(known):
            return None
        m, width = known.shape
        mean, deviations = known.mean(axis=0), known.std(axis=0)
        # Factors have the unit of the root of a rating.
        factor = float(deviations[:-1].max(initial=0)) or float(np.abs(mean[:-1]).max(initial=0))
        bias = float(deviations[-1]) or abs(float(mean[-1])) or factor**2
        deviations = np.maximum(deviations, _FLOOR * np.append(np.full(width - 1, factor or np.sqrt(bias)), bias))
        standard = (known - mean) / deviations
        correlations = standard.T @ standard / m * (m / (width + m))
        np.fill_diagonal(correlations, 1 + _FLOOR)
        return cls(mean, deviations, np.linalg.inv(correlations))

    def precision(self, units: F64) -> F64:
        """The inverse of the covariance of rows that are measured in these units [k + 1]."""
        scale = units / self.deviations
        found: F64 = self.inverse * scale * scale[:, None]
        return found
