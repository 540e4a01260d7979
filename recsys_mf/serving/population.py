"""Population: how the rows of the users (or items) of a model are distributed, the prior of one more."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.models import Factorization
from recsys_mf.serving.trained import Side

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_FLOOR = 1e-6  # of the variance of a coordinate, in units of the largest


class Rows(NamedTuple):
    """The rows of one side of a factorisation: factors [rows, k], bias [rows]."""

    factors: F32
    bias: F32

    @classmethod
    def of(cls, model: Factorization, side: Side) -> Rows:
        """Those of users or of items."""
        if side == "user":
            return cls(model.user_factors, model.user_bias)
        return cls(model.item_factors, model.item_bias)

    def stacked(self) -> F32:
        """(factors, bias) [rows, k + 1]."""
        return np.column_stack([self.factors, self.bias])


class Population(NamedTuple):
    """The mean m [k + 1] of the rows of a side and the inverse C⁻¹ [k + 1, k + 1] of their covariance."""

    mean: F64
    inverse: F64

    @classmethod
    def of(cls, rows: Rows) -> Population | None:
        """As `of_rows`, of the rows of a factorisation."""
        return cls.of_rows(rows.stacked())

    @classmethod
    def of_rows(cls, rows: F32) -> Population | None:
        """That of the rows [rows, k + 1] that are not zero, which had ratings; None if there is none.

        Of m rows of w numbers, the covariance is drawn to its diagonal by w / (w + m).
        """
        known = rows[rows.any(axis=1)].astype(np.float64)
        if not len(known):
            return None
        centred = known - known.mean(axis=0)
        covariance = centred.T @ centred / max(len(known) - 1, 1)
        diagonal, (m, width) = np.diag(np.diag(covariance)), known.shape
        covariance += width / (width + m) * (diagonal - covariance)
        covariance += np.eye(width) * max(_FLOOR * float(diagonal.max()), float(np.finfo(np.float32).tiny))
        return cls(known.mean(axis=0), np.linalg.inv(covariance))
