"""What every solver must do; a new entry in SOLVERS is tested without a new test."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from recsys_mf.errors import ConfigError
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.cpu.backend import make_backend
from recsys_mf.models import Factorization, Model
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import SOLVERS, Epoch, Solver
from tests.backends import BACKENDS
from tests.planted import planted

SMALL: dict[str, dict[str, Any]] = {
    "sgd": {"rank": 4, "epochs": 6},
    "als": {"rank": 4, "epochs": 4},
    "gibbs": {"rank": 4, "sweeps": 12, "burn_in": 2, "samples": 12},
    "svd": {"ranks": (1, 2, 4)},
}
"""Settings that make a solver quick, by its name; its defaults where none are given."""

SAME_MODEL = {("svd", "route")}
"""Settings that choose how a model is computed and not which: every choice must give the same one."""

ON_CUDA = {("sgd", "schedule"), ("sgd", "precision")}
"""Settings that the CPU refuses to have otherwise."""

SETTINGS = [(name, field.name) for name, kind in SOLVERS.items() for field in dataclasses.fields(kind)]
NUMBERS = [(name, key) for name, key in SETTINGS if not isinstance(getattr(SOLVERS[name](), key), str)]


@pytest.fixture(params=SOLVERS)
def solver(request: pytest.FixtureRequest) -> Solver:
    """Every solver in SOLVERS, with settings that make it fast."""
    name = request.param
    return SOLVERS[name](**SMALL.get(name, {}))


@pytest.fixture(scope="module")
def table() -> Ratings:
    """Planted ratings of 80 users and 60 items over ten days, zeros among them."""
    ratings, _ = planted(n_users=80, n_items=60)
    hours = np.arange(len(ratings)) % 240 * 3600
    return replace(ratings, values=np.round(ratings.values).astype(np.float32), times=hours)


def epochs(solver: Solver, train: Ratings, seed: int = 0, backend: Backend | None = None) -> Iterator[Epoch]:
    return solver.run(train, rng=np.random.default_rng(seed), backend=backend or make_backend(1))


def fitted(solver: Solver, train: Ratings, seed: int = 0, backend: Backend | None = None) -> Model:
    *_, last = epochs(solver, train, seed, backend)
    return last.model()


def parameters(model: Model) -> bytes:
    return repr(model.facts()).encode() + b"".join(array.tobytes() for array in model.arrays().values())


def all_pairs(train: Ratings) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Every pair of a user and an item, the unknown ones included."""
    pairs = np.mgrid[-1 : train.n_users, -1 : train.n_items].reshape(2, -1)
    return pairs[0], pairs[1]


# Settings.


def test_settings_are_the_same_after_json_and_text(solver: Solver) -> None:
    plain = json.loads(json.dumps(solver.settings(), allow_nan=False))
    texts = {key: ",".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in plain.items()}
    assert type(solver).from_texts(texts) == solver


def test_the_key_in_the_table_is_the_name(solver: Solver) -> None:
    assert SOLVERS[solver.name] is type(solver)


def test_solver_is_documented_with_its_equation(solver: Solver) -> None:
    assert "r̂" in (type(solver).__doc__ or "")
    assert all(field.metadata["help"] for field in dataclasses.fields(solver))


@pytest.mark.parametrize(("name", "key"), SETTINGS)
def test_a_misspelt_setting_suggests_the_nearest(name: str, key: str) -> None:
    misspelt = key[:-2] + key[-1] + key[-2]
    with pytest.raises(ConfigError, match=rf"^solver '{name}' has no setting '{misspelt}'; did you mean '{key}'\?"):
        SOLVERS[name].from_texts({misspelt: "1"})


def test_a_setting_unlike_every_other_lists_all_of_them(solver: Solver) -> None:
    keys = ", ".join(field.name for field in dataclasses.fields(solver))
    answer = f"choose one of: {keys}" if keys else "it has none"
    with pytest.raises(ConfigError, match=rf"^solver '{solver.name}' has no setting '#'; {answer}$"):
        type(solver).from_texts({"#": "1"})


@pytest.mark.parametrize(("name", "key"), SETTINGS)
@pytest.mark.parametrize("value", [-1, -np.inf, np.inf, np.nan])
def test_a_setting_out_of_range_is_refused_with_its_range(name: str, key: str, value: Any) -> None:
    default = getattr(SOLVERS[name](), key)
    value = (value,) if isinstance(default, tuple) else value
    with pytest.raises(
        ConfigError, match=rf"^{key}: (setting out of range|setting of another type|unknown value) \(saw .*\); "
    ):
        SOLVERS[name](**{key: value})


