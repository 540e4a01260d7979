"""Selection: from errors on validation rows to the solver to fit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import SolveError
from recsys_mf.models import Factorization, Posterior
from recsys_mf.solvers import Epoch, Solver
from recsys_mf.solvers.state import State
from recsys_mf.store.layout import MODELS

History = tuple[dict[str, Any], ...]


@dataclass(frozen=True, eq=False)
class Validated:
    """A solver stopped at the epoch that is best on validation, and its error there.

    model : for a committee, the model of the first part at that epoch; None for other solvers
    run : the state of the run on the first part, with its traces, if the fit continues from there (`Solver.joins`);
        None otherwise
    """

    solver: Solver
    history: History
    error: float
    model: Factorization | Posterior | None
    run: State | None = None

    def staged(self, stage: str) -> History:
        """The validated epochs as a run keeps them (`Fit.history`); for a committee, each row adds a member."""
        if stage != "committee":
            return tuple({"stage": stage, **row} for row in self.history)
        return tuple(
            {"stage": stage, "members": row["epoch"]} | {key: value for key, value in row.items() if key != "epoch"}
            for row in self.history
        )

    def state(self) -> State:
        """This as plain values and arrays."""
        facts = {"settings": self.solver.settings(), "history": list(self.history)}
        numbers = {"error": np.array(self.error), "errors": np.array([row["valid_rmse"] for row in self.history])}
        return State.joined({"found": State(facts, numbers), "model": _state_of(self.model), "run": self.run})

    @classmethod
    def of_state(cls, state: State, kind: type[Solver]) -> Validated:
        """The object that `state` turned into this state.

        kind : the class of its solver
        """
        found = state.part("found")
        assert found is not None
        history = _with_errors(found.facts["history"], found.arrays["errors"])
        error: float = found.arrays["error"].item()
        solver = kind(**found.facts["settings"])
        return cls(solver, tuple(history), error, _model_of(state.part("model")), state.part("run"))


class EpochSelection:
    """The choice of the epoch (for a committee, the member; for a sampler, also the burn-in) by validation errors.

    n_rows : number of validation rows
    """

    def __init__(self, solver: Solver, n_rows: int) -> None:
        self._choices, self._n_rows = solver.selection(), n_rows
        self._history: list[dict[str, Any]] = []
        self._errors: list[float] = []
        self._best: Factorization | Posterior | None = None

    def add(self, epoch: Epoch, seconds: float, errors: dict[int | None, float]) -> float:
        """Add the errors of an epoch, by burn-in (`RunningError`), and return the smallest.

        Raises SolveError if it is NaN.
        """
        burn_in = min(errors, key=errors.__getitem__)
        error = errors[burn_in]
        if math.isnan(error):
            raise SolveError(
                f"{self._choices.solver.name} predicts NaN in epoch {epoch.number}",
                fix="use milder settings",
            )
        row = {"epoch": epoch.number, "train_rmse": epoch.train_rmse, "valid_rmse": error, "seconds": seconds}
        self._history.append(row | ({} if burn_in is None else {"burn_in": burn_in}))
        self._errors.append(error)
        if self._choices.member is not None and error == min(self._errors):
            self._best = epoch.model()
        return error

    def state(self) -> State:
        """The epochs so far and, for a committee, the best model."""
        found = State({"history": self._history}, {"errors": np.array(self._errors)})
        return State.joined({"found": found, "model": _state_of(self._best)})

    def restore(self, state: State) -> None:
        """Restore the epochs of a state."""
        found = state.part("found")
        assert found is not None
        self._errors = found.arrays["errors"].tolist()
        self._history = _with_errors(found.facts["history"], found.arrays["errors"])
        self._best = _model_of(state.part("model"))

    @property
    def is_finished(self) -> bool:
        """Whether more epochs cannot be expected to be better."""
        return self._choices.is_finished(self._errors)

    def choose(self, run: State | None) -> Validated:
        """The solver stopped at the best epoch.

        run : the state of the run that the fit continues from; None if it starts from the beginning
        """
        chosen = self._history[self._choices.find_best(self._errors, self._n_rows) - 1]
        solver = self._choices.choose(chosen, len(self._errors))
        if run is None:
            solver = solver.apart()
        kept = run if solver.joins else None
        return Validated(solver, tuple(self._history), chosen["valid_rmse"], self._best, kept)


def _state_of(model: Factorization | Posterior | None) -> State | None:
    return None if model is None else State.of_model(model)


def _model_of(state: State | None) -> Factorization | Posterior | None:
    return None if state is None else MODELS[state.facts["kind"]].from_parts(state.arrays, state.facts)


def _with_errors(history: list[dict[str, Any]], errors: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The history of a file with its validation errors, which JSON does not hold if they are infinite."""
    return [row | {"valid_rmse": float(error)} for row, error in zip(history, errors, strict=True)]


def choose_best(found: list[Validated], alone: Validated | None) -> Validated:
    """The one with the smallest error, the first if they are equal; its history is that of the single run, followed by
    that of the members.

    alone : the single run, if there are also committees
    """
    best = min(found, key=lambda validated: validated.error)
    if alone is None or best.solver.selection().member is None:
        return replace(best, history=best.staged("single"))
    return replace(best, history=alone.staged("member") + best.staged("committee"))
