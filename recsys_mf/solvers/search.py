"""Search: settings by validation error, one axis of values at a time, from the usual ones outwards.

    x ← x with one setting moved along its axis, while that lowers the error by more than _GAIN

first in strides of two values, then, if a setting has changed, in strides of one. If validation rows are few the search
is cautious: it takes single steps first and asks for a larger gain. A setting stays unless another is clearly better:
the usual values are good on many tables, and a few validation rows can favour others by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from recsys_mf.solvers.protocol import Solver

S = TypeVar("S", bound=Solver)
Axis = Sequence[float] | Sequence[str]

_GAIN = 0.005  # relative gain in the error that is worth a move
_CAUTIOUS_GAIN = 0.02


def is_better(error: float, other: float, gain: float = _GAIN) -> bool:
    """Whether the error is clearly lower than the other, relatively by more than the gain."""
    return error < (1 - gain) * other


def searched(solver: S, axes: Mapping[str, Axis], error_of: Callable[[S], float], *, cautious: bool = False) -> S:
    """The solver with settings from which no move along an axis clearly lowers the error.

    axes : the values of every setting to search: numbers ascending, or names with the plainest first. The search starts
        at the values of the solver, and goes from a name only to a plainer one
    error_of : the validation error of a solver, infinite if it fails; called once per solver
    cautious : take strides of one first, so that an error far away that is low by chance is not found, and ask for a
        larger gain
    """
    errors: dict[S, float] = {}

    def error(candidate: S) -> float:
        if candidate not in errors:
            errors[candidate] = error_of(candidate)
        return errors[candidate]

    def better(candidate: S, other: S) -> bool:
        return is_better(error(candidate), error(other), _CAUTIOUS_GAIN if cautious else _GAIN)

    best = solver
    for stride in (1, 2) if cautious else (2, 1):
        before = None
        while before != best:
            before = best
            for name, values in axes.items():
                best = _walked(best, name, values, stride, better)
        if best == solver and not cautious:
            break
    return best


def _walked(best: S, name: str, values: Axis, stride: int, better: Callable[[S, S], bool]) -> S:
    """The solver moved along an axis while every stride is clearly better: downwards or, if that is not, upwards."""
    now, stride = getattr(best, name), min(stride, len(values) - 1)
    if isinstance(now, str):
        start, steps = list(values).index(now), [-stride]
    else:
        start, steps = int(np.argmin(np.abs(np.log(np.divide(values, now))))), [-stride, stride]
    for step in steps:
        place, last = start, best
        while 0 <= (place := place + step) < len(values):
            further = replace(last, **{name: values[place]})
            if not better(further, last):
                break
            last = further
        if last != best:
            return last
    return best
