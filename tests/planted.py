"""Rating tables whose truth is known: low rank, biases and Gaussian noise, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_mf.ratings import Ratings


@dataclass(frozen=True)
class Truth:
    """The model that a table was drawn from: r = mean + user_bias[u] + item_bias[i] + P[u] · Q[i] + noise · N(0, 1)."""

    mean: float
    user_bias: NDArray[np.float64]  # [n_users]
    item_bias: NDArray[np.float64]  # [n_items]
    P: NDArray[np.float64]  # [n_users, rank]
    Q: NDArray[np.float64]  # [n_items, rank]
    noise: float

    def expected(self, users: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.float64]:
        """The noiseless rating of every pair, [n]."""
        biases = self.mean + self.user_bias[users] + self.item_bias[items]
        expected: NDArray[np.float64] = biases + np.einsum("nk,nk->n", self.P[users], self.Q[items])
        return expected


def planted(
    n_users: int = 300, n_items: int = 200, rank: int = 3, density: float = 0.2, noise: float = 0.3, seed: int = 0
) -> tuple[Ratings, Truth]:
    """A table in which every pair is observed with probability `density`, rows in random order, and its truth.

    User and item ids are 0 … n - 1; every user and item has at least one rating, so they are the indices too.
    The interaction P[u] · Q[i] has standard deviation 1 whatever the rank.
    """
    rng = np.random.default_rng(seed)
    truth = Truth(
        mean=3.5,
        user_bias=rng.normal(0, 0.5, n_users),
        item_bias=rng.normal(0, 0.5, n_items),
        P=rng.normal(0, rank**-0.25, (n_users, rank)),
        Q=rng.normal(0, rank**-0.25, (n_items, rank)),
        noise=noise,
    )
    observed = rng.random((n_users, n_items)) < density
    observed[np.arange(n_users), rng.integers(n_items, size=n_users)] = True
    observed[rng.integers(n_users, size=n_items), np.arange(n_items)] = True
    users, items = rng.permutation(np.argwhere(observed)).T
    values = truth.expected(users, items) + rng.normal(0, noise, len(users))
    return Ratings.from_ids(users, items, values.astype(np.float32)), truth
