"""Updating: new ratings move a factorisation, which keeps what it learned from the old ones.

Near its optimum the objective of the old model r̂⁰ is quadratic in its rows, and its curvature depends on which pairs
were rated, not on how. So with the pairs Ω₀ of the old model and the new ratings Ω₁, an update minimises

    Σ_{(u,i)∈Ω₁} (r_ui - r̂_ui)² + Σ_{(u,i)∈Ω₀} (r̂⁰_ui - r̂_ui)²
        + λ (Σ_u n_u^½ |x_u - x⁰_u|² + Σ_i n_i^½ |y_i - y⁰_i|²),    x_u = (p_u, b_u), y_i = (q_i, b_i)

by alternating least squares, where the target of a rated pair without a new rating is its old prediction. For a single
row, given the other side, this is the recursive least-squares update, which equals a fit to all ratings at once. n
counts the pairs of a row in both sets. Rows without a new rating stay as they are; a new user or item starts at zero.

Young: Recursive estimation and time-series analysis, 2nd ed. 2011, chapter 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import sorting
from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import Pairs, Regressors, Shrinkage, Tables
from recsys_mf.models import Factorization
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.protocol import Epoch
from recsys_mf.solvers.standardisation import find_scale

F32 = NDArray[np.float32]

_CG_STEPS = 5
_COUNT_EXPONENT = 0.5  # of n in the regularisation


def update(
    model: Factorization, ratings: Ratings, is_new: NDArray[np.bool_], regularisation: float, backend: Backend
) -> Iterator[Epoch]:
    """Yield an Epoch after every pass over users and items, without end.

    model : the old one, over the vocabularies of ratings; rows it does not know are zero
    ratings : the pairs of Ω₀ and the ratings of Ω₁; is_new : bool[n], which of them are in Ω₁
    regularisation : λ, for ratings with standard deviation 1 and factors of equal size on both sides
    """
    deviation = find_scale(ratings).deviation
    units = _Units.of(model, deviation)
    X, Y = units.rows(model)
    values = (ratings.values - np.float32(model.mean)) / np.float32(deviation)
    targets = np.where(is_new, values, _products(ratings.users, ratings.items, X, Y, backend))
    users = _Side.of(ratings.users, ratings.items, is_new, ratings.n_users)
    items = _Side.of(ratings.items, ratings.users, is_new, ratings.n_items)
    for number in count(1):
        X = users.solved(X, Y, targets, regularisation, backend)
        Y = items.solved(Y, X, targets, regularisation, backend)

        def moved(X: F32 = X, Y: F32 = Y) -> Factorization:
            return units.restored(model, X, Y, users.rows, items.rows)

        yield Epoch(number, len(users.others) + len(items.others), None, moved)


class _Units(NamedTuple):
    """Divisors of the factors and biases, which bring ratings to standard deviation 1 and factors to equal size."""

    user: np.float32
    item: np.float32
    bias: np.float32

    @classmethod
    def of(cls, model: Factorization, deviation: float) -> _Units:
        sizes = [float(np.square(F, dtype=np.float64).sum()) for F in (model.user_factors, model.item_factors)]
        ratio = np.sqrt(np.sqrt(sizes[0] / sizes[1])) if min(sizes) > 0 else 1.0
        root = np.sqrt(deviation)
        return cls(np.float32(root * ratio), np.float32(root / ratio), np.float32(deviation))

    def rows(self, model: Factorization) -> tuple[F32, F32]:
        """Rows (factors, bias) of users and of items in these units."""
        return (
            np.column_stack([model.user_factors / self.user, model.user_bias / self.bias]),
            np.column_stack([model.item_factors / self.item, model.item_bias / self.bias]),
        )

    def restored(
        self, model: Factorization, X: F32, Y: F32, users: NDArray[np.int64], items: NDArray[np.int64]
    ) -> Factorization:
        """The model with the rows of these users and items taken from X and Y; all others unchanged."""
        P, b_u, Q, b_i = (
            table.copy() for table in (model.user_factors, model.user_bias, model.item_factors, model.item_bias)
        )
        P[users], b_u[users] = X[users, :-1] * self.user, X[users, -1] * self.bias
        Q[items], b_i[items] = Y[items, :-1] * self.item, Y[items, -1] * self.bias
        return replace(model, user_factors=P, user_bias=b_u, item_factors=Q, item_bias=b_i)


class _Side(NamedTuple):
    """The rows of one side that have a new rating, and all the ratings of these rows.

    rows int64[r] : ascending; those of rows[g] are at the places starts[g]:starts[g + 1] of the other arrays
    own int32[z], others int32[z] : row of a rating on this side and on the other
    order int64[z] : its row in the table
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    own: NDArray[np.int32]
    others: NDArray[np.int32]
    order: NDArray[np.int64]

    @classmethod
    def of(cls, own: NDArray[np.int32], others: NDArray[np.int32], is_new: NDArray[np.bool_], size: int) -> _Side:
        is_touched = np.zeros(size, np.bool_)
        is_touched[own[is_new]] = True
        starts, order = sorting.group(own, size)
        counts = np.diff(starts)
        order = order[np.repeat(is_touched, counts)]
        rows = np.flatnonzero(is_touched)
        return cls(rows, np.concatenate([[0], np.cumsum(counts[rows])]), own[order], others[order], order)

    def solved(self, X: F32, Y: F32, targets: F32, regularisation: float, backend: Backend) -> F32:
        """X with the rows of this side at the minimum of the objective, given Y, by steps from their current values."""
        errors = targets[self.order] - _products(self.own, self.others, X, Y, backend)
        factors = Y.copy()
        factors[:, -1] = 0  # the errors are of predictions that include the biases
        weights = np.diff(self.starts).astype(np.float32) ** np.float32(_COUNT_EXPONENT)
        width, put = X.shape[1], backend.device.put
        still = np.zeros((len(self.rows), width), np.float32)
        prior = Shrinkage(put(weights), put(np.full(width, regularisation, np.float32)))
        ratings = Csr(self.starts, self.others, errors, len(Y)).to(put)
        moves, _ = backend.rows.refine(ratings, put(still), Regressors(put(factors)), prior, _CG_STEPS)
        moved = X.copy()
        moved[self.rows] += backend.device.get(moves)
        return moved


def _products(users: NDArray[np.int32], items: NDArray[np.int32], X: F32, Y: F32, backend: Backend) -> F32:
    """b_u + b_i + p_u · q_i of pairs."""
    put = backend.device.put
    values: F32 = backend.device.get(backend.rows.pair_values(Pairs(put(users), put(items)), Tables(put(X), put(Y))))
    return values
