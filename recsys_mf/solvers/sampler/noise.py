"""Noise: a scale of the noise for every row of a table, since people differ in how consistently they rate.

The precision of the noise of a rating of user u and item i, of weight w, or 1, is α w γ_u δ_i, with

    γ_u ~ Gamma(ν/2, ν/2) of mean 1 and variance 2/ν,    ν one of 24 values from 2 to 512, equally likely

and the δ_i in the same way with a ν of their own; for ordinal ratings α is κ² (`likelihood`), and the noise is that of
the latent rating. With e the error of a rating, n_u the ratings of u and S_u = α Σ_i w δ_i e², summed over its ratings,

    γ_u | ν, S_u ~ Gamma((ν + n_u)/2, (ν + S_u)/2)
    p(ν | S) ∝ Π_u (ν/2)^{ν/2} / Γ(ν/2) · Γ((ν + n_u)/2) / ((ν + S_u)/2)^{(ν + n_u)/2}

The second has the γ integrated out, so that drawing ν and then all γ is an exact draw of both together. If ν were drawn
given the γ, it would hardly move while they are near 1.

A scale mixture of normal distributions: Andrews, Mallows, JRSS B 36(1), 1974; Geweke: Bayesian treatment of the
independent Student-t linear model, Journal of Applied Econometrics 8, 1993.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_mf.kernels.backend import Backend
from recsys_mf.solvers.state import State

F64 = NDArray[np.float64]

FREEDOMS: F64 = 2.0 * 256.0 ** (np.arange(24) / 23)
"""The values that ν can have."""

_WAIT = 20  # sweeps: while the factors grow from their start, scales would absorb what they do not yet explain
_ROWS = 1 << 15  # rows for which the terms of all ν are held at once


class RowNoise:
    """The scales of the rows of one table.

    scales : γ float32[rows], on the device; freedom : ν
    """

    def __init__(self, backend: Backend, counts: NDArray[np.int64], wait: int = _WAIT) -> None:
        """
        counts int64[rows] : n, the ratings of every row
        wait : draws at the start that leave the scales at 1
        """
        self._backend, self._counts, self._wait = backend, counts, wait
        self.scales = backend.device.put(np.ones(len(counts), np.float32))
        self.freedom = float(FREEDOMS[-1])

    def draw(self, squares: F64, rng: np.random.Generator) -> None:
        """Draw ν and γ given S [rows]."""
        if self._wait:
            self._wait -= 1
            return
        log_density = log_freedom_density(squares, self._counts)
        shares = np.exp(log_density - log_density.max())
        self.freedom = float(rng.choice(FREEDOMS, p=shares / shares.sum()))
        rates = (self.freedom + squares) / 2
        scales = rng.standard_gamma((self.freedom + self._counts) / 2) / rates
        self.scales = self._backend.device.put(np.maximum(scales, _LEAST).astype(np.float32))

    def state(self) -> State:
        """γ, ν and the draws still to wait for."""
        facts = {"freedom": self.freedom, "wait": self._wait}
        return State(facts, {"scales": self._backend.device.get(self.scales)})

    def restore(self, state: State) -> None:
        """Restore the scales of a state."""
        self.freedom, self._wait = state.facts["freedom"], state.facts["wait"]
        self.scales = self._backend.device.put(np.array(state.arrays["scales"]))


_LEAST = 1e-6  # the smallest scale; even with the smallest ν and no rating, only one draw in a million is below it


def log_freedom_density(squares: F64, counts: NDArray[np.int64]) -> F64:
    """log p(ν | S) up to a constant for each of `FREEDOMS`, [24]; S and n as in the docstring of the module."""
    from scipy.special import gammaln

    total: F64 = len(counts) * (FREEDOMS / 2 * np.log(FREEDOMS / 2) - gammaln(FREEDOMS / 2))
    different, repeats = np.unique(counts, return_counts=True)
    total += gammaln((FREEDOMS[:, None] + different) / 2) @ repeats
    for first in range(0, len(counts), _ROWS):
        part = slice(first, first + _ROWS)
        halves = (FREEDOMS[:, None] + counts[part]) / 2
        total -= np.sum(halves * np.log((FREEDOMS[:, None] + squares[part]) / 2), axis=1)
    return total
