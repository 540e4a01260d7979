"""A multivariate normal distribution of the rows of a matrix, fitted to its observed entries by EM.

    x_i ~ N(μ, Σ),    K = Σ⁻¹

Given its observed entries o, the missing entries m of a row are normal with

    mean  μ_m − K_mm⁻¹ K_mo (x_o − μ_o) = μ_m + Σ_mo Σ_oo⁻¹ (x_o − μ_o),    covariance  K_mm⁻¹

so that a row needs a system of the size of its missing part. With the prior Σ ~ inverse Wishart of scale ν I, EM climbs
to the mode of the posterior, from x̂_i the means and C_i the covariances above (zero where observed) of the rows i:

    μ = Σ_i x̂_i / m,    Σ = (Σ_i [(x̂_i − μ)(x̂_i − μ)ᵀ + C_i] + ν I) / (m + ν)

Columns are expected in standard units. The ridge ν decides how far correlations are shrunk towards zero.

Dempster, Laird, Rubin: Maximum likelihood from incomplete data via the EM algorithm, JRSS B 39, 1977. Schneider:
Analysis of incomplete climate data: regularized EM, Journal of Climate 14, 2001.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_mf.completion.patterns import F64, Fill, Stack, run_until_settled, stacks

RIDGES = (10.0, 3.0, 1.0, 0.3)
"""Values of ν, in the order in which they are tried: each starts from the one before."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(μ, Σ) of rows: mean [n], covariance [n, n] positive definite; ridge ν that it was fitted with."""

    mean: F64
    covariance: F64
    ridge: float = 0.0

    @property
    def rank(self) -> None:
        """None: the covariance is not restricted to a number of factors."""
        return None

    def fill(self, X: F64) -> Fill:
        """Conditional means and variances of the missing entries of X [m, n]."""
        fill, _ = self._expect(X, stacks(np.isnan(X)))
        return fill

    def refitted(self, X: F64, *, tolerance: float) -> Gaussian:
        """The same ridge fitted to other rows X [m, n], starting from this distribution."""
        return fit_gaussian(X, self.ridge, start=self, tolerance=tolerance)

    def updated(self, X: F64, patterns: Sequence[Stack], ridge: float) -> tuple[Gaussian, F64]:
        """One step of EM, and the means [m, n] it started from."""
        (means, _), scatter = self._expect(X, patterns)
        m, n = X.shape
        mean = means.mean(axis=0)
        centred = means - mean
        covariance = (centred.T @ centred + scatter + ridge * np.eye(n)) / (m + ridge)
        return Gaussian(mean, covariance, ridge), means

    def leave_one_out(self, means: F64, missing: NDArray[np.bool_]) -> F64:
        """Per observed entry, how far it lies above its mean given the other observed entries of its row.

        means : of `fill` [m, n]
        With P = Σ_oo⁻¹ of a row it is (P (x_o − μ_o))_j / P_jj, where P (x_o − μ_o) = (K (x̂ − μ))_o and
        P_jj = K_jj − K_jm K_mm⁻¹ K_mj. Zero where missing.
        """
        K = np.linalg.inv(self.covariance)
        precisions = np.tile(np.diag(K), (len(means), 1))
        for rows, columns in stacks(missing):
            K_m = K[columns]  # [g, q, n]
            K_mm = np.take_along_axis(K_m, columns[:, None, :], axis=2)
            precisions[rows] -= (K_m * np.linalg.solve(K_mm, K_m)).sum(axis=1)
        residuals = (means - self.mean) @ K / np.where(missing, 1.0, precisions)
        return np.where(missing, 0.0, residuals)

    def _expect(self, X: F64, patterns: Iterable[Stack]) -> tuple[Fill, F64]:
        """The fill of X, and Σ_i C_i [n, n]."""
        missing = np.isnan(X)
        K = np.linalg.inv(self.covariance)
        n = X.shape[1]
        offsets = np.where(missing, 0.0, X - self.mean)
        pulls = offsets @ K
        means, variances, scatter = X.copy(), np.zeros_like(X), np.zeros(n * n)
        for rows, columns in patterns:
            at = rows[:, None], columns
            places = columns[:, :, None] * n + columns[:, None, :]
            C = np.linalg.inv(K.ravel().take(places))  # [g, q, q]
            means[at] = self.mean[columns] - (C @ pulls[at][:, :, None])[:, :, 0]
            variances[at] = np.diagonal(C, axis1=1, axis2=2)
            scatter += np.bincount(places.ravel(), C.ravel(), n * n)
        return Fill(means, variances), scatter.reshape(n, n)


def gaussian_path(X: F64, *, tolerance: float, ridges: tuple[float, ...] = RIDGES) -> Iterator[Gaussian]:
    """The normal distribution of the rows X [m, n], NaN where missing, for one ridge after another."""
    model = Gaussian(np.zeros(X.shape[1]), np.eye(X.shape[1]))
    for ridge in ridges:
        model = fit_gaussian(X, ridge, start=model, tolerance=tolerance)
        yield model


def fit_gaussian(X: F64, ridge: float, *, start: Gaussian, tolerance: float = 1e-3) -> Gaussian:
    """EM until the root mean square change of the filled entries falls below the tolerance."""
    missing = np.isnan(X)
    patterns = list(stacks(missing))
    return run_until_settled(lambda model: model.updated(X, patterns, ridge), start, missing, tolerance)
