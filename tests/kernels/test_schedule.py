"""The schedule of masked SGD: a permutation of the triples in conflict-free blocks, whatever the threads."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_mf.arrays.mapped import limited
from recsys_mf.kernels.cpu.sgd import CpuSgd
from recsys_mf.kernels.operands import RatingScale
from recsys_mf.kernels.schedule.grid import Grid
from recsys_mf.kernels.schedule.plan import PlanSettings, SgdPlan
from recsys_mf.ratings import Ratings

USERS, ITEMS = 211, 97


@pytest.fixture
def ratings() -> Ratings:
    rng = np.random.default_rng(3)
    users, items = np.nonzero(rng.random((USERS, ITEMS)) < 0.3)
    return Ratings.from_ids(users, items, rng.standard_normal(len(users)))


@pytest.mark.parametrize("grid", [Grid(1), Grid(4), Grid(8, 5, 3), Grid(2, 300, 1)])
def test_schedule_visits_every_triple_once_under_its_permuted_indices(ratings: Ratings, grid: Grid) -> None:
    order = scheduled(ratings, grid)
    values = (ratings.values - np.float32(2)) / np.float32(4)
    moved = zip(order.user_places[ratings.users], order.item_places[ratings.items], values, strict=True)
    assert sorted(moved) == sorted(zip(order.users, order.items, order.values, strict=True))
    assert sorted(order.user_places) == list(range(ratings.n_users))


def test_weights_go_with_their_triples_divided_by_their_mean(ratings: Ratings) -> None:
    weighted = replace(ratings, weights=np.exp(ratings.values))
    order, plain = scheduled(weighted, Grid(4, 2, 2)), scheduled(ratings, Grid(4, 2, 2))
    assert np.array_equal(order.users, plain.users)
    expected = np.exp(4 * order.values + 2) / np.exp(ratings.values).mean()
    assert order.weights is not None
    np.testing.assert_allclose(order.weights, expected, rtol=1e-5)
    assert plain.weights is None


def test_weights_come_from_files_as_from_memory(ratings: Ratings) -> None:
    weighted = replace(ratings, weights=np.exp(ratings.values))
    here = scheduled(weighted, Grid(4, 2, 2))
    with limited(1):
        plan = planned(weighted, Grid(4, 2, 2))
        parts = list(plan.triples.passes())
    assert len(parts) == 4
    for name in ("users", "weights"):
        assert np.array_equal(getattr(parts[0], name), getattr(here, name))


@pytest.mark.parametrize("grid", [Grid(4), Grid(8, 5, 3)])
def test_blocks_of_a_stratum_share_no_user_and_no_item(ratings: Ratings, grid: Grid) -> None:
    order = scheduled(ratings, grid)
    assert order.bounds[0, 0] == 0
    assert order.bounds[-1, -1] == len(ratings)
    for stratum in order.bounds:
        blocks_of = [slice(low, high) for low, high in itertools.pairwise(stratum)]
        for side in (order.users, order.items):
            seen = [set(side[block].tolist()) for block in blocks_of]
            assert sum(map(len, seen)) == len(set().union(*seen))


def test_parts_of_a_block_follow_one_another(ratings: Ratings) -> None:
    order = scheduled(ratings, Grid(2, 4, 1))
    rated = np.bincount(order.users, minlength=ratings.n_users)
    part = (np.cumsum(rated) - rated) * 8 // len(ratings)  # the part of every permuted row: 2 bands of 4 parts
    for low, high in zip(order.bounds[:, :-1].ravel(), order.bounds[:, 1:].ravel(), strict=True):
        parts = part[order.users[low:high]]
        assert len(np.unique(parts)) == 4
        assert (np.diff(parts) >= 0).all()


def test_order_within_a_part_is_random_and_depends_on_the_seed_alone(ratings: Ratings) -> None:
    one, same, other = (scheduled(ratings, Grid(1), seed, threads) for seed, threads in ((0, 1), (0, 2), (1, 1)))
    assert np.array_equal(one.users, same.users)
    assert np.array_equal(one.items, same.items)
    assert not np.array_equal(one.users, other.users)
    by_place = np.empty(ratings.n_users)
    by_place[one.user_places] = np.arange(ratings.n_users)
    visited = by_place[one.users]  # source order of the users, which are in ascending order in the table
    steps = np.corrcoef(visited, np.arange(len(visited)))[0, 1]
    assert abs(steps) < 4 / np.sqrt(len(visited))


class Order(NamedTuple):
    users: NDArray[np.int32]
    items: NDArray[np.int32]
    values: NDArray[np.float32]
    weights: NDArray[np.float32] | None
    bounds: NDArray[np.int64]
    user_places: NDArray[np.int32]
    item_places: NDArray[np.int32]


def scheduled(ratings: Ratings, grid: Grid, seed: int = 0, threads: int = 2) -> Order:
    """The order of a plan, cut as the grid asks."""
    plan = planned(ratings, grid, seed, threads)
    (part,) = plan.triples.passes()
    return Order(*part, plan.user_places, plan.item_places)


def planned(ratings: Ratings, grid: Grid, seed: int = 0, threads: int = 2) -> SgdPlan:
    class Cut(CpuSgd):
        def grid(self, *_: int) -> Grid:
            return grid

    settings = PlanSettings(3, RatingScale(2.0, 4.0, (1.0, 5.0)), "conflict-free", 0.1)
    return Cut(threads).plan(ratings, settings, np.random.default_rng(seed))
