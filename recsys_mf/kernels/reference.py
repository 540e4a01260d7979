"""The kernels in float64 NumPy, as plainly as the equations: the specification with which the backends are compared.

Every backend has these operations under these names with these arguments (`backend`, `operands`). No argument has a
default, and no operation draws random numbers. There are m users, n items, z ratings or pairs, and the rank k.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.operands import (
    Curves,
    FactorModel,
    GaussianPrior,
    LevelScores,
    Offsets,
    OrdinalPairs,
    Pairs,
    RatingScale,
    Regressors,
    RowPrior,
    SampleTables,
    SgdState,
    SgdStep,
    Shrinkage,
    Tables,
    TopQuery,
)
from recsys_mf.kernels.schedule.plan import SgdPlan

Array = NDArray[Any]
_MIN_PROBABILITY = 1e-300


def predict(model: FactorModel, pairs: Pairs) -> Array:
    """r̂_ui = clip(μ + b_u + b_i + p_u · q_i) [z]; for an index of -1 the bias and the factors are zero."""
    users, items, _ = pairs
    known_user, known_item = users >= 0, items >= 0
    b_u = np.where(known_user, model.user_bias[users], 0.0)
    b_i = np.where(known_item, model.item_bias[items], 0.0)
    products = np.sum(model.P[users] * model.Q[items], axis=1, dtype=np.float64)
    interaction = np.where(known_user & known_item, products, 0.0)
    return np.clip(model.mean + b_u + b_i + interaction, *model.rating_range)


def predict_samples(samples: SampleTables, pairs: Pairs, scale: RatingScale) -> tuple[Array, Array, Array]:
    """Of r_s = μ + σ m_s over the samples s: the mean of clip(r_s), the mean of r_s and its variance, [z] each.

        m_s = o_s + b_u + b_i + w_c + p_u · q_i + p_u · a_c + q_i · a_c

    with a row of zeros for an index of -1, and for all contexts if pairs have none.
    """
    values = scale.mean + scale.deviation * _sample_values(samples, pairs)
    return np.clip(values, *scale.rating_range).mean(axis=1), values.mean(axis=1), values.var(axis=1)


def predict_levels(samples: SampleTables, pairs: Pairs, thresholds: Array, noises: Array) -> Array:
    """Mean over samples s of P_s(level l) = Φ((τ_{l+1} - m_s) / σ_s) - Φ((τ_l - m_s) / σ_s), [z, T + 1].

    m_s as in `predict_samples`; thresholds τ [S, T] ascending; σ_s the noises [S] times the factors of user and item
    (`predict_noise`)
    """
    values = _sample_values(samples, pairs)
    below = ndtr((thresholds - values[:, :, None]) / (noises * _noise_factors(samples, pairs))[:, :, None])  # [z, S, T]
    edges = np.concatenate([np.zeros_like(below[:, :, :1]), below, np.ones_like(below[:, :, :1])], axis=2)
    probabilities: Array = np.diff(edges, axis=2).mean(axis=1)
    return probabilities


def predict_noise(samples: SampleTables, pairs: Pairs, noises: Array) -> Array:
    """Mean over samples of the variance of a rating about m_s, (n_s g_su g_si)² [z].

    noises n [S]; g the factors of user and item, 1 for an index of -1 and for a model without
    """
    variances: Array = np.square(noises * _noise_factors(samples, pairs)).mean(axis=1)
    return variances


def find_top(queries: Array, table: Array, count: int, excluded: Csr | None) -> tuple[Array, Array]:
    """`select_top` of the products of queries X [b, w] and a table Y [n, w]: scores X Yᵀ."""
    return select_top(queries.astype(np.float64) @ table.astype(np.float64).T, count, excluded)


def find_top_of_samples(samples: SampleTables, query: TopQuery, curves: Curves) -> tuple[Array, Array]:
    """`select_top` of the scores of every user and item of a query; columns are places among its items.

    The score is the mean over samples of a function of their values, less a multiple of the standard deviation
    (`Curves`). The values are those of `predict_samples` without a context: m_s = o_s + b_u + b_i + p_u · q_i
    """
    shape = len(query.users), len(query.items)
    pairs = Pairs(np.repeat(query.users, shape[1]), np.tile(query.items, shape[0]))
    u = (_sample_values(samples._replace(contexts=None), pairs) - curves.starts) / curves.steps  # [b n, S]
    j = np.clip(np.floor(u), 0, curves.values.shape[1] - 1).astype(int)
    powers = ((u - j)[:, :, None]) ** np.arange(4)
    s = np.arange(len(curves.starts))
    score = np.sum(curves.values[s, j] * powers, axis=2).mean(axis=1)
    if curves.squares is not None:
        squares = np.sum(curves.squares[s, j] * powers, axis=2).mean(axis=1)
        score = score - curves.z * np.sqrt(np.maximum(squares - score**2, 0) + curves.variance)
    return select_top(score.reshape(shape), query.length, query.excluded)


def find_top_of_levels(samples: SampleTables, query: TopQuery, levels: LevelScores) -> tuple[Array, Array]:
    """`select_top` of the scores (`LevelScores`) of every user and item of a query; columns are places among its items.

    The values are those of `predict_samples` without a context.
    """
    shape = len(query.users), len(query.items)
    pairs = Pairs(np.repeat(query.users, shape[1]), np.tile(query.items, shape[0]))
    probabilities = predict_levels(samples._replace(contexts=None), pairs, levels.thresholds, levels.noises)
    score = probabilities @ levels.values
    if levels.squares is not None:
        score = score - levels.z * np.sqrt(np.maximum(probabilities @ levels.squares - score**2, 0))
    return select_top(score.reshape(shape), query.length, query.excluded)


def select_top(scores: Array, count: int, excluded: Csr | None) -> tuple[Array, Array]:
    """The columns of the highest scores of every row of [b, n], descending, and these scores; [b, count] each.

    Equal scores are in the order of their columns. Row g leaves out the columns in row g of excluded, which are
    ascending. If fewer than `count` columns are left, or scores are -∞, a row ends in columns -1 with scores -∞.
    """
    left = np.array(scores, np.float64)
    if excluded is not None:
        left[np.repeat(np.arange(len(left)), np.diff(excluded.starts)), excluded.columns] = -np.inf
    padded = np.hstack([left, np.full((len(left), count), -np.inf)])
    columns = np.argsort(-padded, axis=1, kind="stable")[:, :count]
    best = np.take_along_axis(padded, columns, axis=1)
    return np.where(best > -np.inf, columns, -1), best


def epoch(plan: SgdPlan, state: SgdState, step: SgdStep) -> float:
    """One pass of masked SGD over the observed triples, in place; returns the sum of the squared errors e².

    The triples of the plan are visited in its order. Block w of stratum s has the users of band w and the items of band
    (w + s) mod W, and no row is in two bands. So the blocks of a stratum may run in parallel, and a block may run as
    soon as the earlier blocks of its two bands are done, with the same result. Ratings of a block are taken in runs of
    plan.batch; a run reads the rows at its start, and its updates are summed. For a triple (u, i, r) with
    e = r - b_u - b_i - p_u · q_i:

        p_u += η (e q_i - λ p_u)        b_u += η_b (e - λ_b b_u)
        q_i += η (e p_u - λ q_i)        b_i += η_b (e - λ_b b_i)

    with η rate, η_b bias_rate, λ ridge, λ_b bias_ridge of the step; the right-hand sides have the old values of both
    rows.

    A triple of weight w adds w e² to the sum, and its steps are multiplied by m:

        m = w  for w ≤ 1,    m = (1 - (1 - c)^w) / c  for w > 1,    c = min(η (|p_u|² + |q_i|² + λ) + η_b (2 + λ_b), 1)

    c is the part of e that one visit removes, and m c the part that w visits in a row remove: never more than all of
    it. If the step is linear, m = w for every weight, which is quicker, and stable while w c ≤ 1.
    """
    P, Q, user_bias, item_bias = state
    total = 0.0
    for users, items, values, weights, bounds in plan.triples.passes():
        w = np.ones(len(users)) if weights is None else weights.astype(np.float64)
        for low, high in (block for stratum in bounds for block in pairwise(stratum)):
            for start in range(low, high, plan.batch):
                run = slice(start, min(start + plan.batch, high))
                u, i = users[run], items[run]
                p, q, b_u, b_i = P[u], Q[i], user_bias[u], item_bias[i]
                e = values[run] - b_u - b_i - np.sum(p * q, axis=1)
                m = _visits(w[run], np.sum(p * p + q * q, axis=1), step)
                np.add.at(P, u, step.rate * m[:, None] * (e[:, None] * q - step.ridge * p))
                np.add.at(Q, i, step.rate * m[:, None] * (e[:, None] * p - step.ridge * q))
                np.add.at(user_bias, u, step.bias_rate * m * (e - step.bias_ridge * b_u))
                np.add.at(item_bias, i, step.bias_rate * m * (e - step.bias_ridge * b_i))
                total += float(w[run] @ e**2)
    return total


def _visits(w: Array, squares: Array, step: SgdStep) -> Array:
    """m of `epoch` for weights w and |p_u|² + |q_i|² [z]."""
    if step.is_linear:
        return w
    c = np.minimum(step.rate * (squares + step.ridge) + step.bias_rate * (2 + step.bias_ridge), 1)
    return np.where((w <= 1) | (c == 0), w, (1 - (1 - c) ** w) / np.where(c > 0, c, 1))


def solve(
    ratings: Csr, regressors: Regressors, prior: RowPrior, noise_precision: float, normals: Array | None
) -> tuple[Array, Array]:
    """Solve one system per row: its mode, as in ALS, or with normals a Gibbs draw. Returns X [rows, k + 1] and the
    squared error of every row [rows].

    Row g of any table is x_g = (p_g, b_g). It is rated in the entries j of row g of the ratings, each with a row (q, b)
    of the other table and, if there are contexts, a row (a, w) of theirs:

        v_j = b_g + b + w + p_g · q + p_g · a + q · a + noise of precision α ω_j

    so that x_g has the regressor y_j = (q + a, 1) and the target t_j = v_j - b - w - q · a. With the precision Λ_g of
    the prior, Λ or w_g diag(d), and its mean m_g, zero for a shrinkage, α noise_precision, ω the weights of the
    regressors, or 1, times their scales of g, of the other row and of the row of the third table (`row_scales`), and Z
    standard normals [rows, k + 1], or None for the mode:

        A_g = Λ_g + α Σ_j ω_j y_j y_jᵀ = L Lᵀ
        x_g = A_g⁻¹ (Λ_g m_g + α Σ_j ω_j t_j y_j) + L⁻ᵀ z_g        squared error of g: Σ_j ω_j (t_j - x_g · y_j)²

    A row whose system is not positive definite in float32 becomes NaN.
    """
    starts, others, values, _ = ratings
    Y, contexts, C, weights, _ = regressors
    width = Y.shape[1]
    X, squared_errors = np.empty((ratings.n_rows, width)), np.empty(ratings.n_rows)
    omegas = row_scales(ratings, regressors) * (1.0 if weights is None else weights.astype(np.float64))
    for g in range(len(X)):
        row = slice(starts[g], starts[g + 1])
        other = Y[others[row]].astype(np.float64)
        context = np.zeros_like(other) if contexts is None or C is None else C[contexts[row]].astype(np.float64)
        q, a = other[:, :-1], context[:, :-1]
        y = np.column_stack([q + a, np.ones(len(q))])
        t = values[row] - other[:, -1] - context[:, -1] - np.sum(q * a, axis=1)
        omega = omegas[row]
        A = noise_precision * (omega * y.T) @ y
        right = noise_precision * (omega * t) @ y
        if isinstance(prior, GaussianPrior):
            A, right = A + prior.precision, right + prior.precision @ prior.means[g]
        else:
            A = A + prior.weights[g] * np.diag(prior.ridge)
        L = np.linalg.cholesky(A)
        z = normals[g] if normals is not None else np.zeros(width)
        X[g] = np.linalg.solve(L.T, np.linalg.solve(L, right) + z)
        squared_errors[g] = omega @ (t - y @ X[g]) ** 2
    return X, squared_errors


def refine(ratings: Csr, X: Array, regressors: Regressors, prior: Shrinkage, steps: int) -> tuple[Array, Array]:
    """Steps of conjugate gradients from X [rows, k + 1] towards the mode of `solve`.

    The regressors have the other table Y [n, k + 1] and perhaps weights ω, but no contexts and no scales; the prior is
    a shrinkage with weights w and ridge d. With y_j = (q, 1), t_j = v_j - b, the diagonal D_g of
    A_g = w_g diag(d) + Σ_j ω_j y_j y_jᵀ as preconditioner, the residual r = Σ_j ω_j t_j y_j - A_g x, from s = D⁻¹ r:

        x += α s,   r -= α A s,   α = (r · D⁻¹ r) / (s · A s),   then s = D⁻¹ r + β s,   β = new (r · D⁻¹ r) / old

    Returns the new rows and the squared error of every row, Σ_j ω_j (t_j - x_g · y_j)². If the residual of a row is
    zero, the row does not change.

    Hestenes, Stiefel: Methods of conjugate gradients for solving linear systems, 1952; for ALS: Takács, Pilászy, Tikk:
    Applications of the conjugate gradient method for implicit feedback collaborative filtering, RecSys 2011.
    """
    starts, others, values, _ = ratings
    Y, weights = regressors.rows, regressors.weights
    refined, squared_errors = X.astype(np.float64), np.empty(len(X))
    for g, x in enumerate(refined):
        row = slice(starts[g], starts[g + 1])
        other = Y[others[row]].astype(np.float64)
        y = np.column_stack([other[:, :-1], np.ones(len(other))])
        t = values[row] - other[:, -1]
        omega = np.ones(len(t)) if weights is None else weights[row].astype(np.float64)
        A = prior.weights[g] * np.diag(prior.ridge) + (omega * y.T) @ y
        r, D = (omega * t) @ y - A @ x, np.where(np.diag(A) > 0, np.diag(A), np.inf)
        s = r / D
        for _ in range(steps):
            old = r @ (r / D)
            if old == 0:
                break
            alpha = old / (s @ A @ s)
            x += alpha * s
            r -= alpha * A @ s
            s = r / D + (r @ (r / D)) / old * s
        squared_errors[g] = omega @ (t - y @ x) ** 2
    return refined, squared_errors


def multiply(matrix: Csr, X: Array, offsets: Offsets | None = None) -> Array:
    """S X for the sparse matrix S, or for S with entries s_gj - a_g - c_j; [rows, columns of X]."""
    product = np.zeros((matrix.n_rows, X.shape[1]))
    for g in range(len(product)):
        row = slice(matrix.starts[g], matrix.starts[g + 1])
        columns = matrix.columns[row]
        entries = np.ones(len(columns)) if matrix.values is None else matrix.values[row].astype(np.float64)
        if offsets is not None:
            entries = entries - offsets.rows[g] - offsets.columns[columns]
        product[g] = entries @ X[columns]
    return product


def row_scales(ratings: Csr, regressors: Regressors) -> Array:
    """The product of the scales of every entry of every row [z]: of its row, the other row and that of the third table.

    A scale that is not given is 1.
    """
    scales = regressors.scales
    if scales is None:
        return np.ones(len(ratings.columns))
    own = np.repeat(scales.rows.astype(np.float64), np.diff(ratings.starts))
    products: Array = own * scales.others[ratings.columns]
    if scales.contexts is not None and regressors.contexts is not None:
        products = products * scales.contexts[regressors.contexts]
    return products


def row_values(ratings: Csr, X: Array, regressors: Regressors) -> Array:
    """m_j = b_g + b + w + p_g · q + p_g · a + q · a of every entry j of every row g, [z]; rows as in `solve`."""
    rows = np.repeat(np.arange(ratings.n_rows), np.diff(ratings.starts))
    tables = Tables(X, regressors.rows, regressors.context_rows)
    return pair_values(Pairs(rows, ratings.columns, regressors.contexts), tables)


def pair_values(pairs: Pairs, tables: Tables) -> Array:
    """m = b_u + b_i + w + p_u · q_i + p_u · a + q_i · a of pairs [z]; -1 and None mean a row of zeros."""

    def rows(indices: Array | None, table: Array | None) -> Array:
        if indices is None or table is None:
            return np.zeros((len(pairs.users), tables.users.shape[1]))
        return np.where(indices[:, None] >= 0, table[indices], 0.0).astype(np.float64)

    x, y, z = (rows(indices, table) for indices, table in zip(pairs, tables, strict=True))
    p, q, a = x[:, :-1], y[:, :-1], z[:, :-1]
    values: Array = x[:, -1] + y[:, -1] + z[:, -1] + np.sum(p * q + p * a + q * a, axis=1)
    return values


def expected_levels(means: Array, scales: Array | None, thresholds: Array, noise: float, levels: Array) -> Array:
    """Σ_l v_l (Φ((τ_{l+1} - m) / σ) - Φ((τ_l - m) / σ)) of every m [z], with τ_0 = -∞ and τ_{T+1} = ∞.

    scales ω [z], or None for 1: 1/σ² = ω / noise² of each; thresholds τ [T] ascending; levels v [T + 1]
    """
    deviations = noise / np.sqrt(_scales(scales, means))
    below = ndtr((thresholds - means[:, None].astype(np.float64)) / deviations[:, None])
    expected: Array = levels[-1] - below @ np.diff(levels.astype(np.float64))
    return expected


def ordinal_terms(pairs: OrdinalPairs, cuts: Array, slope: float) -> tuple[float, Array, Array]:
    """Log-likelihood of a cumulative probit, its gradient [T + 1] and its negated Hessian [T + 1, T + 1] in (c, κ).

        P(level l | m) = Φ(b) - Φ(a),    a = √ω (c_l - κ m),  b = √ω (c_{l+1} - κ m),  c_0 = -∞, c_{T+1} = ∞

    with levels in 0 to T, cuts c_1 < … < c_T [T], slope κ. With
    A = -φ(a) / P and B = φ(b) / P the derivatives of log P are

        ∂a: A    ∂b: B    ∂a²: a φ(a) / P - A²    ∂b²: -b φ(b) / P - B²    ∂a∂b: -A B
    """
    means, scales, levels = pairs
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    roots = np.sqrt(_scales(scales, means))
    low, high = roots * (edges[levels] - slope * means), roots * (edges[levels + 1] - slope * means)
    log_mass = _log_mass(low, high)
    A, B = (sign * np.exp(_log_density(x) - log_mass) for sign, x in ((-1, low), (1, high)))
    A_a = np.where(np.isfinite(low), -low, 0.0) * A - A**2
    B_b = np.where(np.isfinite(high), -high, 0.0) * B - B**2
    gradient, information = np.zeros(len(cuts) + 1), np.zeros((len(cuts) + 1, len(cuts) + 1))
    for j, level in enumerate(levels):
        first = np.zeros((2, len(cuts) + 1))  # of a and b in (c, κ)
        first[:, -1] = -roots[j] * means[j]
        if level > 0:
            first[0, level - 1] = roots[j]
        if level < len(cuts):
            first[1, level] = roots[j]
        ends = first * [[level > 0], [level < len(cuts)]]
        gradient += np.array([A[j], B[j]]) @ ends
        information -= ends.T @ np.array([[A_a[j], -A[j] * B[j]], [-A[j] * B[j], B_b[j]]]) @ ends
    return float(log_mass.sum()), gradient, information


def draw_latents(pairs: OrdinalPairs, cuts: Array, slope: float, uniforms: Array) -> Array:
    """Latent ratings z_j ~ N(m_j, 1/(κ² ω_j)) cut to their level, c_l < κ z_j < c_{l+1}, by inversion; [z].

    Arguments as in `ordinal_terms`; uniforms [z] in [0, 1) are multiples of 2⁻²⁴, and half a step is added to them.
    """
    means, scales, levels = pairs
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    roots = np.sqrt(_scales(scales, means))
    low, high = roots * (edges[levels] - slope * means), roots * (edges[levels + 1] - slope * means)
    share = uniforms.astype(np.float64) + 2.0**-25
    flipped = low > 0  # to the side where Φ is accurate
    low, high = np.where(flipped, -high, low), np.where(flipped, -low, high)
    share = np.where(flipped, 1 - share, share)
    at_low = ndtr(low)
    x = ndtri(np.clip(at_low + share * (ndtr(high) - at_low), _MIN_PROBABILITY, 1.0))
    latents: Array = means + np.where(flipped, -x, x) / (slope * roots)
    return latents


def _scales(scales: Array | None, means: Array) -> Array:
    return np.ones(len(means)) if scales is None else scales.astype(np.float64)


def _log_density(x: Array) -> Array:
    return np.where(
        np.isfinite(x), -0.5 * np.square(np.where(np.isfinite(x), x, 0.0)) - 0.5 * np.log(2 * np.pi), -np.inf
    )


def _log_mass(low: Array, high: Array) -> Array:
    """log(Φ(high) - Φ(low)), from the side where Φ is accurate."""
    flipped = low > 0
    low, high = np.where(flipped, -high, low), np.where(flipped, -low, high)
    logarithms: Array = np.log(np.maximum(ndtr(high) - ndtr(low), _MIN_PROBABILITY))
    return logarithms


def _noise_factors(samples: SampleTables, pairs: Pairs) -> Array:
    """g_su g_si of every pair and sample, [z, S]."""
    factors = np.ones((len(pairs.users), len(samples.offsets)))
    if samples.noise is None:
        return factors
    users, items, units = samples.noise
    for table, unit, rows in ((users, units[0], pairs.users), (items, units[1], pairs.items)):
        factors = factors * np.where((rows >= 0)[:, None], table[rows] * unit.astype(np.float64), 1.0)
    return factors


def _sample_values(samples: SampleTables, pairs: Pairs) -> Array:
    """m_s of every pair and sample, [z, S]."""

    def rows(table: Array | None, units: Array, indices: Array | None) -> Array:
        if table is None or indices is None or not len(table):
            return np.zeros((len(pairs.users), *samples.users.shape[1:]))
        return np.where((indices >= 0)[:, None, None], table[indices] * units[:, None], 0.0)

    x, y, z = (rows(*of) for of in zip(samples[:3], samples.units, pairs, strict=True))
    p, q, a = (table[:, :, :-1] for table in (x, y, z))
    biases = x[:, :, -1] + y[:, :, -1] + z[:, :, -1]
    values: Array = samples.offsets + biases + np.sum(p * q + p * a + q * a, axis=2)
    return values
