"""Averages of factorisations, model by model, at a fixed rank.

    mean of the models s = μ + b_u + b_i + [Σ_s p_u^(s) · q_i^(s) / S]_k

Means and biases are averaged exactly. The mean of the products has rank S k; [·]_k is its truncated SVD, updated
with every model, so that only a few models are in memory. The products over rows run on the device, the small SVD on
the host.

Brand: Fast low-rank modifications of the thin singular value decomposition, Linear Algebra and its Applications
415(1), 2006.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.threads import ranges
from recsys_mf.kernels.backend import Device
from recsys_mf.kernels.cpu.device import CpuDevice
from recsys_mf.models.factorization import Factorization

Matrix = NDArray[np.float64]
Factors = tuple[NDArray[np.float32], NDArray[np.float32]]

_HOST = CpuDevice(1)
_ROWS = 1 << 12  # of a side that are in float64 at a time
_ROUNDING = 1e-13  # of the largest eigenvalue of a Gram matrix in float64


def merged(
    average: Factorization, member: Factorization, number: int, rank: int, device: Device = _HOST
) -> Factorization:
    """The average of number - 1 models with one more, at a rank."""
    old, new = (number - 1) / number, 1 / number
    before, one = ((model.user_factors, model.item_factors) for model in (average, member))
    P, Q = merged_products(before, one, number, rank, device)
    return Factorization(
        old * average.mean + new * member.mean,
        (old * average.user_bias + new * member.user_bias).astype(np.float32),
        (old * average.item_bias + new * member.item_bias).astype(np.float32),
        P,
        Q,
        member.rating_range,
    )


def merged_products(average: Factors, member: Factors, number: int, rank: int, device: Device = _HOST) -> Factors:
    """Factors of that rank of the mean of number - 1 products P Qᵀ with one more."""
    old, new, xp = np.sqrt((number - 1) / number), np.sqrt(1 / number), device.xp

    def wide(factors: NDArray[np.float32]) -> Any:
        return xp.asarray(device.put(factors), dtype=xp.float64)

    def side(a: NDArray[np.float32], b: NDArray[np.float32]) -> Side:
        return Side(len(a), lambda rows: xp.hstack([wide(a[rows]) * old, wide(b[rows]) * new]))

    with device.guard():
        P, Q = (side(a, b) for a, b in zip(average, member, strict=True))
        first, second = (_applied(X, small, device) for X, small in zip((P, Q), cut(P, Q, rank, device), strict=True))
        return first, second


class Side(NamedTuple):
    """A matrix in float64 on a device, which is never there as a whole: `take` gives a range of its rows."""

    n_rows: int
    take: Callable[[slice], Any]

    def parts(self) -> list[slice]:
        """Ranges of rows, one after another."""
        return [slice(low, high) for low, high in ranges(self.n_rows, _ROWS)]


def cut(P: Side, Q: Side, rank: int, device: Device = _HOST) -> tuple[Matrix, Matrix]:
    """Small matrices S_P, S_Q: P S_P (Q S_Q)ᵀ is the truncated SVD of P Qᵀ at that rank; the product is not formed.

    With PᵀP = V diag(σ²) Vᵀ, P = A R for R = diag(σ) Vᵀ and the orthonormal A = P V diag(1/σ); in the same way Q = B S.
    So P Qᵀ = A (R Sᵀ) Bᵀ, and only the SVD of the small core R Sᵀ remains to be computed.
    """
    (R, to_A), (S, to_B) = (_rooted(_gram(side, device)) for side in (P, Q))
    W, singular, Zt = np.linalg.svd(R @ S.T)
    k = min(rank, len(singular))
    root = np.sqrt(singular[:k])
    small_P, small_Q = np.zeros((len(to_A), rank)), np.zeros((len(to_B), rank))
    small_P[:, :k], small_Q[:, :k] = to_A @ (W[:, :k] * root), to_B @ (Zt[:k].T * root)
    return small_P, small_Q  # for a product of lower rank, columns are zero


def _applied(side: Side, small: Matrix, device: Device) -> NDArray[np.float32]:
    """A side times a small matrix, part by part."""
    product, there = np.empty((side.n_rows, small.shape[1]), np.float32), device.put(small)
    for rows in side.parts():
        product[rows] = device.get(side.take(rows) @ there)
    return product


def _gram(side: Side, device: Device) -> Matrix:
    """XᵀX of a side X."""
    products = (device.get(X.T @ X) for X in map(side.take, side.parts()))
    found: Matrix = reduce(np.add, products)
    return found


def _rooted(gram: Matrix) -> tuple[Matrix, Matrix]:
    """R [r, k] and T [k, r] with X = (X T) R and orthonormal X T, r the rank of X to within rounding; gram : XᵀX."""
    squares, V = np.linalg.eigh(gram)
    there = squares > _ROUNDING * squares[-1]
    sigma, V = np.sqrt(squares[there]), V[:, there]
    return sigma[:, None] * V.T, V / sigma
