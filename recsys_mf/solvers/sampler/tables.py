"""Tables: one of the sampler (users, items or time bins), its prior, and the draw of both.

    x_g = (factors, bias) ~ N(m_g, Λ⁻¹),   m_g = ξ + F_g β,   Λ ~ Wishart(k + 1, I),   λ ~ Gamma(½, ½)

with the features F and their coefficients of `links`. A draw takes Λ, then (ξ, β), then every λ, then all rows, then
the scales of their noise if it is personal (`noise`), each from its distribution given the rest and the other tables.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import SolveError
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import GaussianPrior, NoiseScales, Regressors
from recsys_mf.solvers.sampler.links import Links
from recsys_mf.solvers.sampler.noise import RowNoise
from recsys_mf.solvers.state import State

F32 = NDArray[np.float32]


class Rated(NamedTuple):
    """The ratings that the rows of a table take part in, on the device.

    places : row numbers of the other table, by row of this one; without values, which the likelihood supplies
    contexts : int32[z], row numbers of the third table, None if there is none
    weights : float32[z], by which the precision of the noise is multiplied; None for 1
    """

    places: Csr
    contexts: Any | None = None
    weights: Any | None = None


class Table:
    """The rows X [rows, k + 1] of one field with their prior, and the ratings they take part in, all on the device.

    values : of the ratings, in the order of `rated`, on the device; the likelihood may replace them
    B : coefficients β, the last row ξ, [features + 1, k + 1]; link_precisions : λ of every block
    precision : Λ [k + 1, k + 1] on the host, that of the last draw
    noise : the scales of the noise of the rows; None for 1
    """

    def __init__(
        self, backend: Backend, rated: Rated, values: Any, links: Links, rank: int, noise: RowNoise | None = None
    ) -> None:
        width = rank + 1
        self.backend, self.rated, self.values, self.links, self.noise = backend, rated, values, links, noise
        self.X = backend.device.put(np.zeros((links.n_rows, width), np.float32))
        self.B = backend.device.put(np.zeros((links.n_features + 1, width), np.float32))
        self._prior_means = backend.device.put(np.zeros((links.n_rows, width), np.float32))  # F B
        self.link_precisions = [1.0] * len(links.blocks)
        self.precision = np.eye(width)

    @property
    def mean(self) -> Any:
        """ξ [k + 1], the prior mean of a row about which nothing is known."""
        return self.B[-1]

    @property
    def ratings(self) -> Csr:
        """The ratings with their values."""
        return self.rated.places._replace(values=self.values)

    def regressors(self, others: Table, contexts: Table | None) -> Regressors:
        """What the ratings of the rows are regressed on: these tables, with the scales of the noise."""
        put = self.backend.device.put
        rows = None if contexts is None else put(contexts.X)
        return Regressors(put(others.X), self.rated.contexts, rows, self.rated.weights, self._scales(others, contexts))

    def _scales(self, others: Table, contexts: Table | None) -> NoiseScales | None:
        """The scales of the rows, of the others and of the contexts; None if no table has any."""
        tables = (self, others, *(() if contexts is None else (contexts,)))
        if all(table.noise is None for table in tables):
            return None
        return NoiseScales(*(table.scales for table in tables))

    @property
    def scales(self) -> Any:
        """γ of every row, 1 without personal noise."""
        return self.backend.device.put(np.ones(len(self.X), np.float32)) if self.noise is None else self.noise.scales

    def state(self) -> State:
        """The rows, the coefficients, λ and the scales of the noise."""
        get = self.backend.device.get
        own = State({"link_precisions": self.link_precisions}, {"X": get(self.X), "B": get(self.B)})
        return State.joined({"rows": own, "noise": None if self.noise is None else self.noise.state()})

    def restore(self, state: State) -> None:
        """Restore the rows of a state."""
        put, rows, noise = self.backend.device.put, state.part("rows"), state.part("noise")
        assert rows is not None
        self.X, self.B = (put(np.array(rows.arrays[name])) for name in ("X", "B"))
        self.link_precisions = list(rows.facts["link_precisions"])
        self._prior_means = self.links.product(self.B)
        if self.noise is not None and noise is not None:
            self.noise.restore(noise)

    def restore_some(self, state: State, places: NDArray[np.int64]) -> None:
        """Restore the rows of a state that has only the rows at these places; the others are at their prior mean."""
        rows = state.part("rows")
        assert rows is not None
        X = np.repeat(rows.arrays["B"][-1:], len(self.X), axis=0)
        X[places] = rows.arrays["X"]
        own = State(rows.facts, {**rows.arrays, "X": X})
        self.restore(State.joined({"rows": own, "noise": state.part("noise")}))

    def sweep(self, others: Table, contexts: Table | None, noise_precision: float, rng: np.random.Generator) -> float:
        """Draw Λ, (ξ, β), λ, the rows and the scales of their noise given the other tables; returns the summed squared
        error left, every square multiplied by the weight and the scales of its rating.
        """
        n_rows, width = self.X.shape
        backend, put, xp = self.backend, self.backend.device.put, self.backend.device.xp
        ridge = put(self.links.ridge(self.link_precisions))
        scatter, of_coefficients = (
            backend.device.get(F.T @ F).astype(np.float64)
            for F in (self.X - self._prior_means, self.B * xp.sqrt(ridge))
        )
        self.precision = precision = drawn_precision(scatter + of_coefficients, n_rows + len(self.B), rng)
        root = np.linalg.cholesky(precision)  # Λ = root rootᵀ, so that rows z root⁻¹ are N(0, Λ⁻¹)
        inverse_root = np.linalg.inv(root).astype(np.float32)
        noises = (backend.device.draw_normals(rng, rows, width) @ put(inverse_root) for rows in (n_rows, len(self.B)))
        self.B = self.links.drawn(self.X, ridge, self.B, self._prior_means, *noises)
        self._prior_means = self.links.product(self.B)
        for place, coefficients in enumerate(self.links.parts(self.B)):
            size = _squared(backend, coefficients @ put(root.astype(np.float32)))
            self.link_precisions[place] = rng.gamma((1 + len(coefficients) * width) / 2, 2 / (1 + size))
        regressors = self.regressors(others, contexts)
        prior = GaussianPrior(put(precision.astype(np.float32)), put(self._prior_means))
        normals = backend.device.draw_normals(rng, n_rows, width)
        self.X, squared_errors = backend.rows.solve(self.ratings, regressors, prior, noise_precision, normals)
        if not backend.device.is_finite(self.X):
            raise SolveError("Gibbs sampling met a system that is not positive definite", fix="lower the rank")
        if self.noise is None:
            return float(xp.sum(squared_errors, dtype=xp.float64))
        unscaled = (backend.device.get(array).astype(np.float64) for array in (squared_errors, self.noise.scales))
        squares = np.divide(*unscaled)
        self.noise.draw(noise_precision * squares, rng)
        return float(squares @ backend.device.get(self.noise.scales).astype(np.float64))


def _squared(backend: Backend, F: Any) -> float:
    """The sum of the squares, in float64."""
    return float(backend.device.xp.sum(backend.device.xp.square(F), dtype=backend.device.xp.float64))


def drawn_precision(scatter: NDArray[Any], n_rows: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Λ ~ Wishart given n_rows rows F ~ N(0, Λ⁻¹), with the prior Wishart(w, I); by the Bartlett decomposition.

    scatter : FᵀF [w, w]: here, of x_g - m_g of every row and of √λ β of every coefficient
    """
    width = len(scatter)
    scatter = np.eye(width) + scatter
    freedom = width + n_rows
    triangle = np.tril(rng.standard_normal((width, width)), -1)
    triangle[np.diag_indices(width)] = np.sqrt(rng.chisquare(freedom - np.arange(width)))
    root = np.linalg.cholesky(np.linalg.inv(scatter)) @ triangle
    return root @ root.T
