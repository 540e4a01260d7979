"""No default is worse than a simpler model: every solver is tested on the battery of planted tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recsys_mf.errors import ConfigError, DataError
from recsys_mf.prediction import has_intervals, predict
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.solvers import SOLVERS, Biases, Gibbs, Sgd, Solver, TruncatedSvd
from recsys_mf.solvers.search import searched
from recsys_mf.solvers.settings import figure
from recsys_mf.solvers.standardisation import find_scale
from recsys_mf.splits import Split, hold_out
from recsys_mf.training import BASELINE, rmse
from recsys_mf.training import train as train_run
from tests.battery import RANKS, STARS, TABLES, compare, rescaled
from tests.trained import intervals

NOISE = {"60 ratings": 0.03, "200 ratings": 0.01}  # of a ratio of errors, with 250 and 750 test pairs
SMALL = replace(STARS, n_users=120, n_items=80, n_train=3000, n_test=2000)


def fitted(split: Split, solver: Solver, seed: int = 0, **options: Any) -> Run:
    compared_with = {BASELINE: TruncatedSvd(ranks=(1,))}
    return train_run(split, solver, seed=seed, device="cpu", compared_with=compared_with, **options)


def error(split: Split, solver: Solver, seed: int = 0) -> float:
    assert split.test is not None
    return rmse(fitted(split, solver, seed).model, split.test)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "als", "gibbs"])
@pytest.mark.parametrize("table", TABLES)
def test_a_default_is_as_good_as_a_single_run_as_biases_and_as_the_best_of_a_grid(table: str, name: str) -> None:
    # A sampler of rank 64 takes most of the time; scripts/bench/battery.py also has it in the grid.
    found = compare(table, name, ranks=RANKS[:2] if name == "gibbs" else RANKS)
    noise = NOISE.get(table, 0.0)
    assert found.over_simple <= 1.01 + noise, found
    assert found.over_best <= 1.02 + noise, found


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver", [Sgd(rank=8), SOLVERS["als"](rank=8), Gibbs(rank=4, sweeps=30)], ids=lambda s: s.name
)
@pytest.mark.parametrize(("factor", "offset"), [(1e-12, 0.0), (1e12, 0.0), (1e-3, 10.0)])
def test_the_unit_of_ratings_does_not_change_the_quality(solver: Solver, factor: float, offset: float) -> None:
    split = SMALL.split(0)
    solver = replace(solver, likelihood="gaussian") if isinstance(solver, Gibbs) else solver
    # Ten thousand deviations from zero, a float32 is accurate to 1/1,700 of a deviation.
    assert error(rescaled(split, factor, offset), solver) / factor == pytest.approx(error(split, solver), rel=0.02)


@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1e-6, 1.0, 1e12, 1e30])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_moments_are_relative_to_the_values(factor: float, offset: float) -> None:
    values = (np.array([1, 2, 3, 4, 5]) + offset) * factor
    mean, deviation, _ = find_scale(Ratings.from_ids(range(5), range(5), values))
    assert mean == pytest.approx((3 + offset) * factor, rel=1e-6)
    assert deviation == pytest.approx(np.sqrt(2) * factor, rel=1e-3)


@pytest.mark.parametrize("name", ["sgd", "als"])
@pytest.mark.parametrize("factor", [1e-20, 1e25])
def test_intervals_are_finite_at_any_scale(name: str, factor: float) -> None:
    split = rescaled(SMALL.split(0), factor)
    model = fitted(split, SOLVERS[name](rank=4, members=3, epochs=6)).model
    if not has_intervals(model):
        pytest.skip("validation chose a single run")
    values, lower, upper = intervals(model, np.arange(20), np.arange(20))
    assert all(np.isfinite(bound).all() for bound in (values, lower, upper))
    assert (lower < upper).all()


def test_intervals_of_samples_are_finite_even_if_squares_overflow_float32() -> None:
    split = rescaled(SMALL.split(0), 1e25)
    model = fitted(split, Gibbs(rank=2, sweeps=12, likelihood="gaussian")).model
    assert all(np.isfinite(bound).all() for bound in intervals(model, np.arange(20), np.arange(20)))


@pytest.mark.parametrize(("sweeps", "burn_in"), [(12, 12), (12, 50), ("auto", 400), (1, 1)])
def test_a_burn_in_that_leaves_no_sweep_is_refused(sweeps: int, burn_in: int) -> None:
    with pytest.raises(ConfigError, match=rf"^burn_in: .*burn_in {burn_in}, sweeps .*give a burn_in below sweeps$"):
        Gibbs(sweeps=sweeps, burn_in=burn_in)


@pytest.mark.parametrize("sweeps", [1, 2, 5, 10, 11, 40, 400])
def test_the_burn_ins_to_choose_among_leave_sweeps_to_keep(sweeps: int) -> None:
    assert max(Gibbs(sweeps=sweeps).selection().burn_ins) < sweeps


def test_settings_of_older_runs_are_read() -> None:
    assert Gibbs.from_texts({"rank": "0", "sweeps": "0"}) == Gibbs()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("values", [[1, 2, 3] + [3] * 17, [1, 2] + [3, 4] * 9, [1, 2, 3]])
def test_a_rare_level_may_be_missing_from_the_rows_that_validation_trains_on(values: list[int], seed: int) -> None:
    n = len(values)
    table = Ratings.from_ids(np.arange(n) % 3, np.arange(n) // 3, values)
    assert fitted(hold_out(table, 0), Gibbs(sweeps=12), seed).fit.settings["likelihood"] == "ordinal"


def test_validation_with_too_few_ratings_names_the_option() -> None:
    with pytest.raises(DataError, match="give --validation 0"):
        fitted(hold_out(Ratings.from_ids([1], [1], [3.0]), 0), Sgd())


def test_more_sweeps_are_kept_unless_they_are_clearly_worse() -> None:
    errors = [2.0] * 30 + [0.1] + [2.0] * 69 + [1.0, 0.9, 0.9 * 1.001]  # one of the first fifty is low by chance
    assert Gibbs().selection().find_best(errors, 10_000) == 103
    assert Gibbs().selection().find_best([*errors, 0.91], 10_000) == 102
    assert Gibbs().selection().find_best([*errors, 0.91], 10) == 104  # a few rows rise so much by chance
    assert Gibbs().selection().find_best([*errors, 0.95], 10) == 102
    assert Gibbs(sweeps=104).selection().find_best([*errors, 0.95], 10_000) == 104


def test_given_settings_are_not_searched() -> None:
    run = fitted(SMALL.split(0), SOLVERS["als"](rank=3, regularisation=2.5))
    assert (run.fit.settings["rank"], run.fit.settings["regularisation"]) == (3, 2.5)
    assert Sgd(rank=3).selection().axes.keys() == {"regularisation", "noise"}


def test_the_search_finds_the_lowest_along_its_axes_and_stays_where_nothing_is_clearly_better() -> None:
    def error_of(solver: Sgd) -> float:
        rank, ridge = figure(solver.rank), figure(solver.regularisation)
        return float(1 + (np.log2(rank) - 3) ** 2 / 10 + np.log2(ridge / 0.3) ** 2 / 10)

    start = Sgd(rank=64, regularisation=0.0375)
    axes = {"rank": (2, 4, 8, 16, 32, 64), "regularisation": tuple(0.0375 * 2.0**j for j in range(-8, 9))}
    found = searched(start, axes, error_of)
    assert (found.rank, found.regularisation) == (8, 0.3)
    assert searched(start, axes, lambda solver: 1 - 0.004 * (solver != start)) == start


def test_zero_epochs_give_the_damped_biases() -> None:
    split = SMALL.split(0)
    assert error(split, Sgd(epochs=0)) == pytest.approx(error(split, Biases()), rel=1e-6)


def test_a_setting_without_a_solution_gives_a_solve_error_or_finite_predictions() -> None:
    from recsys_mf.errors import SolveError

    run = SOLVERS["als"](bias_regularisation=1e300, cg_steps=0, members=1)
    try:
        model = fitted(SMALL.split(0), run).model
    except SolveError:
        return
    assert np.isfinite(predict(model, np.arange(5), np.arange(5)).values).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_tiny_tables_with_uneven_validation_cuts_train_with_every_solver(seed: int) -> None:
    """Validation cuts of a tiny table differ in size, so a truncated SVD has different ranks in each."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(6 * 5)[: rng.integers(8, 25)]
    table = Ratings.from_ids(cells // 5, cells % 5, rng.integers(1, 6, len(cells)))
    for kind in SOLVERS.values():
        train_run(hold_out(table, 0), kind(), device="cpu")
