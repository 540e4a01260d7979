"""Space: the settings of a solver to search on a table, and their values, as declared by `solvers.settings.setting`."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recsys_mf.errors import ConfigError
from recsys_mf.kernels.backend import Backend
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import Solver
from recsys_mf.solvers.settings import Among, Between

if TYPE_CHECKING:
    from optuna.trial import Trial

_DIGITS = 4  # of a number that is tried


@dataclass(frozen=True)
class Axis:
    """The values of one setting that are tried: a range of numbers, or a few words."""

    values: Between | Among
    is_whole: bool

    def draw(self, trial: Trial, name: str) -> Any:
        """The value that the sampler of the trial suggests."""
        if isinstance(self.values, Among):
            return trial.suggest_categorical(name, self.values.values)
        low, high, is_log, _ = self.values
        if self.is_whole:
            return trial.suggest_int(name, int(low), int(high), log=is_log)
        return float(f"{trial.suggest_float(name, low, high, log=is_log):.{_DIGITS}g}")

    def nearest(self, value: Any) -> Any:
        """The value of the axis that is nearest to a value of the setting; a word that is not on it gives the first."""
        if isinstance(self.values, Among):
            return value if value in self.values.values else self.values.values[0]
        return type(value)(min(max(value, self.values.low), self.values.high))


@dataclass(frozen=True)
class Space:
    """A solver with the settings that are fixed, and the axes of those that are searched."""

    solver: Solver
    axes: Mapping[str, Axis]

    @classmethod
    def of(cls, solver: Solver, fixed: Collection[str], train: Ratings, backend: Backend) -> Space:
        """The settings that declare values to try, except those that are fixed or have no effect on this table.

        Words that the table or the device does not support are left out.
        """
        axes: dict[str, Axis] = {}
        for field in declared(solver, fixed):
            values = field.metadata["search"]
            if values.needs_times and train.times is None:
                continue
            if isinstance(values, Among):
                borne = (word for word in values.values if _is_borne(solver, field.name, word, train, backend))
                values = values._replace(values=tuple(borne))
                if len(values.values) < 2:
                    continue
            axes[field.name] = Axis(values, field.metadata["kind"] is int)
        return cls(solver, axes)

    def draw(self, trial: Trial) -> Solver:
        """The solver with the values that the sampler of the trial suggests."""
        return dataclasses.replace(self.solver, **{name: axis.draw(trial, name) for name, axis in self.axes.items()})

    def nearest(self, solver: Solver) -> dict[str, Any]:
        """The point of the space that is nearest to a solver whose settings are all numbers and words."""
        return {name: axis.nearest(getattr(solver, name)) for name, axis in self.axes.items()}

    def to_mapping(self) -> dict[str, list[Any]]:
        """The axes as plain values."""
        return {name: [type(axis.values).__name__.lower(), *axis.values] for name, axis in self.axes.items()}


def declared(solver: Solver, fixed: Collection[str]) -> list[dataclasses.Field[Any]]:
    """The settings of a solver that declare values to try, except those that are fixed."""
    fields = dataclasses.fields(solver)
    return [field for field in fields if field.metadata["search"] is not None and field.name not in fixed]


def _is_borne(solver: Solver, name: str, word: str, train: Ratings, backend: Backend) -> bool:
    try:
        dataclasses.replace(solver, **{name: word}).resolved(train, backend)
    except ConfigError:
        return False
    return True
