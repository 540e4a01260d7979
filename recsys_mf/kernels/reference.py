"""The kernels in float64 NumPy, as plainly as the equations: the specification the other backends are held to.

Every backend has these operations under these names with these arguments; nothing has a default, draws a
random number or offers a choice. m users, n items, k rank, z ratings. The oracle test compares results.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Array = NDArray[Any]


def predict(
    mean: float, user_bias: Array, item_bias: Array, P: Array, Q: Array, users: Array, items: Array,
    rating_range: tuple[float, float],
) -> Array:  # fmt: skip
    """r̂_ui = clip(μ + b_u + b_i + p_u · q_i), where an index of -1 contributes b = 0 and a zero factor.

    user_bias [m], item_bias [n], P [m, k], Q [n, k]; users, items int32[z] -> [z]
    """
    known_user, known_item = users >= 0, items >= 0
    b_u = np.where(known_user, user_bias[users], 0.0)
    b_i = np.where(known_item, item_bias[items], 0.0)
    interaction = np.where(known_user & known_item, np.sum(P[users] * Q[items], axis=1, dtype=np.float64), 0.0)
    return np.clip(mean + b_u + b_i + interaction, *rating_range)


def predict_samples(
    mean: float, deviation: float, users: Array, items: Array, contexts: Array, scales: Array, offsets: Array,
    u: Array, i: Array, c: Array, rating_range: tuple[float, float],
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Of r_s = μ + σ (o_s + b_u + b_i + w_c + p_u · q_i + p_u · a_c + q_i · a_c) over the samples s: the mean of
    clip(r_s), the mean of r_s and its variance, [z] each.

    users [m, S, k + 1], items [n, S, k + 1], contexts [C, S, k + 1] : rows (factors, bias) of every sample, as
        integers in units of scales[0, s], scales[1, s] and scales[2, s]
    u, i, c int32[z] : indices, -1 for a row of zeros; c [0] for -1 throughout
    """

    values = _sampled(mean, deviation, users, items, contexts, scales, offsets, u, i, c)
    return np.clip(values, *rating_range).mean(axis=1), values.mean(axis=1), values.var(axis=1)


def sgd_epoch(
    users: Array, items: Array, values: Array, bounds: Array, batch: int,
    P: Array, Q: Array, user_bias: Array, item_bias: Array,
    rate: float, bias_rate: float, ridge: float, bias_ridge: float, seed: int,
) -> float:  # fmt: skip
    """One pass of masked SGD over the observed triples, in place; returns the summed squared error met.

    users, items int32[z], values [z] : triples in the order they are visited; values less the mean
    bounds : int64[S, W + 1]; block w of stratum s is the triples bounds[s, w]:bounds[s, w + 1]. Its users are those
        of band w, its items those of band (w + s) mod W, and bands share none: so the blocks of a stratum may run at
        the same time, and a block as soon as those before it in its two bands are done, with the same result.
    batch : ratings of a block are taken in runs of this many; a run reads the values at its start, its
        updates are summed
    P [m, k], Q [n, k], user_bias [m], item_bias [n] : updated in place
    seed : of the noise with which a backend rounds factors that it stores in fewer bits

    For a triple (u, i, r) with e = r - b_u - b_i - p_u · q_i:

        p_u += η (e q_i - λ p_u)        b_u += η_b (e - λ_b b_u)
        q_i += η (e p_u - λ q_i)        b_i += η_b (e - λ_b b_i)

    with η rate, η_b bias_rate, λ ridge, λ_b bias_ridge; both rows from their old values.
    """
    total = 0.0
    for stratum in bounds:
        for low, high in pairwise(stratum):
            for start in range(low, high, batch):
                run = slice(start, min(start + batch, high))
                u, i = users[run], items[run]
                p, q, b_u, b_i = P[u], Q[i], user_bias[u], item_bias[i]
                e = values[run] - b_u - b_i - np.sum(p * q, axis=1)
                np.add.at(P, u, rate * (e[:, None] * q - ridge * p))
                np.add.at(Q, i, rate * (e[:, None] * p - ridge * q))
                np.add.at(user_bias, u, bias_rate * (e - bias_ridge * b_u))
                np.add.at(item_bias, i, bias_rate * (e - bias_ridge * b_i))
                total += float(e @ e)
    return total


