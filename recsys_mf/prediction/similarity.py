"""Similarity: which rows of a model have a high cosine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import ConfigError
from recsys_mf.kernels.cpu.prediction import CPU
from recsys_mf.models import Factorization, Model
from recsys_mf.prediction.ranking import Ranked

F32 = NDArray[np.float32]

_MAX_SAMPLES = 16  # of a posterior, evenly spread, whose factors are compared


def find_similar(model: Model, side: str, rows: NDArray[np.int32], count: int) -> Ranked:
    """The `count` other rows of the same side with the largest cosine to each of some rows, dense indices int32[b].

        cos(g, h) = f_g · f_h / (|f_g| |f_h|),   0 if either is zero

    f are the factors p_u or q_i without biases. For a posterior, f are those of up to 16 samples, concatenated, so that
    products are sums over samples; each sample has axes of its own.

    side : "user" or "item"
    Raises ConfigError for a model that has no factors, or only zeros.
    """
    factors = _factors(model, side)
    if not factors.any():
        what, fix = "the model has no factors to compare, only biases", "train with a rank above 0, or on more ratings"
        raise ConfigError(what, seen=f"rank {factors.shape[1]}", fix=fix)
    lengths = np.sqrt(np.einsum("gf,gf->g", factors, factors, dtype=np.float64))
    directions = (factors / np.where(lengths > 0, lengths, 1.0)[:, None]).astype(np.float32)
    itself = Csr(np.arange(len(rows) + 1), rows, None, len(directions))
    return Ranked(*CPU.find_top(directions[rows], directions, count, itself))


def _factors(model: Model, side: str) -> F32:
    if isinstance(model, Factorization):
        return model.user_factors if side == "user" else model.item_factors
    chosen = np.unique(np.linspace(0, model.n_samples - 1, min(_MAX_SAMPLES, model.n_samples)).astype(int))
    return np.hstack([model.rows(side, s)[:, :-1] for s in chosen.tolist()])
