"""Weights of ratings in the solvers: a weight of 2 is the rating twice where that is defined."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_mf.errors import ConfigError, DataError, SolveError
from recsys_mf.kernels import select
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.cpu.sgd import CpuSgd
from recsys_mf.kernels.operands import SgdState, SgdStep, Triples
from recsys_mf.kernels.schedule.plan import SgdPlan
from recsys_mf.models import Factorization
from recsys_mf.prediction import predict, rmse
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import SOLVERS, Als, Biases, Gibbs, Mean, Sgd, Solver, TruncatedSvd
from recsys_mf.solvers.noise_weights import weigh_by_noise
from recsys_mf.solvers.standardisation import find_scale
from tests.backends import BACKENDS, NAMES

M, N, RANK = 150, 90, 3


@pytest.fixture(scope="module")
def backend() -> Backend:
    return select("cpu", 1)


def planted(rng: np.random.Generator, spread: float) -> tuple[Ratings, NDArray[np.float64]]:
    """Ratings whose noise has variance 1/w for weights w of log-normal spread, and the truth [M, N]."""
    P, Q = rng.standard_normal((M, RANK)), rng.standard_normal((N, RANK))
    truth = 3 + P @ Q.T + rng.standard_normal((M, 1)) / 2
    users, items = np.nonzero(rng.random((M, N)) < 0.4)
    weights = np.exp(spread * rng.standard_normal(len(users)))
    values = truth[users, items] + rng.standard_normal(len(users)) / np.sqrt(weights)
    return Ratings.from_ids(users, items, values, weights=weights), truth


def fitted(solver: Solver, train: Ratings, backend: Backend) -> Any:
    *_, last = solver.run(train, rng=np.random.default_rng(0), backend=backend)
    return last.model()


def assert_alike(one: Factorization, other: Factorization, tolerance: float) -> None:
    for name, array in one.arrays().items():
        np.testing.assert_allclose(other.arrays()[name], array, atol=tolerance, rtol=tolerance, err_msg=name)


def without(table: Ratings) -> Ratings:
    return replace(table, weights=None)


def repeated(table: Ratings) -> Ratings:
    """The table with the rows of weight 2 twice, and no weights."""
    assert table.weights is not None
    rows = np.repeat(np.arange(len(table)), table.weights.astype(int))
    return without(table.select(rows))


@pytest.mark.parametrize(
    "solver",
    [
        Mean(),
        Biases(user_damping=2.0),
        Als(rank=3, epochs=3, members=1, cg_steps=0, regularisation=1.0, noise="common"),
        Als(rank=3, epochs=3, members=1, regularisation=1.0, count_exponent=1.0, noise="common"),
    ],
    ids=["mean", "bias", "als-exact", "als"],
)
def test_a_rating_of_weight_two_is_the_rating_twice(solver: Solver, backend: Backend) -> None:
    rng = np.random.default_rng(1)
    table, _ = planted(rng, 0.0)
    table = replace(table, weights=rng.integers(1, 3, len(table)).astype(np.float32))
    assert_alike(fitted(solver, repeated(table), backend), fitted(solver, table, backend), 1e-3)


def test_the_scale_is_that_of_the_rows_repeated() -> None:
    rng = np.random.default_rng(2)
    table, _ = planted(rng, 0.0)
    table = replace(table, weights=rng.integers(1, 3, len(table)).astype(np.float32))
    assert find_scale(table)[:2] == pytest.approx(find_scale(repeated(table))[:2], rel=1e-6)


@pytest.mark.parametrize(
    ("weighted", "plain"),
    [
        (Mean(), Mean()),
        (Biases(user_damping=12.0, item_damping=4.0), Biases(user_damping=3.0, item_damping=1.0)),
        (
            Sgd(rank=3, epochs=5, members=1, regularisation=0.03),
            Sgd(rank=3, epochs=5, members=1, regularisation=0.03, noise="common"),
        ),
        # λ (4 n)^½ beside 4 times the errors is λ n^½ / 2 beside the errors.
        (
            Als(rank=3, epochs=4, members=1, regularisation=2.0, bias_regularisation=4.0),
            Als(rank=3, epochs=4, members=1, regularisation=1.0, bias_regularisation=2.0, noise="common"),
        ),
        (TruncatedSvd(ranks=(2,), filling="item-mean"), TruncatedSvd(ranks=(2,), filling="item-mean")),
    ],
    ids=["mean", "bias", "sgd", "als", "svd"],
)
def test_a_common_weight_is_none_once_ridges_have_it_too(weighted: Solver, plain: Solver, backend: Backend) -> None:
    table, _ = planted(np.random.default_rng(3), 0.0)
    fours = replace(table, weights=np.full(len(table), 4, np.float32))
    assert_alike(fitted(plain, without(table), backend), fitted(weighted, fours, backend), 1e-3)


def test_a_common_weight_changes_no_draw_of_the_sampler(backend: Backend) -> None:
    table, _ = planted(np.random.default_rng(4), 0.0)
    fours = replace(table, weights=np.full(len(table), 4, np.float32))
    solver = Gibbs(rank=2, sweeps=5, burn_in=0, likelihood="gaussian")
    plain, same = (fitted(solver, of, backend) for of in (without(table), fours))
    np.testing.assert_allclose(
        predict(same, table.users, table.items).values, predict(plain, table.users, table.items).values, atol=1e-3
    )


@pytest.mark.parametrize(
    "solver",
    [
        Sgd(rank=3, members=1, epochs=40, learning_rate=0.08, regularisation=0.02),
        Als(rank=3, members=1, epochs=10, regularisation=1.0),
        Gibbs(rank=3, sweeps=40, burn_in=10),
    ],
    ids=["sgd", "als", "gibbs"],
)
def test_weights_that_tell_the_noise_bring_a_model_nearer_to_the_truth(solver: Solver, backend: Backend) -> None:
    table, truth = planted(np.random.default_rng(5), 1.5)
    users, items = (side.ravel() for side in np.indices((M, N)))
    errors = []
    for of in (table, without(table)):
        model = fitted(solver, of, backend)
        assert of.n_users == M
        assert of.n_items == N
        places = table.user_vocabulary.indices(users), table.item_vocabulary.indices(items)
        errors.append(np.sqrt(np.mean((predict(model, *places).values - truth[users, items]) ** 2)))
    assert errors[0] < 0.9 * errors[1]


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_takes_weights(name: str, backend: Backend) -> None:
    table, _ = planted(np.random.default_rng(6), 1.0)
    solver = SOLVERS[name]().rehearsal()
    plain = fitted(solver, without(table), backend)
    weighted = fitted(solver, table, backend)
    assert not np.array_equal(
        predict(weighted, table.users, table.items).values, predict(plain, table.users, table.items).values
    )


def test_no_weight_makes_a_step_of_sgd_overshoot(backend: Backend) -> None:
    rng = np.random.default_rng(7)
    table, _ = planted(rng, 4.0)
    assert table.weights is not None
    assert table.weights.max() > 500 * table.weights.mean()
    solver = Sgd(rank=3, members=1, epochs=30, learning_rate=0.1, bias_learning_rate=0.1, regularisation=0.01)
    *_, last = solver.run(table, rng=rng, backend=backend)
    assert last.train_rmse is not None
    assert last.train_rmse < rmse(fitted(Mean(), table, backend), table)


def one_triple(backend: Backend, weight: float | None, visits: int, rate: float) -> list[NDArray[Any]]:
    """Rows and biases after visits of a single triple."""
    weights = None if weight is None else np.full(1, weight, np.float32)
    triple = Triples(np.zeros(1, np.int32), np.zeros(1, np.int32), np.full(1, 2, np.float32), weights)
    width = backend.sgd.width(2)  # type: ignore[attr-defined]
    bounds = np.array([[0, 1]])
    passes = backend.sgd.stream(triple, bounds)  # type: ignore[attr-defined]
    plan = SgdPlan(passes, np.zeros(1, np.int32), np.zeros(1, np.int32), width, 1)
    factors = [np.zeros((1, width), np.float32) for _ in range(2)]
    factors[0][0, :2], factors[1][0, :2] = (0.5, 0.1), (0.2, -0.7)
    put = backend.device.put
    P, Q = (backend.sgd.put_factors(F, "float32") for F in factors)
    state = SgdState(P, Q, put(np.zeros(1, np.float32)), put(np.zeros(1, np.float32)))
    for _ in range(visits):
        backend.sgd.epoch(plan, state, SgdStep(rate, rate / 2, 0.1, 0.2))
    return [backend.device.get(a) for a in state]


@pytest.mark.parametrize("name", NAMES)
def test_a_triple_of_weight_three_moves_as_by_three_visits_in_a_row(name: str) -> None:
    rate = 1e-3
    once, thrice, same = (
        one_triple(BACKENDS[name](), weight, visits, rate) for weight, visits in ((None, 0), (None, 3), (3.0, 1))
    )
    for start, expected, found in zip(once, thrice, same, strict=True):
        assert np.abs(expected - start).max() > rate
        np.testing.assert_allclose(found, expected, atol=50 * rate**2)  # they differ in the second order of the rate


@pytest.mark.parametrize("name", NAMES)
def test_a_triple_of_weight_one_moves_as_one_without(name: str) -> None:
    plain, same = (one_triple(BACKENDS[name](), weight, 1, 0.1) for weight in (None, 1.0))
    for one, other in zip(plain, same, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_likelihood_of_ratings_with_weights_is_gaussian(backend: Backend) -> None:
    rng = np.random.default_rng(8)
    table, _ = planted(rng, 0.5)
    stars = replace(table, values=np.clip(np.rint(table.values), 1, 5))
    assert Gibbs().resolved(without(stars), backend).likelihood == "ordinal"
    assert Gibbs().resolved(stars, backend).likelihood == "gaussian"
    message = r"^likelihood: the ordinal likelihood takes no weights \(saw ordinal\); use -p likelihood=gaussian"
    with pytest.raises(ConfigError, match=message):
        Gibbs(likelihood="ordinal").resolved(stars, backend)


def test_what_the_weighted_kernels_lack_is_refused(backend: Backend) -> None:
    table, _ = planted(np.random.default_rng(9), 0.5)

    class Offering(CpuSgd):
        precisions: tuple[str, ...] = ("float32", "half")
        schedules: tuple[str, ...] = ("conflict-free", "hogwild")
        takes_weights: bool = False

    card = replace(backend, sgd=Offering(1))
    for setting in ({"precision": "half"}, {"schedule": "hogwild"}):
        solver = Sgd(**setting)  # type: ignore[arg-type]
        solver.resolved(without(table), card)
        (name,) = setting
        message = rf"^{name}: no such {name} for ratings with weights on the device 'cpu'"
        with pytest.raises(ConfigError, match=message):
            solver.resolved(table, card)


def heteroscedastic(spread: float = 0.4) -> tuple[Ratings, NDArray[np.float64], NDArray[np.float64]]:
    """Ratings of one mean, the noise of every user and item times a deviation of its own; and these deviations."""
    rng = np.random.default_rng(0)
    s_u, s_i = np.exp(rng.normal(0, spread, 120)), np.exp(rng.normal(0, spread, 90))
    users, items = rng.permutation(np.argwhere(rng.random((120, 90)) < 0.7)).T
    values = 3 + s_u[users] * s_i[items] * rng.standard_normal(len(users))
    return Ratings.from_ids(users, items, values.astype(np.float32)), s_u, s_i


def test_weights_of_noise_are_the_inverse_of_planted_deviations(backend: Backend) -> None:
    table, s_u, s_i = heteroscedastic()
    weighed, factor = weigh_by_noise(table, backend)
    assert weighed.weights is not None
    exact = 1 / (s_u[table.users] * s_i[table.items])
    ratio = np.log(weighed.weights * exact.mean() / weighed.weights.mean() / exact)
    assert np.corrcoef(np.log(weighed.weights), np.log(exact))[0, 1] > 0.95
    assert ratio.std() < 0.2
    # The residuals have known squares, with the weights and without.
    squares = (s_u[table.users] * s_i[table.items]) ** 2
    assert factor == pytest.approx(np.sqrt(squares.mean() / np.average(squares, weights=exact)), rel=0.1)


def test_equal_noise_gives_nearly_equal_weights(backend: Backend) -> None:
    weighed, factor = weigh_by_noise(heteroscedastic(0.0)[0], backend)
    assert weighed.weights is not None
    assert weighed.weights.std() < 0.15 * weighed.weights.mean()
    assert factor == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("kind", [Sgd, Als])
def test_personal_noise_weighs_a_rating_and_moves_neither_mean_nor_unknown_ids(
    kind: type[Sgd] | type[Als], backend: Backend
) -> None:
    table, *_ = heteroscedastic()
    solver = kind(rank=2, epochs=3, members=1, regularisation=0.1)
    weighed, _ = weigh_by_noise(table, backend)
    own = fitted(replace(solver, noise="personal"), table, backend)
    other = fitted(replace(solver, noise="common"), weighed, backend)
    assert own.mean == pytest.approx(find_scale(table).mean, abs=1e-6)
    assert np.corrcoef(own.user_bias, other.user_bias)[0, 1] > 0.99
    plain = fitted(replace(solver, noise="common"), table, backend)
    assert np.abs(own.user_bias - plain.user_bias).max() > 1e-3
    error = next(iter(replace(solver, noise="personal").run(table, rng=np.random.default_rng(0), backend=backend)))
    assert error.train_rmse == pytest.approx(table.values.std(), rel=0.1)


@pytest.mark.parametrize("kind", [Sgd, Als])
def test_ratings_with_weights_have_common_noise_and_refuse_personal(
    kind: type[Sgd] | type[Als], backend: Backend
) -> None:
    table, _ = planted(np.random.default_rng(0), 0.0)
    assert table.weights is not None
    assert kind().resolved(table, backend).noise == "common"
    assert kind().resolved(without(table), backend).noise == ("personal" if backend.sgd.takes_weights else "common")
    with pytest.raises(ConfigError, match=r"^noise: cannot be combined with weights \(saw personal\); use noise=com"):
        kind(noise="personal").resolved(table, backend)


@pytest.mark.parametrize("kind", [Sgd, Als])
def test_a_large_table_has_common_noise_by_default(
    kind: type[Sgd] | type[Als], backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, *_ = heteroscedastic()
    monkeypatch.setattr("recsys_mf.solvers.iterative._MAX_WEIGHED", len(table) - 1)
    assert kind().resolved(table, backend).noise == "common"
    assert kind(noise="personal").resolved(table, backend).noise == "personal"


@pytest.mark.parametrize("outlier", [1e-37, 1e-20, 4e15, 1e17, 1e37])
def test_an_extreme_weight_is_refused_or_does_no_harm(outlier: float, backend: Backend) -> None:
    table, _ = planted(np.random.default_rng(0), 0.0)
    weights = np.ones(len(table))
    weights[5] = outlier
    ids = table.user_vocabulary.ids(table.users), table.item_vocabulary.ids(table.items)
    if outlier > 2.0**52:
        with pytest.raises(DataError, match=r"weights, row 5: weight is so large .* give at most 4.5e\+15, or leave"):
            Ratings.from_ids(*ids, table.values, weights=weights)
        return
    table = Ratings.from_ids(*ids, table.values, weights=weights)
    for name in SOLVERS:
        model = fitted(SOLVERS[name]().rehearsal(), table, backend)
        assert np.isfinite(predict(model, table.users, table.items).values).all()


def test_biases_that_do_not_converge_name_the_weights(backend: Backend) -> None:
    table, _ = planted(np.random.default_rng(0), 0.0)
    weights = np.ones(len(table), np.float32)
    weights[5] = 1e30
    with pytest.raises(SolveError, match=r"have not converged .*; give weights that differ less \(now 1 to 1e\+30\)"):
        fitted(Biases(), replace(table, weights=weights), backend)
