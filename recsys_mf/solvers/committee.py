"""Committees: the mean of independent runs of a solver, cut back to a plain factorisation.

    r̂_ui = μ + b_u + b_i + [Σ_s p_u^(s) · q_i^(s) / S]_k

The S members differ in their random draws alone. Each has an error of its own beside the one they share, and the
mean has S times less variance of the former: so a member is trained further than is best for it alone
(`OVERTRAINING`). Biases are averaged exactly, so that unknown ids keep the right fallback. The mean of the products
has rank S k; [·]_k is its truncated SVD, kept up member by member, so that memory stays at a few models.

Breiman: Bagging predictors, Machine Learning 24(2), 1996; on merging truncated SVDs, Brand: Fast low-rank
modifications of the thin singular value decomposition, Linear Algebra and its Applications 415(1), 2006.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from recsys_mf.models import Factorization
from recsys_mf.solvers.solver import Epoch

Matrix = NDArray[np.float64]

_ROUNDING = 1e-13  # of the largest eigenvalue of a Gram matrix in float64
OVERTRAINING = 1.25  # epochs of a member over those that are best for it alone


def averaged(members: Iterable[Epoch]) -> Iterator[Epoch]:
    """An Epoch per member with the committee so far, at the members' rank.

    members : the last Epoch of every member, over the same users and items
    """
    committee: Factorization | None = None
    for number, member in enumerate(members, start=1):
        one = member.model()
        assert isinstance(one, Factorization)  # what the members, runs of SGD or ALS, end in
        committee = one if committee is None else merged(committee, one, number)

        def model(committee: Factorization = committee) -> Factorization:
            return committee

        yield Epoch(number, member.visits * member.number, None, model)


def merged(committee: Factorization, member: Factorization, number: int) -> Factorization:
    """The committee of number - 1 members with one more, at the member's rank."""
    old, new = (number - 1) / number, 1 / number
    P, Q = cut(
        np.hstack([committee.user_factors * np.sqrt(old), member.user_factors * np.sqrt(new)], dtype=np.float64),
        np.hstack([committee.item_factors * np.sqrt(old), member.item_factors * np.sqrt(new)], dtype=np.float64),
        member.rank,
    )
    return Factorization(
        old * committee.mean + new * member.mean,
        (old * committee.user_bias + new * member.user_bias).astype(np.float32),
        (old * committee.item_bias + new * member.item_bias).astype(np.float32),
        P.astype(np.float32),
        Q.astype(np.float32),
        member.rating_range,
    )


def cut(P: Matrix, Q: Matrix, rank: int) -> tuple[Matrix, Matrix]:
    """The truncated SVD of P Qᵀ as factors of that rank: [m, rank] and [n, rank], without forming the product.

    With PᵀP = V diag(σ²) Vᵀ, P = A R for R = diag(σ) Vᵀ and the orthonormal A = P V diag(1/σ); likewise Q = B S.
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
