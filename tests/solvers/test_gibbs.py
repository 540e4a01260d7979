"""The sampler: links against dense algebra, planted truth is found, and draws have the right joint distribution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr
from threadpoolctl import ThreadpoolController

from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import ConfigError
from recsys_mf.evaluation.convergence import summarise
from recsys_mf.evaluation.scoring import coverage, predict_ratings
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.cpu.backend import make_backend
from recsys_mf.kernels.cpu.device import CpuDevice
from recsys_mf.kernels.cpu.rows import CpuRows
from recsys_mf.loaders import features_from_frame
from recsys_mf.models import Posterior
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import Gibbs
from recsys_mf.solvers.sampler.chain import Chain
from recsys_mf.solvers.sampler.likelihood import OrderedProbit
from recsys_mf.solvers.sampler.links import Links, side_information, who_rated_what
from recsys_mf.solvers.sampler.noise import FREEDOMS, RowNoise, log_freedom_density
from recsys_mf.solvers.sampler.tables import Rated, Table, drawn_precision
from recsys_mf.splits import hold_out
from tests.planted import planted
from tests.trained import intervals

DRAWS = 20000  # of a joint distribution


@pytest.fixture(autouse=True)
def _one_blas_thread() -> Iterator[None]:
    """As in training: on matrices this small, threads that wait busily would make everything a hundred times slower."""
    with ThreadpoolController().limit(limits=1, user_api="blas"):
        yield


class NoCopies(CpuDevice):
    """A device that does not copy arrays, for tables of a few rows."""

    def put(self, array: Any) -> Any:
        return array

    def get(self, array: Any) -> Any:
        return array


class DenseProducts(CpuRows):
    """Products by dense matrices, for tables of a few rows."""

    def __init__(self) -> None:
        super().__init__(1)
        self._dense: dict[int, np.ndarray[Any, Any]] = {}

    def multiply(self, matrix: Csr, X: Any, less: Any = None) -> Any:
        assert less is None
        key = id(matrix.starts)
        if key not in self._dense:
            dense = np.zeros((matrix.n_rows, len(X)), np.float32)
            rows = np.repeat(np.arange(len(dense)), np.diff(matrix.starts))
            dense[rows, matrix.columns] = 1 if matrix.values is None else matrix.values
            self._dense[key] = dense
        return self._dense[key] @ X


def small_backend() -> Backend:
    return replace(make_backend(1), device=NoCopies(1), rows=DenseProducts())


def dense_features(train: Ratings) -> np.ndarray[Any, Any]:
    """F_u of who-rated-what links [m, n + 1]: 1/√count for every rated item, and a column of ones."""
    rated = np.zeros((train.n_users, train.n_items))
    rated[train.users, train.items] = 1
    rated /= np.sqrt(np.maximum(rated.sum(axis=1, keepdims=True), 1))
    return np.column_stack([rated, np.ones(train.n_users)])


def side_table(rng: np.random.Generator, rows: int, columns: int) -> tuple[Csr, np.ndarray[Any, Any]]:
    """Side information of these rows, half of it present, and the same as a dense matrix."""
    dense = rng.standard_normal((rows, columns)).astype(np.float32) * (rng.random((rows, columns)) < 0.5)
    starts = np.append(0, np.cumsum((dense != 0).sum(axis=1)))
    return Csr(starts, np.nonzero(dense)[1].astype(np.int32), dense[dense != 0], columns), dense


def linked(train: Ratings, backend: Backend) -> tuple[Links, np.ndarray[Any, Any]]:
    """Links of the users of train to the items they rated and to two side features, and F as a dense matrix."""
    sparse, dense = side_table(np.random.default_rng(5), train.n_users, 2)
    blocks = who_rated_what(backend, train.by_user(), train.by_item()), side_information(backend, sparse)
    who = dense_features(train)
    return Links(backend, train.n_users, blocks), np.column_stack([who[:, :-1], dense, who[:, -1]])


def test_links_equal_the_dense_matrix_of_who_rated_what_and_side_information() -> None:
    train, _ = planted(n_users=30, n_items=20)
    links, F = linked(train, make_backend(2))
    rng = np.random.default_rng(0)
    B, X = rng.standard_normal((23, 4)).astype(np.float32), rng.standard_normal((30, 4)).astype(np.float32)
    np.testing.assert_allclose(links.product(B), F @ B, atol=1e-5)
    np.testing.assert_allclose(links.transposed_product(X), F.T @ X, atol=1e-5)
    np.testing.assert_allclose(links.squares[:, 0], np.diag(F.T @ F), rtol=1e-5)
    assert [len(part) for part in links.parts(B)] == [20, 2]
    assert links.ridge([3.0, 4.0])[:, 0].tolist() == [3.0] * 20 + [4.0] * 2 + [2.0]


def test_coefficients_solve_their_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_mf.solvers.sampler.links._TOLERANCE", 1e-3)
    train, _ = planted(n_users=30, n_items=20)
    links, F = linked(train, make_backend(1))
    rng = np.random.default_rng(1)
    X, row_noise = (rng.standard_normal((30, 4)).astype(np.float32) for _ in range(2))
    feature_noise = rng.standard_normal((23, 4)).astype(np.float32)
    ridge = links.ridge([1.5, 0.7])
    exact = np.linalg.solve(F.T @ F + np.diag(ridge[:, 0]), F.T @ (X + row_noise) + np.sqrt(ridge) * feature_noise)
    for start in (np.zeros((23, 4), np.float32), exact.astype(np.float32) + 1):
        found = links.drawn(X, ridge, start, links.product(start), row_noise, feature_noise)
        # The search ends at 0.001 of the draw's own spread, which is about one.
        assert np.linalg.norm(found - exact) < 0.01 * np.linalg.norm(exact)


def test_coefficients_are_found_well_within_their_own_spread() -> None:
    """With the default tolerance: the error of the search, in the norm in which the spread of the draw is √features."""
    train, _ = planted(n_users=200, n_items=100, density=0.1)
    links, F = linked(train, make_backend(1))
    rng = np.random.default_rng(1)
    X, row_noise = (rng.standard_normal((200, 4)).astype(np.float32) for _ in range(2))
    feature_noise = rng.standard_normal((103, 4)).astype(np.float32)
    ridge = links.ridge([0.3, 0.7])
    system = F.T @ F + np.diag(ridge[:, 0])
    exact = np.linalg.solve(system, F.T @ (X + row_noise) + np.sqrt(ridge) * feature_noise)
    zero = np.zeros((103, 4), np.float32)
    error = links.drawn(X, ridge, zero, np.zeros((200, 4), np.float32), row_noise, feature_noise) - exact
    assert (np.einsum("fw,fg,gw->w", error, system, error) < 0.3**2 * 103).all()


def test_precision_is_drawn_from_its_wishart_distribution() -> None:
    """The mean of Wishart(ν, W) is ν W, and the variance of an entry is ν (W_ij² + W_ii W_jj)."""
    rng = np.random.default_rng(0)
    residuals, coefficients = (rng.standard_normal((rows, 3)).astype(np.float32) for rows in (9, 4))
    W = np.linalg.inv(np.eye(3) + residuals.T @ residuals + coefficients.T @ coefficients)
    freedom = 3 + 9 + 4
    scatter = residuals.T @ residuals + coefficients.T @ coefficients
    mean = np.mean([drawn_precision(scatter, 9 + 4, rng) for _ in range(DRAWS)], axis=0)
    deviation = np.sqrt(freedom * (W**2 + np.outer(np.diag(W), np.diag(W))) / DRAWS)
    assert (np.abs(mean - freedom * W) < 5 * deviation).all()


def assert_alike(prior: list[list[float]], successive: list[list[float]]) -> None:
    """The means of statistics of independent draws and of a chain agree, each against its own error (by batches)."""
    direct, chain = np.array(prior), np.array(successive)
    batches = chain[: len(chain) // 20 * 20].reshape(20, -1, chain.shape[1]).mean(axis=1)
    error = np.sqrt(direct.var(axis=0) / len(direct) + batches.var(axis=0, ddof=1) / len(batches))
    assert (np.abs(direct.mean(axis=0) - chain.mean(axis=0)) <= 4.5 * error).all(), (
        direct.mean(axis=0),
        chain.mean(axis=0),
        error,
    )


@pytest.mark.slow
@pytest.mark.parametrize("personal", [False, True])
@pytest.mark.parametrize("blocks", [0, 2])
def test_a_sweep_keeps_the_joint_distribution(blocks: int, personal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws of the prior, and draws that alternate a sweep with new ratings, have the same joint distribution.

    If one conditional were wrong, the second chain would drift. Compares the means of statistics of one table, of its
    precision, of its links: none, or who rated what together with side information, and of the scales of its noise with
    their freedom, beside sample weights and fixed scales of the other table (Geweke 2004).
    """
    monkeypatch.setattr("recsys_mf.solvers.sampler.links._TOLERANCE", 1e-5)
    rng = np.random.default_rng(3)
    n_rows, n_others, rank = 6, 4, 1
    users, items = (a.ravel().astype(np.int32) for a in np.mgrid[:n_rows, :n_others])
    observed = (users + items) % 3 > 0
    users, items = users[observed], items[observed]
    Y = np.column_stack([rng.standard_normal((n_others, rank)), rng.normal(0, 0.5, n_others)]).astype(np.float32)
    ids = Ratings.from_ids(users, items, np.zeros(len(users)))
    all_links, _ = linked(ids, small_backend())
    links = Links(all_links.backend, n_rows, all_links.blocks[:blocks])
    noise_precision, width = 0.05, rank + 1
    others = Table(links.backend, Rated(ids.by_item().pattern()), None, Links(links.backend, n_others, ()), rank)
    others.X = Y
    weights = rng.uniform(0.5, 2, len(users)).astype(np.float32) if personal else None
    if personal:
        others.noise = RowNoise(links.backend, np.zeros(n_others, np.int64), wait=0)
        others.noise.scales = rng.uniform(0.3, 3, n_others).astype(np.float32)

    def observed_from(table: Table) -> np.ndarray[Any, Any]:
        X = table.X
        mean = X[users, -1] + Y[items, -1] + X[users, 0] * Y[items, 0]
        precisions = np.full(len(users), noise_precision)
        if table.noise is not None and others.noise is not None and weights is not None:
            precisions *= table.noise.scales[users] * others.noise.scales[items] * weights
        values: np.ndarray[Any, Any] = mean + rng.standard_normal(len(users)) / np.sqrt(precisions)
        return values.astype(np.float32)

    def statistics(table: Table) -> list[float]:
        size = np.log(np.square(table.X).mean())
        bounded = np.tanh(table.X)
        coefficients = np.tanh(table.B[-2, 0] if blocks else 0.0)
        mean = np.tanh(table.B[-1, 0])
        found = [size, bounded[0, 0], bounded[0, 1], mean, abs(bounded).mean(), abs(coefficients)]
        if table.noise is not None:
            scales = np.log(table.noise.scales)
            found += [scales[0], np.tanh(scales).mean(), scales.std(), np.log(table.noise.freedom)]
        return [float(x) for x in found]

    def from_the_prior(table: Table) -> None:
        root = np.linalg.inv(np.linalg.cholesky(drawn_precision(np.zeros((width, width)), 0, rng)))
        table.link_precisions = [rng.gamma(0.5, 2.0) for _ in range(blocks)]
        ridge = links.ridge(table.link_precisions)
        table.B = (rng.standard_normal((len(table.B), width)) @ root / np.sqrt(ridge)).astype(np.float32)
        table._prior_means = links.product(table.B)
        table.X = (table._prior_means + rng.standard_normal((n_rows, width)) @ root).astype(np.float32)
        if table.noise is not None:
            table.noise.freedom = float(rng.choice(FREEDOMS))
            half = table.noise.freedom / 2
            table.noise.scales = rng.gamma(half, 1 / half, n_rows).astype(np.float32)

    rated = Rated(ids.by_user().pattern(), weights=weights)
    direct, chain = [], []
    noise = RowNoise(links.backend, ids.user_counts, wait=0) if personal else None
    table = Table(links.backend, rated, np.zeros(len(users), np.float32), links, rank, noise)
    for _ in range(DRAWS):
        from_the_prior(table)
        direct.append(statistics(table))
    for _ in range(DRAWS):
        table.values = observed_from(table)
        table.sweep(others, None, noise_precision, rng)
        chain.append(statistics(table))
    assert_alike(direct, chain)


