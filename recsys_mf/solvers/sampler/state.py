"""The state of a sampler after a sweep, restored for the same ratings or for more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys_mf.models.samples import Scale
from recsys_mf.solvers.sampler.chain import Chain
from recsys_mf.solvers.sampler.draws import Draws
from recsys_mf.solvers.sampler.likelihood import LATENTS
from recsys_mf.solvers.state import State


def state_of(sweep: int, chains: Sequence[Chain], kept: Draws, scale: Scale) -> State:
    """The state of a run after a sweep."""
    facts = {"sweep": sweep, "mean": scale.mean, "deviation": scale.deviation}
    of_scale = State(facts, {"bins": scale.bins.numbers, "levels": scale.levels})
    of_chains = {f"chain {number}": chain.state() for number, chain in enumerate(chains)}
    return State.joined({"scale": of_scale, "draws": kept.state(scale), **of_chains})


def take_up(start: State, chains: Sequence[Chain], kept: Draws, scale: Scale) -> int:
    """Restore the chains and draws of a state; returns its sweep."""
    of_scale, draws = start.part("scale"), start.part("draws")
    assert of_scale is not None
    places = np.searchsorted(scale.bins.numbers, of_scale.arrays["bins"])
    for number, chain in enumerate(chains):
        of_chain = start.part(f"chain {number}")
        assert of_chain is not None
        chain.restore(of_chain, places)
    if draws is not None:
        kept.restore(draws, places, len(scale.bins))
    sweep: int = of_scale.facts["sweep"]
    return sweep


def state_for_more(start: State, levels: NDArray[np.float32]) -> State:
    """The state for a table with more ratings: without latent ratings; if there are more levels, also without the
    thresholds and the draws that contain them.
    """
    left_out = [f"/{LATENTS}"]
    facts = dict(start.facts)
    if not np.array_equal(start.arrays["scale/levels"], levels) and len(start.arrays["scale/levels"]):
        left_out.append("/cuts")
        del facts["draws"]
    return State(facts, {k: array for k, array in start.arrays.items() if not k.endswith(tuple(left_out))})
