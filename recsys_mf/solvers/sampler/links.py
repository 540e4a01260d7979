"""Links: a row's prior mean from what is known of it, and the exact draw of the coefficients.

    x_g ~ N(ξ + F_g β, Λ⁻¹),     β_f ~ N(0, (λ Λ)⁻¹),     ξ ~ N(0, (b₀ Λ)⁻¹)

F_g is a sparse row of features, in blocks with a λ each: for a user the items rated in the training rows, each
1/√count (as in SVD++), for an item its raters, and side information. ξ is the coefficient of one more feature
that is 1 everywhere. Given the rows X,

    (FᵀF + diag(λ)) β = Fᵀ (X + E₁) + √λ E₂,     rows of E₁, E₂ ~ N(0, Λ⁻¹)

has a solution that is an exact draw of β; it is found by conjugate gradients for all columns at once, with the
diagonal as preconditioner and the last draw as start. FᵀF is never formed.

This is the centred form; the other one was tried (docs/decisions.md).

Simm et al.: Macau, scalable Bayesian factorization with high-dimensional side information using MCMC, 2017; Koren:
Factorization meets the neighborhood (SVD++), KDD 2008.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.backend import Backend

F32 = NDArray[np.float32]

_TOLERANCE = 0.2  # see `Links.drawn`
_MAX_STEPS = 100
_MEAN_PRECISION = 2.0  # b₀: of the prior on ξ, in units of Λ


@dataclass(frozen=True, eq=False)
class Block:
    """Features of one kind: diag(scale) S, with S sparse."""

    rows: Csr  # S, on the device
    columns: Csr  # Sᵀ
    scale: Any  # [rows, 1], on the device
    squares: Any  # [features, 1], there too: the block's diagonal of FᵀF

    def __len__(self) -> int:
        return len(self.squares)


@dataclass(frozen=True, eq=False)
class Links:
    """The features F [rows, features + 1] of the rows of one side: blocks, and a column of ones."""

    backend: Backend
    n_rows: int
    blocks: tuple[Block, ...]

    @property
    def n_features(self) -> int:
        """Features of all blocks; the column of ones is not counted."""
        return sum(map(len, self.blocks))

    @property
    def squares(self) -> Any:
        """Diagonal of FᵀF [features + 1, 1]."""
        ones = self.backend.device.put(np.full((1, 1), self.n_rows, np.float32))
        return self.backend.device.xp.vstack([*(block.squares for block in self.blocks), ones])

    def ridge(self, precisions: Sequence[float]) -> F32:
        """The prior precision of every coefficient in units of Λ, [features + 1, 1]: λ of its block, b₀ of ξ."""
        repeats = [*map(len, self.blocks), 1]
        return np.repeat([*precisions, _MEAN_PRECISION], repeats).astype(np.float32)[:, None]

    def parts(self, B: Any) -> Iterator[Any]:
        """The rows of B that belong to each block."""
        start = 0
        for block in self.blocks:
            yield B[start : start + len(block)]
            start += len(block)

    def product(self, B: Any) -> Any:
        """F B [rows, w] of B [features + 1, w]."""
        product = self.backend.device.xp.broadcast_to(B[-1:], (self.n_rows, B.shape[1]))
        for block, part in zip(self.blocks, self.parts(B), strict=True):
            product = product + block.scale * self._sums(block.rows, part)
        return self.backend.device.put(product)

    def transposed_product(self, X: Any) -> Any:
        """Fᵀ X [features + 1, w] of X [rows, w]."""
        xp = self.backend.device.xp
        ones = xp.asarray(xp.sum(X, axis=0, dtype=xp.float64)[None], dtype=xp.float32)
        return xp.vstack([*(self._sums(block.columns, block.scale * X) for block in self.blocks), ones])

    def drawn(self, X: Any, ridge: Any, start: Any, image: Any, row_noise: Any, feature_noise: Any) -> Any:
        """β [features + 1, w], its last row ξ, given X [rows, w]; all arrays on the device.

        ridge : λ of every feature, [features + 1, 1]
        start, image : where the search begins, and F times it
        row_noise E₁ [rows, w], feature_noise E₂ [features + 1, w]

        The search ends when the residual r has r · M⁻¹ r ≤ t² E, where M is the diagonal of the system and E estimates
        the expectation of the same quantity for a draw about its mean. With t = 0.2 (`_TOLERANCE`), on MovieLens 1M,
        the draw is then exact to 0.07 of its own standard deviation, after 12 steps.
        """
        xp = self.backend.device.xp

        def columns_product(F: Any, G: Any) -> Any:
            """Inner product of every column of F with that of G, [w]."""
            return xp.einsum("fw,fw->w", F, G)

        right = self.transposed_product(X + row_noise) + xp.sqrt(ridge) * feature_noise
        diagonal = self.squares + ridge
        B = start
        residual = right - (self.transposed_product(image) + ridge * B)
        direction = scaled = residual / diagonal
        size = columns_product(residual, scaled)
        enough = float(np.float32(_TOLERANCE**2)) * columns_product(feature_noise, feature_noise)
        for _ in range(_MAX_STEPS):
            if (size <= enough).all():
                break
            bent = self.transposed_product(self.product(direction)) + ridge * direction
            step = size / xp.clip(columns_product(direction, bent), _TINY, None)
            B = B + step * direction
            residual = residual - step * bent
            scaled = residual / diagonal
            before, size = size, columns_product(residual, scaled)
            direction = scaled + size / xp.clip(before, _TINY, None) * direction
        return B

    def _sums(self, sparse: Csr, X: Any) -> Any:
        return self.backend.rows.multiply(sparse, self.backend.device.put(X))


_TINY = 1e-30


def who_rated_what(backend: Backend, rows: Csr, columns: Csr) -> Block:
    """The features of one side: 1/√count for each of the rows of the other side it has a rating with.

    rows, columns : the training ratings by this side and by the other
    """
    counts, put = np.diff(rows.starts), backend.device.put
    scale = (1 / np.sqrt(np.maximum(counts, 1)))[:, None].astype(np.float32)
    squares = _squares(rows.columns, (scale[:, 0] ** 2).repeat(counts), rows.n_columns)
    return Block(rows.pattern().to(put), columns.pattern().to(put), put(scale), put(squares))


def side_information(backend: Backend, rows: Csr) -> Block:
    """The features of a table of side information, row by row."""
    put = backend.device.put
    scale = np.ones((rows.n_rows, 1), np.float32)
    squares = _squares(rows.columns, rows.values**2, rows.n_columns)
    return Block(rows.to(put), rows.transpose().to(put), put(scale), put(squares))


def _squares(features: NDArray[np.int32], squares: NDArray[Any], n_features: int) -> F32:
    """Sums of the squares of every feature, [features, 1]."""
    return np.bincount(features, weights=squares, minlength=n_features).astype(np.float32)[:, None]
