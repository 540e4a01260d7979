"""Factor analysis of the rows of a matrix, fitted to its observed entries by EM.

    x_i = μ + W z_i + ε_i,    z_i ~ N(0, I) in k dimensions,    ε_i ~ N(0, diag ψ)

A covariance W Wᵀ + diag ψ needs far fewer rows than a free one, and a row costs a system of size k. Given its
observed entries o,

    C_i = (I + W_oᵀ diag(ψ_o)⁻¹ W_o)⁻¹,    z̄_i = C_i W_oᵀ diag(ψ_o)⁻¹ (x_o − μ_o)
    x_ij has mean μ_j + w_j · z̄_i and variance ψ_j + w_jᵀ C_i w_j

EM then regresses every column on the factors over the rows where it is observed, with the prior w_j ~ N(0, ψ_j I):

    (Σ_i E[z̃_i z̃_iᵀ] + I₀) (w_j, μ_j) = Σ_i x_ij E[z̃_i],    z̃ = (z, 1),    I₀ = diag(1, …, 1, 0)

and rotates W such that the factors have the covariance I again (parameter expansion, Liu, Rubin and Wu 1998). ψ_j has
an inverse gamma prior worth two rows of variance 0.1.

Rubin, Thayer: EM algorithms for ML factor analysis, Psychometrika 47, 1982. Ilin, Raiko: Practical approaches to
principal component analysis in the presence of missing values, JMLR 11, 2010.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys_mf.completion.patterns import F64, Fill, run_until_settled

RANKS = (1, 2, 3, 5, 8, 12, 18, 27, 40, 60)
"""Numbers of factors, in the order in which they are tried."""

_PRIOR_ROWS, _PRIOR_VARIANCE, _LEAST_VARIANCE = 2.0, 0.1, 1e-6


@dataclass(frozen=True, eq=False)
class Factors:
    """x = μ + W z + ε: mean [n], loadings W [n, k], noise ψ [n] > 0."""

    mean: F64
    loadings: F64
    noise: F64

    @property
    def rank(self) -> int:
        """Number of factors k."""
        return int(self.loadings.shape[1])

    def fill(self, X: F64) -> Fill:
        """Conditional means and variances of the missing entries of X [m, n]."""
        missing = np.isnan(X)
        scores, C = self.scores(X)
        means = self.mean + scores @ self.loadings.T
        k = self.rank
        squares = _products(self.loadings).reshape(len(self.loadings), k * k)  # [n, k²]
        variances = self.noise + C.reshape(len(X), k * k) @ squares.T
        return Fill(np.where(missing, means, X), np.where(missing, variances, 0.0))

    def refitted(self, X: F64, *, tolerance: float) -> Factors:
        """The same number of factors fitted to other rows X [m, n], starting from these."""
        return fit_factors(X, start=self, tolerance=tolerance)

    def scores(self, X: F64) -> tuple[F64, F64]:
        """Means [m, k] and covariances [m, k, k] of the factors, given the observed entries of X [m, n]."""
        observed = ~np.isnan(X)
        weighted = self.loadings / self.noise[:, None]
        k = self.rank
        squares = (weighted[:, :, None] * self.loadings[:, None, :]).reshape(len(weighted), k * k)
        C = np.linalg.inv(np.eye(k) + (observed.astype(np.float64) @ squares).reshape(len(X), k, k))
        pulls = np.where(observed, X - self.mean, 0.0) @ weighted
        return (C @ pulls[:, :, None])[:, :, 0], C

    def updated(self, X: F64) -> tuple[Factors, F64]:
        """One step of EM, and the conditional means of all entries [m, n] it started from."""
        observed, values = ~np.isnan(X), np.nan_to_num(X)
        scores, C = self.scores(X)
        means = self.mean + scores @ self.loadings.T
        m, k = scores.shape
        regressors = np.column_stack([scores, np.ones(m)])
        moments = _products(regressors)  # [m, k + 1, k + 1]
        moments[:, :k, :k] += C
        weights = observed.astype(np.float64)
        systems = (weights.T @ moments.reshape(m, -1)).reshape(-1, k + 1, k + 1)  # one per column
        prior = np.diag([1.0] * k + [0.0])
        sides = values.T @ regressors
        B = np.linalg.solve(systems + prior, sides[:, :, None])[:, :, 0]  # [n, k + 1]
        errors = (values**2).sum(axis=0) - 2 * (B * sides).sum(axis=1) + (B * (systems @ B[:, :, None])[:, :, 0]).sum(1)
        noise = (errors + _PRIOR_ROWS * _PRIOR_VARIANCE) / (weights.sum(axis=0) + _PRIOR_ROWS)
        rotation = np.linalg.cholesky(moments[:, :k, :k].mean(axis=0))
        return Factors(B[:, k], B[:, :k] @ rotation, np.maximum(noise, _LEAST_VARIANCE)), means


def factors_path(X: F64, *, tolerance: float, ranks: tuple[int, ...] = RANKS) -> Iterator[Factors]:
    """The factors of the rows X [m, n], NaN where missing, for one rank after another.

    Each starts from the loadings of the one before and the leading directions of its residuals.
    """
    model = Factors(np.zeros(X.shape[1]), np.zeros((X.shape[1], 0)), np.ones(X.shape[1]))
    for rank in ranks:
        model = fit_factors(X, start=_widened(model, X, rank), tolerance=tolerance)
        yield model


def fit_factors(X: F64, *, start: Factors, tolerance: float = 1e-3) -> Factors:
    """EM until the root mean square change of the means of the missing entries falls below the tolerance."""
    return run_until_settled(lambda model: model.updated(X), start, np.isnan(X), tolerance)


def _widened(model: Factors, X: F64, rank: int) -> Factors:
    """The model with more factors, up to this rank."""
    scores, _ = model.scores(X)
    residuals = np.where(np.isnan(X), 0.0, X - model.mean - scores @ model.loadings.T)
    _, sizes, directions = np.linalg.svd(residuals, full_matrices=False)
    new = rank - model.rank
    added = directions[:new].T * (sizes[:new] / np.sqrt(len(X)))
    return Factors(model.mean, np.column_stack([model.loadings, added]), model.noise)


def _products(rows: F64) -> F64:
    """r rᵀ of every row r."""
    return rows[:, :, None] * rows[:, None, :]
