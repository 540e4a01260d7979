"""Search: settings by validation error, one axis of values at a time, from the usual ones outwards.

    x ← x with one setting moved along its axis, as long as that lowers the error by more than _GAIN

first in strides of two places, then, if that led away, of one; with caution, if validation rows are few, in
single steps first and for a larger gain. A setting stays unless another is clearly better:
what was found good on many tables is not given up for the chance of a few validation rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from recsys_mf.solvers.protocol import Solver

S = TypeVar("S", bound=Solver)
Axis = Sequence[float] | Sequence[str]

_GAIN = 0.005  # of the error, relative, that is worth a move
_CAUTIOUS_GAIN = 0.02


def is_better(error: float, other: float, gain: float = _GAIN) -> bool:
    """Whether the error is clearly lower than the other, relatively by more than the gain."""
    return error < (1 - gain) * other


def searched(solver: S, axes: Mapping[str, Axis], error_of: Callable[[S], float], *, cautious: bool = False) -> S:
    """The solver with its settings of the axes where no move along one lowers the error clearly.

    axes : values of every setting to search, ascending, of names the plainest first; the search starts at those of the
        solver, and goes from a name to a plainer one alone
    error_of : the validation error of a solver, infinite if it fails; asked once for each
    cautious : in strides of one place first, so that a lucky error far away is not found, and for a larger gain
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
    """The solver as far along an axis as every stride is clearly better: downwards, or else upwards."""
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