def solve_rows(
    starts: Array, others: Array, contexts: Array, values: Array, Y: Array, C: Array,
    prior_precision: Array, prior_means: Array, weights: Array, ridge: Array,
    noise_precision: float, normals: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """Solve one system per row, the mode of ALS or with normals a Gibbs draw; returns X [rows, k + 1] and the squared
    error of every row [rows].

    A row (p, b) of any table is k factors and a bias. Row g is rated in the pairs j in starts[g]:starts[g + 1], each
    with a row (q, b) of the other table and, where there are contexts, a row (a, w) of theirs:

        v_j = b_g + b + w + p_g · q + p_g · a + q · a + noise of precision α

    so that x_g = (p_g, b_g) has the regressor y_j = (q + a, 1) and the target t_j = v_j - b - w - q · a.

    starts int64[rows + 1], others int32[z], values [z]; Y [n, k + 1] : the other table
    contexts int32[z], C [c, k + 1] : the context table; contexts [0] where there are none
    prior_precision Λ [k + 1, k + 1] : of the Gaussian prior, shared by the rows; prior_means M [rows, k + 1]
    weights w [rows], ridge d [k + 1] : row g has the additional prior precision w_g diag(d) about zero
    noise_precision α; normals Z : standard normals [rows, k + 1], or [0, k + 1] for the mode

        A_g = Λ + w_g diag(d) + α Σ_j y_j y_jᵀ = L Lᵀ
        x_g = A_g⁻¹ (Λ m_g + α Σ_j t_j y_j) + L⁻ᵀ z_g        squared error of g: Σ_j (t_j - x_g · y_j)²

    A row whose system is not positive definite in float32 comes back as NaN.
    """
    X = np.empty((len(starts) - 1, Y.shape[1]))
    squared_errors = np.empty(len(X))
    for g in range(len(X)):
        row = slice(starts[g], starts[g + 1])
        other = Y[others[row]].astype(np.float64)
        context = C[contexts[row]].astype(np.float64) if len(contexts) else np.zeros_like(other)
        q, a = other[:, :-1], context[:, :-1]
        y = np.column_stack([q + a, np.ones(len(q))])
        t = values[row] - other[:, -1] - context[:, -1] - np.sum(q * a, axis=1)
        A = prior_precision + weights[g] * np.diag(ridge) + noise_precision * y.T @ y
        L = np.linalg.cholesky(A)
        right = prior_precision @ prior_means[g] + noise_precision * t @ y
        z = normals[g] if len(normals) else np.zeros(Y.shape[1])
        X[g] = np.linalg.solve(L.T, np.linalg.solve(L, right) + z)
        squared_errors[g] = np.sum((t - y @ X[g]) ** 2)
    return X, squared_errors


def refine_rows(
    starts: Array, others: Array, values: Array, X: Array, Y: Array, weights: Array, ridge: Array, steps: int
) -> tuple[Array, Array]:
    """Steps of conjugate gradients from X [rows, k + 1] towards the mode of `solve_rows` without contexts and prior.

    With y_j = (q, 1), t_j = v_j - b, the diagonal D_g of A_g = w_g diag(d) + Σ_j y_j y_jᵀ as preconditioner, and the
    residual r = Σ_j t_j y_j - A_g x, from s = D⁻¹ r:

        x += α s,   r -= α A s,   α = (r · D⁻¹ r) / (s · A s),   then s = D⁻¹ r + β s,   β = new (r · D⁻¹ r) / old

    Returns the new rows and the squared error of every row, Σ_j (t_j - x_g · y_j)². A row whose residual is zero stays.

    Hestenes, Stiefel: Methods of conjugate gradients for solving linear systems, 1952; for ALS: Takács, Pilászy, Tikk:
    Applications of the conjugate gradient method for implicit feedback collaborative filtering, RecSys 2011.
    """
    refined, squared_errors = X.astype(np.float64), np.empty(len(X))
    for g, x in enumerate(refined):
        row = slice(starts[g], starts[g + 1])
        other = Y[others[row]].astype(np.float64)
        y = np.column_stack([other[:, :-1], np.ones(len(other))])
        t = values[row] - other[:, -1]
        A = weights[g] * np.diag(ridge) + y.T @ y
        r, D = t @ y - A @ x, np.where(np.diag(A) > 0, np.diag(A), np.inf)
        s = r / D
        for _ in range(steps):
            old = r @ (r / D)
            if old == 0:
                break
            alpha = old / (s @ A @ s)
            x += alpha * s
            r -= alpha * A @ s
            s = r / D + (r @ (r / D)) / old * s
        squared_errors[g] = np.sum((t - y @ x) ** 2)
    return refined, squared_errors


def sparse_product(starts: Array, others: Array, values: Array, X: Array) -> Array:
    """S X for the sparse S with S[g, others[j]] = values[j], or 1 where values is [0]; [rows, k].

    j runs over starts[g]:starts[g + 1].
    """
    product = np.zeros((len(starts) - 1, X.shape[1]))
    for g in range(len(product)):
        row = slice(starts[g], starts[g + 1])
        entries = values[row].astype(np.float64) if len(values) else np.ones(len(others[row]))
        product[g] = entries @ X[others[row]]
    return product


def pair_means(starts: Array, others: Array, contexts: Array, X: Array, Y: Array, C: Array) -> Array:
    """m_j = b_g + b + w + p_g · q + p_g · a + q · a of every pair j of every row g, [z]; rows as in `solve_rows`."""
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return pair_values(rows, others, contexts, X, Y, C)


def pair_values(users: Array, items: Array, contexts: Array, X: Array, Y: Array, C: Array) -> Array:
    """m = b_u + b_i + w + p_u · q_i + p_u · a + q_i · a of pairs of indices, [z]; -1 stands for a row of zeros.

    users, items, contexts int32[z] : rows of X [m, k + 1], Y [n, k + 1] and C [c, k + 1]; contexts [0] where none
    """
    x, y = (
        np.where(rows[:, None] >= 0, table[rows], 0.0).astype(np.float64) for rows, table in ((users, X), (items, Y))
    )
    z = np.where(contexts[:, None] >= 0, C[contexts], 0.0).astype(np.float64) if len(contexts) else np.zeros_like(x)
    p, q, a = x[:, :-1], y[:, :-1], z[:, :-1]
    values: Array = x[:, -1] + y[:, -1] + z[:, -1] + np.sum(p * q + p * a + q * a, axis=1)
    return values


def expected_levels(means: Array, thresholds: Array, noise: float, levels: Array) -> Array:
    """Σ_l v_l (Φ((τ_{l+1} - m) / σ) - Φ((τ_l - m) / σ)) of every m [z], with τ_0 = -∞ and τ_{T+1} = ∞.

    thresholds τ [T] ascending, noise σ, levels v [T + 1]
    """
    below = ndtr((thresholds - means[:, None].astype(np.float64)) / noise)
    expected: Array = levels[-1] - below @ np.diff(levels.astype(np.float64))
    return expected


def ordinal_terms(means: Array, levels: Array, cuts: Array, slope: float) -> tuple[float, Array, Array]:
    """Log-likelihood of a cumulative probit, its gradient [T + 1] and its negated Hessian [T + 1, T + 1] in (c, κ).

        P(level l | m) = Φ(b) - Φ(a),    a = c_l - κ m,  b = c_{l+1} - κ m,  c_0 = -∞, c_{T+1} = ∞

    means m [z], levels uint8[z] in 0 to T, cuts c_1 < … < c_T [T], slope κ. With A = -φ(a) / P and B = φ(b) / P the
    derivatives of log P are

        ∂a: A    ∂b: B    ∂a²: a φ(a) / P - A²    ∂b²: -b φ(b) / P - B²    ∂a∂b: -A B
    """
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    low, high = edges[levels] - slope * means, edges[levels + 1] - slope * means
    log_mass = _log_mass(low, high)
    A, B = (sign * np.exp(_log_density(x) - log_mass) for sign, x in ((-1, low), (1, high)))
    A_a = np.where(np.isfinite(low), -low, 0.0) * A - A**2
    B_b = np.where(np.isfinite(high), -high, 0.0) * B - B**2
    gradient, information = np.zeros(len(cuts) + 1), np.zeros((len(cuts) + 1, len(cuts) + 1))
    for j, level in enumerate(levels):
        first = np.zeros((2, len(cuts) + 1))  # of a and b in (c, κ)
        first[:, -1] = -means[j]
        if level > 0:
            first[0, level - 1] = 1
        if level < len(cuts):
            first[1, level] = 1
        ends = first * [[level > 0], [level < len(cuts)]]
        gradient += np.array([A[j], B[j]]) @ ends
        information -= ends.T @ np.array([[A_a[j], -A[j] * B[j]], [-A[j] * B[j], B_b[j]]]) @ ends
    return float(log_mass.sum()), gradient, information


def drawn_latents(means: Array, levels: Array, cuts: Array, slope: float, uniforms: Array) -> Array:
    """Latent ratings z_j ~ N(m_j, 1/κ²) cut to their level, c_l < κ z_j < c_{l+1}, by inversion; [z].

    Arguments as in `ordinal_terms`; uniforms [z] in [0, 1) are multiples of 2⁻²⁴, and half a step is added to them.
    """
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    low, high = edges[levels] - slope * means, edges[levels + 1] - slope * means
    share = uniforms.astype(np.float64) + 2.0**-25
    flipped = low > 0  # to the side where Φ is accurate
    low, high = np.where(flipped, -high, low), np.where(flipped, -low, high)
    share = np.where(flipped, 1 - share, share)
    at_low = ndtr(low)
    x = ndtri(np.clip(at_low + share * (ndtr(high) - at_low), _LEAST, 1.0))
    latents: Array = means + np.where(flipped, -x, x) / slope
    return latents


def predict_levels(
    users: Array, items: Array, contexts: Array, scales: Array, offsets: Array, thresholds: Array, noises: Array,
    u: Array, i: Array, c: Array,
) -> Array:  # fmt: skip
    """Mean over samples s of P_s(level l) = Φ((τ_{l+1} - m_s) / σ_s) - Φ((τ_l - m_s) / σ_s), [z, T + 1].

    m_s = o_s + b_u + b_i + w_c + p_u · q_i + p_u · a_c + q_i · a_c, with arguments as in `predict_samples`;
    thresholds τ [S, T] ascending, noises σ [S]
    """
    values = _sampled(0.0, 1.0, users, items, contexts, scales, offsets, u, i, c)
    below = ndtr((thresholds - values[:, :, None]) / noises[:, None])  # [z, S, T]
    edges = np.concatenate([np.zeros_like(below[:, :, :1]), below, np.ones_like(below[:, :, :1])], axis=2)
    probabilities: Array = np.diff(edges, axis=2).mean(axis=1)
    return probabilities


_LEAST = 1e-300


def _log_density(x: Array) -> Array:
    return np.where(
        np.isfinite(x), -0.5 * np.square(np.where(np.isfinite(x), x, 0.0)) - 0.5 * np.log(2 * np.pi), -np.inf
    )


def _log_mass(low: Array, high: Array) -> Array:
    """log(Φ(high) - Φ(low)), from the side where Φ is accurate."""
    flipped = low > 0
    low, high = np.where(flipped, -high, low), np.where(flipped, -low, high)
    logarithms: Array = np.log(np.maximum(ndtr(high) - ndtr(low), _LEAST))
    return logarithms


def _sampled(
    mean: float, deviation: float, users: Array, items: Array, contexts: Array, scales: Array, offsets: Array,
    u: Array, i: Array, c: Array,
) -> Array:  # fmt: skip
    """μ + σ (o_s + b_u + b_i + w_c + p_u · q_i + p_u · a_c + q_i · a_c) of every pair and sample, [z, S]."""

    def rows(table: Array, scale: Array, indices: Array) -> Array:
        known = (indices >= 0)[:, None, None]
        return np.where(known, table[indices] * scale[:, None], 0.0) if len(table) else np.zeros(1)

    x, y = rows(users, scales[0], u), rows(items, scales[1], i)
    z = rows(contexts, scales[2], c) if len(c) else np.zeros_like(x)
    p, q, a = (table[:, :, :-1] for table in (x, y, z))
    biases = x[:, :, -1] + y[:, :, -1] + z[:, :, -1]
    values: Array = mean + deviation * (offsets + biases + np.sum(p * q + p * a + q * a, axis=2))
    return values
