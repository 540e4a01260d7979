"""StepState: the state of a step of a training, made of the states of its runs and of what watches them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from recsys_mf.solvers import Epoch
from recsys_mf.solvers.protocol import Pause
from recsys_mf.solvers.state import State
from recsys_mf.training.steps import PROGRESS, Step


class Watching(Protocol):
    """An object that is given every epoch, and has a state."""

    def state(self) -> State: ...

    def restore(self, state: State) -> None:
        """Restore the epochs of a state."""


class Work:
    """Seconds and visits of the epochs of a fit."""

    def __init__(self) -> None:
        self.seconds, self.visits = 0.0, 0

    def add(self, epoch: Epoch, seconds: float) -> None:
        """Count an epoch."""
        self.seconds, self.visits = self.seconds + seconds, self.visits + epoch.visits

    def state(self) -> State:
        """The seconds and the visits."""
        return State({"seconds": self.seconds, "visits": self.visits}, {})

    def restore(self, state: State) -> None:
        """Restore the epochs of a state."""
        self.seconds, self.visits = state.facts["seconds"], state.facts["visits"]


class StepState:
    """The state of a step, from its last saved state on, and the points at which it can be saved.

    watching : by name, the objects that are given its epochs; they are restored here
    seconds : of the first epoch that an earlier process spent
    """

    def __init__(self, step: Step, watching: Mapping[str, Watching]) -> None:
        self._step, self._watching = step, watching
        self.is_kept = step.is_kept
        self.seconds, self._epoch = 0.0, 0
        self._start = step.begin()
        if self._start is None:
            return
        for name, one in watching.items():
            part = self._start.part(name)
            assert part is not None
            one.restore(part)
        progress = self._start.facts[PROGRESS]
        self.seconds, self._epoch = progress["seconds"], progress["epoch"]

    @property
    def goes_on(self) -> bool:
        """Whether there was a state to continue from."""
        return self._start is not None

    def run(self, index: int) -> State | None:
        """The state that a run continues from; None if it starts from the beginning."""
        return None if self._start is None else self._start.part(f"run {index}")

    def offer(self, epochs: Sequence[Epoch]) -> None:
        """Offer the state to be saved after this epoch of all runs, once everything that watches was given it."""
        self._start, self._epoch = None, epochs[0].number
        states = [epoch.state for epoch in epochs if epoch.state is not None]
        if len(states) == len(epochs):
            self._step.offer(lambda: self._joined([state() for state in states], 0.0))

    def pause(self, pause: Pause, seconds: float) -> None:
        """Offer the state inside an epoch of the only run of the step, after this many seconds of the epoch."""
        self._step.offer(lambda: self._joined([pause.state()], seconds))

    def pass_by(self, pause: Pause, seconds: float) -> None:
        """Offer nothing: one of several runs is inside an epoch where the others are not."""

    def _joined(self, runs: Sequence[State], seconds: float) -> State:
        """The state of the whole step, from the states of its runs."""
        parts: dict[str, State | None] = {name: one.state() for name, one in self._watching.items()}
        parts |= {f"run {index}": state for index, state in enumerate(runs)}
        return State.joined(parts | {PROGRESS: State({"epoch": self._epoch, "seconds": seconds}, {})})
