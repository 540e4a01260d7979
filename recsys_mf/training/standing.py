"""Standing: where a step of a training stands, made of what takes part in it: the runs and what watches them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from recsys_mf.solvers import Epoch
from recsys_mf.solvers.protocol import Pause
from recsys_mf.solvers.state import State
from recsys_mf.training.steps import PROGRESS, Step


class Watching(Protocol):
    """What takes up epoch after epoch."""

    def state(self) -> State: ...

    def restore(self, state: State) -> None:
        """Take up the epochs of a state."""


class Work:
    """Seconds and visits of the epochs of a fit."""

    def __init__(self) -> None:
        self.seconds, self.visits = 0.0, 0

    def add(self, epoch: Epoch, seconds: float) -> None:
        """Count an epoch."""
        self.seconds, self.visits = self.seconds + seconds, self.visits + epoch.visits

    def state(self) -> State:
        """Both."""
        return State({"seconds": self.seconds, "visits": self.visits}, {})

    def restore(self, state: State) -> None:
        """Take up the epochs of a state."""
        self.seconds, self.visits = state.facts["seconds"], state.facts["visits"]


class Standing:
    """Where a step stands, from its last state on, and the places where it is saved.

    watching : by name, what takes up its epochs; it is restored here
    seconds : of the first epoch, that an earlier process spent
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
        """Whether there was a state to go on from."""
        return self._start is not None

    def run(self, place: int) -> State | None:
        """The state that a run goes on from; None if it begins."""
        return None if self._start is None else self._start.part(f"run {place}")

    def offer(self, epochs: Sequence[Epoch]) -> None:
        """All runs have done this epoch, and it was taken up."""
        self._start, self._epoch = None, epochs[0].number
        states = [epoch.state for epoch in epochs if epoch.state is not None]
        if len(states) == len(epochs):
            self._step.offer(lambda: self._joined([state() for state in states], 0.0))

    def pause(self, pause: Pause, seconds: float) -> None:
        """The only run of the step is inside an epoch, after so many seconds of it."""
        self._step.offer(lambda: self._joined([pause.state()], seconds))

    def pass_by(self, pause: Pause, seconds: float) -> None:
        """One of several runs is inside an epoch, where the others are not."""

    def _joined(self, runs: Sequence[State], seconds: float) -> State:
        """All of it; a state of a run stands for what it is made of at this moment."""
        parts: dict[str, State | None] = {name: one.state() for name, one in self._watching.items()}
        parts |= {f"run {place}": state for place, state in enumerate(runs)}
        return State.joined(parts | {PROGRESS: State({"epoch": self._epoch, "seconds": seconds}, {})})
