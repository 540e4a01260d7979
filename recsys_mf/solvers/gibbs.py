"""Bayesian matrix factorisation by Gibbs sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import SolveError
from recsys_mf.kernels import Kernels, layout
from recsys_mf.models import Factorization, Posterior
from recsys_mf.models.posterior import Bins, Sample, stride
from recsys_mf.ratings import Grouped, Ratings
from recsys_mf.solvers.links import Links, no_links, who_rated_what
from recsys_mf.solvers.solver import Epoch, Solver, setting, standardised

F32 = NDArray[np.float32]

_START = 0.1  # standard deviation of the factors that sampling starts from
_MEAN_PRECISION = 2.0  # b₀: of the prior on μ, in units of Λ
_FLAT = 2e-4  # running validation RMSE that a quarter more sweeps must gain, relative
_FEWEST_SWEEPS = 48
_MOST_BYTES = 1 << 29  # of the samples of a model


@dataclass(frozen=True)
class Gibbs(Solver):
    """Bayesian matrix factorisation, every hyper-parameter sampled, on standardised ratings.

        r_ui = μ + b_u + b_i + p_u · q_i + ε,    ε ~ N(0, 1/α)
        r̂_ui = mean of μ + b_u + b_i + p_u · q_i over the samples

    With timestamps there is a third table, a row (a_t, w_t) for every bin of time: r_ui gains w_t + p_u · a_t +
    q_i · a_t. A row x = (factors, bias) of any table has the prior

        x_g ~ N(μ_g, Λ⁻¹),   μ_g = μ + F_g β,   Λ ~ Wishart(k + 1, I),   α ~ Gamma(½, ½)

    of `links`: F_u says which items the user rated in train, F_i who rated the item. A sweep draws, for users, time
    and items in turn, Λ, (μ, β), λ and all rows (`kernels.reference.solve_rows`), each from its conditional
    distribution; then α. Sampling starts from small random factors, and the first `burn_in` sweeps are left out. A
    start from a short SGD run was tried: its first hundred sweeps are worse (ML-1M after 50: 0.849 against 0.837).
    More burn-in is worse too: early draws are of fewer dimensions and make the mean better (after 400 sweeps, without
    links: 0.8303 leaving out 3 % of them, 0.8316 leaving out 33 %). Predictions are averaged, never factors: the
    posterior is the same under any rotation of them. Unknown ids and times have their prior mean.

    Salakhutdinov, Mnih: Bayesian probabilistic matrix factorization using MCMC, ICML 2008; Rendle, Zhang, Koren: On
    the difficulty of evaluating baselines, 2019.
    """

    name: ClassVar[str] = "gibbs"
    samples_posterior: ClassVar[bool] = True

    rank: int = setting(0, "columns k of the factors; 0 for √ratings / 20, from 8 to 48 in eights", high=1024)
    sweeps: int = setting(400, "most sweeps; fewer where the validation error has flattened", low=1)
    burn_in: int = setting(10, "sweeps at the start that are left out of the mean")
    samples: int = setting(400, "most samples kept; fewer where they would take more than 512 MiB", low=1)
    links: str = setting("both", "who-rated-what priors", choices=("both", "users", "items", "none"))
    time: str = setting("auto", "a table of time bins, where there are timestamps", choices=("auto", "none"))
    bin_days: float = setting(1.0, "width of a time bin", low=1e-3)

    @property
    def n_epochs(self) -> int:
        """The setting `sweeps`."""
        return self.sweeps

    def stopped_at(self, epoch: int) -> Self:
        """With `sweeps` = epoch."""
        return replace(self, sweeps=epoch)

    def resolved(self, train: Ratings, kernels: Kernels) -> Self:
        """With the rank that 0 stands for.

        Validation rows chose rank 16 among 16, 32 and 48 for 80,000 ratings, and 48 among 20, 32 and 48 for 900,000.
        """
        eights = round(np.sqrt(len(train)) / 20 / 8)
        return self if self.rank else replace(self, rank=int(np.clip(8 * eights, 8, 48)))

    def finished(self, errors: Sequence[float]) -> bool:
        """Whether the last quarter of the sweeps lowered the running error by less than 0.02 %."""
        earlier = len(errors) * 3 // 4
        return len(errors) >= _FEWEST_SWEEPS and min(errors[earlier:]) > (1 - _FLAT) * min(errors[:earlier])

    def best(self, errors: Sequence[float]) -> int:
        """All of them: more samples are never worse but for chance."""
        return len(errors)

    def run(
        self,
        train: Ratings,
        *,
        rng: np.random.Generator,
        kernels: Kernels,
        start: Factorization | None = None,
    ) -> Iterator[Epoch]:
        """See `Solver.run`; an Epoch is a sweep."""
        if not self.rank:
            yield from self.resolved(train, kernels).run(train, rng=rng, kernels=kernels)
            return
        values, mean, deviation = standardised(train)
        scaled = Ratings(train.users, train.items, values, train.times, train.user_vocabulary, train.item_vocabulary)
        bins = Bins.of(train.times, self.bin_days) if self.time == "auto" and train.times is not None else Bins.none()
        users, items, contexts = self._tables(scaled, bins.indices(train.times), len(bins), kernels, rng)
        a_sample = 2 * (self.rank + 1) * (train.n_users + train.n_items + len(bins))
        samples = max(1, min(self.samples, _MOST_BYTES // a_sample))
        precision = 1.0
        for table in (users, items):
            table.X[:, :-1] = rng.standard_normal((len(table.X), self.rank)) * _START
        kept: list[tuple[int, Sample]] = []

        for sweep in range(1, self.sweeps + 1):
            users.sweep(items.X, contexts.X, precision, rng)
            if len(bins):
                contexts.sweep(users.X, items.X, precision, rng)
            squared_error = items.sweep(users.X, contexts.X, precision, rng)
            precision = rng.gamma((1 + len(train)) / 2, 2 / (1 + squared_error))
            sample = Sample.centred(
                (users.X, items.X, contexts.X), (users.mean, items.mean, contexts.mean), 1 / np.sqrt(precision)
            )
            burning = sweep <= self.burn_in
            every = stride(sweep - self.burn_in, samples)
            if not burning:
                kept = [(t, s) for t, s in [*kept, (sweep, sample)] if not (t - self.burn_in) % every]

            def posterior(samples: Sequence[Sample] = tuple(s for _, s in kept) or (sample,)) -> Posterior:
                return Posterior.of(samples, mean, deviation, bins, train.rating_range)

            def drawn(sample: Sample = sample) -> Posterior:
                return Posterior.of((sample,), mean, deviation, bins, train.rating_range)

            rmse = float(deviation * np.sqrt(squared_error / len(train)))
            yield Epoch(sweep, (2 + bool(len(bins))) * len(train), rmse, posterior, drawn, burning)

    def _tables(
        self, train: Ratings, bins: NDArray[np.int32], n_bins: int, kernels: Kernels, rng: np.random.Generator
    ) -> tuple[_Table, _Table, _Table]:
        """The tables of users, items and time bins; `bins` is [0] where there are none."""
        by_user, by_item = train.by_user(), train.by_item()
        user_links, item_links = no_links(kernels, train.n_users), no_links(kernels, train.n_items)
        if self.links in ("both", "users"):
            user_links = who_rated_what(kernels, by_user, by_item)
        if self.links in ("both", "items"):
            item_links = who_rated_what(kernels, by_item, by_user)
        user_bins = item_bins = bins
        grouped, third = Grouped(np.zeros(1, np.int64), bins, bins.astype(np.float32)), bins
        if n_bins:
            user_bins, item_bins = (
                bins[layout.group(side, size)[1]]
                for side, size in ((train.users, train.n_users), (train.items, train.n_items))
            )
            starts, order = layout.group(bins, n_bins)
            grouped, third = Grouped(starts, train.users[order], train.values[order]), train.items[order]
        return (
            _Table(kernels, by_user, user_bins, user_links, self.rank),
            _Table(kernels, by_item, item_bins, item_links, self.rank),
            _Table(kernels, grouped, third, no_links(kernels, n_bins), self.rank),
        )


class _Table:
    """The rows of one field with their prior, and the ratings they take part in."""

    def __init__(
        self, kernels: Kernels, grouped: Grouped, contexts: NDArray[np.int32], links: Links, rank: int
    ) -> None:
        n_rows, width = len(grouped.starts) - 1, rank + 1
        self.kernels, self.links = kernels, links
        self.ratings = [kernels.put(a) for a in (grouped.starts, grouped.others, contexts, grouped.values)]
        self.unweighted = kernels.put(np.zeros(n_rows, np.float32)), kernels.put(np.zeros(width, np.float32))
        self.X = np.zeros((n_rows, width), np.float32)
        self.B = np.zeros((links.n_features + 1, width), np.float32)
        self.link_precision = 1.0

    @property
    def mean(self) -> F32:
        """μ [k + 1], the prior mean of a row of which nothing is known."""
        mean: F32 = self.B[-1]
        return mean

    def sweep(self, Y: F32, C: F32, noise_precision: float, rng: np.random.Generator) -> float:
        """Draw Λ, (μ, β), λ and the rows given the other tables; returns the summed squared error left."""
        n_rows, width = self.X.shape
        ridge = np.full((len(self.B), 1), self.link_precision, np.float32)
        ridge[-1] = _MEAN_PRECISION
        precision = _drawn_precision(self.X - self.links.product(self.B), self.B * np.sqrt(ridge), rng)
        root = np.linalg.cholesky(precision)  # Λ = root rootᵀ, so that rows z root⁻¹ are N(0, Λ⁻¹)
        inverse_root = np.linalg.inv(root).astype(np.float32)
        noises = (rng.standard_normal((rows, width), np.float32) @ inverse_root for rows in (n_rows, len(self.B)))
        self.B = self.links.drawn(self.X, ridge, self.B, *noises)
        if self.links.n_features:
            size = float(np.square(self.B[:-1] @ root.astype(np.float32), dtype=np.float64).sum())
            self.link_precision = rng.gamma((1 + self.links.n_features * width) / 2, 2 / (1 + size))
        put = self.kernels.put
        starts, others, contexts, values = self.ratings
        X, squared_errors = self.kernels.solve_rows(
            starts, others, contexts, values, put(Y), put(C),
            put(precision.astype(np.float32)), put(self.links.product(self.B)),
            *self.unweighted, noise_precision, put(rng.standard_normal((n_rows, width), np.float32)),
        )  # fmt: skip
        self.X = self.kernels.get(X)
        if not np.isfinite(self.X).all():
            raise SolveError("Gibbs sampling met a system that is not positive definite", fix="lower the rank")
        return float(self.kernels.get(squared_errors).sum(dtype=np.float64))


def _drawn_precision(residuals: F32, coefficients: F32, rng: np.random.Generator) -> NDArray[np.float64]:
    """Λ ~ Wishart given that every row of both tables is N(0, Λ⁻¹), with the prior Wishart(w, I); by Bartlett.

    residuals x_g - μ_g [rows, w]; coefficients √λ β [features, w]
    """
    width = residuals.shape[1]
    scatter = np.eye(width)
    for rows in (residuals, coefficients):
        scatter += (rows.T @ rows).astype(np.float64)
    freedom = width + len(residuals) + len(coefficients)
    triangle = np.tril(rng.standard_normal((width, width)), -1)
    triangle[np.diag_indices(width)] = np.sqrt(rng.chisquare(freedom - np.arange(width)))
    root = np.linalg.cholesky(np.linalg.inv(scatter)) @ triangle
    return root @ root.T
