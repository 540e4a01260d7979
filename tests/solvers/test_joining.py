"""The chain of the sampler that is validated goes on with the validation rows, and becomes that of the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recsys_mf.errors import ConfigError
from recsys_mf.kernels.cpu.backend import make_backend
from recsys_mf.models import Posterior
from recsys_mf.prediction import rmse
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import Gibbs
from recsys_mf.solvers.protocol import Epoch
from recsys_mf.splits import hold_out
from recsys_mf.training import train
from recsys_mf.training.validation import cut_parts
from tests.planted import planted

BACKEND = make_backend(1)
DAY = 86400


def stars(times: bool = False) -> Ratings:
    """A planted table of ratings from 1 to 5."""
    table, _ = planted(density=0.2)
    values = np.clip(np.rint(table.values), 1, 5)
    return Ratings.from_ids(table.users, table.items, values, np.arange(len(table)) * 9 if times else None)


def last(steps: Any) -> Epoch:
    *_, epoch = steps
    assert isinstance(epoch, Epoch)
    return epoch


def joined(solver: Gibbs, part: Ratings, whole: Ratings, sweeps: int) -> Posterior:
    """The model of a chain that sees the part for so many sweeps, and then the whole table."""
    steps = solver.run(part.reindexed(whole.user_vocabulary, whole.item_vocabulary), rng=rng(), backend=BACKEND)
    state = next(epoch.state for epoch in steps if epoch.number == sweeps)
    assert state is not None
    model = last(solver.run_joined(state(), whole, rng=rng(), backend=BACKEND)).model()
    assert isinstance(model, Posterior)
    return model


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_model_has_the_draws_before_and_after_and_the_trace_of_both() -> None:
    run = train(hold_out(stars(), 0.1), Gibbs(rank=2, sweeps=40, burn_in=10, chains=1), device="cpu")
    assert run.fit.settings["joined_after"] == 10 + 9  # three tenths of the sweeps after the burn-in
    assert [row["epoch"] for row in run.fit.history] == list(range(1, 20))
    assert run.fit.epochs == 40
    assert isinstance(run.model, Posterior)
    assert run.model.n_samples == 30
    assert {np.shape(chains) for chains in run.fit.traces.values()} == {(1, 40)}


def test_draws_before_know_nothing_of_the_rows_that_join() -> None:
    table = stars()
    part = table.select(np.arange(len(table)) >= 2000).restricted()
    other = replace(table, values=np.where(np.arange(len(table)) < 2000, 6 - table.values, table.values))
    solver = Gibbs(rank=2, sweeps=9, burn_in=2, chains=1)
    one, two = (joined(solver, part, whole, 6) for whole in (table, other))
    for before in range(4):
        np.testing.assert_array_equal(one.user_rows[:, before], two.user_rows[:, before])
    assert (one.user_rows[:, 4:] != two.user_rows[:, 4:]).any()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"noise": "personal"}, {"likelihood": "gaussian"}], ids=str)
def test_it_is_as_good_as_a_chain_of_its_own(settings: dict[str, Any]) -> None:
    split = hold_out(stars(), 0.1)
    assert split.test is not None
    prediction = make_backend(1).make_prediction()
    errors = []
    for joined_after in (60, 0):
        solver = Gibbs(rank=3, sweeps=160, burn_in=40, joined_after=joined_after, **settings)
        errors.append(rmse(train(split, solver, device="cpu").model, split.test, prediction))
    assert errors[0] < 1.01 * errors[1]


def test_without_joining_the_model_is_that_of_a_training_without_validation() -> None:
    split = hold_out(stars(), 0.1)
    solver = Gibbs(rank=2, sweeps=12, burn_in=3)
    own, alone = train(split, replace(solver, joined_after=0)), train(split, solver, validation=0)
    assert own.fit.valid_rmse is not None
    assert alone.fit.settings["joined_after"] == 0
    for name, array in own.model.arrays().items():
        np.testing.assert_array_equal(array, alone.model.arrays()[name], err_msg=name)


@pytest.mark.parametrize("likelihood", ["ordinal", "gaussian"])
def test_users_items_days_and_levels_can_join_too(likelihood: str) -> None:
    table = stars(times=True)
    first = np.flatnonzero((table.users < 5) | (table.items < 5))
    values, times = table.values.copy(), np.array(table.times)
    values[first[:3]] = 0.5
    times[first] += 7 * DAY
    whole = Ratings.from_ids(table.users, table.items, values, times)
    part = whole.select(np.setdiff1d(np.arange(len(whole)), first)).restricted()
    model = joined(Gibbs(rank=2, sweeps=9, burn_in=2, chains=1, likelihood=likelihood), part, whole, 6)
    assert (model.n_users, model.n_items) == (whole.n_users, whole.n_items)
    assert len(model.scale.bins) > 1
    if likelihood == "ordinal":
        assert model.scale.levels.tolist() == np.unique(values).tolist()
        assert model.n_samples == 3  # those before have no threshold for the new level
    else:
        assert model.n_samples == 7
        assert not model.context_rows[-1, :4].any()  # a day that they did not know is at its prior mean
        assert model.context_rows[-1, 4:].any()


def test_a_part_with_another_likelihood_does_not_join() -> None:
    table = stars()
    values = np.where(table.values > 3, 4.0, 3.0)
    values[0] = 1.0
    split = hold_out(Ratings.from_ids(table.users, table.items, values), 0)
    with_three, with_two = (
        next(
            seed for seed in range(99) if (cut_parts(split, 0.1, seed, [Gibbs()])[0].train.values == 1).any() == wanted
        )
        for wanted in (True, False)
    )
    solver = Gibbs(rank=2, sweeps=8, burn_in=2)
    assert train(split, solver, seed=with_three, device="cpu").fit.settings["joined_after"] == 3
    own = train(split, solver, seed=with_two, device="cpu").fit
    assert own.settings["joined_after"] == 0
    assert own.settings["likelihood"] == "ordinal"


@pytest.mark.parametrize("given", [8, 9])
def test_no_sweep_left_to_join_in_is_refused(given: int) -> None:
    with pytest.raises(ConfigError, match=r"^joined_after: joined_after leaves no sweep"):
        Gibbs(sweeps=8, joined_after=given)
