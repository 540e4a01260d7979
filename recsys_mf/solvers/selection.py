"""Selection: what is chosen about a solver by its errors on validation rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

S = TypeVar("S")


class Selection(Generic[S]):
    """The choice of the epoch with the lowest validation error.

    solver : the solver whose epochs are validated
    axes : setting -> values, for the settings that are searched before the epochs are chosen (`search`)
    burn_ins : for a sampler, the lengths of burn-in to choose among, ascending; without validation the first is used
    """

    def __init__(self, solver: S) -> None:
        self.solver = solver
        self.axes: Mapping[str, tuple[float, ...] | tuple[str, ...]] = {}
        self.burn_ins: tuple[int, ...] = ()

    @property
    def member(self) -> S | None:
        """For a committee, one member, whose epochs are chosen first; None for other solvers."""
        return None

    def committees(self, member: S) -> Sequence[S]:
        """Committees of a member whose epochs were chosen: one to try, then others if it is worse than the member."""
        return ()

    def plainest(self) -> S | None:
        """The simplest model that the solver can end in, if validation finds none better; None if it has none."""
        return None

    def is_finished(self, errors: Sequence[float]) -> bool:
        """Whether no further epoch is worth its time after these validation errors, one per epoch."""
        return False

    def find_best(self, errors: Sequence[float], n_rows: int) -> int:
        """The epoch to end at, counted from 1, by the errors of all epochs on n_rows validation rows."""
        return int(np.argmin(errors)) + 1

    def choose(self, best: Mapping[str, Any] | None, n_validated: int = 0) -> S:
        """The solver with the best number of epochs and, for a sampler, the best burn-in.

        best : the row of the history of the best epoch: `epoch`, `burn_in` and its errors; None without validation
        n_validated : number of validated epochs
        """
        solver: Any = self.solver
        chosen: S = solver if best is None else solver.stopped_at(best["epoch"])
        return chosen


def has_stalled(errors: Sequence[float], patience: int) -> bool:
    """Whether the errors have not been lower for `patience` epochs, and are not on their way down."""
    if len(errors) <= patience:
        return False
    since = len(errors) - 1 - int(np.argmin(errors))
    return since >= patience and errors[-1] >= min(errors[-1 - patience : -1])
