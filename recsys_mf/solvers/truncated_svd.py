"""The truncated SVD of a filled rating matrix: the baseline of every report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from recsys_mf.errors import ConfigError
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import Less
from recsys_mf.kernels.torch.dense_svd import bytes_needed, find_triplets
from recsys_mf.models import Factorization
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.biases import Biases, Sums
from recsys_mf.solvers.filled import FilledMatrix, Matrix, basis_size, leading_triplets
from recsys_mf.solvers.protocol import Epoch, Footprint, Solver
from recsys_mf.solvers.settings import setting
from recsys_mf.solvers.standardisation import find_mean

FILLINGS = ("zero", "mean", "item-mean", "bias")
ROUTES = ("auto", "dense", "operator")


@dataclass(frozen=True)
class TruncatedSvd(Solver):
    """The best rank-k approximation (Eckart, Young 1936) of the rating matrix with its missing entries filled.

        F ≈ U_k diag(σ_1 … σ_k) V_kᵀ,    r̂_ui = fallback_ui + (U_k diag(σ_1 … σ_k) V_kᵀ)_ui - fill_i

    filling : what replaces a missing rating
        zero : 0
        mean : μ, the mean of the training ratings
        item-mean : the mean of the item's training ratings
        bias : μ + b_u + b_i of `Biases`; that prediction is subtracted first and the residual factorised, with
            zero where it is missing, so that fill_i = 0
        The means and the biases are weighted if ratings have weights; the decomposition of the filled matrix is not,
        so ratings with weights are for baselines and comparisons only (`preparing.check_weights`)
    route : "dense" forms F and calls torch.linalg.svd, for all singular values; "operator" never forms F
        (`filled.leading_triplets`), for a few of them; both run on the device, in float64, and give the same triplets.
        "auto" is the operator: on CPU cores it is always faster, and it computes only the few values needed.

    One Epoch per rank, ascending, from one decomposition; ranks above min(m, n) are left out. An unknown user or
    item gets the fill, for `bias` the other bias or the mean. Raises ResourceError before a dense matrix would
    not fit in memory.
    """

    name: ClassVar[str] = "svd"
    takes_weights: ClassVar[bool] = False

    ranks: tuple[int, ...] = setting((1, 2, 4, 8, 16, 32, 64), "ranks k to try, ascending", low=1, high=4096)
    filling: str = setting("bias", "what replaces a missing rating", choices=FILLINGS)
    route: str = setting("auto", "how the decomposition is computed", choices=ROUTES)

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.ranks) != sorted(set(self.ranks)):
            raise ConfigError("ranks must ascend", where="ranks", seen=self.ranks, fix="sort them")

    @property
    def n_epochs(self) -> int:
        """One per rank; a table too small for some of the ranks yields fewer."""
        return len(self.ranks)

    def stopped_at(self, epoch: int) -> Self:
        """With only the rank of that epoch."""
        return replace(self, ranks=(self.ranks[epoch - 1],))

    def footprint(self, train: Ratings) -> Footprint:
        """The ratings by user and by item, the basis of the shorter side and its copy as it grows, and the triplets, in
        float64; or what LAPACK needs.
        """
        m, n, rank = train.n_users, train.n_items, self.ranks[-1]
        shorter = min(m, n)
        basis = 16 * min(shorter, basis_size(rank)) * shorter + 24 * rank * (m + n)
        working = bytes_needed(m, n, len(train)) if self.route == "dense" else basis
        columns = (16 if train.weights is None else 32) * len(train)
        return Footprint(working + columns, 4 * (rank + 1) * (m + n), columns)

    def rehearsal(self) -> Self:
        """With rank 1, by the operator."""
        return replace(self, ranks=(1,), route="operator")

    def resolved(self, train: Ratings, backend: Backend) -> Self:
        """With the ranks that fit the table, and the route that "auto" stands for."""
        shorter = min(train.n_users, train.n_items)
        ranks = tuple(k for k in self.ranks if k <= shorter)
        if not ranks:
            fix = f"give ranks up to {shorter}"
            raise ConfigError("no rank fits the table", where="ranks", seen=self.ranks, fix=fix)
        return replace(self, ranks=ranks, route="operator" if self.route == "auto" else self.route)

    def run(
        self,
        train: Ratings,
        *,
        rng: np.random.Generator,
        backend: Backend,
    ) -> Iterator[Epoch]:
        """See `Solver.run`."""
        chosen = self.resolved(train, backend)
        base, F = self._filled(train, backend)
        if chosen.route == "dense":
            U, singular, V = find_triplets(F.dense, F.shape, F.n_entries, chosen.ranks[-1], backend.device.name)
        else:
            U, singular, V = leading_triplets(F, chosen.ranks[-1], rng)
        root = np.sqrt(singular)
        U *= root
        V *= root
        for epoch, rank in enumerate(chosen.ranks, start=1):
            yield Epoch(epoch, len(train), None, lambda k=rank: _model(base, F.fill, U[:, :k], V[:, :k]))  # type: ignore[misc]

    def _filled(self, train: Ratings, backend: Backend) -> tuple[Factorization, FilledMatrix]:
        """The model without factors, which is the fallback of unknown ids, and the matrix to decompose."""
        mean = find_mean(train)
        user_bias, item_bias = np.zeros(train.n_users), np.zeros(train.n_items)
        fill = np.zeros(train.n_items)
        if self.filling == "zero":
            mean = 0.0
        elif self.filling == "mean":
            fill[:] = mean
        elif self.filling == "item-mean":
            sums = Sums(train.by_item(), train.weights_by_item(), backend).of_values()
            fill = sums / np.where(train.item_counts > 0, train.item_weights, 1)
            fill[train.item_counts == 0] = mean
            item_bias = fill - mean
        else:
            mean, user_bias, item_bias = Biases().fitted(train, backend)
        base = Factorization(
            mean, user_bias.astype(np.float32), item_bias.astype(np.float32),
            np.zeros((train.n_users, 0), np.float32), np.zeros((train.n_items, 0), np.float32), train.rating_range,
        )  # fmt: skip

        is_bias = self.filling == "bias"
        less = Less(mean + user_bias, item_bias) if is_bias else Less(np.zeros(train.n_users), fill)
        return base, FilledMatrix(train.by_user(), train.by_item(), less, fill, backend)


def _model(base: Factorization, fill: Matrix, P: Matrix, Q: Matrix) -> Factorization:
    """base + P Qᵀ - fill: base already contains the fill, so one more column subtracts it from the product."""
    k = P.shape[1]
    width = k + bool(fill.any())
    user_factors, item_factors = np.ones((len(P), width), np.float32), np.empty((len(Q), width), np.float32)
    user_factors[:, :k], item_factors[:, :k] = P, Q
    if width > k:
        item_factors[:, k] = -fill
    return replace(base, user_factors=user_factors, item_factors=item_factors)
