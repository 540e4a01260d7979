"""Noise weights: ratings of users who rate consistently, and of items that users agree on, count more.

With e_ui the residuals of the damped biases and σ² their mean square, s_u and s_i are the relative deviations of the
ratings of a user and of an item, shrunk towards 1 like the precision of `models.personal_noise` by its prior:

    s_u² = (ν_u + Σ_i (e_ui / (σ s_i))²) / (ν_u + n_u),    s_i² = (ν_i + Σ_u (e_ui / (σ s_u))²) / (ν_i + n_i)

A rating then counts with

    w_ui = min(1 / (s_u s_i), 4),

the root of the inverse variance. The inverse variance itself would give too little weight to users whose ratings vary
(docs/decisions.md). The residuals of a factorisation would be worse, because it fits some users more closely than
others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped
from recsys_mf.kernels.backend import Backend
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.biases import Biases

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

_USER_FREEDOM, _ITEM_FREEDOM = 10.0, 20.0  # ν_u, ν_i: about what the sampler finds on tables of stars
_ROUNDS = 3
_MAX_WEIGHT = 4.0  # a user whose ratings are all equal must not dominate, and the steps of SGD must stay stable


class Residuals:
    """The residuals e_ui / σ of the damped biases, computed part by part on demand."""

    def __init__(self, train: Ratings, backend: Backend) -> None:
        self._train, self._biases = train, Biases().fitted(train, backend)
        self._deviation = 1.0
        squares = sum(float(errors @ errors) for *_, errors in self.parts())
        self._deviation = float(np.sqrt(squares / len(train))) or 1.0

    def parts(self) -> Iterator[tuple[slice, I32, I32, F64]]:
        """Rows of the table, their users and items, and their residuals."""
        mean, user_bias, item_bias = self._biases
        for part in mapped.parts(len(self._train)):
            users, items = self._train.users[part], self._train.items[part]
            errors = self._train.values[part] - (mean + user_bias[users] + item_bias[items])
            yield part, users, items, errors / self._deviation
        mapped.release_pages()

    def of_users(self, item_deviations: F64) -> F64:
        """s_u of every user, given the s_i."""
        squares = np.zeros(self._train.n_users)
        for _, users, items, errors in self.parts():
            squares += np.bincount(users, (errors / item_deviations[items]) ** 2, len(squares))
        return _drawn_in(squares, self._train.user_counts, _USER_FREEDOM)

    def of_items(self, user_deviations: F64) -> F64:
        """s_i of every item, given the s_u."""
        squares = np.zeros(self._train.n_items)
        for _, users, items, errors in self.parts():
            squares += np.bincount(items, (errors / user_deviations[users]) ** 2, len(squares))
        return _drawn_in(squares, self._train.item_counts, _ITEM_FREEDOM)


def _drawn_in(squares: F64, counts: NDArray[np.int64], freedom: float) -> F64:
    deviations: F64 = np.sqrt((freedom + squares) / (freedom + counts))
    return deviations


def weigh_by_noise(train: Ratings, backend: Backend) -> tuple[Ratings, float]:
    """The ratings, which have no weights, with these weights; and the factor that turns a weighted RMSE into one
    without weights, as measured on the residuals of the biases.
    """
    residuals = Residuals(train, backend)
    user_deviations, item_deviations = np.ones(train.n_users), np.ones(train.n_items)
    for _ in range(_ROUNDS):
        user_deviations = residuals.of_users(item_deviations)
        item_deviations = residuals.of_items(user_deviations)
    weights = mapped.empty(len(train), np.float32)
    total = squares = weighted = 0.0
    for part, users, items, errors in residuals.parts():
        of_part = np.minimum(1 / (user_deviations[users] * item_deviations[items]), _MAX_WEIGHT)
        weights[part] = of_part
        total += float(of_part.sum())
        squares += float(errors @ errors)
        weighted += float(of_part @ errors**2)
    ratio = (squares / len(train)) / (weighted / total) if weighted > 0 else 1.0
    return replace(train, weights=weights), float(np.sqrt(ratio))
