"""Masked stochastic gradient descent over the observed ratings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import ConfigError, SolveError
from recsys_mf.kernels import Kernels
from recsys_mf.models import Factorization
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import blocks
from recsys_mf.solvers.committee import Committee
from recsys_mf.solvers.solver import AUTO, Auto, Epoch, figure, moments, predicted, restored, setting, with_biases

_RUN = 256  # ratings that hogwild takes in a row
_DIVERGED = 1e3  # RMSE, in standard deviations of the ratings
_GROWN = 0.35  # steps added up, by which factors have left their small start: 20 epochs of the default schedule


@dataclass(frozen=True)
class Sgd(Committee):
    """Biased matrix factorisation by masked SGD, on ratings standardised to mean 0 and deviation 1.

        r̂_ui = μ + b_u + b_i + p_u · q_i

    minimises, over the observed pairs Ω alone,

        Σ_{(u,i)∈Ω} (r_ui - r̂_ui)² + λ (|p_u|² + |q_i|²) + λ_b (b_u² + b_i²)

    by visiting every observed triple once an epoch, in the conflict-free order of `blocks`, with the update of
    `kernels.reference.sgd_epoch`. The step of epoch t is η γ^(t-1). An unknown user or item has bias and factor
    zero. Factors start as N(0, s²/k): small, so that early epochs fit what many ratings agree on. The model is the
    mean of S such runs, cut back to rank k (`committee`); with S = 1 it is a single run, for which λ = 0.045 is best.

    Steps that adapt to every row, η / √(1 + Σ |gradient|² / k) as LIBMF has them, were tried and left: on validation
    rows of MovieLens 1M they reach 0.845 in 11 epochs instead of 22, but an epoch takes 1.6 times as long, and their
    best is 0.8441 where this schedule ends at 0.8427.

    Koren, Bell, Volinsky: Matrix factorization techniques for recommender systems, Computer 42(8), 2009.
    """

    name: ClassVar[str] = "sgd"
    takes_updates: ClassVar[bool] = True
    patience: ClassVar[int | None] = 3
    overtraining: ClassVar[float] = 1.25
    bytes_per_rating: ClassVar[int] = 24
    usual: ClassVar[dict[str, float]] = {"rank": 64, "regularisation": 0.0375}

    rank: int | Auto = setting(
        AUTO, "columns k of the factors; auto: 64 or a better one on validation rows", low=1, high=4096, kind=int
    )
    epochs: int = setting(60, "most passes over the ratings; 0 for the damped biases alone")
    learning_rate: float = setting(0.03, "step η of the factors in the first epoch", low=1e-8, high=1)
    bias_learning_rate: float = setting(0.01, "step of the biases in the first epoch", high=1)
    decay: float = setting(0.94, "factor γ on both steps from one epoch to the next", low=1e-3, high=1)
    regularisation: float | Auto = setting(
        AUTO, "λ of the factors, per rating; auto: 0.0375 or a better one on validation rows", kind=float
    )
    bias_regularisation: float = setting(0.02, "λ_b of the biases, per rating")
    initial_scale: float = setting(0.06, "s: expected length of a factor at the start", high=10)
    members: int = setting(6, "S: independent runs that are averaged; 1 for a single run", low=1, high=1024)
    schedule: str = setting(
        "conflict-free", "conflict-free or, on CUDA, hogwild: blocks do not wait for those they share rows with",
        choices=("conflict-free", "hogwild"),
    )  # fmt: skip
    precision: str = setting(
        "float32", "factors as they are trained: float32 or, in half the bytes on CUDA, half or bfloat16",
        choices=("float32", "half", "bfloat16"),
    )  # fmt: skip

    def has_settled(self, epochs: int) -> bool:
        """Once the factors have had the steps to leave their small start: the biases alone may overfit before."""
        return self.learning_rate * sum(self.decay**epoch for epoch in range(epochs)) >= _GROWN

    def resolved(self, train: Ratings, kernels: Kernels) -> Self:
        """With the usual numbers for "auto", where the backend takes it."""
        solver = super().resolved(train, kernels)
        for name, offered in (("precision", kernels.precisions), ("schedule", kernels.schedules)):
            if getattr(self, name) not in offered:
                where, fix = f"on the device '{kernels.device}'", f"use {' or '.join(offered)}"
                raise ConfigError(f"no such {name} {where}", where=name, seen=getattr(self, name), fix=fix)
        if kernels.most_rank is not None and figure(solver.rank) > kernels.most_rank:
            fix = f"give 1 to {kernels.most_rank}, or use the device 'cpu'"
            raise ConfigError("rank out of range of the CUDA kernels", where="rank", seen=self.rank, fix=fix)
        return solver

    def member_epochs(self, train: Ratings, rng: np.random.Generator, kernels: Kernels) -> Iterator[Epoch]:
        """One run, from random factors."""
        mean, deviation = moments(train)
        rank, ridge = figure(self.rank), figure(self.regularisation)
        width = kernels.width(rank)
        grid = kernels.grid(len(train), train.n_users, train.n_items, width)
        order = blocks.schedule(train, grid, rng, center=mean, scale=deviation, kernels=kernels)
        initial = self._initial(train, rng, width)
        user_places, item_places = order.user_places, order.item_places
        P, Q = (
            kernels.put_factors(_permuted(factors, places), self.precision)
            for factors, places in ((initial[0], user_places), (initial[2], item_places))
        )
        user_bias, item_bias = (
            kernels.put(_permuted(bias, places))
            for bias, places in ((initial[1], user_places), (initial[3], item_places))
        )
        triples = kernels.triples(order.users, order.items, order.values, self._bounds(order))
        noise = int(rng.integers(2**31))
        share = max(train.user_counts.max(), train.item_counts.max()) / len(train)
        batch = kernels.batch(float(share), max(self.learning_rate, self.bias_learning_rate))

        def model() -> Factorization:
            p, q = kernels.get(P)[user_places, :rank], kernels.get(Q)[item_places, :rank]
            b_u, b_i = kernels.get(user_bias)[user_places], kernels.get(item_bias)[item_places]
            return restored(mean, deviation, train.rating_range, b_u, b_i, p, q)

        at_users, at_items = kernels.put(user_places), kernels.put(item_places)

        def predict(users: Any, items: Any, times: Any) -> Any:
            X, Y = (with_biases(kernels, F, bias) for F, bias in ((P, user_bias), (Q, item_bias)))
            u, i = (kernels.xp.where(rows < 0, rows, at[rows]) for rows, at in ((users, at_users), (items, at_items)))
            return predicted(kernels, u, i, X, Y, mean, deviation, train.rating_range)

        for epoch in range(1, self.epochs + 1):
            step = self.decay ** (epoch - 1)
            squared_error = 0.0
            for part in triples.passes():
                squared_error += kernels.sgd_epoch(
                    *part, batch, P, Q, user_bias, item_bias,
                    self.learning_rate * step, self.bias_learning_rate * step,
                    ridge, self.bias_regularisation, noise + epoch,
                )  # fmt: skip
            rmse = np.sqrt(squared_error / len(train))
            if not rmse < _DIVERGED:
                raise SolveError(
                    f"SGD diverged in epoch {epoch}",
                    seen=f"training RMSE {rmse * deviation:g}",
                    fix=f"lower learning_rate (now {self.learning_rate:g}) or raise regularisation (now {ridge:g})",
                )
            yield Epoch(epoch, len(train), float(rmse * deviation), model, predict=predict)

    def _bounds(self, order: blocks.Blocks) -> NDArray[np.int64]:
        """Of the blocks; for hogwild those of short runs through them, as a single stratum: none waits for another."""
        if self.schedule == "conflict-free":
            return order.bounds
        n = len(order.users)
        return np.append(np.arange(0, n, _RUN), n)[None]

    def _initial(
        self, train: Ratings, rng: np.random.Generator, width: int
    ) -> tuple[NDArray[np.float32], ...]:  # fmt: skip
        """P [m, width], b_u [m], Q [n, width], b_i [n] before the first epoch, on the standardised scale."""
        parts: list[NDArray[np.float32]] = []
        rank = figure(self.rank)
        for rows in (train.n_users, train.n_items):
            factors = np.zeros((rows, width), np.float32)
            drawn = rng.standard_normal((rows, rank), dtype=np.float32)
            factors[:, :rank] = drawn * np.float32(self.initial_scale / np.sqrt(rank))
            parts += [factors, np.zeros(rows, np.float32)]
        return tuple(parts)


def _permuted(rows: NDArray[np.float32], places: NDArray[np.int32]) -> NDArray[np.float32]:
    """Rows moved to their places: out[places[j]] = rows[j]."""
    moved = np.empty_like(rows)
    moved[places] = rows
    return moved
