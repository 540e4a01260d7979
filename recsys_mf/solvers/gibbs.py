"""Bayesian matrix factorisation by Gibbs sampling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import ConfigError
from recsys_mf.kernels.backend import Backend
from recsys_mf.models import Posterior
from recsys_mf.models.samples import Bins, Rounded, Scale
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.protocol import Epoch, Footprint, Predictor, Solver
from recsys_mf.solvers.sampler.chain import Chain, Observed
from recsys_mf.solvers.sampler.draws import Draws
from recsys_mf.solvers.sampler.state import state_for_more, state_of, take_up
from recsys_mf.solvers.selection import Selection
from recsys_mf.solvers.settings import AUTO, Among, Auto, Between, figure, setting
from recsys_mf.solvers.standardisation import find_scale, standardise
from recsys_mf.solvers.state import State

_WORSE, _CHANCE = 2e-3, 0.05  # relative rise of the running validation RMSE beyond chance; for few rows, 0.05 / √rows
_MIN_SWEEPS, _MAX_SWEEPS = 50, 400  # the mean of fewer is noisy, and may be good on a few validation rows by chance
_JOINED = 0.3  # of the sweeps, after which validation rows join; a larger share costs some error (docs/decisions.md)
_BURN_INS = (10, 20, 40, 80)
_MAX_LEVELS = 20  # the most distinct ratings that are treated as an ordered scale
_MAX_BYTES = 1 << 29  # of the samples of a model
_NOISES = ("mixed", "personal", "common")
_LINKS = ("both", "users", "items", "none")


@dataclass(frozen=True)
class Gibbs(Solver):
    """Bayesian matrix factorisation, every hyper-parameter sampled.

        m_ui = μ + b_u + b_i + p_u · q_i
        gaussian:  r_ui = m_ui + ε,  ε ~ N(0, 1/(α w_ui γ_u δ_i)), on standardised ratings, weights w of mean 1, or 1
        ordinal:   r_ui is level l where τ_l < m_ui + ε ≤ τ_{l+1}    (an ordered probit: `likelihood.OrderedProbit`)
        personal noise:  γ_u ~ Gamma(ν/2, ν/2), and so the δ_i with a ν of their own; else both are 1    (`noise`)
        r̂_ui = mean over the samples of all chains of m_ui, or of the expected level

    By default one chain has common noise and one personal: the mean of two models that err in different ways is better
    than either, and better than the same number of draws of one of them.

    With timestamps there is a third table, a row (a_t, w_t) for every bin of time: m_ui gains w_t + p_u · a_t +
    q_i · a_t. A row x = (factors, bias) of any table has the prior

        x_g ~ N(m_g, Λ⁻¹),   m_g = ξ + F_g β,   Λ ~ Wishart(k + 1, I),   α ~ Gamma(½, ½)

    with the features of `links`: F_u has the items that the user rated in train, F_i the users who rated the item, and
    both have the side information, if there is any. A sweep draws, for users, time and items in turn, Λ, (ξ, β), λ,
    all rows (`kernels.reference.solve`) and the scales of their noise, each from its conditional distribution; then the
    likelihood's parameters.
    Sampling starts from small random factors, and the first `burn_in` sweeps are left out. More burn-in is not always
    better, so validation chooses it (docs/decisions.md).
    The chain that is validated is also that of the model: after `joined_after` sweeps without the validation rows,
    these rows join, and the model is the mean of the draws before and after. It takes half the time of two chains.
    Predictions are averaged, never factors, because the posterior is the same under any rotation of the factors.
    Intervals are those of a rating of weight 1; with personal noise their width depends on the user and the item.
    Unknown ids and times have their prior mean; a user or item with only side information is drawn like the others.

    Salakhutdinov, Mnih: Bayesian probabilistic matrix factorization using MCMC, ICML 2008; Rendle, Zhang, Koren: On
    the difficulty of evaluating baselines, 2019.
    """

    name: ClassVar[str] = "gibbs"
    samples_posterior: ClassVar[bool] = True
    takes_features: ClassVar[bool] = True
    takes_times: ClassVar[bool] = True
    resumes: ClassVar[bool] = True

    rank: int | Auto = setting(
        AUTO, "columns k of the factors; auto: √ratings / 20, to a multiple of 8 from 8 to 48", low=1, high=1024,
        kind=int, search=Between(4, 64),
    )  # fmt: skip
    sweeps: int | Auto = setting(
        AUTO, "sweeps of every chain; auto: 400, or fewer if the validation error rises before", low=1, kind=int
    )
    burn_in: int | Auto = setting(
        AUTO, "sweeps at the start that are left out; auto: 10, 20, 40 or 80, chosen on validation rows", kind=int
    )
    joined_after: int | Auto = setting(
        AUTO, "sweeps after which validation rows join the chain; auto: 30 % of the sweeps; 0: never, the fit has "
        "chains of its own", kind=int,
    )  # fmt: skip
    chains: int = setting(2, "independent chains, whose draws are pooled", low=1, high=64)
    samples: int = setting(400, "most samples kept; fewer if they would take more than 512 MiB", low=1)
    likelihood: str = setting(
        "auto",
        f"of a rating; auto: ordinal for 3 to {_MAX_LEVELS} distinct ratings without weights",
        choices=("auto", "gaussian", "ordinal"),
        search=Among(("gaussian", "ordinal")),
    )
    noise: str = setting(
        "mixed",
        "of a rating; personal: with a scale for every user and item; mixed: personal in every second chain",
        choices=_NOISES,
        search=Among(_NOISES),
    )
    links: str = setting("both", "who-rated-what priors", choices=_LINKS, search=Among(_LINKS))
    time: str = setting(
        "auto", "a table of time bins, if there are timestamps", choices=("auto", "none"),
        search=Among(("auto", "none"), needs_times=True),
    )  # fmt: skip
    bin_days: float = setting(1.0, "width of a time bin", low=1e-3, high=1e6, search=Between(0.1, 30, needs_times=True))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.burn_in != AUTO and self.burn_in >= self.n_epochs:
            sweeps = self.n_epochs if self.sweeps != AUTO else f"at most {_MAX_SWEEPS}"
            raise ConfigError(
                "burn_in leaves no sweep to keep", where="burn_in", seen=f"burn_in {self.burn_in}, sweeps {sweeps}",
                fix="give a burn_in below sweeps",
            )  # fmt: skip
        if self.joined_after != AUTO and self.joined_after >= self.n_epochs:
            raise ConfigError(
                "joined_after leaves no sweep with all ratings", where="joined_after",
                seen=f"joined_after {self.joined_after}, sweeps {self.n_epochs}", fix="give fewer than sweeps",
            )  # fmt: skip

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> Self:
        """See `Solver.from_texts`; for the rank and the sweeps, 0 also means "auto", as in older runs."""
        old = {"rank", "sweeps"}
        return super().from_texts({key: AUTO if key in old and text == "0" else text for key, text in texts.items()})

    @property
    def n_epochs(self) -> int:
        """The setting `sweeps`, or the largest number if it is "auto"."""
        return _MAX_SWEEPS if self.sweeps == AUTO else self.sweeps

    def stopped_at(self, epoch: int) -> Self:
        """With `sweeps` = epoch; at least the last sweep is kept."""
        burn_in = self.burn_in if self.burn_in == AUTO else min(self.burn_in, epoch - 1)
        joined_after = self.joined_after if self.joined_after == AUTO else min(self.joined_after, epoch - 1)
        return replace(self, sweeps=epoch, burn_in=burn_in, joined_after=joined_after)

    @property
    def joins(self) -> bool:
        """See `Solver.joins`."""
        return self.joined_after != 0 and self.n_epochs > 1

    def apart(self) -> Self:
        """See `Solver.apart`."""
        return replace(self, joined_after=0)

    def resolved(self, train: Ratings, backend: Backend) -> Self:
        """With the rank and the likelihood that "auto" stands for."""
        eights = round(np.sqrt(len(train)) / 20 / 8)
        rank = int(np.clip(8 * eights, 8, 48)) if self.rank == AUTO else self.rank
        likelihood = self.likelihood
        if likelihood == "auto":
            is_scale = train.weights is None and 3 <= len(_levels(train)) <= _MAX_LEVELS
            likelihood = "ordinal" if is_scale else "gaussian"
        if likelihood == "ordinal" and train.weights is not None:
            raise ConfigError(
                "the ordinal likelihood takes no weights", where="likelihood", seen=likelihood,
                fix="use -p likelihood=gaussian, or give ratings without weights",
            )  # fmt: skip
        noise = "common" if self.noise == "mixed" and self.chains == 1 else self.noise
        return replace(self, rank=rank, likelihood=likelihood, noise=noise)

    def _is_personal(self, chain: int) -> bool:
        """Whether the chain of this number has personal noise."""
        return self.noise == "personal" or (self.noise == "mixed" and chain % 2 == 1)

    def for_part(self, part: Ratings) -> Self:
        """See `Solver.for_part`: if too few levels are left for the ordinal likelihood, with the Gaussian."""
        return replace(self, likelihood="gaussian") if self.likelihood == "ordinal" and len(_levels(part)) < 3 else self

    def selection(self) -> RunningMean:
        """See `Solver.selection`."""
        return RunningMean(self)

    def run(self, train: Ratings, *, rng: np.random.Generator, backend: Backend) -> Iterator[Epoch]:
        """See `Solver.run`; an Epoch is a sweep of every chain."""
        return self.run_from(None, train, rng=rng, backend=backend)

    def run_joined(
        self, start: State, train: Ratings, *, rng: np.random.Generator, backend: Backend
    ) -> Iterator[Epoch]:
        """See `Solver.run_joined`. Latent ratings are drawn again, for all ratings, given the rows; the draws from
        before the other ratings joined are kept.
        """
        return self.run_from(state_for_more(start, _levels(train)), train, rng=rng, backend=backend)

    def run_from(
        self, start: State | None, train: Ratings, *, rng: np.random.Generator, backend: Backend
    ) -> Iterator[Epoch]:
        """See `Solver.run_from`."""
        solver = self.resolved(train, backend)
        if solver != self:
            yield from solver.run_from(start, train, rng=rng, backend=backend)
            return
        scale, observed = self._observed(train, backend, None if start is None else start.part("scale"))
        chains = [
            Chain(observed, figure(self.rank), stream, is_personal=self._is_personal(number))
            for number, stream in enumerate(rng.spawn(self.chains))
        ]
        kept = Draws(self.selection().burn_ins[0], self._most_samples(self._kept_numbers(train, len(scale.bins))))
        done = 0 if start is None else take_up(start, chains, kept, scale)

        for sweep in range(done + 1, self.n_epochs + 1):
            squared_error = float(np.mean([chain.sweep() for chain in chains]))
            kept.add(sweep, chains)

            def posterior(samples: Sequence[Rounded] = kept.samples) -> Posterior:
                return Posterior.stacked(samples or [Rounded.of(chain.sample()) for chain in chains], scale)

            def predictor() -> Predictor:
                each = [chain.predictor(scale) for chain in chains]
                return lambda *pairs: sum(predict(*pairs) for predict in each) / len(each)

            # The ordinal residual is of the latent ratings.
            rmse = scale.deviation * np.sqrt(squared_error / len(train)) if not len(scale.levels) else None
            visits = self.chains * (2 + bool(len(scale.bins))) * len(train)
            yield Epoch(
                sweep, visits, rmse, posterior, predictor, True, self._monitored(chains, scale.deviation),
                partial(state_of, sweep, chains, kept, scale) if sweep < self.n_epochs else None,
            )  # fmt: skip

    def _monitored(self, chains: Sequence[Chain], deviation: float) -> dict[str, tuple[float, ...]]:
        """The monitored scalars of the chains by name; chains with different noise have different names."""
        found: dict[str, list[float]] = {}
        for number, chain in enumerate(chains):
            of = ", personal" if self.noise == "mixed" and self._is_personal(number) else ""
            for name, scalar in chain.monitored(deviation).items():
                found.setdefault(name + of, []).append(scalar)
        return {name: tuple(scalars) for name, scalars in found.items()}

    def footprint(self, train: Ratings) -> Footprint:
        """The tables of every chain, and the larger of two: the search for a draw of the coefficients of links with the
        samples kept, or the samples with the model that is stacked from them.
        """
        bins = len(self._bins(train))
        users, items, width = train.n_users, train.n_items, figure(self.rank) + 1
        rows = users + items + bins
        linked = self.links != "none"
        chains = self.chains * (12 if linked else 8) * width * rows
        search = 4 * width * (8 * max(users, items) + 4 * min(users, items) if linked else 4 * rows)
        numbers = self._kept_numbers(train, bins)
        draws = min(self._most_samples(numbers), max(1, self.n_epochs - self.selection().burn_ins[0])) * self.chains
        samples = 2 * numbers * draws
        table = self._bytes_per_rating(train) * len(train)
        return Footprint(chains + max(search + samples, 2 * samples) + table, samples)

    def _bytes_per_rating(self, train: Ratings) -> int:
        """Memory for the ratings sorted by each side, their errors in every chain, and latent ratings."""
        common, per_chain = 36, 8
        if self.links != "none":
            common += 16
        if self.time == "auto" and train.times is not None:
            common, per_chain = common + 26, per_chain + 4
        if self.likelihood == "ordinal":
            common, per_chain = common + 18, per_chain + 11
        if train.weights is not None:
            common += 16
        return common + per_chain * self.chains

    def _kept_numbers(self, train: Ratings, bins: int) -> int:
        """The numbers that a sample keeps: rows of users, items and bins of time, the coefficients of the links of
        users, and with personal noise a factor per user and item.
        """
        rows = train.n_users + train.n_items * (2 if self.links in ("both", "users") else 1) + bins
        factors = train.n_users + train.n_items if self.noise != "common" else 0
        return (figure(self.rank) + 1) * rows + factors

    def _most_samples(self, numbers: int) -> int:
        """The most samples of a chain to keep, if each has this many numbers."""
        return max(1, min(self.samples, _MAX_BYTES // (2 * numbers)) // self.chains)

    def _bins(self, train: Ratings) -> Bins:
        """The bins of time of the model; none without times."""
        return Bins.of(train.times, self.bin_days) if self.time == "auto" and train.times is not None else Bins.none()

    def _observed(self, train: Ratings, backend: Backend, start: State | None = None) -> tuple[Scale, Observed]:
        """The scale of the model, and the ratings as the chains take them.

        start : the scale of a state, whose mean and deviation the ratings are standardised with; or None
        """
        bins = self._bins(train)
        if self.likelihood == "gaussian":
            found = find_scale(train)
            if start is not None:
                found = found._replace(mean=start.facts["mean"], deviation=start.facts["deviation"])
            values = standardise(train.values, found)
            scale = Scale(found.mean, found.deviation, bins, found.rating_range)
        else:
            levels = _levels(train)
            if not 3 <= len(levels) <= 256:
                raise ConfigError(
                    "the ordinal likelihood needs a scale of 3 to 256 distinct ratings",
                    where="likelihood", seen=f"{len(levels)} distinct ratings", fix="use gaussian",
                )  # fmt: skip
            values = np.searchsorted(levels, train.values).astype(np.uint8)
            scale = Scale(0.0, 1.0, bins, train.rating_range, levels)
        return scale, Observed.of(train, values, bins, self.links, backend, is_ordinal=self.likelihood == "ordinal")


class RunningMean(Selection[Gibbs]):
    """The choice of burn-in and sweeps by the error of the mean over the draws so far."""

    def __init__(self, solver: Gibbs) -> None:
        """The setting `burn_in`, or the ones to choose among, which leave at least a sixth of the validated sweeps."""
        super().__init__(solver)
        n, joined = solver.n_epochs, solver.joined_after
        if joined == AUTO:
            first = 0 if solver.burn_in == AUTO else solver.burn_in
            joined = first + int(_JOINED * (n - first)) or 1
        self._validated = joined or n
        if solver.burn_in != AUTO:
            self.burn_ins = (solver.burn_in,)
        else:
            n = self._validated
            self.burn_ins = tuple(b for b in _BURN_INS if 6 * b <= 5 * n) or (n // 2,)

    def choose(self, best: Mapping[str, Any] | None, n_validated: int = 0) -> Gibbs:
        """With the sweeps and the burn-in that validation chose; without validation, the smallest burn-in."""
        if best is None:
            return replace(self.solver, sweeps=self.solver.n_epochs, burn_in=self.burn_ins[0], joined_after=0)
        chosen = replace(self.solver, burn_in=best["burn_in"])
        if best["epoch"] == n_validated < self.solver.n_epochs:
            return replace(chosen, sweeps=self.solver.n_epochs, joined_after=n_validated)
        return replace(chosen.stopped_at(best["epoch"]), joined_after=0)

    def is_finished(self, errors: Sequence[float]) -> bool:
        """True once the validation rows are to join."""
        return len(errors) >= self._validated

    def find_best(self, errors: Sequence[float], n_rows: int) -> int:
        """All sweeps, since more samples are worse only by chance; if the error rose by more than that, the best."""
        first = min(max(self.burn_ins[0], _MIN_SWEEPS - 1), len(errors) - 1)
        best = first + int(np.argmin(errors[first:])) + 1
        rise = max(_WORSE, _CHANCE / np.sqrt(n_rows))
        clear = self.solver.sweeps == AUTO and errors[best - 1] < (1 - rise) * errors[-1]
        return best if clear else len(errors)


def _levels(train: Ratings) -> NDArray[np.float32]:
    """The distinct ratings in ascending order; if the first rows have over 256, only those of the first rows."""
    few = np.unique(train.values[:65536])
    return few if len(few) > 256 else np.unique(train.values)
