"""Compression: a posterior cut down to a plain factorisation, or to one sample if it needs more than that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arguments import whole
from recsys_mf.kernels.backend import PredictionKernels
from recsys_mf.kernels.cpu.prediction import CPU
from recsys_mf.kernels.operands import Pairs
from recsys_mf.models import Factorization, Model, Posterior
from recsys_mf.models.personal_noise import NoiseDraw
from recsys_mf.models.samples import Sample
from recsys_mf.prediction import takes_times
from recsys_mf.prediction.pairs import sample_moments
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.averaging import merged_products

F32 = NDArray[np.float32]
_SPREAD_PAIRS = 20_000  # pairs over which the variance between samples is averaged


def compress(model: Posterior, rank: int, train: Ratings, backend: PredictionKernels = CPU) -> Model:
    """The posterior mean as one factorisation of this rank: the mean of p_u · q_i, cut to its truncated SVD sample
    by sample (`averaging`), and the means of the biases.

    If there are time terms or thresholds, the result is a Posterior of one sample, which keeps them: thresholds are
    averaged; p_u · a_t and q_i · a_t are cut like p_u · q_i, to a quarter of this rank; the variance of m between
    samples, at pairs of train, is added to the variance of the noise; personal factors of the noise are averaged in
    their squares. Otherwise the result is a plain Factorization.
    A rank above the number of users or of items is lowered to it. Raises ConfigError for a rank below 1.
    """
    wanted = whole(rank, "compress", 1)
    if not (model.is_ordinal or takes_times(model)):
        return compress_scores(model, wanted)
    rank = min(wanted, model.n_users, model.n_items)
    P, Q = _mean_product(model, "user", "item", rank)
    offset = float(model.offsets.mean(dtype=np.float64))
    biases = [_mean_bias(model, side) for side in ("user", "item", "context")]
    of_time = min(-(-wanted // 4), len(model.scale.bins))
    (P_t, A_u), (Q_t, A_i) = (_mean_product(model, side, "context", of_time) for side in ("user", "item"))
    tables = (
        _wide(P, P_t, np.zeros_like(P_t), biases[0]),
        _wide(Q, np.zeros_like(Q_t), Q_t, biases[1]),
        _wide(np.zeros((len(A_u), rank), np.float32), A_u, A_i, biases[2]),
    )
    noise = float(np.sqrt(np.mean(model.noises.astype(np.float64) ** 2) + _variance(model, train, backend)))
    sample = Sample(*tables, offset, noise, model.thresholds.mean(axis=0), personal=_mean_noise(model))
    return Posterior.of([sample], model.scale)


def bytes_to_compress(train: Ratings, compressed: int, *, rank: int, likelihood: str, time: str, **_: object) -> int:
    """The most memory that `compress` takes to this rank, for a posterior of these settings; see `Solver.footprint`.

    The mean product before and after a sample, and the factors of the sample; or, if the result is a Posterior, its
    tables and the factors that they are made of. Besides, small matrices.
    """
    rows, kept = train.n_users + train.n_items, min(compressed, train.n_users, train.n_items)
    is_posterior = likelihood == "ordinal" or (time == "auto" and train.times is not None)
    wide = rank + kept
    return 4 * rows * (wide + (3 if is_posterior else 2) * kept) + 48 * wide * wide


def compress_scores(model: Posterior, rank: int) -> Factorization:
    """The mean over samples of μ + σ m at an average time as one factorisation of this rank, cut as in `compress`.

    For an ordinal model it is the mean latent rating: it orders items, but is not in rating units. A rank above the
    number of users or of items is lowered to it.
    """
    P, Q = _mean_product(model, "user", "item", min(rank, model.n_users, model.n_items))
    mean, deviation, root = model.scale.mean, np.float32(model.scale.deviation), np.sqrt(model.scale.deviation)
    b_u, b_i = (_mean_bias(model, side) * deviation for side in ("user", "item"))
    factors = (P * np.float32(root), Q * np.float32(root))
    constant = mean + float(model.offsets.mean(dtype=np.float64)) * float(deviation)
    return Factorization(constant, b_u, b_i, *factors, model.rating_range)


def _mean_product(model: Posterior, left: str, right: str, rank: int) -> tuple[F32, F32]:
    """Factors of that rank of the mean over samples of the products of the factors of two tables."""
    if not rank:
        return model.rows(left, 0)[:, :0], model.rows(right, 0)[:, :0]
    average: tuple[F32, F32] | None = None
    for s in range(model.n_samples):
        one = model.rows(left, s)[:, :-1], model.rows(right, s)[:, :-1]
        average = merged_products(average or one, one, s + 1, rank)
    assert average is not None
    return average


def _mean_bias(model: Posterior, side: str) -> F32:
    """Mean over samples of the biases of a table."""
    total = np.zeros(len(getattr(model, f"{side}_rows")))
    for s in range(model.n_samples):
        total += model.rows(side, s)[:, -1]
    return (total / model.n_samples).astype(np.float32)


def _mean_noise(model: Posterior) -> NoiseDraw | None:
    """The scales of the noise whose variances are the means over samples, if it is personal."""
    if model.noise is None:
        return None
    users, items = (
        (1 / np.square(model.noise.factors(side), dtype=np.float64).mean(axis=1)).astype(np.float32)
        for side in ("user", "item")
    )
    of_users, of_items = model.noise.freedoms.mean(axis=1).tolist()
    return NoiseDraw(users, items, (of_users, of_items))


def _variance(model: Posterior, train: Ratings, backend: PredictionKernels) -> float:
    """Mean over pairs of train of the variance of m between samples, in squared units of σ."""
    pairs = train.select(np.arange(0, len(train), max(1, len(train) // _SPREAD_PAIRS)))
    of_standard = replace(model, scale=replace(model.scale, mean=0.0, deviation=1.0))
    where = Pairs(pairs.users, pairs.items, model.scale.bins.indices(pairs.times))
    variances = sample_moments(of_standard, where, backend)[2]
    return float(variances.mean(dtype=np.float64))


def _wide(*columns: F32) -> F32:
    """Factors side by side, and the bias [rows] as the last column."""
    return np.hstack([*columns[:-1], columns[-1][:, None]])
