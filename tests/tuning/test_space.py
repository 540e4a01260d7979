"""What is searched: the ranges that settings declare, but for what is fixed and for what a table does not bear."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from recsys_mf.kernels import select
from recsys_mf.kernels.backend import Backend
from recsys_mf.models import Factorization
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import SOLVERS, Epoch, Solver
from recsys_mf.solvers.settings import AUTO, Among, Between, check_setting, setting
from recsys_mf.tuning import tune
from recsys_mf.tuning.space import Space
from tests.trained import small_table

DECLARED = [
    (name, field)
    for name, kind in SOLVERS.items()
    for field in dataclasses.fields(kind)
    if field.metadata["search"] is not None
]
SEARCHED = {"sgd", "als", "gibbs", "bias"}


def space_of(solver: Solver, fixed: tuple[str, ...] = (), table: Ratings | None = None) -> Space:
    return Space.of(solver, fixed, table or small_table(), select("cpu"))


def test_the_solvers_that_learn_are_searched() -> None:
    assert {name for name, _ in DECLARED} == SEARCHED


@pytest.mark.parametrize(("name", "field"), DECLARED, ids=lambda given: getattr(given, "name", given))
def test_all_that_is_searched_of_a_setting_is_valid_and_spans_its_default(name: str, field: Any) -> None:
    values = field.metadata["search"]
    if isinstance(values, Among):
        assert set(values.values) <= set(field.metadata["choices"])
        assert len(values.values) > 1
        return
    assert isinstance(values, Between)
    kind = field.metadata["kind"]
    for value in (values.low, values.high):
        assert check_setting(field, kind(value)) == kind(value)
    assert not values.is_log or values.low > 0
    usual = SOLVERS[name]().resolved(small_table(), select("cpu")).settings()[field.name]
    assert values.low <= usual <= values.high


def test_a_fixed_setting_is_not_searched() -> None:
    assert "rank" in space_of(SOLVERS["sgd"]()).axes
    assert "rank" not in space_of(SOLVERS["sgd"](rank=4), ("rank",)).axes


def test_times_are_searched_only_if_there_are_any() -> None:
    table = small_table()
    assert {"time", "bin_days"} <= space_of(SOLVERS["gibbs"]()).axes.keys()
    assert not {"time", "bin_days"} & space_of(SOLVERS["gibbs"](), table=replace(table, times=None)).axes.keys()


def test_a_word_that_the_table_does_not_bear_is_not_tried() -> None:
    weighted = replace(small_table(), weights=np.ones(601, np.float32))
    assert "likelihood" in space_of(SOLVERS["gibbs"]()).axes
    assert "likelihood" not in space_of(SOLVERS["gibbs"](), table=weighted).axes  # of the two one is left


def test_the_nearest_place_of_a_solver_is_within_the_space() -> None:
    space = space_of(SOLVERS["sgd"]())
    assert space.nearest(SOLVERS["sgd"](rank=500, regularisation=1e-6, decay=0.9))["rank"] == 128
    place = space.nearest(SOLVERS["sgd"](rank=500, regularisation=1e-6, decay=0.9))
    assert (place["regularisation"], place["decay"]) == (0.005, 0.9)
    assert space.axes.keys() == place.keys()


@dataclass(frozen=True)
class Shift(Solver):
    """r̂ = μ + shift: a solver that is not in the table of solvers, best without a shift."""

    name: ClassVar[str] = "shift"

    shift: float = setting(1.0, "what is added", low=-2, high=2, search=Between(-2, 2, is_log=False))

    def run(self, train: Ratings, *, rng: np.random.Generator, backend: Backend) -> Iterator[Epoch]:
        """See `Solver.run`."""
        mean = float(train.values.mean()) + self.shift
        b_u, b_i = (np.zeros(rows, np.float32) for rows in (train.n_users, train.n_items))
        model = Factorization(mean, b_u, b_i, b_u[:, None][:, :0], b_i[:, None][:, :0], train.rating_range)
        yield Epoch(1, len(train), None, lambda: model)


def test_a_new_solver_is_searched_without_new_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOLVERS, "shift", Shift)
    tuned = tune(small_table(), "shift", trials=25)
    assert tuned.trials[0].settings == {"shift": 1.0}
    assert abs(tuned.best.settings["shift"]) < 0.3
    assert tuned.tested is not None
    assert tuned.tested.difference is not None
    assert tuned.tested.difference.high < 0


def test_a_setting_that_is_open_stays_open_in_the_defaults() -> None:
    assert space_of(SOLVERS["sgd"]()).solver.settings()["rank"] == AUTO
