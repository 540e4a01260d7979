"""Epochs: what is reported of each, how long it took, and what is compiled before the first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from recsys_mf.arrays import mapped
from recsys_mf.arrays.threads import limit_blas
from recsys_mf.kernels.backend import Backend
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import Epoch, Solver
from recsys_mf.solvers.protocol import Pause


@dataclass(frozen=True)
class Progress:
    """One epoch, as it is reported to a watcher.

    label : the model being fitted, as its report row names it
    stage : "search" while settings are chosen, "member" while the number of epochs of a committee's members is chosen,
        "validate" while the number of epochs (for a committee, of members) is chosen, "fit" in the fit on all of train
    epoch, n_epochs : this epoch and the most there can be
    train_rmse, valid_rmse : in rating units, None if not known
    ratings_per_second : ratings visited over the seconds of the epoch
    noise, ess : for a sampler, the standard deviation of a rating about its prediction, and the lowest effective sample
        size of its monitored scalars; None for others, and before they are known
    """

    label: str
    stage: str
    epoch: int
    n_epochs: int
    train_rmse: float | None
    valid_rmse: float | None
    ratings_per_second: float
    noise: float | None = None
    ess: float | None = None


Watcher = Callable[[Progress], None]


def _ignore(pause: Pause, seconds: float) -> None:
    """The default of `on_pause`."""


def time_epochs(
    steps: Iterator[Epoch] | Iterator[Epoch | Pause],
    backend: Backend,
    on_pause: Callable[[Pause, float], None] = _ignore,
    earlier: float = 0.0,
) -> Iterator[tuple[Epoch, float]]:
    """Epochs with the seconds that each took; what the caller does between them, and in a pause, is not counted.

    on_pause : called with every pause and the seconds of its epoch until then
    earlier : seconds of the first epoch that an earlier process spent
    """
    seconds = earlier
    while True:
        began = time.perf_counter()
        with limit_blas(), backend.device.guard():
            step = next(steps, None)
        mapped.release_pages()
        seconds += time.perf_counter() - began
        if step is None:
            return
        if isinstance(step, Pause):
            on_pause(step, seconds)
        else:
            yield step, seconds
            seconds = 0.0
        del step  # what it holds need not be in memory together with what the next one makes


def compile_kernels(solver: Solver, backend: Backend) -> None:
    """Run one epoch on a tiny table, so that no measured time includes the compilation of the kernels."""
    ids = np.arange(4)
    tiny = Ratings.from_ids(np.repeat(ids, 4), np.tile(ids, 4), np.arange(16) % 5)
    next(solver.rehearsal().run(tiny, rng=np.random.default_rng(0), backend=backend)).model()
