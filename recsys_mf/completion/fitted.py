"""Fitted: a model that fills rows of columns in their original units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_mf.completion.columns import Columns
from recsys_mf.completion.neighbours import Donors
from recsys_mf.completion.patterns import F64, Fill, RowModel


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model of rows with the units it works in.

    donors, nearest, share : the rows that corrections come from, how many near ones are used, and the factor of the
        correction; None and 0 for no correction
    calibration : the factor by which the deviations of the model are multiplied
    """

    columns: Columns
    model: RowModel
    donors: Donors | None = None
    nearest: int = 0
    share: float = 0.0
    calibration: float = 1.0

    def fill(self, A: F64) -> tuple[F64, F64]:
        """Rows A [m, n] with their missing entries filled, and the deviations of these, in the units of the columns.

        A deviation is NaN in a constant column: equal entries do not show how far another may lie from them.
        """
        fill = self.standard(A)
        deviations = self.columns.deviations
        missing = np.isnan(A)
        means = np.where(missing, self.columns.means + deviations * fill.means, A)
        scales = np.where(deviations > 0, self.calibration * deviations, np.nan)
        return means, np.where(missing, scales * np.sqrt(fill.variances), 0.0)

    def standard(self, A: F64) -> Fill:
        """The same with columns of mean 0 and deviation 1, without the calibration."""
        X = self.columns.standardise(A)
        fill = self.model.fill(X)
        if self.donors is not None and self.share > 0:
            (moves,) = self.donors.corrections(fill, np.isnan(X), [self.nearest])
            fill = fill._replace(means=fill.means + self.share * moves)
        return self.columns.restore(fill)
