"""Likelihoods: the distribution of a rating given m = μ + b_u + b_i + p_u · q_i, and the draw of their parameters.

Both give the tables of the sampler targets with Gaussian noise of one precision: the ratings themselves, or latent
ratings drawn again in every sweep.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import OrdinalPairs
from recsys_mf.solvers.sampler.tables import Table
from recsys_mf.solvers.state import State

F64 = NDArray[np.float64]

LATENTS = "latents"
"""The array of a state that has the latent ratings."""


class Likelihood(Protocol):
    """precision : of the noise about m, on the scale of the tables; thresholds : τ [T], none for the Gaussian."""

    @property
    def precision(self) -> float: ...

    @property
    def thresholds(self) -> F64: ...

    def draw(
        self, users: Table, items: Table, contexts: Table | None, squared_error: float, rng: np.random.Generator
    ) -> None:
        """Draw the parameters given the tables, which left this summed squared error; update the tables' values."""
        ...

    def state(self, users: Table) -> State:
        """The parameters, and the latent ratings as the users' table has them."""
        ...

    def restore(
        self, state: State, users: Table, items: Table, contexts: Table | None, rng: np.random.Generator
    ) -> None:
        """Restore the parameters of a state and its latent ratings, before any sweep. Latent ratings that it does not
        have are drawn given the tables; thresholds that it does not have keep their starting values.
        """
        ...


class Gaussian:
    """r = m + ε,  ε ~ N(0, 1/(α ω)),  α ~ Gamma(½, ½), with ω the weight of a rating, or 1, times γ_u δ_i if there is
    personal noise (`noise`).

    Given n ratings with errors e, α ~ Gamma((1 + n)/2, (1 + Σ ω e²)/2).
    """

    thresholds: F64 = np.zeros(0)

    def __init__(self, n_ratings: int) -> None:
        self.precision, self._n_ratings = 1.0, n_ratings

    def draw(
        self, users: Table, items: Table, contexts: Table | None, squared_error: float, rng: np.random.Generator
    ) -> None:
        """See `Likelihood`."""
        self.precision = rng.gamma((1 + self._n_ratings) / 2, 2 / (1 + squared_error))

    def state(self, users: Table) -> State:
        """See `Likelihood`; there are no latent ratings."""
        return State({"precision": self.precision}, {})

    def restore(
        self, state: State, users: Table, items: Table, contexts: Table | None, rng: np.random.Generator
    ) -> None:
        """See `Likelihood`."""
        self.precision = state.facts["precision"]


