"""State: the state of a solver's run between two epochs, as plain values and arrays that a file can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from numpy.typing import NDArray

from recsys_mf.models import Model


@dataclass(frozen=True, eq=False)
class State:
    """Everything that a run needs to continue with the same results, byte for byte.

    facts : plain values: finite numbers, texts, lists and mappings of these
    arrays : by name, in no order; they may be the arrays that the run works on, so write a state before the run
        continues
    """

    facts: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]

    @classmethod
    def of_model(cls, model: Model) -> Self:
        """The facts and arrays from which `from_parts` of the class of a model rebuilds the model."""
        return cls({"kind": model.kind} | model.facts(), model.arrays())

    @classmethod
    def joined(cls, parts: Mapping[str, State | None]) -> Self:
        """One state with these as its parts; a part that is None is left out."""
        there = {name: state for name, state in parts.items() if state is not None}
        return cls(
            {name: dict(state.facts) for name, state in there.items()},
            {f"{name}/{key}": array for name, state in there.items() for key, array in state.arrays.items()},
        )

    def part(self, name: str) -> State | None:
        """A part of a joined state; None if it was left out."""
        if name not in self.facts:
            return None
        arrays = {key.partition("/")[2]: array for key, array in self.arrays.items() if key.startswith(f"{name}/")}
        return State(self.facts[name], arrays)
