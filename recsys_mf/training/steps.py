"""Steps: a training is one step after another, each a fit or the validation of a solver, and each may be kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recsys_mf.solvers import Solver
from recsys_mf.solvers.state import State
from recsys_mf.splits import Split

PROGRESS = "progress"
"""The part of a state that holds the progress of its step: its last `epoch`, and `seconds` inside the next one."""


@dataclass(frozen=True)
class Step:
    """A step, and how it is kept.

    result : what `finish` was given, if the step is finished
    begin : the last state of the step; None if there is none, so that the step starts from its beginning
    offer : to be called between two epochs; saves the state if it is time. Raises KeyboardInterrupt, after saving, if
        the training was asked to stop
    finish : keeps the result; raises KeyboardInterrupt as `offer` does
    is_kept : whether states are saved at all
    """

    result: Callable[[], State | None]
    begin: Callable[[], State | None]
    offer: Callable[[Callable[[], State]], None]
    finish: Callable[[Callable[[], State]], None]
    is_kept: bool = True


Steps = Callable[[str, str, Solver, tuple[Split, ...]], Step]
"""Returns the step for a label, a stage, a solver and the parts that it is validated on."""


def unkept(label: str, stage: str, solver: Solver, parts: tuple[Split, ...]) -> Step:
    """A step of a training without a checkpoint."""
    return Step(lambda: None, lambda: None, lambda state: None, lambda result: None, is_kept=False)
