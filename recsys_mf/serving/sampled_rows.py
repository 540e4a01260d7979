"""Rows of new users in a posterior: one draw per sample, given the sample's other tables.

In sample s a user has ratings with values m = o_s + b_u + b_j + p_u · q_j on the scale of the sampler, and

    x_u = (p_u, b_u) ~ N(F_u β_s, Λ_s⁻¹),    v_uj = m + ε,  ε ~ N(0, n_s²)

with the sample's prior of users (`models.user_prior`), n_s its noise, and v the standardised rating, or for an ordinal
model a latent one that lies between the thresholds of its level. Given v, x_u is drawn exactly, as in a sweep of the
sampler; latent ratings and x_u are drawn in turns, starting from the values of the previous sample. With personal noise
(`models.personal_noise`) the precision of ε is γ_u δ_j / n_s², and γ_u is drawn in turns with them, from its prior with
the sample's ν and the errors of the user's own ratings. For items, and in runs that did not keep the prior, mean and
covariance are those of the sample's own rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import DataError
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import GaussianPrior, NoiseScales, OrdinalPairs, Regressors
from recsys_mf.models import Posterior
from recsys_mf.serving.population import Population
from recsys_mf.serving.trained import Side

F32 = NDArray[np.float32]

_FIRST_TURNS, _TURNS = 10, 1  # of latent ratings and rows, in the first sample and in every other
_MAX_INT16 = 32767


class _Tables(NamedTuple):
    """What the draw uses of a sample: the prior of the side, None if its rows are all zero; the rows of the other side
    and of time bins, the last for an unknown one; offset, noise, thresholds; with personal noise, δ of the other side
    and ν of this one."""

    prior: GaussianPrior | None
    other: F32
    contexts: F32
    offset: float
    noise: float
    thresholds: NDArray[np.float64]
    other_scales: F32 | None
    freedom: float


class _State(NamedTuple):
    """What the draw for the next sample starts from: the rows x float32[rows, k + 1], and γ float32[rows]."""

    X: F32
    scales: F32


class NewRatings(NamedTuple):
    """The ratings of the users whose rows are drawn.

    ratings : a row per user, its columns the items it rated, in rating units
    contexts : int32[z], the time bin of every rating, -1 for an unknown one; None for a model or ratings without times
    """

    ratings: Csr
    contexts: NDArray[np.int32] | None


def draw_rows(
    model: Posterior, side: Side, new: NewRatings, rng: np.random.Generator, backend: Backend
) -> tuple[NDArray[np.int16], F32 | None]:
    """The rows int16[rows, S, k + 1] of users (or items) with these ratings, in the units of the model's table; and the
    factors g float32[rows, S] of their noise, if it is personal.

    A number beyond the range of the table is clipped to it. Raises DataError for a rating that is not a level of an
    ordinal model.
    """
    drawn = np.empty((new.ratings.n_rows, model.n_samples, model.rank + 1), np.int16)
    factors = None if model.noise is None else np.empty(drawn.shape[:2], np.float32)
    values = _standardised(model, new.ratings.values)
    state: _State | None = None
    for s in range(model.n_samples):
        state = _drawn(_tables(model, side, s, new.ratings, backend), new, values, state, rng, backend)
        unit = model.scales[0 if side == "user" else 1, s]
        drawn[:, s] = np.rint(np.clip(state.X / unit, -_MAX_INT16, _MAX_INT16))
        if factors is not None:
            factors[:, s] = 1 / np.sqrt(state.scales)
    return drawn, factors


def _tables(model: Posterior, side: Side, s: int, ratings: Csr, backend: Backend) -> _Tables:
    prior = _prior(model, side, s, ratings, backend)
    unknown = np.zeros((1, model.rank + 1), np.float32)
    contexts = np.vstack([model.rows("context", s), unknown])
    offset, noise, thresholds = float(model.offsets[s]), float(model.noises[s]), model.thresholds[s]
    other_side = "item" if side == "user" else "user"
    other, scales, freedom = model.rows(other_side, s), None, np.inf
    if model.noise is not None:
        scales = (1 / np.square(model.noise.factors(other_side)[:, s])).astype(np.float32)
        freedom = float(model.noise.freedoms[0 if side == "user" else 1, s])
    return _Tables(prior, other, contexts, offset, noise, thresholds.astype(np.float64), scales, freedom)


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
    tables: _Tables, new: NewRatings, values: NDArray[np.float32] | NDArray[np.uint8], state: _State | None,
    rng: np.random.Generator, backend: Backend,
) -> _State:  # fmt: skip
    """The rows and scales for a sample; state : those of the previous sample, None for the first."""
    put, get = backend.device.put, backend.device.get
    prior, there = tables.prior, new.ratings.to(put)
    scales = np.ones(new.ratings.n_rows, np.float32) if state is None else state.scales
    if prior is None:
        return _State(np.zeros((new.ratings.n_rows, tables.other.shape[1]), np.float32), scales)
    regressors, slope = Regressors(put(tables.other)), 1 / tables.noise
    if new.contexts is not None:
        bins = np.where(new.contexts < 0, len(tables.contexts) - 1, new.contexts).astype(np.int32)
        regressors = Regressors(put(tables.other), put(bins), put(tables.contexts))
    is_ordinal, is_personal = len(tables.thresholds) > 0, tables.other_scales is not None
    turns = 1 if not (is_ordinal or is_personal) else _FIRST_TURNS if state is None else _TURNS
    X, targets = get(prior.means) if state is None else state.X, values
    for _ in range(turns):
        if is_personal:
            regressors = regressors._replace(scales=NoiseScales(put(scales), put(tables.other_scales)))
        if is_ordinal:
            at = backend.rows.row_values(there, put(X), regressors) + np.float32(tables.offset)
            of_ratings = backend.rows.row_scales(there, regressors) if is_personal else None
            uniforms = backend.device.draw_uniforms(rng, len(values))
            cuts = tables.thresholds * slope
            pairs = OrdinalPairs(at, of_ratings, put(values))
            targets = get(backend.probit.draw_latents(pairs, cuts, slope, uniforms))
        shifted = put((targets - np.float32(tables.offset)).astype(np.float32))
        normals = backend.device.draw_normals(rng, *X.shape)
        rows, errors = backend.rows.solve(there._replace(values=shifted), regressors, prior, slope**2, normals)
        X = get(rows)
        if is_personal:
            squares = get(errors) / scales * np.float64(slope) ** 2
            scales = _drawn_scales(squares, np.diff(new.ratings.starts), tables.freedom, rng)
    return _State(X, scales)


def _drawn_scales(squares: Any, counts: NDArray[np.int64], freedom: float, rng: np.random.Generator) -> F32:
    """γ given ν and the errors, as in `solvers.sampler.noise`."""
    drawn: F32 = (rng.standard_gamma((freedom + counts) / 2) * 2 / (freedom + squares)).astype(np.float32)
    return np.maximum(drawn, np.finfo(np.float32).tiny)
