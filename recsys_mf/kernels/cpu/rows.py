"""The row operations on CPU cores: ranges of rows in parallel on threads.

A row's arithmetic is done by one thread in one order, so that results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.aligned import align
from recsys_mf.arrays.csr import Csr
from recsys_mf.arrays.threads import pairs as split_pairs
from recsys_mf.arrays.threads import shares, side_by_side
from recsys_mf.kernels.cpu import cg, cholesky, sparse, values
from recsys_mf.kernels.operands import GaussianPrior, Offsets, Pairs, Regressors, RowPrior, Shrinkage, Tables

F32 = NDArray[np.float32]
_NO_INDICES = np.zeros(0, np.int32)


class CpuRows:
    """`kernels.backend.RowKernels` on this many threads."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def solve(
        self, ratings: Csr, regressors: Regressors, prior: RowPrior, noise_precision: float, normals: F32 | None
    ) -> tuple[F32, F32]:
        """As `reference.solve`."""
        Y, rows = regressors.rows, ratings.n_rows
        width = Y.shape[1]
        C = np.zeros((0, width), np.float32) if regressors.context_rows is None else regressors.context_rows
        contexts = _NO_INDICES if regressors.contexts is None else regressors.contexts
        precision, linear = np.zeros((width, width), np.float32), np.zeros((rows, width), np.float32)
        weights, ridge = np.zeros(rows, np.float32), np.zeros(width, np.float32)
        if isinstance(prior, GaussianPrior):
            precision, linear = prior.precision, prior.means @ prior.precision
        else:
            weights, ridge = prior
        # A row costs about one rank-1 update per rating and one Cholesky factorisation.
        work = (np.diff(ratings.starts) + width / 3) * (width * width / 2)
        X, squared_errors = np.empty((rows, width), np.float32), np.empty(rows, np.float32)
        side_by_side(
            cholesky.solve_in_lanes if width <= cholesky.WIDEST else cholesky.solve_singly,
            shares(work, self._threads), self._threads,
            ratings.starts, ratings.columns, contexts, ratings.values, regressors.weights, _scales(regressors),
            align(Y[:, :-1]), Y[:, -1].copy(), align(C[:, :-1]), C[:, -1].copy(),
            precision, linear, weights, ridge, np.float32(noise_precision),
            np.zeros((0, width), np.float32) if normals is None else normals, X, squared_errors,
        )  # fmt: skip
        return X, squared_errors

    def refine(self, ratings: Csr, X: F32, regressors: Regressors, prior: Shrinkage, steps: int) -> tuple[F32, F32]:
        """As `reference.refine`."""
        rank, Y, (weights, ridge) = X.shape[1] - 1, regressors.rows, prior
        factors = align(Y[:, :-1])
        refined = np.zeros((len(X), factors.shape[1] + 1), np.float32)  # padded, then the bias
        refined[:, :rank], refined[:, -1] = X[:, :-1], X[:, -1]
        padded_ridge = np.zeros(refined.shape[1], np.float32)
        padded_ridge[:rank], padded_ridge[-1] = ridge[:-1], ridge[-1]
        squared_errors = np.empty(len(X), np.float32)
        work = (np.diff(ratings.starts) + 4.0) * (rank * (steps + 1))
        side_by_side(
            cg.refine_kernel(factors.shape[1]), shares(work, self._threads), self._threads,
            ratings.starts, ratings.columns, ratings.values, regressors.weights,
            factors, Y[:, -1].copy(), weights, padded_ridge, steps, refined, squared_errors,
        )  # fmt: skip
        return np.column_stack([refined[:, :rank], refined[:, -1]]), squared_errors

    def multiply(self, matrix: Csr, X: NDArray[Any], offsets: Offsets | None = None) -> NDArray[Any]:
        """As `reference.multiply`, in the precision of X."""
        return sparse.multiply(matrix, X, offsets, threads=self._threads)

    def row_scales(self, ratings: Csr, regressors: Regressors) -> F32:
        """As `reference.row_scales`."""
        found = np.ones(len(ratings.columns), np.float32)
        scales = _scales(regressors)
        if scales is not None:
            contexts = _NO_INDICES if regressors.contexts is None else regressors.contexts
            tasks = shares(np.diff(ratings.starts) * 4.0, self._threads)
            operands = ratings.starts, ratings.columns, contexts, scales, found
            side_by_side(values.row_scales, tasks, self._threads, *operands)
        return found

    def row_values(self, ratings: Csr, X: F32, regressors: Regressors) -> F32:
        """As `reference.row_values`."""
        found = np.empty(len(ratings.columns), np.float32)
        C = X[:0] if regressors.context_rows is None else regressors.context_rows
        contexts = _NO_INDICES if regressors.contexts is None else regressors.contexts
        tasks = shares(np.diff(ratings.starts) * (X.shape[1] + 0.0), self._threads)
        side_by_side(
            values.row_values, tasks, self._threads,
            ratings.starts, ratings.columns, contexts, X, regressors.rows, C, found,
        )  # fmt: skip
        return found

    def pair_values(self, pairs: Pairs, tables: Tables) -> F32:
        """As `reference.pair_values`."""
        users, items, contexts = pairs
        X, Y, C = tables
        found = np.empty(len(users), np.float32)
        tasks = split_pairs(len(users), X.shape[1])
        side_by_side(values.pair_values, tasks, self._threads, users, items, X, Y, found)
        if contexts is not None:
            side_by_side(values.add_contexts, tasks, self._threads, users, items, contexts, X, Y, C, found)
        return found


def _scales(regressors: Regressors) -> tuple[F32, F32, F32] | None:
    """The scales of rows, of others and of contexts (an empty array if they are 1); None if all are 1."""
    if regressors.scales is None:
        return None
    rows, others, contexts = regressors.scales
    return rows, others, np.zeros(0, np.float32) if contexts is None else contexts
