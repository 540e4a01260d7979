"""Masked stochastic gradient descent over the observed ratings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped
from recsys_mf.errors import ConfigError, SolveError
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import Pairs, RatingScale, SgdState, SgdStep, Tables
from recsys_mf.kernels.schedule.plan import PlanSettings
from recsys_mf.models import Factorization
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.iterative import IterativeSolver
from recsys_mf.solvers.protocol import Epoch, Predictor
from recsys_mf.solvers.settings import AUTO, Auto, Between, figure, setting
from recsys_mf.solvers.standardisation import find_scale, join_biases, predict_pairs, restore
from recsys_mf.solvers.state import State

_DIVERGED = 1e3  # RMSE, in standard deviations of the ratings
_GROWN = 0.35  # sum of steps after which factors have left their small start: 20 epochs by default


@dataclass(frozen=True)
class Sgd(IterativeSolver):
    """Biased matrix factorisation by masked SGD, on ratings standardised to mean 0 and deviation 1.

        r̂_ui = μ + b_u + b_i + p_u · q_i

    minimises, over only the observed pairs Ω, with w_ui the weight of a rating (1 without weights), by default times
    that of its noise (`noise_weights`),

        Σ_{(u,i)∈Ω} w_ui [(r_ui - r̂_ui)² + λ (|p_u|² + |q_i|²) + λ_b (b_u² + b_i²)]

    by visiting every observed triple once per epoch, in a conflict-free order (`kernels.schedule`), with the update of
    `kernels.reference.epoch`. The step of epoch t is η γ^(t-1); weights are divided by their mean, so that a common
    factor changes nothing. An unknown user or item has bias and factor zero. Factors start as N(0, s²/k):
    small, so that early epochs fit what many ratings agree on. The model is the mean of S such runs, cut back to rank k
    (`committee`); with S = 1 it is a single run, for which λ = 0.045 is best.

    Koren, Bell, Volinsky: Matrix factorization techniques for recommender systems, Computer 42(8), 2009.
    """

    name: ClassVar[str] = "sgd"
    overtraining: ClassVar[float] = 1.25
    bytes_per_rating: ClassVar[int] = 28
    bytes_per_weight: ClassVar[int] = 12
    bytes_per_noise: ClassVar[int] = 4
    usual: ClassVar[dict[str, float]] = {"rank": 64, "regularisation": 0.0375}

    rank: int | Auto = setting(
        AUTO, "columns k of the factors; auto: 64 or a better one on validation rows", low=1, high=4096, kind=int,
        search=Between(4, 128),
    )  # fmt: skip
    epochs: int = setting(
        60, "most passes of a single run; of several runs, each makes up to 1.25 times as many; 0: damped biases alone"
    )
    learning_rate: float = setting(
        0.03, "step η of the factors in the first epoch", low=1e-8, high=1, search=Between(0.01, 0.1)
    )
    bias_learning_rate: float = setting(
        0.01, "step of the biases in the first epoch", high=1, search=Between(0.002, 0.05)
    )
    decay: float = setting(
        0.94, "factor γ on both steps from one epoch to the next", low=1e-3, high=1, search=Between(0.85, 0.99, False)
    )
    regularisation: float | Auto = setting(
        AUTO, "λ of the factors, per rating; auto: 0.0375 or a better one on validation rows", kind=float,
        search=Between(0.005, 0.2),
    )  # fmt: skip
    bias_regularisation: float = setting(0.02, "λ_b of the biases, per rating", search=Between(0.002, 0.2))
    initial_scale: float = setting(0.06, "s: expected length of a factor at the start", high=10)
    members: int = setting(
        6, "S: independent runs that are averaged; 1 for a single run", low=1, high=1024, search=Between(3, 12)
    )
    noise: str = setting(
        AUTO, "personal: users and items that vary more count less; auto: personal on the CPU up to 2 million ratings",
        choices=(AUTO, "personal", "common"),
    )  # fmt: skip
    schedule: str = setting(
        "conflict-free", "conflict-free or, on CUDA, hogwild: blocks do not wait for others that share rows",
        choices=("conflict-free", "hogwild"),
    )  # fmt: skip
    precision: str = setting(
        "float32", "type of the factors in training: float32 or, with half the bytes on CUDA, half or bfloat16",
        choices=("float32", "half", "bfloat16"),
    )  # fmt: skip

    def has_settled(self, epochs: int) -> bool:
        """True once the steps suffice for the factors to leave their small start: before, the biases may overfit."""
        return self.learning_rate * sum(self.decay**epoch for epoch in range(epochs)) >= _GROWN

    def resolved(self, train: Ratings, backend: Backend) -> Self:
        """With the usual numbers for "auto". Raises ConfigError if the backend does not support the settings."""
        solver = super().resolved(train, backend)
        for name, offered in (("precision", backend.sgd.precisions), ("schedule", backend.sgd.schedules)):
            self._require(name, offered, f"on the device '{backend.device.name}'")
            if train.weights is not None or solver.noise == "personal":  # kernels with weights support only the first
                what = "with personal noise" if train.weights is None else "for ratings with weights"
                self._require(name, offered[:1], f"{what} on the device '{backend.device.name}'")
        most = backend.sgd.max_rank
        if most is not None and figure(solver.rank) > most:
            fix = f"give 1 to {most}, or use the device 'cpu'"
            raise ConfigError("rank out of range of the CUDA kernels", where="rank", seen=self.rank, fix=fix)
        return solver

    def _require(self, name: str, offered: tuple[str, ...], where: str) -> None:
        """Raise ConfigError if the value of a setting is not among those that are supported."""
        if getattr(self, name) not in offered:
            fix = f"use {' or '.join(offered)}"
            raise ConfigError(f"no such {name} {where}", where=name, seen=getattr(self, name), fix=fix)

    def run_once(
        self,
        train: Ratings,
        rng: np.random.Generator,
        backend: Backend,
        start: State | None = None,
        scale: RatingScale | None = None,
    ) -> Iterator[Epoch]:
        """One run, from random factors or a state."""
        scale = scale or find_scale(train)
        rank, ridge = figure(self.rank), figure(self.regularisation)
        device, sgd = backend.device, backend.sgd
        rate = max(self.learning_rate, self.bias_learning_rate)
        settings = PlanSettings(rank, scale, self.schedule, rate)
        plan = sgd.plan(train, settings, rng)
        user_places, item_places = plan.user_places, plan.item_places
        if start is None:
            initial = self._initial(train, rng, plan.width)
            P, Q, b_u, b_i = (
                _permuted(rows, places) for rows, places in zip(initial, (user_places, item_places) * 2, strict=True)
            )
            noise, done = int(rng.integers(2**31)), 0
        else:
            P, Q, b_u, b_i = (np.array(start.arrays[name]) for name in SgdState._fields)
            noise, done = start.facts["noise"], start.facts["epoch"]
        state = SgdState(
            sgd.put_factors(P, self.precision), sgd.put_factors(Q, self.precision), device.put(b_u), device.put(b_i)
        )

        def model() -> Factorization:
            sgd.collect(plan, state)
            p, q = device.get(state.P)[user_places, :rank], device.get(state.Q)[item_places, :rank]
            b_u, b_i = device.get(state.user_bias)[user_places], device.get(state.item_bias)[item_places]
            return restore(scale, b_u, b_i, p, q)

        at_users, at_items = device.put(user_places), device.put(item_places)

        @cache
        def tables() -> Tables:
            places = user_places, item_places
            return Tables(*(device.put(np.zeros((len(of), plan.width + 1), np.float32)) for of in places))

        def predictor() -> Predictor:
            sgd.collect(plan, state)
            join_biases(tables().users, state.P, state.user_bias, at_users)
            join_biases(tables().items, state.Q, state.item_bias, at_items)
            return lambda users, items, times: predict_pairs(backend, Pairs(users, items), tables(), scale)

        def stand(epoch: int) -> State:
            sgd.collect(plan, state)
            rows = {name: np.asarray(device.get(table), np.float32) for name, table in state._asdict().items()}
            return State({"epoch": epoch, "noise": noise}, rows)

        for epoch in range(done + 1, self.epochs + 1):
            decay = self.decay ** (epoch - 1)
            step = SgdStep(
                self.learning_rate * decay, self.bias_learning_rate * decay,
                ridge, self.bias_regularisation, noise + epoch, self.noise == "personal",
            )  # fmt: skip
            squared_error = sgd.epoch(plan, state, step)
            rmse = np.sqrt(squared_error / len(train))
            if not rmse < _DIVERGED:
                raise SolveError(
                    f"SGD diverged in epoch {epoch}",
                    seen=f"training RMSE {rmse * scale.deviation:g}",
                    fix=f"lower learning_rate (now {self.learning_rate:g}) or raise regularisation (now {ridge:g})",
                )
            further = partial(stand, epoch) if epoch < self.epochs else None
            yield Epoch(epoch, len(train), float(rmse * scale.deviation), model, predictor, state=further)

    def _initial(
        self, train: Ratings, rng: np.random.Generator, width: int
    ) -> tuple[NDArray[np.float32], ...]:  # fmt: skip
        """P [m, width], Q [n, width], b_u [m], b_i [n] before the first epoch, on the standardised scale."""
        rank, sizes = figure(self.rank), (train.n_users, train.n_items)
        tables = []
        for rows in sizes:
            factors = np.zeros((rows, width), np.float32)
            for part in mapped.parts(rows):  # drawing in parts gives the same numbers
                drawn = rng.standard_normal((len(factors[part]), rank), dtype=np.float32)
                factors[part, :rank] = drawn * np.float32(self.initial_scale / np.sqrt(rank))
            tables.append(factors)
        return *tables, *(np.zeros(rows, np.float32) for rows in sizes)


def _permuted(rows: NDArray[np.float32], places: NDArray[np.int32]) -> NDArray[np.float32]:
    """Rows moved to their places: out[places[j]] = rows[j]."""
    moved = np.empty_like(rows)
    moved[places] = rows
    return moved
