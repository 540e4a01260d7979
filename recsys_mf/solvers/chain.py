"""Chain: one Markov chain of the Gibbs sampler, its tables, its likelihood and its own random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import sorting
from recsys_mf.kernels import Kernels
from recsys_mf.models.posterior import Bins, Sample, Scale
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.likelihood import Gaussian, Likelihood, OrderedProbit
from recsys_mf.solvers.links import Links, side_information, who_rated_what
from recsys_mf.solvers.rows import Rated, Table

_START = 0.1  # standard deviation of the factors that sampling starts from


@dataclass(frozen=True, eq=False)
class Observed:
    """The ratings as the tables of users, items and time bins take them, shared by all chains.

    rated : by table; orders : by table, the row of `values` of each of its ratings
    values [z] : in the order of the rows of train: standardised float32, or levels uint8 for an ordinal likelihood
    """

    kernels: Kernels
    values: NDArray[Any]
    rated: dict[str, Rated]
    orders: dict[str, NDArray[np.int64]]
    links: dict[str, Links]

    @classmethod
    def of(cls, train: Ratings, values: NDArray[Any], bins: Bins, links: str, kernels: Kernels) -> Self:
        """The ratings of train with these values; links : "both", "users", "items" or "none"."""
        bin_of = bins.indices(train.times)
        sides = {"users": (train.users, train.n_users, train.items), "items": (train.items, train.n_items, train.users)}
        rated, orders = {}, {}
        for name, (keys, size, others) in sides.items():
            starts, orders[name] = sorting.group(keys, size)
            third = bin_of[orders[name]] if len(bins) else bin_of
            rated[name] = _put(kernels, starts, others[orders[name]], third)
        if len(bins):
            starts, order = sorting.group(bin_of, len(bins))
            orders["contexts"] = order
            rated["contexts"] = _put(kernels, starts, train.users[order], train.items[order])
        else:
            rated["contexts"] = _put(kernels, np.zeros(1, np.int64), bin_of, bin_of)
            orders["contexts"] = np.zeros(0, np.int64)
        priors = {
            name: Links(kernels, size, _blocks(train, name, kernels, linked=links in ("both", name)))
            for name, (_, size, _) in sides.items()
        }
        priors["contexts"] = Links(kernels, len(bins), ())
        return cls(kernels, values, rated, orders, priors)


class Chain:
    """Tables, likelihood and random numbers of one chain; `sweep` moves it on."""

    def __init__(self, observed: Observed, rank: int, rng: np.random.Generator) -> None:
        self._kernels, put = observed.kernels, observed.kernels.put
        self._rng = rng
        ordinal = observed.values.dtype == np.uint8
        values = observed.values.astype(np.float32)
        self.users, self.items, self.contexts = (
            Table(
                observed.kernels, observed.rated[name], put(values[observed.orders[name]]), observed.links[name], rank
            )
            for name in ("users", "items", "contexts")
        )
        for table in (self.users, self.items):
            start = np.zeros(table.X.shape, np.float32)
            start[:, :-1] = rng.standard_normal((len(start), rank)) * _START
            table.X = put(start)
        self._likelihood: Likelihood = Gaussian(len(values))
        if ordinal:
            probit = _probit(observed)
            probit.begin(self.users, self.items, self.contexts, rng)
            self._likelihood = probit

    def sweep(self) -> float:
        """Draw everything once; returns the summed squared error left, on the scale of the tables."""
        users, items, contexts, rng = self.users, self.items, self.contexts, self._rng
        precision = self._likelihood.precision
        users.sweep(items.X, contexts.X, precision, rng)
        if len(contexts.X):
            contexts.sweep(users.X, items.X, precision, rng)
        squared_error = items.sweep(users.X, contexts.X, precision, rng)
        self._likelihood.draw(users, items, contexts, squared_error, rng)
        return squared_error

    def sample(self) -> Sample:
        """The chain as it stands."""
        tables, get = (self.users, self.items, self.contexts), self._kernels.get
        users, items, contexts = (get(table.X) for table in tables)
        return Sample.centred(
            (users, items, contexts),
            (get(self.users.mean), get(self.items.mean), get(self.contexts.mean)),
            1 / np.sqrt(self._likelihood.precision),
            self._likelihood.thresholds,
        )

    def predict(self, users: Any, items: Any, times: Any, scale: Scale) -> Any:
        """What the chain as it stands predicts for pairs, on the device; an unknown row is at its prior mean."""
        xp, put = self._kernels.xp, self._kernels.put
        X, Y, C = (put(xp.vstack([table.X, table.mean[None]])) for table in (self.users, self.items, self.contexts))
        u, i = (xp.where(rows < 0, len(table) - 1, rows) for rows, table in ((users, X), (items, Y)))
        contexts = self._contexts(users, times, scale.bins) if len(scale.bins) else users[:0]
        values = self._kernels.pair_values(u, i, contexts, X, Y, C)
        if len(scale.levels):
            noise = 1 / np.sqrt(self._likelihood.precision)
            return self._kernels.expected_levels(values, self._likelihood.thresholds, float(noise), scale.levels)
        return xp.clip(scale.mean + scale.deviation * values, *scale.rating_range)

    def _contexts(self, users: Any, times: Any, bins: Bins) -> Any:
        """The time bin of every pair, one more than the last where train has none."""
        xp, numbers = self._kernels.xp, self._kernels.put(bins.numbers)
        if times is None:
            return xp.zeros_like(users) + len(bins)
        wanted = times // bins.seconds
        places = xp.clip(xp.searchsorted(numbers, wanted), None, len(bins) - 1)
        return xp.asarray(xp.where(numbers[places] == wanted, places, len(bins)), dtype=xp.int32)

    def monitored(self, deviation: float) -> dict[str, float]:
        """Scalars that no other choice of the same predictions changes, in rating units (latent, where ordinal).

        noise; standard deviations over all pairs of the parts of m that vary with the user, with the item, and with
        both; the links' √(1 / λ). With p̄ and q̄ the means of the factors these parts are b_u + p_u · q̄, b_i + q_i · p̄
        and (p_u - p̄) · (q_i - q̄): unlike b_u itself they stay when factors are rotated or shifted.
        """
        xp = self._kernels.xp

        def deviation_of(x: Any) -> float:
            return float(xp.sqrt(xp.mean(xp.square(x - xp.mean(x)))))

        X, Y = (xp.asarray(table.X, dtype=xp.float64) for table in (self.users, self.items))
        (P, b_u), (Q, b_i) = ((rows[:, :-1], rows[:, -1]) for rows in (X, Y))
        p, q = xp.mean(P, axis=0), xp.mean(Q, axis=0)
        product, other = (F.T @ F / len(F) for F in (P - p, Q - q))
        interaction = float(xp.sqrt(xp.sum(product * other)))
        figures = {
            "noise": float(deviation / np.sqrt(self._likelihood.precision)),
            "user effect": deviation * deviation_of(b_u + P @ q),
            "item effect": deviation * deviation_of(b_i + Q @ p),
            "interaction": deviation * interaction,
        }
        for side, table in (("user", self.users), ("item", self.items)):
            for number, precision in enumerate(table.link_precisions, start=1):
                name = f"{side} links {number}" if len(table.link_precisions) > 1 else f"{side} links"
                figures[name] = 1 / float(np.sqrt(precision))
        return figures


def _put(kernels: Kernels, *columns: NDArray[Any]) -> Rated:
    return Rated(*(kernels.put(column) for column in columns))


def _blocks(train: Ratings, side: str, kernels: Kernels, *, linked: bool) -> tuple[Any, ...]:
    """The blocks of features of a side: who rated what, and side information."""
    by_user, by_item = train.by_user(), train.by_item()
    mine, theirs = (by_user, by_item) if side == "users" else (by_item, by_user)
    features, vocabulary = (
        (train.user_features, train.user_vocabulary)
        if side == "users"
        else (train.item_features, train.item_vocabulary)
    )
    blocks = [who_rated_what(kernels, mine, theirs)] if linked else []
    if features is not None:
        blocks.append(side_information(kernels, features.aligned(vocabulary)))
    return tuple(blocks)


def _probit(observed: Observed) -> OrderedProbit:
    """The likelihood of levels, with thresholds to start from where a standard normal would have them."""
    from scipy.special import ndtri

    levels = observed.values
    shares = np.cumsum(np.bincount(levels)) / len(levels)
    by_user = observed.orders["users"]
    place = np.empty(len(levels), np.int64)
    place[by_user] = np.arange(len(levels))
    items, contexts = (observed.kernels.put(place[observed.orders[name]]) for name in ("items", "contexts"))
    return OrderedProbit(observed.kernels, levels[by_user], ndtri(shares[:-1]), (items, contexts))
