"""Standardisation: solvers work on ratings with mean 0 and deviation 1, so that the same settings suit any scale.

    r = μ + σ r'

The model of r' becomes one of r by the same line; a prediction is also clipped to the range of the training ratings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import Pairs, RatingScale, Tables
from recsys_mf.models import Factorization
from recsys_mf.ratings import Ratings

F32 = NDArray[np.float32]

_ROWS = 1 << 16  # that are copied at a time


def find_mean(train: Ratings) -> float:
    """Σ w r / Σ w over the ratings r, with their weights w (1 without weights)."""
    if train.weights is None:
        return mapped.mean(train.values)
    total = sum(
        float(train.weights[part].astype(np.float64) @ train.values[part].astype(np.float64))
        for part in mapped.parts(len(train))
    )
    return total / train.total_weight


def find_scale(train: Ratings) -> RatingScale:
    """Mean, standard deviation √(Σ w (r - μ)² / Σ w) and range of the values; if all are equal the deviation is taken
    as 1.
    """
    mean = find_mean(train)
    if train.rating_range[0] == train.rating_range[1]:
        return RatingScale(mean, 1.0, train.rating_range)
    squares = 0.0
    for part in mapped.parts(len(train)):
        offsets = train.values[part].astype(np.float64) - mean
        squares += float(offsets @ (offsets if train.weights is None else offsets * train.weights[part]))
    return RatingScale(mean, float(np.sqrt(squares / train.total_weight)), train.rating_range)


def standardise(values: F32, scale: RatingScale) -> F32:
    """(r - μ) / σ of every value, float32[n]."""
    standardised = mapped.empty(len(values), np.float32)
    for part in mapped.parts(len(values)):
        np.subtract(values[part], np.float32(scale.mean), out=standardised[part])
        standardised[part] /= np.float32(scale.deviation)
    return standardised


def predict_pairs(backend: Backend, pairs: Pairs, tables: Tables, scale: RatingScale) -> Any:
    """clip(μ + σ (b_u + b_i + p_u · q_i)) of pairs, all on the backend."""
    values = backend.rows.pair_values(pairs, tables)
    return backend.device.xp.clip(scale.mean + scale.deviation * values, *scale.rating_range)


def join_biases(table: Any, factors: Any, biases: Any, places: Any) -> None:
    """Fill a table with rows (factors, bias) float32[rows, k + 1], all on one device: row j is that at places[j]."""
    for low in range(0, len(table), _ROWS):
        part = slice(low, low + _ROWS)
        table[part, :-1] = factors[places[part]]
        table[part, -1] = biases[places[part]]


def restore(scale: RatingScale, user_bias: F32, item_bias: F32, P: F32, Q: F32) -> Factorization:
    """The model in rating units of one fitted to standardised values."""
    deviation, root = np.float32(scale.deviation), np.float32(np.sqrt(scale.deviation))
    return Factorization(
        scale.mean, user_bias * deviation, item_bias * deviation, P * root, Q * root, scale.rating_range
    )
