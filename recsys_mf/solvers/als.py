"""Alternating least squares: the factors of one side at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import SolveError
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import Pairs, RatingScale, Regressors, Shrinkage, Tables
from recsys_mf.models import Factorization
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.iterative import IterativeSolver
from recsys_mf.solvers.protocol import Epoch, Predictor
from recsys_mf.solvers.settings import AUTO, Auto, Between, figure, setting
from recsys_mf.solvers.standardisation import find_scale, predict_pairs, restore, standardise
from recsys_mf.solvers.state import State


@dataclass(frozen=True)
class Als(IterativeSolver):
    """Biased matrix factorisation by alternating least squares, on standardised ratings.

        r̂_ui = μ + b_u + b_i + p_u · q_i

    minimises the following, where w_ui is the weight of a rating (1 without weights), by default times that of its
    noise (`noise_weights`), and n_u and n_i are the sums of w_ui over the ratings of a user and of an item:

        Σ_{(u,i)∈Ω} w_ui (r_ui - r̂_ui)² + Σ_u n_u^ρ (λ |p_u|² + λ_b b_u²) + Σ_i n_i^ρ (λ |q_i|² + λ_b b_i²)

    by solving every user's (p_u, b_u) with the items fixed, against the regressors (q_i, 1) and the targets
    r_ui - μ - b_i, then every item's in the same way: by a few steps of conjugate gradients from the previous
    values of the row (`kernels.reference.refine`; after some epochs the errors equal those of exact solutions to four
    digits), or exactly if cg_steps = 0 (`kernels.reference.solve`). ρ = 1 is ALS-WR, ρ = 0 a plain
    ridge; the square root between them (ρ = ½) was better than either on every table it was tried on. An unknown
    user or item has bias and factor zero. Runs from different random starts end in different optima: the model is the
    mean of S of them, cut back to rank k (`committee`), each stopped after half the epochs that are best for a single
    run; with S = 1 it is a single run, for which λ = 1.1 is best.

    Zhou, Wilkinson, Schreiber, Pan: Large-scale parallel collaborative filtering for the Netflix Prize, 2008; on
    the weighting, Srebro, Salakhutdinov: Collaborative filtering in a non-uniform world, 2010.
    """

    name: ClassVar[str] = "als"
    overtraining: ClassVar[float] = 0.5
    bytes_per_rating: ClassVar[int] = 28
    bytes_per_weight: ClassVar[int] = 16
    bytes_per_noise: ClassVar[int] = 16
    usual: ClassVar[dict[str, float]] = {"rank": 32, "regularisation": 1.0}

    rank: int | Auto = setting(
        AUTO, "columns k of the factors; auto: 32 or a better one on validation rows", low=1, high=1024, kind=int,
        search=Between(4, 128),
    )  # fmt: skip
    epochs: int = setting(
        15,
        "most passes of a single run over users and items; of several runs, each may make half as many as is best "
        "for one; 0: damped biases alone",
    )
    regularisation: float | Auto = setting(
        AUTO, "λ of the factors; auto: 1 or a better one on validation rows", low=1e-6, kind=float,
        search=Between(0.2, 5),
    )  # fmt: skip
    bias_regularisation: float = setting(1.0, "λ_b of the biases", low=1e-6, search=Between(0.1, 10))
    count_exponent: float = setting(
        0.5, "ρ: a row's regularisation grows as its number of ratings, or the sum of their weights, to the power ρ",
        high=1, search=Between(0, 1, is_log=False),
    )  # fmt: skip
    initial_scale: float = setting(0.3, "expected length of an item's factor at the start", low=1e-6, high=10)
    cg_steps: int = setting(
        3, "steps of conjugate gradients for a row in an epoch; 0 solves every row exactly", high=1000
    )
    members: int = setting(
        6, "S: independent runs that are averaged; 1 for a single run", low=1, high=1024, search=Between(3, 12)
    )
    noise: str = setting(
        AUTO, "personal: users and items that vary more count less; auto: personal on the CPU up to 2 million ratings",
        choices=(AUTO, "personal", "common"),
    )  # fmt: skip

    def has_settled(self, epochs: int) -> bool:
        """After six epochs: if biases explain nothing, errors may rise for that long before they fall."""
        return epochs >= 6

    def run_once(
        self,
        train: Ratings,
        rng: np.random.Generator,
        backend: Backend,
        start: State | None = None,
        scale: RatingScale | None = None,
    ) -> Iterator[Epoch]:
        """One run, from random item factors or a state."""
        scale = scale or find_scale(train)
        values = standardise(train.values, scale)
        scaled = Ratings(train.users, train.items, values, None, train.user_vocabulary, train.item_vocabulary)
        user_rows = _Side(backend, scaled.by_user(), train.weights_by_user(), train.user_weights, self)
        item_rows = _Side(backend, scaled.by_item(), train.weights_by_item(), train.item_weights, self)
        if start is None:
            rank, done = figure(self.rank), 0
            users = np.zeros((train.n_users, rank + 1), np.float32)
            items = np.zeros((train.n_items, rank + 1), np.float32)
            items[:, :-1] = rng.standard_normal((train.n_items, rank)) * (self.initial_scale / np.sqrt(rank))
        else:
            done, users, items = start.facts["epoch"], start.arrays["users"], start.arrays["items"]

        users, items = backend.device.put(users), backend.device.put(items)
        for epoch in range(done + 1, self.epochs + 1):
            users, _ = user_rows.solved(users, items)
            items, squared_error = item_rows.solved(items, users)
            if not all(backend.device.is_finite(rows) for rows in (users, items)):
                raise SolveError(
                    f"ALS met a system that it cannot solve in epoch {epoch}",
                    seen=f"regularisation {self.regularisation:g}, bias_regularisation {self.bias_regularisation:g}",
                    fix="bring them nearer to 1",
                )

            def model(users: Any = users, items: Any = items) -> Factorization:
                X, Y = backend.device.get(users), backend.device.get(items)
                return restore(scale, X[:, -1], Y[:, -1], X[:, :-1], Y[:, :-1])

            def predictor(tables: Tables = Tables(users, items)) -> Predictor:  # noqa: B008 (those of this epoch)
                return lambda u, i, times: predict_pairs(backend, Pairs(u, i), tables, scale)

            def state(epoch: int = epoch, users: Any = users, items: Any = items) -> State:
                return State({"epoch": epoch}, {"users": backend.device.get(users), "items": backend.device.get(items)})

            rmse = scale.deviation * np.sqrt(squared_error / train.total_weight)
            further = state if epoch < self.epochs else None
            yield Epoch(epoch, 2 * len(train), float(rmse), model, predictor, state=further)


class _Side:
    """The ratings of one side on the device, and the solution of all its rows against the other side.

    weights : of the ratings, in their order, or None; totals float64[rows] : their sum in every row, or their number
    """

    def __init__(
        self, backend: Backend, ratings: Csr, weights: NDArray[np.float32] | None, totals: NDArray[np.float64],
        settings: Als,
    ) -> None:  # fmt: skip
        ridge = np.full(figure(settings.rank) + 1, figure(settings.regularisation))
        ridge[-1] = settings.bias_regularisation
        ridge = np.minimum(ridge, np.finfo(np.float32).max).astype(np.float32)
        # A row without ratings gets the penalty of a row with one rating, which holds it at zero.
        counts = np.where(totals > 0, totals, 1).astype(np.float32) ** np.float32(settings.count_exponent)
        self.backend, self.cg_steps = backend, settings.cg_steps
        put = backend.device.put
        self.ratings, self.prior = ratings.to(put), Shrinkage(put(counts), put(ridge))
        self.weights = None if weights is None else put(weights)

    def solved(self, rows: Any, other_side: Any) -> tuple[Any, float]:
        """(factors, bias) float32[rows, k + 1] that minimise the objective given the other side's [others, k + 1],
        exactly or by `cg_steps` steps from the given rows; and their summed squared error."""
        put, kernels = self.backend.device.put, self.backend.rows
        regressors = Regressors(put(other_side), weights=self.weights)
        if self.cg_steps:
            found = kernels.refine(self.ratings, put(rows), regressors, self.prior, self.cg_steps)
        else:
            found = kernels.solve(self.ratings, regressors, self.prior, 1.0, None)
        solved, squared_errors = found
        xp = self.backend.device.xp
        return solved, float(xp.sum(squared_errors, dtype=xp.float64))