@pytest.mark.parametrize(("name", "key"), NUMBERS)
@pytest.mark.parametrize("text", ["many", "", "1;2"])
def test_a_setting_that_is_not_a_number_is_refused(name: str, key: str, text: str) -> None:
    message = (
        rf"^{key}: setting of another type \(saw '{text}'\); give (a whole number|a number|whole numbers with commas)"
    )
    with pytest.raises(ConfigError, match=message):
        SOLVERS[name].from_texts({key: text})


def test_settings_become_plain_numbers_whatever_kind_they_are_given_as() -> None:
    als = SOLVERS["als"](rank=np.int64(8), regularisation=1)
    svd = SOLVERS["svd"](ranks=[1, np.int32(2)])
    assert json.loads(json.dumps([als.settings(), svd.settings()])) == [als.settings(), svd.settings()]
    assert type(als.settings()["regularisation"]) is float
    assert hash(svd) == hash(SOLVERS["svd"](ranks=(1, 2)))


@pytest.mark.parametrize(
    ("name", "key", "value", "right"),
    [
        ("sgd", "rank", 2.5, "a whole number"),
        ("sgd", "rank", "64", "a whole number"),
        ("sgd", "decay", "0.9", "a number"),
        ("sgd", "decay", None, "a number"),
        ("svd", "ranks", "8", "whole numbers"),
        ("svd", "ranks", (2, 4.5), "whole numbers"),
    ],
)
def test_a_setting_of_another_type_is_refused(name: str, key: str, value: Any, right: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}: setting of another type \(saw .*\); give {right}"):
        SOLVERS[name](**{key: value})


def _on_cuda() -> Backend:
    return BACKENDS["triton-cuda" if torch.cuda.is_available() else "triton"]()


@pytest.mark.parametrize(("name", "key"), sorted(ON_CUDA))
def test_the_cpu_refuses_settings_of_cuda(name: str, key: str, table: Ratings) -> None:
    solver = SOLVERS[name]()
    for value in alternatives(solver, key, table):
        message = rf"^{key}: no such {key} on the device 'cpu' \(saw {value}\); use (float32|conflict-free)$"
        with pytest.raises(ConfigError, match=message):
            replace(solver, **{key: value}).resolved(table, make_backend(1))


def alternatives(solver: Solver, key: str, table: Ratings) -> list[Any]:
    """Other values for a setting: every other choice, half of a number or its double, or a list without its last entry.

    The choice that "auto" stands for on this table is left out.
    """
    field = next(f for f in dataclasses.fields(solver) if f.name == key)
    value = getattr(solver, key)
    if isinstance(value, str):
        same = value, getattr(solver.resolved(table, make_backend(1)), key)
        return [choice for choice in field.metadata["choices"] if choice not in same]
    if isinstance(value, tuple):
        return [value[:-1]]
    return [type(value)(value / 2) if value / 2 >= field.metadata["low"] else value * 2]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "key"), SETTINGS)
def test_every_setting_takes_effect(name: str, key: str, table: Ratings) -> None:
    solver = SOLVERS[name](**SMALL.get(name, {}))
    backend: Backend = make_backend(1)
    if (name, key) in ON_CUDA:
        short: dict[str, Any] = {"members": 1, "epochs": 1}
        solver, backend = replace(solver, **short), _on_cuda()
    before = fitted(solver, table, backend=backend)
    for value in alternatives(solver, key, table):
        after = fitted(replace(solver, **{key: value}), table, backend=backend)
        if (name, key) in SAME_MODEL:
            pairs = all_pairs(table)
            np.testing.assert_allclose(predict(after, *pairs).values, predict(before, *pairs).values, atol=1e-4)
        else:
            assert parameters(after) != parameters(before), f"{key}={value} changed nothing"


# Epochs.


def test_epochs_are_numbered_from_one_to_their_announced_number(solver: Solver, table: Ratings) -> None:
    assert [epoch.number for epoch in epochs(solver, table)] == list(range(1, solver.n_epochs + 1))


def test_a_model_is_not_changed_by_later_epochs(solver: Solver, table: Ratings) -> None:
    kept = [(model, parameters(model)) for epoch in epochs(solver, table) for model in [epoch.model()]]
    assert all(parameters(model) == before for model, before in kept)


