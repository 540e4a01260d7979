"""The battery: small planted tables of many kinds, on which no default may be worse than a simpler model.

Every table has many test pairs drawn from the same model, so that the errors have little noise of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from recsys_mf.ratings import Ratings
from recsys_mf.solvers import SOLVERS, Biases, Solver, TruncatedSvd
from recsys_mf.solvers.iterative import IterativeSolver
from recsys_mf.splits import Split, given
from recsys_mf.training import BASELINE, rmse, train

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """The model that a table is drawn from.

    r = mean + user_bias[u] + item_bias[i] + strength · P[u] · Q[i] + noise · N(0, 1), then `shaped`.

    bias, strength : standard deviations of each side's biases and of the interaction
    n_train, n_test : pairs drawn without replacement
    per_user : training ratings of every user, drawn from 1 to this; None to draw from all pairs
    """

    n_users: int
    n_items: int
    n_train: int
    bias: float = 0.5
    rank: int = 3
    strength: float = 1.0
    noise: float = 0.3
    mean: float = 3.5
    per_user: int | None = None
    n_test: int = 4000
    shaped: Callable[[F64], F64] = np.asarray

    def split(self, seed: int) -> Split:
        """Training and test pairs, drawn with a seed."""
        rng = np.random.default_rng(seed)
        m, n = self.n_users, self.n_items
        users, items, n_train = self._pairs(rng)
        P, Q = (rng.normal(0, self.rank**-0.25, (size, self.rank)) for size in (m, n))
        b_u, b_i = (rng.normal(0, self.bias, size) for size in (m, n))
        values = self.mean + b_u[users] + b_i[items] + self.strength * np.einsum("zk,zk->z", P[users], Q[items])
        return _split(users, items, self.shaped(values + rng.normal(0, self.noise, len(users))), n_train)

    def _pairs(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Users and items of the training pairs, then of the test pairs; and the number of training pairs."""
        wanted = min(self.n_train + self.n_test, self.n_users * self.n_items)
        cells = rng.choice(self.n_users * self.n_items, wanted, replace=False)
        n_train = self.n_train
        if self.per_user is not None:
            # The first few pairs of every user; the others go to the end, where the test pairs are.
            place = np.zeros(len(cells), np.int64)
            order = np.argsort(cells // self.n_items, kind="stable")
            starts = np.searchsorted(np.sort(cells // self.n_items), np.arange(self.n_users))
            place[order] = np.arange(len(cells)) - starts[(cells // self.n_items)[order]]
            few = rng.integers(1, self.per_user + 1, self.n_users)
            first = place < few[cells // self.n_items]
            cells, n_train = np.concatenate([cells[first], cells[~first]]), int(first.sum())
        users, items = np.divmod(cells, self.n_items)
        return users, items, n_train


def _split(users: NDArray[np.int64], items: NDArray[np.int64], values: F64, n_train: int) -> Split:
    train, test = (
        Ratings.from_ids(users[rows], items[rows], values[rows].astype(np.float32))
        for rows in (slice(n_train), slice(n_train, None))
    )
    return given(train, test)


def _stars(values: F64) -> F64:
    return np.clip(np.round(values), 1, 5)


def _votes(low: float, flipped: float, camps: float = 0.0) -> Callable[[F64], F64]:
    def shaped(values: F64) -> F64:
        flips = np.random.default_rng(len(values)).random(len(values)) < flipped
        return np.where((values > camps) ^ flips, 1.0, low)

    return shaped


def centred(split: Split, by: str) -> Split:
    """With the training mean of every user or item subtracted from all of its ratings."""
    assert split.test is not None
    train = split.train
    rows, size = (train.users, train.n_users) if by == "users" else (train.items, train.n_items)
    means = np.bincount(rows, train.values, size) / np.maximum(np.bincount(rows, minlength=size), 1)
    means = np.append(means, train.values.mean())

    def shifted(part: Ratings) -> Ratings:
        of = part.users if by == "users" else part.items
        return replace(part, values=(part.values - means[of]).astype(np.float32))

    return replace(split, train=shifted(train), test=shifted(split.test))


def rescaled(split: Split, factor: float, offset: float = 0.0) -> Split:
    """With every rating r replaced by factor · r + offset."""
    assert split.test is not None
    train, test = (
        replace(part, values=(part.values.astype(np.float64) * factor + offset).astype(np.float32))
        for part in (split.train, split.test)
    )
    return replace(split, train=train, test=test)


STARS = Law(400, 200, 12000, strength=0.35, noise=0.7, rank=2, mean=3.3, shaped=_stars)
TASTE = replace(STARS, strength=0.5, noise=0.5)
CAMPS = Law(100, 400, 12000, bias=0, rank=1, mean=0, noise=0, shaped=_votes(0, 0.1))

TABLES: dict[str, Callable[[int], Split]] = {
    "no main effects": Law(400, 150, 9000, bias=0, mean=0).split,
    "centred by user": lambda seed: centred(TASTE.split(seed), "users"),
    "centred by item": lambda seed: centred(TASTE.split(seed), "items"),
    "two camps": CAMPS.split,
    "votes": replace(CAMPS, shaped=_votes(-1, 0.2)).split,
    "stars": STARS.split,
    "ultra-sparse": Law(2500, 800, 6000, strength=0.5, noise=0.7, per_user=3, n_test=3000).split,
    "complete": Law(60, 50, 2700, rank=2, noise=0.2, n_test=300).split,
    "fine-grained": Law(
        500, 120, 15000, bias=0.6, strength=0.5, noise=1.2, mean=6, shaped=lambda v: np.clip(np.round(v, 2), 1, 10)
    ).split,
    "200 ratings": Law(25, 20, 200, n_test=250).split,
    "60 ratings": Law(12, 10, 60, n_test=50).split,
    "biases alone": Law(300, 200, 6000, strength=0, noise=0.7).split,
    "one user": Law(1, 300, 100, n_test=150).split,
    "one item": Law(300, 1, 100, n_test=150).split,
}
"""The tables, named by what is special about them; each draws a split from a seed."""

RANKS, FACTORS = (4, 16, 64), (0.25, 1, 4)
SEEDS = 5


@dataclass(frozen=True)
class Compared:
    """Test errors of a solver on a table, averaged over seeds.

    default : with default settings; single : of one member of the committee; equal to `default` if there is none
    bias : of the damped biases
    best : the lowest of the grid of ranks {4, 16, 64} and of λ/4, λ and 4 λ around the usual λ; for gibbs only the
        ranks, since it learns what λ stands for
    """

    default: float
    single: float
    bias: float
    best: float

    @property
    def over_simple(self) -> float:
        """The default divided by the better of a single run and biases alone."""
        return self.default / min(self.single, self.bias)

    @property
    def over_best(self) -> float:
        """The default divided by the best of the grid."""
        return self.default / self.best


def compare(table: str, name: str, seeds: int = SEEDS, ranks: tuple[int, ...] = RANKS) -> Compared:
    """The errors of a solver, given by name, on a table of the battery; a seed is that of the split and of training."""
    kind = SOLVERS[name]
    default = _mean_error(table, kind(), seeds)
    single = _mean_error(table, kind(members=1), seeds) if issubclass(kind, IterativeSolver) else default
    best = min(_mean_error(table, solver, seeds) for solver in _grid(kind, ranks))
    return Compared(default, single, _mean_error(table, Biases(), seeds), best)


@cache
def _mean_error(table: str, solver: Solver, seeds: int) -> float:
    return float(np.mean([_error(TABLES[table](seed), solver, seed) for seed in range(seeds)]))


def _error(split: Split, solver: Solver, seed: int) -> float:
    assert split.test is not None
    run = train(split, solver, seed=seed, device="cpu", compared_with={BASELINE: TruncatedSvd(ranks=(1,))})
    return rmse(run.model, split.test)


def _grid(kind: type[Solver], ranks: tuple[int, ...]) -> Iterator[Solver]:
    for rank in ranks:
        if issubclass(kind, IterativeSolver):
            λ = kind.usual["regularisation"]
            yield from (kind(rank=rank, regularisation=λ * factor) for factor in FACTORS)
        else:
            yield kind(rank=rank)
