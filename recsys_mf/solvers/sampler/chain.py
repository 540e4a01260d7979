"""Chain: one Markov chain of the Gibbs sampler, its tables, its likelihood and its own random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import sorting
from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import Pairs, Tables
from recsys_mf.models.personal_noise import NoiseDraw
from recsys_mf.models.samples import Bins, Sample, Scale
from recsys_mf.models.user_prior import PriorDraw
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.protocol import Predictor
from recsys_mf.solvers.sampler.likelihood import Gaussian, Likelihood, OrderedProbit
from recsys_mf.solvers.sampler.links import Links, side_information, who_rated_what
from recsys_mf.solvers.sampler.noise import RowNoise
from recsys_mf.solvers.sampler.tables import Rated, Table
from recsys_mf.solvers.state import State

I32 = NDArray[np.int32]
_START = 0.1  # standard deviation of the factors that sampling starts from


@dataclass(frozen=True, eq=False)
class Field:
    """The ratings as the table of one field (users, items or time bins) uses them, shared by all chains.

    rated : the ratings by row of the table
    order : int64[z], for each of them its row in train
    links : the features of the rows
    """

    rated: Rated
    order: NDArray[np.int64]
    links: Links


@dataclass(frozen=True, eq=False)
class Observed:
    """The ratings as the tables of users, items and time bins (None without bins) use them.

    values : [z], in the order of the rows of train: standardised float32, or levels uint8
    is_ordinal : whether they are levels
    """

    backend: Backend
    values: NDArray[Any]
    is_ordinal: bool
    users: Field
    items: Field
    contexts: Field | None

    @classmethod
    def of(
        cls, train: Ratings, values: NDArray[Any], bins: Bins, links: str, backend: Backend, *, is_ordinal: bool
    ) -> Self:
        """The ratings of train with these values; links : "both", "users", "items" or "none".

        Weights are divided by their mean: a common factor of all weights would only change α.
        """
        bin_of, put = bins.indices(train.times), backend.device.put
        weights = None if train.weights is None else train.weights / np.float32(train.total_weight / len(train))

        def field(keys: I32, size: int, others: I32, n_others: int, third: I32 | None, links: Links) -> Field:
            starts, order = sorting.group(keys, size)
            places = Csr(starts, others[order], None, n_others).to(put)
            of_rows = (None if column is None else put(column[order]) for column in (third, weights))
            return Field(Rated(places, *of_rows), order, links)

        of_users, of_items = (
            Links(backend, size, _blocks(train, name, backend, linked=links in ("both", name)))
            for name, size in (("users", train.n_users), ("items", train.n_items))
        )
        m, n = train.n_users, train.n_items
        users = field(train.users, m, train.items, n, bin_of, of_users)
        items = field(train.items, n, train.users, m, bin_of, of_items)
        contexts = None
        if bin_of is not None:  # a bin has users on one side and items as the third
            contexts = field(bin_of, len(bins), train.users, m, train.items, Links(backend, len(bins), ()))
        return cls(backend, values, is_ordinal, users, items, contexts)


class Chain:
    """Tables, likelihood and random numbers of one chain; `sweep` advances it."""

    def __init__(self, observed: Observed, rank: int, rng: np.random.Generator, *, is_personal: bool = False) -> None:
        """is_personal : whether every user and item has a scale of the noise (`noise`)"""
        self._backend, put = observed.backend, observed.backend.device.put
        self._rng = rng
        values = observed.values.astype(np.float32)

        def table(field: Field, noise: RowNoise | None = None) -> Table:
            return Table(observed.backend, field.rated, put(values[field.order]), field.links, rank, noise)

        def noise(field: Field) -> RowNoise | None:
            counts = np.diff(self._backend.device.get(field.rated.places.starts))
            return RowNoise(observed.backend, counts) if is_personal else None

        self.users, self.items = (table(field, noise(field)) for field in (observed.users, observed.items))
        self.contexts = None if observed.contexts is None else table(observed.contexts)
        for side in (self.users, self.items):
            start = np.zeros(side.X.shape, np.float32)
            start[:, :-1] = rng.standard_normal((len(start), rank)) * _START
            side.X = put(start)
        self._likelihood: Likelihood = Gaussian(len(values))
        if observed.is_ordinal:
            probit = _probit(observed)
            probit.begin(self.users, self.items, self.contexts, rng)
            self._likelihood = probit

    def sweep(self) -> float:
        """Draw everything once; returns the summed squared error left, on the scale of the tables."""
        users, items, contexts, rng = self.users, self.items, self.contexts, self._rng
        precision = self._likelihood.precision
        users.sweep(items, contexts, precision, rng)
        if contexts is not None:
            contexts.sweep(users, items, precision, rng)
        squared_error = items.sweep(users, contexts, precision, rng)
        self._likelihood.draw(users, items, contexts, squared_error, rng)
        return squared_error

    def state(self) -> State:
        """Everything that the next sweep depends on, except the ratings."""
        contexts = None if self.contexts is None else self.contexts.state()
        random = State({"generator": self._rng.bit_generator.state}, {})
        return State.joined({
            "users": self.users.state(), "items": self.items.state(), "contexts": contexts,
            "likelihood": self._likelihood.state(self.users), "random": random,
        })  # fmt: skip

    def restore(self, state: State, bins: NDArray[np.int64]) -> None:
        """Continue from a state.

        bins : for every time bin of the state, its index among the bins of this chain
        """
        parts = (state.part(name) for name in ("users", "items", "likelihood", "random"))
        users, items, likelihood, random = (part for part in parts if part is not None)
        self.users.restore(users)
        self.items.restore(items)
        contexts = state.part("contexts")
        if self.contexts is not None and contexts is not None:
            self.contexts.restore_some(contexts, bins)
        self._rng.bit_generator.state = random.facts["generator"]
        self._likelihood.restore(likelihood, self.users, self.items, self.contexts, self._rng)

    def sample(self) -> Sample:
        """The current draw of the chain."""
        get, none = self._backend.device.get, np.zeros((0, self.users.X.shape[1]), np.float32)
        contexts = (none, np.zeros(none.shape[1], np.float32))
        if self.contexts is not None:
            contexts = get(self.contexts.X), get(self.contexts.mean)
        return Sample.centred(
            (get(self.users.X), get(self.items.X), contexts[0]),
            (get(self.users.mean), get(self.items.mean), contexts[1]),
            1 / np.sqrt(self._likelihood.precision),
            self._likelihood.thresholds,
            self._user_prior(),
            self._personal(),
        )

    def _personal(self) -> NoiseDraw | None:
        """The current scales of the noise; None if it is common."""
        users, items = self.users.noise, self.items.noise
        if users is None or items is None:
            return None
        get = self._backend.device.get
        return NoiseDraw(get(users.scales), get(items.scales), (users.freedom, items.freedom))

    def _user_prior(self) -> PriorDraw | None:
        """The current prior of the users; None if it uses side information, which a run does not keep."""
        links = self.users.links
        if links.n_features not in (0, self.items.links.n_rows) or len(links.blocks) > 1:
            return None
        return PriorDraw(self._backend.device.get(self.users.B)[:-1], self.users.precision)

    def predictor(self, scale: Scale) -> Predictor:
        """The predictions of the current draw, on the device; an unknown row is at its prior mean."""
        backend, xp, put = self._backend, self._backend.device.xp, self._backend.device.put

        def rows(table: Table) -> Any:
            return put(xp.vstack([table.X, table.mean[None]]))

        tables = Tables(rows(self.users), rows(self.items), None if self.contexts is None else rows(self.contexts))
        scales = self._row_scales()
        noise = float(1 / np.sqrt(self._likelihood.precision))

        def predict(users: Any, items: Any, times: Any) -> Any:
            u, i = (
                xp.where(rows < 0, len(table) - 1, rows)
                for rows, table in ((users, tables.users), (items, tables.items))
            )
            contexts = None if self.contexts is None else self._contexts(users, times, scale.bins)
            values = backend.rows.pair_values(Pairs(u, i, contexts), tables)
            if len(scale.levels):
                own = None if scales is None else scales[0][u] * scales[1][i]
                rest = self._likelihood.thresholds, noise, scale.levels
                return backend.probit.expected_levels(values, own, *rest)
            return xp.clip(scale.mean + scale.deviation * values, *scale.rating_range)

        return predict

    def _contexts(self, users: Any, times: Any, bins: Bins) -> Any:
        """The time bin of every pair; the number of bins for a time that is in no bin of train."""
        xp, numbers = self._backend.device.xp, self._backend.device.put(bins.numbers)
        if times is None:
            return xp.zeros_like(users) + len(bins)
        wanted = times // bins.seconds
        places = xp.clip(xp.searchsorted(numbers, wanted), None, len(bins) - 1)
        return xp.asarray(xp.where(numbers[places] == wanted, places, len(bins)), dtype=xp.int32)

    def _row_scales(self) -> tuple[Any, Any] | None:
        """γ of every user and δ of every item, with 1 for a row after the last; None without personal noise."""
        if self.users.noise is None or self.items.noise is None:
            return None
        one = self._backend.device.put(np.ones(1, np.float32))
        both = self.users.noise.scales, self.items.noise.scales
        gamma, delta = (self._backend.device.xp.hstack([scales, one]) for scales in both)
        return gamma, delta

    def monitored(self, deviation: float) -> dict[str, float]:
        """Scalars that stay the same if factors change without changing predictions, in rating units (latent, if
        ordinal).

        noise, and with personal noise √(2/ν) of users and of items; standard deviations over all pairs of the parts of
        m that vary with the user, with the item, and with both; the links' √(1 / λ). With p̄ and q̄ the means of the
        factors these parts are b_u + p_u · q̄, b_i + q_i · p̄ and (p_u - p̄) · (q_i - q̄): unlike b_u itself they do
        not change when factors are rotated or shifted.
        """
        xp = self._backend.device.xp

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
            if table.noise is not None:
                figures[f"{side} noise"] = float(np.sqrt(2 / table.noise.freedom))
        return figures


def _blocks(train: Ratings, side: str, backend: Backend, *, linked: bool) -> tuple[Any, ...]:
    """The blocks of features of a side: who rated what, and side information."""
    by_user, by_item = train.by_user(), train.by_item()
    mine, theirs = (by_user, by_item) if side == "users" else (by_item, by_user)
    features, vocabulary = (
        (train.user_features, train.user_vocabulary)
        if side == "users"
        else (train.item_features, train.item_vocabulary)
    )
    blocks = [who_rated_what(backend, mine, theirs)] if linked else []
    if features is not None:
        blocks.append(side_information(backend, features.aligned(vocabulary)))
    return tuple(blocks)


def _probit(observed: Observed) -> OrderedProbit:
    """The likelihood of levels, starting from the thresholds that give a standard normal the observed shares."""
    from scipy.special import ndtri

    levels = observed.values
    shares = np.cumsum(np.bincount(levels)) / len(levels)
    by_user = observed.users.order
    place = np.empty(len(levels), np.int64)
    place[by_user] = np.arange(len(levels))
    put = observed.backend.device.put
    items = put(place[observed.items.order])
    contexts = None if observed.contexts is None else put(place[observed.contexts.order])
    return OrderedProbit(observed.backend, levels[by_user], ndtri(shares[:-1]), (items, contexts))
