"""SoftImpute: the matrix of least nuclear norm that is near the observed entries, for a falling series of λ.

    minimise  ½ Σ_observed (x_ij − z_ij)² + λ ‖Z‖_*

Z is a solution if and only if Z = S_λ(P(X) + P⊥(Z)), where P(X) + P⊥(Z) is the matrix filled with Z, and S_λ subtracts
λ from its singular values (those below λ become 0). λ₀ = ‖P(X)‖₂ is the smallest λ with Z = 0.

With Z = A Bᵀ of enough columns, λ ‖Z‖_* is the minimum of λ/2 (‖A‖² + ‖B‖²), so that the problem is solved by ridge
regressions of the filled matrix X* = P(X) + P⊥(A Bᵀ) on one side after the other (rank-restricted SoftImpute-ALS):

    B = X*ᵀ A (AᵀA + λ I)⁻¹,    A = X* B (BᵀB + λ I)⁻¹

In between, A and B are rotated such that AᵀA = BᵀB is diagonal. Given B, row i of A is the mean of the factors in a
factor analysis with noise λ; so the solution becomes a model of rows (`Factors`), which also fills other rows.

Mazumder, Hastie, Tibshirani: Spectral regularization algorithms for learning large incomplete matrices, JMLR 11, 2010.
Hastie, Mazumder, Lee, Zadeh: Matrix completion and low-rank SVD via fast alternating least squares, JMLR 16, 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_mf.completion.factor_analysis import Factors
from recsys_mf.completion.patterns import F64, rms

SHARES = (0.5, 0.3, 0.18, 0.1, 0.06, 0.03)
"""Values of λ / λ₀, in the order in which they are tried: each starts from the one before."""

_LEAST_VARIANCE = 1e-6
_SPARE = 2  # columns beyond the rank, so that it can grow


@dataclass(frozen=True, eq=False)
class SoftImpute(Factors):
    """A solution as a factor analysis (`_row_model`); share is λ / λ₀."""

    share: float

    def refitted(self, X: F64, *, tolerance: float) -> SoftImpute:
        """The solution for the same share of λ₀ and other rows X [m, n], starting from this one."""
        return _row_model(X, self.loadings, self.share, tolerance)


def soft_impute_path(X: F64, *, tolerance: float, shares: tuple[float, ...] = SHARES) -> Iterator[SoftImpute]:
    """Solutions for X [m, n], NaN where missing, in standard units, for one λ after another, as models of rows."""
    B: F64 = np.zeros((X.shape[1], 0))
    for share in shares:
        model = _row_model(X, B, share, tolerance)
        B = model.loadings
        yield model


def _row_model(X: F64, start: F64, share: float, tolerance: float) -> SoftImpute:
    """The solution as a factor analysis, with the variance σ² of its residuals on the observed entries as noise.

    Factors W = σ/√λ B with noise σ² have the same means as B with noise λ.
    """
    n = X.shape[1]
    penalty = max(share * float(np.linalg.norm(np.nan_to_num(X), 2)), _LEAST_VARIANCE)
    B = soft_impute(X, penalty, start=start, tolerance=tolerance)
    scores, _ = Factors(np.zeros(n), B, np.full(n, penalty)).scores(X)
    variance = max(rms((X - scores @ B.T)[~np.isnan(X)]) ** 2, _LEAST_VARIANCE)
    return SoftImpute(np.zeros(n), B * np.sqrt(variance / penalty), np.full(n, variance), share)


def soft_impute(X: F64, penalty: float, *, start: F64, tolerance: float = 1e-3, most_steps: int = 50) -> F64:
    """B [n, r] of the solution A Bᵀ for λ = penalty > 0; r is the rank of the solution, and BᵀB is diagonal.

    start : loadings of another solution, or [n, 0]
    Steps of ALS have the width of the last thresholded decomposition and a little more; while the next one has a higher
    rank than that, they are repeated.
    """
    missing = np.isnan(X)
    Z: F64 = _ridge(np.where(missing, 0.0, X), start, penalty) @ start.T
    while True:
        B, sizes = _thresholded(np.where(missing, Z, X), penalty, spare=_SPARE)
        Z = _alternated(X, missing, B, penalty, tolerance, most_steps)
        B, sizes_after = _thresholded(np.where(missing, Z, X), penalty)
        if len(sizes_after) <= len(sizes):
            return B


def _alternated(X: F64, missing: NDArray[np.bool_], B: F64, penalty: float, tolerance: float, most_steps: int) -> F64:
    """Z [m, n] after steps of ALS from B until the root mean square change of its missing entries is below the
    tolerance."""
    A: F64 = _ridge(np.where(missing, 0.0, X), B, penalty)
    Z: F64 = A @ B.T
    before: F64 | None = None
    for _ in range(most_steps):
        V = _balanced(A, _ridge(np.where(missing, Z, X).T, A, penalty))
        A = _ridge(np.where(missing, Z, X), V, penalty)
        Z = A @ V.T
        filled = Z[missing]
        if before is not None and rms(filled - before) < tolerance:
            break
        before = filled
    return Z


def _ridge(X: F64, B: F64, penalty: float) -> F64:
    """X B (BᵀB + λ I)⁻¹."""
    solved: F64 = np.linalg.solve(B.T @ B + penalty * np.eye(B.shape[1]), (X @ B).T).T
    return solved


def _balanced(A: F64, B: F64) -> F64:
    """V D^½ of A Bᵀ = U D Vᵀ, from the decompositions of the narrow A [m, r] and B [n, r]."""
    (_, R_a), (Q_b, R_b) = np.linalg.qr(A), np.linalg.qr(B)
    _, sizes, Vt = np.linalg.svd(R_a @ R_b.T)
    balanced: F64 = (Q_b @ Vt.T) * np.sqrt(sizes)
    return balanced


def _thresholded(X: F64, penalty: float, *, spare: int = 0) -> tuple[F64, F64]:
    """V D^½ [n, r + spare] of S_λ(X) = U D Vᵀ, and its r + spare sizes D; the spare ones are small instead of 0."""
    _, sizes, Vt = np.linalg.svd(X, full_matrices=False)
    width = int((sizes > penalty).sum()) + spare
    left = np.maximum(sizes[:width] - penalty, 1e-3 * penalty)
    return Vt[:width].T * np.sqrt(left), left
