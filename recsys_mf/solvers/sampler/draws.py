"""Draws: the draws that a posterior averages, rounded as it stores them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys_mf.models import Posterior
from recsys_mf.models.samples import Rounded, Scale
from recsys_mf.solvers.sampler.chain import Chain
from recsys_mf.solvers.state import State


class Draws:
    """The draws of some of the sweeps after a burn-in, evenly spread over them.

    burn_in : sweeps at the start that are left out
    most : draws of a chain that are kept
    """

    def __init__(self, burn_in: int, most: int) -> None:
        self._burn_in, self._most = burn_in, most
        self._kept: list[tuple[int, tuple[Rounded, ...]]] = []

    def add(self, sweep: int, chains: Sequence[Chain]) -> None:
        """Keep the draws of this sweep if it is a multiple of the stride, and drop earlier ones that no longer are."""
        if sweep <= self._burn_in:
            return
        every = stride(sweep - self._burn_in, self._most)
        self._kept = [(number, draws) for number, draws in self._kept if not number % every]
        if not sweep % every:
            self._kept.append((sweep, tuple(Rounded.of(chain.sample()) for chain in chains)))

    @property
    def samples(self) -> tuple[Rounded, ...]:
        """All that are kept, chain after chain, so that neighbours are alike: rows that are folded in rely on this."""
        chains = len(self._kept[0][1]) if self._kept else 0
        return tuple(draws[chain] for chain in range(chains) for _, draws in self._kept)

    def state(self, scale: Scale) -> State:
        """Those kept, as a posterior on this scale, and their sweeps."""
        samples = self.samples
        model = Posterior.stacked(samples, scale) if samples else None
        sweeps = State({"sweeps": [sweep for sweep, _ in self._kept]}, {})
        return State.joined({"kept": sweeps, "model": None if model is None else State.of_model(model)})

    def restore(self, state: State, contexts: NDArray[np.int64], n_contexts: int) -> None:
        """Restore the draws of a state, except those of the burn-in.

        contexts : for every time bin of the state, its index among the n_contexts bins of this run; the other bins are
            at their prior mean
        """
        kept, model = state.part("kept"), state.part("model")
        if kept is None or model is None:
            return
        samples = Posterior.from_parts(model.arrays, model.facts).samples()
        sweeps = kept.facts["sweeps"]
        for index, sweep in enumerate(sweeps):
            if sweep > self._burn_in:
                draws = samples[index :: len(sweeps)]
                self._kept.append((sweep, tuple(draw.with_contexts(contexts, n_contexts) for draw in draws)))


def stride(draws: int, most: int) -> int:
    """The sweeps from one draw that is kept to the next, so that at most `most` of `draws` are: a power of two.

    A larger stride keeps some of the draws that a smaller one keeps, so that draws can be dropped as new ones come.
    """
    return 1 << max(0, (-(-draws // most) - 1).bit_length())
