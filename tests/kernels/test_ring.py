"""The ring: workers that hold parts of the tables reach the bytes of a single machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys_mf.kernels.cpu.ring import Cut, Share
from recsys_mf.kernels.cpu.sgd import CpuSgd, total_error
from recsys_mf.kernels.operands import RatingScale, SgdState, SgdStep, Triples
from recsys_mf.kernels.schedule import host, ring
from recsys_mf.kernels.schedule.grid import Grid, Places
from recsys_mf.kernels.schedule.plan import PlanSettings
from recsys_mf.kernels.schedule.ring import Ring
from recsys_mf.ratings import Ratings
from tests.planted import planted

RANK, SCALE, SEED = 5, RatingScale(3.5, 1.25, (1.0, 5.0)), 7
STEPS = [SgdStep(0.03 * 0.9**epoch, 0.01, 0.02, 0.03) for epoch in range(3)]


class Fixed(CpuSgd):
    """With a grid of its own."""

    def __init__(self, grid: Grid) -> None:
        super().__init__(2)
        self._grid = grid

    def grid(self, n_ratings: int, n_users: int, n_items: int, width: int) -> Grid:
        """The grid."""
        return self._grid


def table(*, weighted: bool = False) -> Ratings:
    ratings = planted(150, 120, density=0.3)[0]
    if not weighted:
        return ratings
    return replace(ratings, weights=np.random.default_rng(1).uniform(0.2, 3, len(ratings)).astype(np.float32))


def initial(ratings: Ratings, width: int) -> SgdState:
    rng = np.random.default_rng(5)
    tables = [np.zeros((rows, width), np.float32) for rows in (ratings.n_users, ratings.n_items)]
    for rows in tables:
        rows[:, :RANK] = 0.3 * rng.standard_normal((len(rows), RANK), np.float32)
    sgd = CpuSgd(1)
    return SgdState(
        *(sgd.put_factors(rows, "float32") for rows in tables), *(np.zeros(len(rows), np.float32) for rows in tables)
    )


def on_one_machine(ratings: Ratings, grid: Grid) -> tuple[SgdState, list[float]]:
    sgd = Fixed(grid)
    plan = sgd.plan(ratings, PlanSettings(RANK, SCALE, "conflict-free", 0.03), np.random.default_rng(SEED))
    state = initial(ratings, plan.width)
    return state, [sgd.epoch(plan, state, step) for step in STEPS]


def on_a_ring(ratings: Ratings, grid: Grid, workers: int) -> tuple[SgdState, list[float]]:
    """The same by workers that know their own rows alone, one after another in every step."""
    rng = np.random.default_rng(SEED)
    places = Places.draw(ratings.user_counts, ratings.item_counts, grid, rng)
    seed, sgd = int(rng.integers(2**63)), CpuSgd(2)
    cut = Cut.of(places, grid, workers)
    bands = (part // n for part, n in ((places.part_of_user, grid.user_parts), (places.part_of_item, grid.item_parts)))
    rows, columns = (band[side] for band, side in zip(bands, (ratings.users, ratings.items), strict=True))
    counts = ring.count_blocks(rows, columns, grid.bands)
    mean = 1.0 if ratings.weights is None else float(ratings.weights.mean(dtype=np.float64))
    whole = initial(ratings, sgd.width(RANK))
    shares, mine, travelling = [], [], []
    for worker in range(workers):
        own = ratings.select(np.isin(rows, cut.ring.group(worker)))
        among = host.Among(ring.first_places(counts, cut.ring.edges[worker]), mean)
        triples = Triples(own.users, own.items, own.values, own.weights)
        arranged = host.arrange(triples, places, grid, SCALE, seed, threads=2, among=among)
        shares.append(Share.of(arranged, cut, worker))
        users, items = cut.user_rows(worker), cut.item_rows(worker)
        mine.append((sgd.put_factors(whole.P[users].copy(), "float32"), whole.user_bias[users].copy()))
        travelling.append((sgd.put_factors(whole.Q[items].copy(), "float32"), whole.item_bias[items].copy()))
    totals = []
    for step in STEPS:
        errors = np.zeros((grid.bands, grid.bands))
        for at in range(workers + 1):
            for worker in reversed(range(workers)):
                (P, b_u), (Q, b_i) = mine[worker], travelling[cut.ring.held(worker, at)]
                shares[worker].visit(sgd, at, SgdState(P, Q, b_u, b_i), step, errors)
        totals.append(total_error(errors))
    P, b_u, Q, b_i = (np.concatenate(rows) for sides in (mine, travelling) for rows in zip(*sides, strict=True))
    return SgdState(P, Q, b_u, b_i), totals


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("grid", "workers"), [
    (Grid(4), 1), (Grid(4), 2), (Grid(4), 4), (Grid(8, 2, 3), 2), (Grid(8, 2, 3), 3), (Grid(8, 2, 1), 5),
    (Grid(32, 1, 2), 4), (Grid(2), 2), (Grid(2), 5), (Grid(64), 40),
])  # fmt: skip
def test_a_ring_of_workers_reaches_the_bytes_of_one_machine(grid: Grid, workers: int, *, weighted: bool) -> None:
    ratings = table(weighted=weighted)
    (here, errors), (there, met) = on_one_machine(ratings, grid), on_a_ring(ratings, grid, workers)
    for name, one, other in zip(SgdState._fields, here, there, strict=True):
        assert one.tobytes() == other.tobytes(), name
    assert errors == met


@pytest.mark.parametrize(("ratings", "bands"), [
    (0, 2), (1, 2), (100_000, 4), (1_000_000, 8), (1_048_576, 16), (2_000_000, 16), (25_000_095, 32), (100_480_507, 32),
    (10**9 - 1, 32), (10**9, 64), (2 * 10**9 - 1, 64), (2 * 10**9, 128), (4 * 10**9, 256), (10**11, 256),
])  # fmt: skip
def test_bands_grow_with_the_ratings_for_a_cluster_alone(ratings: int, bands: int) -> None:
    """Up to a billion ratings they are those that are best for one machine, whatever the machine."""
    for threads in (1, 64):
        assert CpuSgd(threads).grid(ratings, 1000, 1000, 16).bands == bands


@pytest.mark.parametrize(("bands", "workers"), [(32, 5), (8, 8), (4, 1), (256, 100)])
def test_groups_of_a_ring_are_its_bands_and_items_come_home(bands: int, workers: int) -> None:
    groups = Ring.of(bands, workers)
    assert [band for number in range(workers) for band in groups.group(number)] == list(range(bands))
    for worker in range(workers):
        assert groups.held(worker, 0) == groups.held(worker, workers) == worker
        for step in range(workers):
            assert groups.held(groups.before(worker), step + 1) == groups.held(worker, step)


def test_an_order_by_rows_would_give_other_bytes() -> None:
    """The test above can fail: the same blocks with the diagonal in one go, as a ring without its last step."""
    ratings, grid = table(), Grid(4)
    one, _ = on_one_machine(ratings, grid)
    original = ring.visits

    def unsplit(groups: Ring, worker: int, step: int, starts: ring.I64) -> list[ring.Visit]:
        first = list(original(groups, worker, step, starts)) if step < groups.workers else []
        return first + (list(original(groups, worker, groups.workers, starts)) if step == 0 else [])

    ring.visits = unsplit  # type: ignore[assignment]
    try:
        other, _ = on_a_ring(ratings, grid, 2)
    finally:
        ring.visits = original
    assert one.P.tobytes() != other.P.tobytes()
