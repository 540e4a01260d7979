"""A rating matrix with its missing entries filled, as an operator, and its leading singular triplets.

    F = S + 1 fᵀ,    s_ui = r_ui - a_u - c_i

S [m, n] has an entry for each of z ratings and f [n] is the fill of every column, so that products with F and Fᵀ cost
O(z k). Neither F nor the entries of S are stored. Arrays as long as a side of F stay on the device; matrices of the
size of a basis (Gram, Ritz vectors, R) are on the host.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped
from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import SolveError
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import Offsets

Matrix = NDArray[np.float64]

_TOLERANCE = 1e-6  # residual |FᵀF v - σ² v| of every triplet, over the largest σ²
_NOISE = 1e-4  # of the largest pivot of a block's QR, below which rounding has made its Q less than orthogonal
_PRODUCTS = 1000  # products with blocks before giving up


class FilledMatrix:
    """F on a backend.

    rows, columns : the ratings by user and by item
    offsets : a float64[m], c float64[n]; fill : f float64[n]

    Its methods take and return arrays of the backend.
    """

    def __init__(self, rows: Csr, columns: Csr, offsets: Offsets, fill: Matrix, backend: Backend) -> None:
        put = backend.device.put
        self.fill, self.backend = fill, backend
        self.shape = rows.n_rows, columns.n_rows
        self.n_entries = len(rows.columns)
        self._fill, self._offsets = put(fill), Offsets(*map(put, offsets))
        self._by_row, self._by_column = rows.to(put), columns.to(put)

    def times(self, X: Any) -> Any:
        """F X float64[m, k] for X float64[n, k]."""
        product = self._product(self._by_row, X, self._offsets)
        product += self._fill @ X
        return product

    def transposed_times(self, Y: Any) -> Any:
        """Fᵀ Y float64[n, k] for Y float64[m, k]."""
        product = self._product(self._by_column, Y, Offsets(self._offsets.columns, self._offsets.rows))
        product += self.backend.device.xp.outer(self._fill, Y.sum(0))
        return product

    def dense(self) -> Any:
        """F itself, float64[m, n]; needs memory for it and, for a while, for about six arrays of z entries."""
        xp, device = self.backend.device.xp, self.backend.device.name
        starts, columns, values, _ = self._by_row
        full = xp.tile(self._fill, (self.shape[0], 1))
        row_numbers = xp.searchsorted(starts, xp.arange(self.n_entries, device=device), side="right") - 1
        full[row_numbers, columns] += values - self._offsets.rows[row_numbers] - self._offsets.columns[columns]
        mapped.release_pages()
        return full

    def _product(self, R: Csr, X: Any, offsets: Offsets) -> Any:
        product = self.backend.rows.multiply(R, X, offsets)
        mapped.release_pages()
        return product


def basis_size(rank: int) -> int:
    """Columns of a basis before a restart."""
    return max(2 * rank, rank + 8 * _block(rank))


def _block(rank: int) -> int:
    """Columns that a basis grows by."""
    return max(8, rank // 16)


def leading_triplets(F: FilledMatrix, rank: int, rng: np.random.Generator) -> tuple[Matrix, Matrix, Matrix]:
    """U [m, k], σ [k] descending, V [n, k]: the k leading singular triplets of F, to convergence.

    Block Lanczos on FᵀF (or F Fᵀ, on the shorter side) with full reorthogonalisation and thick restarts: a
    basis B grows by blocks Q, the Ritz pairs of B give the triplets, and after a restart B is the leading Ritz
    vectors. If the shorter side is small the first basis is the whole space and the answer exact.

    Wu, Simon: Thick-restart Lanczos method for large symmetric eigenvalue problems, SIAM J. Matrix Anal. 22(2),
    2000; Golub, Van Loan: Matrix Computations, section 10.3. Raises SolveError when it does not converge.

    The first block is drawn on the host, so that a seed means the same on every device.
    """
    (m, n), backend = F.shape, F.backend
    forward, backward = (F.times, F.transposed_times) if n <= m else (F.transposed_times, F.times)
    size = min(m, n)
    block = _block(rank)
    most = basis_size(rank)
    if size <= 2 * most:
        block, Q = size, backend.device.put(np.eye(size))
    else:
        Q = backend.device.xp.linalg.qr(backend.device.put(rng.standard_normal((size, block))))[0]
    B = Q[:, :0]
    gram = np.empty((0, 0))  # Bᵀ FᵀF B
    for _ in range(_PRODUCTS):
        B, W = backend.device.xp.hstack([B, Q]), backward(forward(Q))
        overlap = B.T @ W
        gram = _bordered(gram, backend.device.get(overlap))
        squares, Z = (a[..., ::-1] for a in np.linalg.eigh(gram))
        if B.shape[1] == size:
            break
        # FᵀF B = B T + Q' R, and only the last block of B meets Q': a Ritz vector z has the residual |R z_last|.
        Q, R = _orthogonalised(W, B, overlap, backend)
        residuals = np.linalg.norm(R @ Z[-block:, :rank], axis=0)
        if B.shape[1] >= rank and (residuals <= _TOLERANCE * squares[0]).all():
            break
        if B.shape[1] + block > most:
            kept = Z[:, : (rank + most) // 2]
            B, gram = B @ backend.device.put(kept), np.diag(squares[: kept.shape[1]])
    else:
        raise SolveError(f"the truncated SVD did not converge in {_PRODUCTS} steps", fix="ask for a lower rank")
    singular = np.sqrt(np.maximum(squares[:rank], 0))
    near = B @ backend.device.put(Z[:, :rank])
    far = backend.device.get(forward(near))
    far /= np.where(singular > 0, singular, 1)  # in place: the longer side has many rows
    near = backend.device.get(near)
    return (far, singular, near) if n <= m else (near, singular, far)


def _bordered(gram: Matrix, columns: Matrix) -> Matrix:
    """The symmetric matrix that begins with gram and ends with these columns."""
    old = len(gram)
    corner = (columns[old:] + columns[old:].T) / 2
    return np.block([[gram, columns[:old]], [columns[:old].T, corner]])


def _orthogonalised(X: Any, B: Any, overlap: Any, backend: Backend) -> tuple[Any, Matrix]:
    """Q, R with X = B (BᵀX) + Q R and [B, Q] orthonormal, given BᵀX; projected twice, for rounding. R : on the host."""
    qr = backend.device.xp.linalg.qr
    X = X - B @ overlap
    Q, R = qr(X - B @ (B.T @ X))
    R = backend.device.get(R)
    pivots = np.abs(R.diagonal())
    if pivots.min() < _NOISE * pivots.max():  # if X was in the span of B, Q is noise there
        Q = qr(Q - B @ (B.T @ Q))[0]
    return Q, R
