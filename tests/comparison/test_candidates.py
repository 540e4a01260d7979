"""Candidates and plans: grids of solvers and settings, their names, and one clear line for what cannot be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_mf import SOLVERS
from recsys_mf.comparison import Plan, as_candidates, grid
from recsys_mf.comparison.candidates import name_of
from recsys_mf.errors import ConfigError
from tests.trained import small_table


def names(*given: Any, **named: Any) -> list[str]:
    return [candidate.name for candidate in grid(*given, **named)]


def test_every_solver_meets_every_rank() -> None:
    made = grid(["sgd", "svd"], ["4", "8"])
    assert [candidate.name for candidate in made] == ["sgd rank 4", "sgd rank 8", "svd rank 4", "svd rank 8"]
    assert [candidate.solver.settings().get("rank") for candidate in made[:2]] == [4, 8]
    assert [candidate.solver.settings().get("ranks") for candidate in made[2:]] == [[4], [8]]


def test_every_value_of_a_setting_is_a_candidate_and_a_list_is_one_value() -> None:
    settings = {("sgd", "rank"): "4, 8", ("sgd", "members"): "1,2", ("svd", "ranks"): "1,2,4"}
    assert names(["sgd", "svd", "bias"], settings=settings) == [
        "sgd rank 4, members 1", "sgd rank 4, members 2", "sgd rank 8, members 1", "sgd rank 8, members 2",
        "svd rank 1/2/4", "bias",
    ]  # fmt: skip


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_is_a_candidate_by_its_name_its_class_and_itself(solver: str) -> None:
    made = as_candidates([solver, SOLVERS[solver], SOLVERS[solver]()])
    assert [candidate.name for candidate in made] == [solver] * 3
    assert len({candidate.solver for candidate in made}) == 1


def test_a_name_has_the_settings_that_are_not_the_usual_ones() -> None:
    assert name_of(SOLVERS["als"](rank=3, members=1)) == "als rank 3, members 1"
    assert name_of(SOLVERS["als"](members=6)) == "als"


def test_a_mapping_gives_its_own_names() -> None:
    assert [one.name for one in as_candidates({"plain": "bias", "mine": SOLVERS["svd"](ranks=(2,))})] == [
        "plain", "mine",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("solvers", "ranks", "settings", "message"),
    [
        (["sdg"], [], {}, "no solver 'sdg'; did you mean"),
        (["sgd", "bias"], ["4"], {}, "--ranks: solver 'bias' has no rank; leave it out, or give"),
        (["sgd"], ["4", "x"], {}, "rank: setting of another type"),
        (["sgd"], ["0"], {}, "rank: setting out of range"),
        (["sgd"], [], {("als", "rank"): "2"}, r"-p: a setting of no candidate \(saw als.rank\)"),
        (["sgd"], [], {("sgd", "rnk"): "2"}, "solver 'sgd' has no setting 'rnk'"),
        (["sgd"], ["4"], {("sgd", "rank"): "2"}, "setting sgd.rank: given twice"),
    ],
)
def test_a_grid_that_cannot_be_made_is_refused(
    solvers: list[str], ranks: list[str], settings: dict[tuple[str, str], str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        grid(solvers, ranks, settings)


@pytest.mark.parametrize("given", ["sgd", None, 3, SOLVERS["sgd"]()])
def test_what_is_no_list_of_candidates_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="candidates: not a list of candidates"):
        as_candidates(given)


TWO = as_candidates(["bias", "mean"])


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"candidates": TWO[:1]}, r"a comparison needs two candidates or more \(saw bias\)"),
        ({"candidates": ()}, r"two candidates or more \(saw none\)"),
        ({"candidates": TWO + TWO[:1]}, "two candidates are the same"),
        ({"candidates": as_candidates({"one": "bias", "two": "bias"})}, r"are the same \(saw one and two\)"),
        ({"folds": 1}, "folds: out of range"),
        ({"folds": 2.5}, "folds: not a whole number"),
        ({"seeds": 0}, "seeds: out of range"),
        ({"seed": -1}, "seed: out of range"),
        ({"split_seed": -1}, "split_seed: out of range"),
        ({"validation": 1}, "validation is out of range"),
        ({"hold_out": 0}, "nothing is held out to compare on"),
        ({"folds": 3, "by": "time"}, "folds and by 'time' exclude each other"),
        ({"by": "user", "test": small_table()}, "by: by 'user' and a test table exclude each other"),
        ({"folds": 3, "test": small_table()}, "folds and a test table exclude each other"),
        ({"seeds": 2, "by": "user-time"}, "the split by 'user-time' is the same for every seed"),
        ({"seeds": 2, "test": small_table()}, "the split of a test table is the same for every seed"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(plan: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Plan(**{"candidates": TWO, **plan})


def test_trials_are_every_candidate_on_every_split_with_the_seed_of_the_repetition() -> None:
    plan = Plan(candidates=TWO, folds=2, seeds=2, seed=5, split_seed=8)
    trials = plan.trials(small_table())
    assert plan.n_splits == 4
    assert [(trial.split, trial.candidate.name, trial.seed) for trial in trials[:4]] == [
        (0, "bias", 5), (0, "mean", 5), (1, "bias", 5), (1, "mean", 5),
    ]  # fmt: skip
    assert [trial.rule["seed"] for trial in trials[::2]] == [8, 8, 9, 9]
    assert [trial.rule["fold"] for trial in trials[::2]] == [1, 2, 1, 2]


@pytest.mark.parametrize("plan", [{"folds": 2, "seeds": 2}, {"seeds": 3}, {"by": "time"}, {"test": True}])
def test_a_plan_makes_as_many_splits_as_it_says(plan: dict[str, Any]) -> None:
    table = small_table()
    if "test" in plan:
        is_test = np.arange(len(table)) % 5 == 0
        plan, table = {"test": table.select(is_test)}, table.select(~is_test)
    made = Plan(candidates=TWO, **plan)
    assert len(list(made.splits(table))) == made.n_splits
    rules = [str(trial.rule) for trial in made.trials(table)]
    assert len(set(rules)) == made.n_splits
