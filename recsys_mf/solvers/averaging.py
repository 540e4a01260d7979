"""Averages of factorisations, model by model, at a rank that stays.

    mean of the models s = μ + b_u + b_i + [Σ_s p_u^(s) · q_i^(s) / S]_k

Means and biases are averaged exactly. The mean of the products has rank S k; [·]_k is its truncated SVD, kept up as
models come, so that memory stays at a few of them.

Brand: Fast low-rank modifications of the thin singular value decomposition, Linear Algebra and its Applications
415(1), 2006.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_mf.models.factorization import Factorization

Matrix = NDArray[np.float64]
Factors = tuple[NDArray[np.float32], NDArray[np.float32]]

_ROUNDING = 1e-13  # of the largest eigenvalue of a Gram matrix in float64


def merged(average: Factorization, member: Factorization, number: int, rank: int) -> Factorization:
    """The average of number - 1 models with one more, at a rank."""
    old, new = (number - 1) / number, 1 / number
    P, Q = merged_products(
        (average.user_factors, average.item_factors), (member.user_factors, member.item_factors), number, rank
    )
    return Factorization(
        old * average.mean + new * member.mean,
        (old * average.user_bias + new * member.user_bias).astype(np.float32),
        (old * average.item_bias + new * member.item_bias).astype(np.float32),
        P,
        Q,
        member.rating_range,
    )


def merged_products(average: Factors, member: Factors, number: int, rank: int) -> Factors:
    """Factors of that rank of the mean of number - 1 products P Qᵀ with one more."""
    old, new = np.sqrt((number - 1) / number), np.sqrt(1 / number)
    P, Q = (np.hstack([a * old, b * new], dtype=np.float64) for a, b in zip(average, member, strict=True))
    P, Q = cut(P, Q, rank)
    return P.astype(np.float32), Q.astype(np.float32)


def cut(P: Matrix, Q: Matrix, rank: int) -> tuple[Matrix, Matrix]:
    """The truncated SVD of P Qᵀ as factors of that rank: [m, rank] and [n, rank], without forming the product.

    With PᵀP = V diag(σ²) Vᵀ, P = A R for R = diag(σ) Vᵀ and the orthonormal A = P V diag(1/σ); in the same way Q = B S.
    So P Qᵀ = A (R Sᵀ) Bᵀ, and the SVD of the small core R Sᵀ is all there is to do.
    """
    (R, to_A), (S, to_B) = _rooted(P), _rooted(Q)
    W, singular, Zt = np.linalg.svd(R @ S.T)
    k = min(rank, len(singular))
    root = np.sqrt(singular[:k])
    cut_P, cut_Q = np.zeros((len(P), rank)), np.zeros((len(Q), rank))  # a product of lower rank leaves columns zero
    cut_P[:, :k], cut_Q[:, :k] = P @ (to_A @ (W[:, :k] * root)), Q @ (to_B @ (Zt[:k].T * root))
    return cut_P, cut_Q


def _rooted(X: Matrix) -> tuple[Matrix, Matrix]:
    """R [r, k] and T [k, r] with X = (X T) R and orthonormal X T, r the rank of X to within rounding."""
    squares, V = np.linalg.eigh(X.T @ X)
    there = squares > _ROUNDING * squares[-1]
    sigma, V = np.sqrt(squares[there]), V[:, there]
    return sigma[:, None] * V.T, V / sigma
