"""The simplest models: the mean of all ratings, and damped biases of users and items around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped
from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import SolveError
from recsys_mf.kernels.backend import Backend
from recsys_mf.models import Factorization
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.protocol import Epoch, Solver
from recsys_mf.solvers.settings import Between, setting
from recsys_mf.solvers.standardisation import find_mean

Vector = NDArray[np.float64]

_ITERATIONS = 1000
_TOLERANCE = 1e-7  # norm of the residual of the user biases, relative to the right-hand side


@dataclass(frozen=True)
class Mean(Solver):
    """r̂_ui = μ, the mean of the training ratings, weighted if they have weights, for every pair."""

    name: ClassVar[str] = "mean"

    def run(
        self,
        train: Ratings,
        *,
        rng: np.random.Generator,
        backend: Backend,
    ) -> Iterator[Epoch]:
        """See `Solver.run`."""
        mean = find_mean(train)
        zeros = np.zeros(train.n_users), np.zeros(train.n_items)
        yield Epoch(1, len(train), None, lambda: _without_factors(mean, *zeros, train))


@dataclass(frozen=True)
class Biases(Solver):
    """Damped user and item biases.

        r̂_ui = μ + b_u + b_i

    minimises Σ_{(u,i)∈Ω} w_ui (r_ui - r̂_ui)² + d_u Σ_u b_u² + d_i Σ_i b_i². At the minimum,

        b_i = Σ_u w_ui (r_ui - μ - b_u) / (d_i + n_i),    b_u = Σ_i w_ui (r_ui - μ - b_i) / (d_u + n_u)

    where w_ui is the weight of a rating (1 without weights), n are their sums by user and by item, and μ is the
    weighted mean. Substituting b_i in the second equation gives, with s the sums of w_ui (r_ui - μ), W = diag(d + n)
    and R the matrix of weights, 0 for pairs without a rating,

        (W_u - R W_i⁻¹ Rᵀ) b_u = s_u - R W_i⁻¹ s_i

    This system is positive definite and solved by conjugate gradients, preconditioned by W_u. An unknown user or item
    has bias zero.

    Koren: Factor in the neighbors, ACM TKDD 4(1), 2010, section 2.1.
    """

    name: ClassVar[str] = "bias"

    user_damping: float = setting(
        5.0, "d_u: ratings of prior weight that hold a user's bias at zero", low=1e-6, search=Between(0.5, 50)
    )
    item_damping: float = setting(
        5.0, "d_i: ratings of prior weight that hold an item's bias at zero", low=1e-6, search=Between(0.5, 50)
    )

    def run(
        self,
        train: Ratings,
        *,
        rng: np.random.Generator,
        backend: Backend,
    ) -> Iterator[Epoch]:
        """See `Solver.run`."""
        mean, user_bias, item_bias = self.fitted(train, backend)
        yield Epoch(1, len(train), None, lambda: _without_factors(mean, user_bias, item_bias, train))

    def fitted(self, train: Ratings, backend: Backend) -> tuple[float, Vector, Vector]:
        """μ, b_u float64[m], b_i float64[n]; read-only, because `Ratings.once` may share them."""
        return train.once(self, lambda: self._solve(train, backend))

    def _solve(self, train: Ratings, backend: Backend) -> tuple[float, Vector, Vector]:
        mean = find_mean(train)
        by_user = Sums(train.by_user(), train.weights_by_user(), backend)
        by_item = Sums(train.by_item(), train.weights_by_item(), backend)
        user_weights, item_weights = self.user_damping + train.user_weights, self.item_damping + train.item_weights
        user_sums = by_user.of_values() - mean * train.user_weights
        item_sums = by_item.of_values() - mean * train.item_weights

        def reduced(user_bias: Vector) -> Vector:
            return user_weights * user_bias - by_user.of_others(by_item.of_others(user_bias) / item_weights)

        right = user_sums - by_user.of_others(item_sums / item_weights)
        user_bias = _solved(reduced, right, user_weights)
        if user_bias is None:
            fix = f"raise user_damping or item_damping (now {self.user_damping:g}, {self.item_damping:g})"
            if train.weights is not None:
                fix = f"give weights that differ less (now {train.weights.min():g} to {train.weights.max():g})"
            raise SolveError(f"the biases have not converged after {_ITERATIONS} iterations", fix=fix)
        return mean, user_bias, (item_sums - by_item.of_others(user_bias)) / item_weights


def _solved(product: Callable[[Vector], Vector], b: Vector, weights: Vector) -> Vector | None:
    """x with A x = b by conjugate gradients, preconditioned by diag(weights); None if it does not converge.

    product : x -> A x, of a positive definite A
    Golub, Van Loan: Matrix Computations, section 11.5.
    """
    x, direction, residual = np.zeros_like(b), np.zeros_like(b), b.copy()
    limit, earlier = _TOLERANCE * np.linalg.norm(b), math.inf
    for _ in range(_ITERATIONS):
        if np.linalg.norm(residual) <= limit:
            return x
        scaled = residual / weights
        size = float(residual @ scaled)
        direction = scaled + size / earlier * direction
        image = product(direction)
        step = size / (direction @ image)
        x += step * direction
        residual -= step * image
        earlier = size
    return None


class Sums:
    """Sums over the ratings of every row of one side, on the device.

    weights : of the ratings, in their order; None for 1
    """

    def __init__(self, ratings: Csr, weights: NDArray[np.float32] | None, backend: Backend) -> None:
        put = backend.device.put
        if weights is not None:
            weighted = mapped.empty(len(weights), np.float32)
            for part in mapped.parts(len(weights)):
                np.multiply(ratings.values[part], weights[part], out=weighted[part])
            ratings = ratings._replace(values=weighted)
        self.backend, self._ratings = backend, ratings.to(put)
        self._others = self._ratings._replace(values=None if weights is None else put(weights))

    def of_values(self) -> Vector:
        """Σ_j w_j r_j of every row."""
        return self._summed(self._ratings, np.ones(self._ratings.n_columns))

    def of_others(self, bias: Vector) -> Vector:
        """Σ_j w_j b_j of every row, over the other side's biases."""
        return self._summed(self._others, bias)

    def _summed(self, matrix: Csr, x: Vector) -> Vector:
        device = self.backend.device
        product = self.backend.rows.multiply(matrix, device.put(x[:, None]))
        mapped.rest()
        found: Vector = device.get(product)[:, 0]
        return found


def _without_factors(mean: float, user_bias: Vector, item_bias: Vector, train: Ratings) -> Factorization:
    none = np.zeros((train.n_users, 0)), np.zeros((train.n_items, 0))
    return Factorization(
        mean, user_bias.astype(np.float32), item_bias.astype(np.float32),
        none[0].astype(np.float32), none[1].astype(np.float32), train.rating_range,
    )  # fmt: skip
