"""Links: a row's prior mean from what is known of it, and the exact draw of the coefficients.

    x_g ~ N(μ + F_g β, Λ⁻¹),     β_f ~ N(0, (λ Λ)⁻¹),     μ ~ N(0, (b₀ Λ)⁻¹)

F_g is a sparse row of features: for a user the items rated in the training rows, each 1/√count (as SVD++ has them),
for an item its raters. μ is the coefficient of one more feature that is 1 everywhere. Given the rows X,

    (FᵀF + diag(λ)) β = Fᵀ (X + E₁) + √λ E₂,     rows of E₁, E₂ ~ N(0, Λ⁻¹)

has a solution that is an exact draw of β; it is found by conjugate gradients for all columns at once, with the
diagonal as preconditioner and the last draw as start. FᵀF is never formed.

This is the centred form. Drawing β with the rows integrated out, and the rows after it, was tried on MovieLens 1M: it
reached in 50 sweeps what this form reaches in 140, each of them took twice the seconds, and it keeps a k by k matrix
for every row; the gain in seconds, a third, was not worth the memory.

Simm et al.: Macau, scalable Bayesian factorization with high-dimensional side information using MCMC, 2017; Koren:
Factorization meets the neighborhood (SVD++), KDD 2008.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.kernels import Kernels
from recsys_mf.ratings import Grouped

F32 = NDArray[np.float32]

_TOLERANCE = 1e-2  # of the residual, relative to the right-hand side; the draw's own spread is far above it
_MOST_STEPS = 100


@dataclass(frozen=True, eq=False)
class Links:
    """The features F of the rows of one side: diag(scale) S and a column of ones.

    S is the pattern of who rated what, row by row and column by column; without features it has no columns.
    """

    kernels: Kernels
    rows: tuple[Any, Any]  # starts [rows + 1], others: of S, on the device
    columns: tuple[Any, Any]  # of Sᵀ
    scale: F32  # [rows, 1]
    n_features: int
    squares: F32  # [features + 1, 1]: diagonal of FᵀF

    def product(self, B: F32) -> F32:
        """F B [rows, w] of B [features + 1, w]."""
        if not self.n_features:
            return np.repeat(B, len(self.scale), axis=0)
        product: F32 = self.scale * self._sums(self.rows, B[:-1]) + B[-1]
        return product

    def transposed_product(self, X: F32) -> F32:
        """Fᵀ X [features + 1, w] of X [rows, w]."""
        ones = X.sum(axis=0, dtype=np.float64)[None].astype(np.float32)
        return np.vstack([self._sums(self.columns, self.scale * X), ones]) if self.n_features else ones

    def drawn(self, X: F32, ridge: F32, start: F32, row_noise: F32, feature_noise: F32) -> F32:
        """β [features + 1, w], its last row μ, given X [rows, w].

        ridge : λ of every feature, [features + 1, 1]
        start : where the search begins
        row_noise E₁ [rows, w], feature_noise E₂ [features + 1, w]
        """
        right: NDArray[Any] = self.transposed_product(X + row_noise) + np.sqrt(ridge) * feature_noise
        diagonal = self.squares + ridge
        B = start.copy()
        residual: NDArray[Any] = right - self._system(B, ridge)
        scaled: NDArray[Any] = residual / diagonal
        direction = scaled.copy()
        size = _columns_product(residual, scaled)
        enough = np.float32(_TOLERANCE**2) * _columns_product(right, (right / diagonal).astype(np.float32))
        for _ in range(_MOST_STEPS):
            if (size <= enough).all():
                break
            image = self._system(direction, ridge)
            step = size / np.maximum(_columns_product(direction, image), _TINY)
            B += step * direction
            residual -= step * image
            scaled = residual / diagonal
            before, size = size, _columns_product(residual, scaled)
            direction = scaled + size / np.maximum(before, _TINY) * direction
        return B

    def _system(self, B: F32, ridge: F32) -> F32:
        image: F32 = self.transposed_product(self.product(B)) + ridge * B
        return image

    def _sums(self, sparse: tuple[Any, Any], X: F32) -> F32:
        put = self.kernels.put
        sums = self.kernels.sparse_product(*sparse, put(np.zeros(0, np.float32)), put(np.ascontiguousarray(X)))
        got: F32 = self.kernels.get(sums)
        return got


_TINY = np.float32(1e-30)


def no_links(kernels: Kernels, n_rows: int) -> Links:
    """The features of rows of which nothing is known: the column of ones alone."""
    none = np.zeros(0, np.int64), np.zeros(0, np.int32)
    return Links(kernels, none, none, np.ones((n_rows, 1), np.float32), 0, np.full((1, 1), n_rows, np.float32))


def who_rated_what(kernels: Kernels, rows: Grouped, columns: Grouped) -> Links:
    """The features of one side: 1/√count for each of the rows of the other side it has a rating with.

    rows, columns : the training ratings grouped by this side and by the other
    """
    counts = np.diff(rows.starts)
    scale = (1 / np.sqrt(np.maximum(counts, 1)))[:, None].astype(np.float32)
    pattern, transposed = ((kernels.put(grouped.starts), kernels.put(grouped.others)) for grouped in (rows, columns))
    squares = np.add.reduceat(np.append(scale[columns.others] ** 2, 0), columns.starts[:-1])[:, None]
    return Links(
        kernels, pattern, transposed, scale, len(squares), np.vstack([squares, [[len(scale)]]]).astype(np.float32)
    )


def _columns_product(X: NDArray[Any], Y: NDArray[Any]) -> NDArray[Any]:
    """Inner product of every column of X with that of Y, [w]."""
    products: NDArray[Any] = np.einsum("fw,fw->w", X, Y)
    return products
