"""Rows of new users in a posterior: one draw per sample, given the sample's other tables.

In sample s a user has ratings with values m = o_s + b_u + b_j + p_u · q_j on the scale of the sampler, and

    x_u = (p_u, b_u) ~ N(F_u β_s, Λ_s⁻¹),    v_uj = m + ε,  ε ~ N(0, n_s²)

with the sample's prior of users (`models.user_prior`), n_s its noise, and v the standardised rating, or for an ordinal
model a latent one that lies between the thresholds of its level. Given v, x_u is drawn exactly, as in a sweep of the
sampler; latent ratings and x_u are drawn in turns, from where the sample before left them. For items, and in runs that
did not keep the prior, mean and covariance are those of the sample's own rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import DataError
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import GaussianPrior, Regressors
from recsys_mf.models import Posterior
from recsys_mf.serving.population import Population
from recsys_mf.serving.trained import Side

F32 = NDArray[np.float32]

_FIRST_TURNS, _TURNS = 10, 1  # of latent ratings and rows, in the first sample and in every other
_MAX_INT16 = 32767


class _Tables(NamedTuple):
    """What a sample gives to the draw: the prior of the side, None if its rows are all zero; the rows of the other and
    of time bins, the last for an unknown one; offset, noise, thresholds."""

    prior: GaussianPrior | None
    other: F32
    contexts: F32
    offset: float
    noise: float
    thresholds: NDArray[np.float64]


class NewRatings(NamedTuple):
    """The ratings of the users whose rows are drawn.

    ratings : a row per user, its columns the items it rated, in rating units
    contexts : int32[z], the time bin of every rating, -1 for an unknown one; None for a model or ratings without times
    """

    ratings: Csr
    contexts: NDArray[np.int32] | None


def draw_rows(
    model: Posterior, side: Side, new: NewRatings, rng: np.random.Generator, backend: Backend
) -> NDArray[np.int16]:
    """The rows int16[rows, S, k + 1] of users (or items) with these ratings, in the units of the model's table.

    A number beyond the largest of the table is cut to it. Raises DataError for a rating that is no level of an ordinal
    model.
    """
    drawn = np.empty((new.ratings.n_rows, model.n_samples, model.rank + 1), np.int16)
    values = _standardised(model, new.ratings.values)
    X: F32 | None = None
    for s in range(model.n_samples):
        X = _drawn(_tables(model, side, s, new.ratings, backend), new, values, X, rng, backend)
        unit = model.scales[0 if side == "user" else 1, s]
        drawn[:, s] = np.rint(np.clip(X / unit, -_MAX_INT16, _MAX_INT16))
    return drawn


def _tables(model: Posterior, side: Side, s: int, ratings: Csr, backend: Backend) -> _Tables:
    prior = _prior(model, side, s, ratings, backend)
    unknown = np.zeros((1, model.rank + 1), np.float32)
    contexts = np.vstack([model.rows("context", s), unknown])
    offset, noise, thresholds = float(model.offsets[s]), float(model.noises[s]), model.thresholds[s]
    other = model.rows("item" if side == "user" else "user", s)
    return _Tables(prior, other, contexts, offset, noise, thresholds.astype(np.float64))


def _prior(model: Posterior, side: Side, s: int, ratings: Csr, backend: Backend) -> GaussianPrior | None:
    """The prior of rows with these ratings in sample s."""
    put, shape = backend.device.put, (ratings.n_rows, model.rank + 1)
    if side == "user" and model.user_prior is not None:
        draw = model.user_prior.draw(s)
        means = put(np.zeros(shape, np.float32))
        if len(draw.coefficients):
            sums = backend.rows.multiply(ratings.pattern().to(put), put(draw.coefficients))
            counts = np.maximum(np.diff(ratings.starts), 1).astype(np.float32)
            means = put(backend.device.get(sums) / np.sqrt(counts)[:, None])
        return GaussianPrior(put(draw.precision.astype(np.float32)), means)
    population = Population.of_rows(model.rows(side, s))
    if population is None:
        return None
    precision = population.precision(np.ones(shape[1])).astype(np.float32)
    return GaussianPrior(put(precision), put(np.tile(population.mean, (shape[0], 1)).astype(np.float32)))


def _standardised(model: Posterior, values: F32) -> NDArray[np.float32] | NDArray[np.uint8]:
    """The ratings on the scale of the sampler, or of an ordinal model their levels uint8."""
    if not model.is_ordinal:
        return ((values - model.scale.mean) / model.scale.deviation).astype(np.float32)
    levels = np.minimum(np.searchsorted(model.scale.levels, values), len(model.scale.levels) - 1)
    wrong = np.flatnonzero(model.scale.levels[levels] != values)
    if len(wrong):
        fix = f"give one of {', '.join(f'{level:g}' for level in model.scale.levels)}"
        raise DataError("a rating is not on the scale of the model", seen=f"{values[wrong[0]]:g}", fix=fix)
    return levels.astype(np.uint8)


def _drawn(
    tables: _Tables, new: NewRatings, values: NDArray[np.float32] | NDArray[np.uint8], X: F32 | None,
    rng: np.random.Generator, backend: Backend,
) -> F32:  # fmt: skip
    """The rows float32[rows, k + 1] of a sample, from those of the sample before, None in the first."""
    put, get = backend.device.put, backend.device.get
    prior = tables.prior
    if prior is None:
        return np.zeros((new.ratings.n_rows, tables.other.shape[1]), np.float32)
    regressors, slope = Regressors(put(tables.other)), 1 / tables.noise
    if new.contexts is not None:
        bins = np.where(new.contexts < 0, len(tables.contexts) - 1, new.contexts).astype(np.int32)
        regressors = Regressors(put(tables.other), put(bins), put(tables.contexts))
    is_ordinal = len(tables.thresholds) > 0
    turns = 1 if not is_ordinal else _FIRST_TURNS if X is None else _TURNS
    X, there, targets = get(prior.means) if X is None else X, new.ratings.to(put), values
    for _ in range(turns):
        if is_ordinal:
            at = backend.rows.row_values(there, put(X), regressors) + np.float32(tables.offset)
            uniforms = backend.device.draw_uniforms(rng, len(values))
            targets = get(backend.probit.draw_latents(at, put(values), tables.thresholds * slope, slope, uniforms))
        shifted = put((targets - np.float32(tables.offset)).astype(np.float32))
        normals = backend.device.draw_normals(rng, *X.shape)
        X = get(backend.rows.solve(there._replace(values=shifted), regressors, prior, slope**2, normals)[0])
    assert X is not None
    return X