class OrderedProbit:
    """The rating is level l where τ_l < z ≤ τ_{l+1} for a latent z = m + ε,  ε ~ N(0, 1/(κ² ω)),  ω = 1 or, with
    personal noise (`noise`), γ_u δ_i.

        P(level l) = Φ(√ω (c_{l+1} - κ m)) - Φ(√ω (c_l - κ m)),    c = κ τ

    Let τ⁰ be the thresholds at which a standard normal z would have the observed shares of levels. Shifting and
    stretching m and τ together changes nothing, so the outer two stay at τ⁰, and the sampler draws
    θ = (κ, c_2 … c_{T-1}) with prior density exp(-κ²/2 - Σ_t (c_t - κ τ⁰_t)²/2) on c_1 < c_2 < … < c_T. This draw has
    the latents integrated out, given ω: a Metropolis-Hastings step proposes from the normal approximation at one Newton
    step from the present θ (the density is log-concave in θ). Then the latents are drawn.

    Albert, Chib: Bayesian analysis of binary and polychotomous response data, JASA 88(422), 1993; Cowles: Accelerating
    Monte Carlo Markov chain convergence for cumulative-link generalized linear models, Statistics and Computing 6,
    1996.
    """

    def __init__(
        self, backend: Backend, levels: NDArray[np.uint8], thresholds: F64, orders: tuple[Any, Any | None]
    ) -> None:
        """
        levels [z] : of the ratings, in the order of the users' table
        thresholds : τ⁰ [T]
        orders : for the tables of items and contexts, the place of each of their ratings in the users' table, or None
        """
        self._backend, self._orders = backend, orders
        self.observe(levels)
        self._slope, self._cuts = 1.0, thresholds.copy()
        # c_1 = κ τ_1 and c_T = κ τ_T are linear in θ like the others: (c, κ) = J θ.
        self._J = np.zeros((len(thresholds) + 1, len(thresholds) - 1))
        self._J[[0, len(thresholds) - 1, len(thresholds)], 0] = thresholds[0], thresholds[-1], 1
        self._J[np.arange(1, len(thresholds) - 1), np.arange(1, len(thresholds) - 1)] = 1
        off = np.column_stack([np.eye(len(thresholds)), -thresholds]) @ self._J  # c - κ τ⁰ as a function of θ
        self._prior = off.T @ off
        self._prior[0, 0] += 1
        self.accepted = 0

    def observe(self, levels: NDArray[np.uint8]) -> None:
        """Take levels [z] as the data."""
        self._levels, self._n_ratings = self._backend.device.put(levels), len(levels)

    @property
    def precision(self) -> float:
        """κ²."""
        return self._slope**2

    @property
    def thresholds(self) -> F64:
        """τ = c / κ."""
        return self._cuts / self._slope

    def draw(
        self, users: Table, items: Table, contexts: Table | None, squared_error: float, rng: np.random.Generator
    ) -> None:
        """See `Likelihood`."""
        pairs = self._pairs(users, items, contexts)
        self._draw_cuts(pairs, rng)
        self._draw_latents(pairs, users, items, contexts, rng)

    def _pairs(self, users: Table, items: Table, contexts: Table | None) -> OrdinalPairs:
        """All ratings, in the order of the users' table."""
        regressors, places = users.regressors(items, contexts), users.rated.places
        means = self._backend.rows.row_values(places, users.X, regressors)
        scales = None if regressors.scales is None else self._backend.rows.row_scales(places, regressors)
        return OrdinalPairs(means, scales, self._levels)

    def state(self, users: Table) -> State:
        """See `Likelihood`."""
        arrays = {"cuts": self._cuts, LATENTS: self._backend.device.get(users.values)}
        return State({"slope": self._slope, "accepted": self.accepted}, arrays)

    def restore(
        self, state: State, users: Table, items: Table, contexts: Table | None, rng: np.random.Generator
    ) -> None:
        """See `Likelihood`."""
        self._slope, self.accepted = state.facts["slope"], state.facts["accepted"]
        known = state.arrays.get("cuts")
        self._cuts = self._slope * self._cuts if known is None else np.array(known)
        if LATENTS in state.arrays:
            self._share(self._backend.device.put(np.array(state.arrays[LATENTS])), users, items, contexts)
        else:
            self._draw_latents(self._pairs(users, items, contexts), users, items, contexts, rng)

    def begin(self, users: Table, items: Table, contexts: Table | None, rng: np.random.Generator) -> None:
        """Draw latents to start from, with m = 0."""
        means = self._backend.device.put(np.zeros(self._n_ratings, np.float32))
        self._draw_latents(OrdinalPairs(means, None, self._levels), users, items, contexts, rng)

    def _draw_latents(
        self, pairs: OrdinalPairs, users: Table, items: Table, contexts: Table | None, rng: np.random.Generator
    ) -> None:
        uniforms = self._backend.device.draw_uniforms(rng, self._n_ratings)
        latents = self._backend.probit.draw_latents(pairs, self._cuts, self._slope, uniforms)
        self._share(latents, users, items, contexts)

    def _share(self, latents: Any, users: Table, items: Table, contexts: Table | None) -> None:
        """Give the tables their latents."""
        users.values, items.values = latents, latents[self._orders[0]]
        if contexts is not None:
            contexts.values = latents[self._orders[1]]

    def _draw_cuts(self, pairs: OrdinalPairs, rng: np.random.Generator) -> None:
        now = np.append(self._slope, self._cuts[1:-1])
        log_density, centre, information = self._approximated(pairs, now)
        root = np.linalg.cholesky(information)
        proposed = centre + np.linalg.solve(root.T, rng.standard_normal(len(now)))
        chance = np.log(rng.random())
        cuts = (self._J @ proposed)[:-1]
        if not (proposed[0] > 0 and (np.diff(cuts) > 0).all()):
            return
        back_log_density, back_centre, back_information = self._approximated(pairs, proposed)
        forth = _log_normal(proposed, centre, information)
        back = _log_normal(now, back_centre, back_information)
        if chance < back_log_density - log_density + back - forth:
            self._slope, self._cuts = float(proposed[0]), cuts
            self.accepted += 1

    def _approximated(self, pairs: OrdinalPairs, theta: F64) -> tuple[float, F64, F64]:
        """Log density of θ up to a constant; mean and precision of the normal approximation one Newton step away."""
        full = self._J @ theta
        log_likelihood, gradient, information = self._backend.probit.ordinal_terms(pairs, full[:-1], full[-1])
        gradient = self._J.T @ gradient - self._prior @ theta
        information = self._J.T @ information @ self._J + self._prior
        centre = theta + np.linalg.solve(information, gradient)
        return log_likelihood - float(theta @ self._prior @ theta) / 2, centre, information


def _log_normal(x: F64, mean: F64, precision: F64) -> float:
    """Log density of N(mean, precision⁻¹), up to a constant."""
    return float(np.linalg.slogdet(precision)[1] - (x - mean) @ precision @ (x - mean)) / 2
