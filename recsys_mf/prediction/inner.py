"""Inner products: a model as rows x_u of users and y_i of items; their product is the prediction before clipping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_mf.models import Factorization, Posterior

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class InnerRows:
    """r_ui = x_u · y_i with x_u = (p_u, 1, c + b_u) and y_i = (q_i, b_i, 1), the constant c and the biases folded in.

    constant : c; user_bias [m], factors P [m, k] : of the users. An unknown user (-1) has b_u = 0 and p_u = 0
    items : y_i float32[n, k + 2]
    """

    constant: float
    user_bias: F32
    user_factors: F32
    items: F32

    def of_users(self, users: NDArray[np.int32]) -> F32:
        """x_u float32[b, k + 2] of these users."""
        known = users >= 0
        rows = np.empty((len(users), self.items.shape[1]), np.float32)
        rows[:, :-2] = np.where(known[:, None], self.user_factors[users], 0)
        rows[:, -2] = 1
        rows[:, -1] = self.constant + np.where(known, self.user_bias[users], 0)
        return rows


def inner_rows(model: Factorization) -> InnerRows:
    """r_ui = μ + b_u + b_i + p_u · q_i."""
    return InnerRows(model.mean, model.user_bias, model.user_factors, _item_rows(model.item_factors, model.item_bias))


def inner_rows_of_sample(model: Posterior, s: int) -> InnerRows:
    """μ + σ (o_s + b_u + b_i + p_u · q_i) of sample s, at an average time; of an ordinal model its latent rating."""
    deviation = np.float32(model.scale.deviation)
    P, Q = model.rows("user", s), model.rows("item", s)
    constant = model.scale.mean + float(deviation) * float(model.offsets[s])
    return InnerRows(constant, deviation * P[:, -1], deviation * P[:, :-1], _item_rows(Q[:, :-1], deviation * Q[:, -1]))


def _item_rows(factors: F32, bias: F32) -> F32:
    rows = np.column_stack([factors, bias, np.ones(len(bias), np.float32)])
    rows.flags.writeable = False  # a device may keep them
    return rows