@pytest.mark.slow
@pytest.mark.parametrize("personal", [False, True])
def test_a_sweep_of_the_ordered_probit_keeps_the_joint_distribution(personal: bool) -> None:
    """As above, for the slope, the thresholds and the latents, with the tables and the scales held fixed."""
    rng = np.random.default_rng(4)
    backend = make_backend(1)
    users, items = (a.ravel().astype(np.int32) for a in np.mgrid[:6, :5])
    ids = Ratings.from_ids(users, items, np.zeros(len(users)))
    rated = Rated(ids.by_user().pattern())
    ends = np.array([-0.8, 0.0, 0.3, 0.9])
    tables = [Table(backend, rated, np.zeros(30, np.float32), Links(backend, rows, ()), 1) for rows in (6, 5)]
    for table in tables:
        table.X = rng.normal(0, 0.7, table.X.shape).astype(np.float32)
    roots = np.ones(30)
    if personal:
        for table in tables:
            table.noise = RowNoise(backend, np.zeros(len(table.X), np.int64))
            table.noise.scales = rng.uniform(0.2, 5, len(table.X)).astype(np.float32)
        own, others = (table.noise.scales for table in tables if table.noise is not None)
        roots = np.sqrt(own[users] * others[items])
    X, Y = (table.X for table in tables)
    means: np.ndarray[Any, Any] = X[users, -1] + Y[items, -1] + X[users, 0] * Y[items, 0]
    places = np.arange(30), None

    def from_the_prior() -> tuple[float, np.ndarray[Any, Any]]:
        """κ ~ |N(0, 1)| and c_t ~ N(κ τ⁰_t, 1), repeated until they are in order."""
        while True:
            slope = float(abs(rng.standard_normal()))
            cuts = slope * ends
            cuts[1:-1] += rng.standard_normal(len(ends) - 2)
            if (np.diff(cuts) > 0).all():
                return slope, cuts

    def statistics(slope: float, cuts: np.ndarray[Any, Any], levels: np.ndarray[Any, Any]) -> list[float]:
        return [np.log(slope), np.log(np.diff(cuts)).mean(), *np.tanh(cuts[1:-1]), levels.mean(), levels.var()]

    def levels_from(slope: float, cuts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.searchsorted(cuts, slope * means + rng.standard_normal(30) / roots).astype(np.uint8)

    direct = []
    for _ in range(DRAWS):
        slope, cuts = from_the_prior()
        direct.append(statistics(slope, cuts, levels_from(slope, cuts)))
    slope, cuts = from_the_prior()
    probit = OrderedProbit(backend, np.zeros(30, np.uint8), ends, places)
    chain = []
    for _ in range(DRAWS):
        levels = levels_from(probit.precision**0.5, probit.precision**0.5 * probit.thresholds)
        probit.observe(levels)
        probit.draw(tables[0], tables[1], None, 0.0, rng)
        slope = probit.precision**0.5
        chain.append(statistics(slope, slope * probit.thresholds, levels))
    assert_alike(direct, chain)
    assert probit.accepted / DRAWS > 0.2
    latents = tables[0].values
    assert (np.searchsorted(probit.thresholds, latents) == levels).all()


@pytest.mark.slow
def test_sweeps_of_latents_and_scales_keep_the_joint_distribution() -> None:
    """The ordered probit with the scales of both tables drawn from the latents, the rows all zero.

    A table whose prior has no width would keep its rows at zero, so the draws of the scales are called as a sweep of
    the tables calls them.
    """
    rng = np.random.default_rng(6)
    backend = make_backend(1)
    users, items = (a.ravel().astype(np.int32) for a in np.mgrid[:6, :5])
    ids = Ratings.from_ids(users, items, np.zeros(len(users)))
    ends = np.array([-0.8, 0.3, 0.9])
    sides = (ids.by_user(), ids.user_counts), (ids.by_item(), ids.item_counts)
    order = np.argsort(items, kind="stable")
    tables = [
        Table(backend, Rated(rows.pattern()), None, Links(backend, len(counts), ()), 1, RowNoise(backend, counts, 0))
        for rows, counts in sides
    ]
    probit = OrderedProbit(backend, np.zeros(30, np.uint8), ends, (order, None))
    noises = [table.noise for table in tables if table.noise is not None]

    def from_the_prior() -> None:
        while True:
            slope = float(abs(rng.standard_normal()))
            cuts = slope * ends
            cuts[1:-1] += rng.standard_normal(len(ends) - 2)
            if (np.diff(cuts) > 0).all():
                break
        probit._slope, probit._cuts = slope, cuts
        for noise in noises:
            noise.freedom = float(rng.choice(FREEDOMS))
            shape = noise.freedom / 2
            noise.scales = rng.gamma(shape, 1 / shape, len(noise.scales)).astype(np.float32)

    def observe() -> np.ndarray[Any, Any]:
        """New latents given the parameters, and their levels."""
        own, others = (noise.scales for noise in noises)
        latents = rng.standard_normal(30) / np.sqrt(probit.precision * own[users] * others[items])
        tables[0].values = latents.astype(np.float32)
        levels: np.ndarray[Any, Any] = np.searchsorted(probit.thresholds, latents).astype(np.uint8)
        probit.observe(levels)
        return levels

    def statistics(levels: np.ndarray[Any, Any]) -> list[float]:
        found = [np.log(probit.precision), np.tanh(probit.thresholds[1]), levels.mean(), levels.var()]
        for noise in noises:
            scales = np.log(noise.scales)
            found += [scales[0], np.tanh(scales).mean(), scales.std(), np.log(noise.freedom)]
        return [float(x) for x in found]

    def sweep() -> None:
        squares = np.square(tables[0].values.astype(np.float64))
        for noise, rows, other, others in ((noises[0], users, noises[1], items), (noises[1], items, noises[0], users)):
            sums = np.bincount(rows, squares * other.scales[others]).astype(np.float64)
            noise.draw(probit.precision * sums, rng)
        probit.draw(tables[0], tables[1], None, 0.0, rng)

    direct, chain = [], []
    for _ in range(DRAWS):
        from_the_prior()
        direct.append(statistics(observe()))
    from_the_prior()
    for _ in range(DRAWS):
        levels = observe()
        sweep()
        chain.append(statistics(levels))
    assert_alike(direct, chain)


def test_the_density_of_the_freedom_is_the_integral_over_the_scales() -> None:
    from scipy.stats import gamma

    counts, squares = np.array([0, 3, 40]), np.array([0.0, 1.5, 60.0])
    found = log_freedom_density(squares, counts)
    x = np.linspace(np.log(1e-9), np.log(1e3), 20001)[:, None]  # log γ
    likelihood = np.exp(x * counts / 2 - np.exp(x) * squares / 2)
    exact = [
        float(np.log((gamma.pdf(np.exp(x), v / 2, scale=2 / v) * np.exp(x) * likelihood).sum(axis=0)).sum())
        for v in FREEDOMS
    ]
    np.testing.assert_allclose(found - found[0], np.array(exact) - exact[0], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_planted_noise_of_every_user_and_item_is_found(likelihood: str) -> None:
    """Users and items whose noise differs by a factor: their scales are found, and predictions are better for it."""
    ratings, truth = planted(n_users=600, n_items=400, noise=0.5)
    rng = np.random.default_rng(3)
    gammas, deltas = (rng.gamma(3, 1 / 3, size) for size in (600, 400))
    expected = truth.expected(ratings.users, ratings.items)
    deviations = truth.noise / np.sqrt(gammas[ratings.users] * deltas[ratings.items])
    values: np.ndarray[Any, Any] = expected + deviations * rng.standard_normal(len(ratings))
    if likelihood == "ordinal":
        values = np.searchsorted(np.array([1.7, 2.6, 3.1, 3.6, 4.1, 4.6, 5.2]), values) + 1.0
    split = hold_out(replace(ratings, values=values.astype(np.float32)), 0.1, seed=0)
    test, errors = split.test, []
    assert test is not None
    for noise in ("common", "personal"):
        solver = Gibbs(rank=3, sweeps=120, burn_in=20, links="none", likelihood=likelihood, noise=noise)
        *_, last = solver.run(split.train, rng=np.random.default_rng(0), backend=make_backend(2))
        model = last.model()
        errors.append(predict(model, test.users, test.items).values - truth.expected(test.users, test.items))
    # Of an ordinal model predictions are levels, which are no linear function of the planted values.
    if likelihood == "gaussian":
        assert np.sqrt(np.mean(errors[1] ** 2)) < 0.9 * np.sqrt(np.mean(errors[0] ** 2))
    assert isinstance(model, Posterior)
    assert model.noise is not None
    for side, exact in (("user", gammas), ("item", deltas)):
        found = -2 * np.log(model.noise.factors(side)).mean(axis=1)
        # log γ of a row with 72 or 108 ratings is known to about √(2 / 72).
        assert np.corrcoef(found, np.log(exact))[0, 1] > 0.9


@pytest.mark.slow
def test_planted_noise_is_found_and_intervals_cover() -> None:
    ratings, truth = planted(n_users=2000, n_items=1000, density=0.1, noise=0.5)
    split = hold_out(ratings, 0.1, seed=0)
    *_, last = Gibbs(rank=3, sweeps=120, burn_in=20, links="none").run(
        split.train, rng=np.random.default_rng(0), backend=make_backend(2)
    )
    model, test = last.model(), split.test
    assert isinstance(model, Posterior)
    assert test is not None
    assert model.noise_variance == pytest.approx(truth.noise**2, rel=0.1)
    _, lower, upper = intervals(model, test.users, test.items)
    inside = ((lower <= test.values) & (test.values <= upper)).mean()
    assert abs(inside - 0.9) < 4 * np.sqrt(0.9 * 0.1 / len(test))
    error = predict(model, test.users, test.items).values - truth.expected(test.users, test.items)
    assert np.sqrt(np.mean(error**2)) < 0.25 * truth.noise * 2


def with_planted_effects(ratings: Ratings, rng: np.random.Generator) -> Ratings:
    """A number x of every user that adds 0.6 x to its ratings, and a label of every item: "b" subtracts 0.8."""
    x = rng.standard_normal(ratings.n_users)
    is_b = np.arange(ratings.n_items) % 2
    values = ratings.values + 0.6 * x[ratings.users] - 0.8 * is_b[ratings.items]
    users = features_from_frame(pd.DataFrame({"user_id": np.arange(ratings.n_users), "x": x}), role="user")
    labels = pd.DataFrame({"item_id": np.arange(ratings.n_items), "kind": np.array(["a", "b"])[is_b]})
    items = features_from_frame(labels, role="item")
    return replace(ratings, values=values.astype(np.float32)).with_features(users=users, items=items)


@pytest.mark.slow
def test_planted_coefficients_of_side_information_are_found_and_chains_agree() -> None:
    table = with_planted_effects(planted(n_users=500, n_items=400)[0], np.random.default_rng(1))
    solver = Gibbs(rank=3, sweeps=350, burn_in=50, links="none", likelihood="gaussian", chains=2)
    backend = make_backend(2)
    traces: dict[str, list[tuple[float, ...]]] = {}
    for epoch in solver.run(table, rng=np.random.default_rng(0), backend=backend):
        for name, figures in epoch.monitored.items():
            traces.setdefault(name, []).append(figures)
    for summary in summarise({name: np.array(rows[50:]).T for name, rows in traces.items() if "links" not in name}):
        assert summary.r_hat < 1.05, summary

    scale, observed = solver._observed(table, backend)
    chain = Chain(observed, 3, np.random.default_rng(2))
    draws = []
    for sweep in range(150):
        chain.sweep()
        if sweep >= 50:
            kind_a, kind_b = chain.items.B[:2, -1]
            draws.append((chain.users.B[0, -1] * scale.deviation, (kind_b - kind_a) * scale.deviation))
    # The biases around these effects have deviation 0.5, for 500 users and for 200 items of each kind.
    assert np.mean(draws, axis=0)[0] == pytest.approx(0.6, abs=4 * 0.5 / np.sqrt(500))
    assert np.mean(draws, axis=0)[1] == pytest.approx(-0.8, abs=4 * 0.5 * np.sqrt(2 / 200))


@pytest.mark.slow
def test_ids_with_side_information_alone_are_predicted_from_it() -> None:
    """Unrated items of the two kinds: predicted 0.8 apart, with intervals as wide as the uncertainty about them."""
    table = with_planted_effects(planted(n_users=500, n_items=400)[0], np.random.default_rng(1))
    kept = table.select(table.items >= 20).restricted()
    assert kept.n_items == 400
    assert (kept.item_counts[:20] == 0).all()
    *_, last = Gibbs(rank=3, sweeps=200, likelihood="gaussian").run(
        kept, rng=np.random.default_rng(0), backend=make_backend(2)
    )
    model = last.model()
    assert isinstance(model, Posterior)
    users, items = np.mgrid[:500, :20].reshape(2, -1)
    new, lower, upper = intervals(model, users, items)
    difference = new[items % 2 == 1].mean() - new[items % 2 == 0].mean()
    assert difference == pytest.approx(-0.8, abs=0.3)  # ten biases per side, of deviation 0.5, averaged over draws
    _, known_lower, known_upper = intervals(model, users, items + 20)
    assert (upper - lower).mean() > 1.5 * (known_upper - known_lower).mean()


@pytest.mark.slow
def test_planted_thresholds_and_levels_are_found() -> None:
    ratings, truth = planted(n_users=600, n_items=400, noise=0.5)
    thresholds = np.array([2.2, 3.1, 3.9, 4.6])
    levels = (np.searchsorted(thresholds, ratings.values) + 1).astype(np.float32)
    split = hold_out(replace(ratings, values=levels), 0.1, seed=0)
    test = split.test
    assert test is not None
    *_, last = Gibbs(rank=3, sweeps=150, burn_in=50, links="none").run(
        split.train, rng=np.random.default_rng(0), backend=make_backend(2)
    )
    model = last.model()
    assert isinstance(model, Posterior)
    assert model.is_ordinal
    # On the model's scale, thresholds are a linear function of the planted ones, and the noise has the same slope.
    found = model.thresholds.mean(axis=0)
    slope, offset = np.polyfit(thresholds, found, 1)
    np.testing.assert_allclose(found, slope * thresholds + offset, atol=0.02)
    assert np.sqrt(model.noise_variance) == pytest.approx(slope * truth.noise, rel=0.05)
    edges = (thresholds - truth.expected(test.users, test.items)[:, None]) / truth.noise
    below = np.concatenate([np.zeros((len(test), 1)), ndtr(edges), np.ones((len(test), 1))], axis=1)
    exact = np.diff(below, axis=1)
    error = predict(model, test.users, test.items, distribution=True).distribution - exact
    # m is off by √(4 parameters / 72 or 108 ratings) of the noise on either side, a probability by up to φ(0) of that.
    assert np.sqrt(np.mean(error**2)) < 0.4 * np.sqrt(4 / 72 + 4 / 108)
    part = coverage(model, predict_ratings(model, test), test.values)
    assert part is not None
    assert part.covered > part.pit
    assert abs(part.pit - 0.9) < 4 * np.sqrt(0.9 * 0.1 / len(test))


def test_a_scale_of_too_few_levels_is_not_ordinal() -> None:
    table = Ratings.from_ids([1, 1, 2, 2], [1, 2, 1, 2], [0, 1, 1, 0])
    assert Gibbs().resolved(table, make_backend(1)).likelihood == "gaussian"
    with pytest.raises(
        ConfigError, match=r"^likelihood: the ordinal likelihood needs a scale of 3 to 256 .*2 distinct"
    ):
        next(Gibbs(likelihood="ordinal").run(table, rng=np.random.default_rng(0), backend=make_backend(1)))


@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_of_mixed_noise_every_second_chain_has_scales(likelihood: str) -> None:
    table = planted()[0]
    stars = replace(table, values=np.clip(np.rint(table.values), 1, 5).astype(np.float32))
    solver = Gibbs(rank=2, sweeps=30, burn_in=27, chains=3, likelihood=likelihood)
    *_, epoch = solver.run(stars, rng=np.random.default_rng(0), backend=make_backend(1))
    model = epoch.model()
    assert isinstance(model, Posterior)
    assert model.noise is not None
    users, items = model.noise.factors("user"), model.noise.factors("item")
    for chain, is_personal in enumerate((False, True, False)):
        for factors in (users[:, 3 * chain : 3 * chain + 3], items[:, 3 * chain : 3 * chain + 3]):
            assert (np.abs(factors - 1) > 1e-3).any() == is_personal
    assert len(epoch.monitored["noise"]) == 2
    assert len(epoch.monitored["noise, personal"]) == len(epoch.monitored["user noise, personal"]) == 1
    assert "user noise" not in epoch.monitored


def test_of_one_chain_the_noise_is_common_by_default() -> None:
    resolved = Gibbs(chains=1).resolved(planted()[0], make_backend(1))
    assert resolved.noise == "common"
