"""The error of a model on a table of ratings."""

from __future__ import annotations

import math

from recsys_mf.arrays import mapped
from recsys_mf.kernels.backend import PredictionKernels
from recsys_mf.kernels.cpu.prediction import CPU
from recsys_mf.models import Model
from recsys_mf.prediction.pairs import predict
from recsys_mf.ratings import Ratings


def rmse(model: Model, ratings: Ratings, backend: PredictionKernels = CPU) -> float:
    """√(Σ w e² / Σ w) over all rows of a table, with its weights or 1, in rating units, summed in float64."""
    total = 0.0
    for part in mapped.parts(len(ratings)):
        times = None if ratings.times is None else ratings.times[part]
        predicted = predict(model, ratings.users[part], ratings.items[part], times, backend=backend).values
        errors = predicted - ratings.values[part].astype(float)
        total += float(errors @ (errors if ratings.weights is None else errors * ratings.weights[part]))
    mapped.release_pages()
    return math.sqrt(total / ratings.total_weight)
