"""Conditional means and variances of what is missing in a row, for models of the rows of a matrix.

Rows with equally many missing entries are processed together, as one stack of small systems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.floating[Any]]
"""float64 in fact; NumPy's type hints for the results of LAPACK only say floating."""

_STACK = 1 << 22  # numbers in a stack of systems


class Fill(NamedTuple):
    """The means and variances that a model predicts for a matrix [m, n].

    means : the observed entries as they are, the missing ones as expected given the observed ones of their row
    variances : of the missing entries given the observed ones of their row; 0 where observed
    """

    means: F64
    variances: F64


class RowModel(Protocol):
    """A fitted distribution of rows."""

    @property
    def rank(self) -> int | None:
        """Number of factors; None if the covariance is not restricted."""

    def fill(self, X: F64) -> Fill:
        """The means and variances of rows X [m, n], NaN where missing."""

    def refitted(self, X: F64, *, tolerance: float) -> RowModel:
        """The same settings fitted to other rows, starting from this model."""


Stack = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Rows [g] and, per row, the columns [g, q] of its missing entries."""


def stacks(missing: NDArray[np.bool_]) -> Iterator[Stack]:
    """Stacks of rows with missing entries; all rows of a stack have the same number of them."""
    counts = missing.sum(axis=1)
    for q in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts == q)
        columns = np.nonzero(missing[rows])[1].reshape(len(rows), q)
        step = max(1, _STACK // int(q * q))
        for start in range(0, len(rows), step):
            yield rows[start : start + step], columns[start : start + step]


_MOST_STEPS = 50

Model = TypeVar("Model")


def run_until_settled(
    step: Callable[[Model], tuple[Model, F64]], start: Model, missing: NDArray[np.bool_], tolerance: float
) -> Model:
    """The model after steps of EM, until the root mean square change of the filled entries is below the tolerance.

    step : model -> the next model, and the means [m, n] of the entries that it was fitted to
    missing : which entries are filled, [m, n]
    """
    model, before = start, None
    for _ in range(_MOST_STEPS):
        model, means = step(model)
        filled = means[missing]
        if before is not None and rms(filled - before) < tolerance:
            break
        before = filled
    return model


def rms(values: F64) -> float:
    """Root mean square; 0 if there are no values."""
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0
