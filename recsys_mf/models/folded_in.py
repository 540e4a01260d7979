"""FoldedIn: which rows of a run were added after training; a prior for new rows is made of trained ones only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class FoldedIn:
    """Which users and items were folded in.

    users bool[m], items bool[n] : False for one of the training table, also if its row was solved again since
    """

    users: NDArray[np.bool_]
    items: NDArray[np.bool_]