def test_a_solver_stopped_at_an_epoch_equals_a_longer_one_at_that_epoch(solver: Solver, table: Ratings) -> None:
    pairs = all_pairs(table)
    for epoch in epochs(solver, table):
        short = fitted(solver.stopped_at(epoch.number), table)
        np.testing.assert_allclose(predict(short, *pairs).values, predict(epoch.model(), *pairs).values, atol=1e-5)


def test_rehearsal_runs_on_a_tiny_table(solver: Solver) -> None:
    tiny = Ratings.from_ids(np.repeat(np.arange(4), 4), np.tile(np.arange(4), 4), np.arange(16) % 5)
    assert next(epochs(solver.rehearsal(), tiny)).number == 1


def test_train_error_of_an_epoch_is_in_rating_units(solver: Solver, table: Ratings) -> None:
    wide = replace(table, values=table.values * np.float32(20))
    for epoch, other in zip(epochs(solver, table), epochs(solver, wide), strict=True):
        assert epoch.visits >= len(table)
        if epoch.train_rmse is not None and other.train_rmse is not None:
            assert other.train_rmse / 20 == pytest.approx(epoch.train_rmse, rel=1e-3)


# Models.


def test_the_same_generator_gives_the_same_model(solver: Solver, table: Ratings) -> None:
    assert parameters(fitted(solver, table)) == parameters(fitted(solver, table))


def test_predictions_are_finite_and_within_the_rating_range(solver: Solver, table: Ratings) -> None:
    predicted = predict(fitted(solver, table), *all_pairs(table)).values
    low, high = table.rating_range
    assert np.isfinite(predicted).all()
    assert predicted.min() >= low
    assert predicted.max() <= high
    assert predicted.dtype == np.float32


def test_model_has_a_row_for_every_user_and_item(solver: Solver, table: Ratings) -> None:
    model = fitted(solver, table)
    assert (model.n_users, model.n_items) == (table.n_users, table.n_items)
    sizes = {name: len(array) for name, array in model.arrays().items()}
    assert {size for name, size in sizes.items() if name.startswith("user")} == {table.n_users}
    assert {size for name, size in sizes.items() if name.startswith("item")} == {table.n_items}
    assert model.rating_range == table.rating_range


def test_unknown_ids_fall_back_to_the_biases_and_the_mean(solver: Solver, table: Ratings) -> None:
    model = fitted(solver, table)
    if not isinstance(model, Factorization):
        pytest.skip("unknown ids have their prior mean: see the tests of the posterior")
    users, items = np.array([-1, -1, 2]), np.array([-1, 3, -1])
    expected = model.mean + np.array([0, model.item_bias[3], model.user_bias[2]])
    np.testing.assert_allclose(predict(model, users, items).values, np.clip(expected, *table.rating_range), rtol=1e-5)
    assert model.mean == pytest.approx(table.values.mean(dtype=np.float64), abs=1e-6)


def test_zero_rating_is_data(solver: Solver, table: Ratings) -> None:
    """A table with zeros and the table without them give different models: zeros are not missing entries."""
    is_zero = table.values == 0
    assert 0 < is_zero.sum() < len(table) / 4
    with_zeros = fitted(solver, table)
    without = table.select(~is_zero)
    assert without.user_counts.min() > 0  # so that the indices are the same
    assert without.item_counts.min() > 0
    other = fitted(solver, without)
    known = table.users[is_zero], table.items[is_zero]
    assert predict(with_zeros, *known).values.mean() < predict(other, *known).values.mean() - 0.01


def test_a_model_of_constant_ratings_is_that_constant(solver: Solver) -> None:
    train = Ratings.from_ids([1, 1, 2, 2, 3], [1, 2, 1, 2, 1], [4.0] * 5)
    assert (predict(fitted(solver, train), *all_pairs(train)).values == 4).all()


TINY = {
    "all zero": ([1, 1, 2, 2, 3], [1, 2, 1, 2, 1], [0.0] * 5),
    "one user": ([1, 1, 1], [1, 2, 3], [1.0, 2.0, 5.0]),
    "one item": ([1, 2, 3], [1, 1, 1], [1.0, 2.0, 5.0]),
    "single rating": ([1], [1], [3.0]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("kind", TINY)
def test_degenerate_tables_are_fitted_with_default_settings(name: str, kind: str) -> None:
    train = Ratings.from_ids(*TINY[kind])
    model = fitted(SOLVERS[name](**({"sweeps": 40} if name == "gibbs" else {})), train)
    predicted = predict(model, *all_pairs(train)).values
    low, high = train.rating_range
    assert np.isfinite(predicted).all()
    assert ((low <= predicted) & (predicted <= high)).all()
