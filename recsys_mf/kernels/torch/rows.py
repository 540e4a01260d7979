"""The row operations in torch: systems batched over rows of similar length, products with sparse tensors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.operands import GaussianPrior, Offsets, Pairs, Regressors, RowPrior, Shrinkage, Tables
from recsys_mf.kernels.torch.device import TorchDevice

_PADDED_CELLS = 1 << 24  # gathered regressors held at once by solve, in float32
_GATHERED_CELLS = 1 << 26  # of either side, held at once by row_values and pair_values


class TorchRows:
    """`kernels.backend.RowKernels` on a torch device."""

    def __init__(self, device: TorchDevice) -> None:
        self._device = device

    def solve(
        self, ratings: Csr, regressors: Regressors, prior: RowPrior, noise_precision: float, normals: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As `reference.solve`; rows are sorted by length and solved in batches padded to the longest."""
        Y, lengths = regressors.rows, torch.diff(ratings.starts)
        order = torch.argsort(lengths, descending=True)
        X = torch.empty((len(lengths), Y.shape[1]), dtype=Y.dtype, device=Y.device)
        squared_errors = torch.empty(len(lengths), dtype=Y.dtype, device=Y.device)
        first = 0
        while first < len(order):
            longest = max(1, int(lengths[order[first]]))
            cells = max(longest, Y.shape[1]) * Y.shape[1]
            rows = order[first : first + max(1, _PADDED_CELLS // cells)]
            # Rows of less than half that length are left to the next batch: at most half of a batch is padding.
            rows = rows[: max(1, int((lengths[rows] * 2 >= longest).sum()))]
            y, t = _regression(ratings, regressors, rows, longest)
            A = noise_precision * (y.mT @ y)
            right = noise_precision * (y.mT @ t[:, :, None])[:, :, 0]
            if isinstance(prior, GaussianPrior):
                A, right = A + prior.precision, right + prior.means[rows] @ prior.precision
            else:
                A = A + prior.weights[rows, None, None] * torch.diag(prior.ridge)
            L, failed = torch.linalg.cholesky_ex(A)
            half = torch.linalg.solve_triangular(L, right[:, :, None], upper=False)
            if normals is not None:
                half += normals[rows, :, None]
            solved = torch.linalg.solve_triangular(L.mT, half, upper=True)[:, :, 0]
            X[rows] = torch.where(failed[:, None] > 0, torch.nan, solved)
            squared_errors[rows] = (t - (y @ X[rows][:, :, None])[:, :, 0]).square().sum(1)
            first += len(rows)
        return X, squared_errors

    def refine(
        self, ratings: Csr, X: Tensor, regressors: Regressors, prior: Shrinkage, steps: int
    ) -> tuple[Tensor, Tensor]:
        """As `reference.refine`; a step is two sparse products with the regressors of all ratings."""
        Y, others, lengths = regressors.rows, ratings.columns.long(), torch.diff(ratings.starts)
        rows = torch.repeat_interleave(torch.arange(ratings.n_rows, device=Y.device), lengths)
        bias = torch.ones((len(Y), 1), dtype=Y.dtype, device=Y.device)
        table, shrink = torch.cat([Y[:, :-1], bias], 1), prior.weights[:, None] * prior.ridge
        t = ratings.values - Y[others, -1]

        def weighed(errors: Tensor) -> Tensor:
            return errors if regressors.weights is None else regressors.weights * errors

        def summed(errors: Tensor) -> Tensor:
            return self.multiply(ratings._replace(values=weighed(errors)), table)

        def products(S: Tensor) -> Tensor:
            return (S[rows] * table[others]).sum(1)

        X = X.clone()
        R = summed(t - products(X)) - shrink * X
        D = self.multiply(ratings._replace(values=regressors.weights), table.square()) + shrink
        D = torch.where(D > 0, D, torch.inf)
        S = R / D
        for _ in range(steps):
            old, AS = (R * R / D).sum(1), summed(products(S)) + shrink * S
            curvature = (S * AS).sum(1)
            alpha = torch.where((old > 0) & (curvature > 0), old / curvature, 0.0)[:, None]
            X, R = X + alpha * S, R - alpha * AS
            S = R / D + torch.where(old > 0, (R * R / D).sum(1) / old, 0.0)[:, None] * S
        squares = weighed((t - products(X)).square())
        return X, torch.segment_reduce(squares, "sum", lengths=lengths, unsafe=True)

    def multiply(self, matrix: Csr, X: Tensor, offsets: Offsets | None = None) -> Tensor:
        """As `reference.multiply`; starts and columns are used directly as the indices of a CSR tensor."""
        matrix = matrix if offsets is None else subtracted(matrix, offsets)
        size, z = (matrix.n_rows, len(X)), len(matrix.columns)
        index = torch.int32 if z <= torch.iinfo(torch.int32).max else torch.int64
        ones = torch.ones(z, dtype=X.dtype, device=X.device) if matrix.values is None else matrix.values.to(X.dtype)
        with warnings.catch_warnings():  # torch gives one of these warnings for the first such tensor of a process
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state|Sparse invariant checks are")
            S = torch.sparse_csr_tensor(
                matrix.starts.to(index), matrix.columns.to(index), ones, size, check_invariants=False
            )
        return S @ X

    def row_scales(self, ratings: Csr, regressors: Regressors) -> Tensor:
        """As `reference.row_scales`."""
        if regressors.scales is None:
            return torch.ones(len(ratings.columns), device=ratings.columns.device)
        rows = torch.repeat_interleave(
            torch.arange(ratings.n_rows, device=ratings.columns.device), torch.diff(ratings.starts)
        )
        return _scales(regressors, rows, ratings.columns, regressors.contexts)

    def row_values(self, ratings: Csr, X: Tensor, regressors: Regressors) -> Tensor:
        """As `reference.row_values`."""
        rows = torch.repeat_interleave(torch.arange(ratings.n_rows, device=X.device), torch.diff(ratings.starts))
        tables = Tables(X, regressors.rows, regressors.context_rows)
        return self.pair_values(Pairs(rows.int(), ratings.columns, regressors.contexts), tables)

    def pair_values(self, pairs: Pairs, tables: Tables) -> Tensor:
        """As `reference.pair_values`; pairs are gathered a part at a time."""
        cells = _GATHERED_CELLS // tables.users.shape[1]
        parts = [
            _values(Pairs(*(None if column is None else column[part] for column in pairs)), tables)
            for part in split(len(pairs.users), cells)
        ]
        return torch.cat(parts) if parts else torch.empty(0, device=tables.users.device)


def split(size: int, length: int) -> Iterator[slice]:
    """Slices of at most a length that make up a size."""
    return (slice(start, min(start + length, size)) for start in range(0, size, max(1, length)))


def _values(pairs: Pairs, tables: Tables) -> Tensor:
    """`pair_values` of a part."""
    x, y = _known_rows(tables.users, pairs.users), _known_rows(tables.items, pairs.items)
    p, q = x[:, :-1], y[:, :-1]
    values = x[:, -1] + y[:, -1] + (p * q).sum(1)
    if pairs.contexts is not None and tables.contexts is not None:
        c = _known_rows(tables.contexts, pairs.contexts)
        values += c[:, -1] + ((p + q) * c[:, :-1]).sum(1)
    return values


def subtracted(matrix: Csr, offsets: Offsets) -> Csr:
    """The matrix with entries s_gj - a_g - c_j, float64."""
    own = torch.repeat_interleave(offsets.rows, torch.diff(matrix.starts))
    return matrix._replace(values=matrix.values - own - offsets.columns[matrix.columns.long()])


def _known_rows(table: Tensor, rows: Tensor) -> Tensor:
    """Rows of a table, zeros for -1."""
    known = rows >= 0
    return torch.where(known[:, None], table[torch.where(known, rows, 0).long()], 0.0)


def _regression(ratings: Csr, regressors: Regressors, rows: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Regressors √ω y [b, longest, k + 1] and targets √ω t [b, longest] of the given rows, padded with zeros."""
    starts, Y = ratings.starts, regressors.rows
    step = torch.arange(longest, device=Y.device)
    inside = step < (starts[rows + 1] - starts[rows])[:, None]  # [b, longest]
    place = torch.where(inside, starts[rows, None] + step, 0)
    y = Y[ratings.columns[place].long()]  # [b, longest, k + 1]
    t = ratings.values[place] - y[:, :, -1]
    if regressors.contexts is not None and regressors.context_rows is not None:
        c = regressors.context_rows[regressors.contexts[place].long()]
        t = t - c[:, :, -1] - (y[:, :, :-1] * c[:, :, :-1]).sum(2)
        y = y + c
    y[:, :, -1] = 1
    scale = inside if regressors.weights is None else inside * regressors.weights[place].sqrt()
    if regressors.scales is not None:
        contexts = None if regressors.contexts is None else regressors.contexts[place]
        scale = scale * _scales(regressors, rows[:, None], ratings.columns[place], contexts).sqrt()
    return y * scale[:, :, None], t * scale


def _scales(regressors: Regressors, rows: Tensor, others: Tensor, contexts: Tensor | None) -> Tensor:
    """The products of the scales of these rows, others and contexts."""
    assert regressors.scales is not None
    of_rows, of_others, of_contexts = regressors.scales
    products: Tensor = of_rows[rows] * of_others[others.long()]
    if of_contexts is not None and contexts is not None:
        products = products * of_contexts[contexts.long()]
    return products
