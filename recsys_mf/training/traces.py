"""Traces: the monitored scalars of a sampler."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from recsys_mf.evaluation.convergence import MIN_DRAWS, effective_sample_size
from recsys_mf.solvers import Epoch, Solver
from recsys_mf.solvers.state import State

_SWEEPS_BETWEEN = 10  # computations of the effective sample size


class Traces:
    """The monitored scalars of a sampler, sweep after sweep."""

    def __init__(self, solver: Solver) -> None:
        self._burn_in = next(iter(solver.selection().burn_ins), 0)
        self._sweeps: list[Mapping[str, tuple[float, ...]]] = []
        self.ess: float | None = None

    def add(self, epoch: Epoch) -> None:
        """Add the scalars of a sweep; every ten sweeps, compute their effective sample size."""
        if not epoch.monitored:
            return
        self._sweeps.append(epoch.monitored)
        if epoch.number % _SWEEPS_BETWEEN == 0 and epoch.number - self._burn_in >= MIN_DRAWS:
            kept = (np.array(chains)[:, self._burn_in :] for chains in self.plain().values())
            self.ess = min(effective_sample_size(draws) for draws in kept)

    def state(self) -> State:
        """The scalars so far: float64[sweeps, chains] by name."""
        names = self._sweeps[0] if self._sweeps else ()
        arrays = {name: np.array([sweep[name] for sweep in self._sweeps]) for name in names}
        return State({"ess": self.ess, "names": list(names)}, arrays)

    def restore(self, state: State) -> None:
        """Restore the scalars of a state."""
        self.ess = state.facts["ess"]
        arrays = {name: state.arrays[name].tolist() for name in state.facts["names"]}  # in the order of a report
        sweeps = zip(*arrays.values(), strict=True)
        self._sweeps = [dict(zip(arrays, map(tuple, scalars), strict=True)) for scalars in sweeps]

    def noise(self) -> float | None:
        """The mean over chains of the scalar "noise" in the last sweep."""
        return float(np.mean(self._sweeps[-1]["noise"])) if self._sweeps else None

    def plain(self) -> dict[str, list[list[float]]]:
        """Name -> chain -> sweep."""
        names = self._sweeps[0] if self._sweeps else ()
        return {name: np.array([sweep[name] for sweep in self._sweeps]).T.tolist() for name in names}
