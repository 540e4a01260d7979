"""The best columns of rows of scores: every backend gives the lists of the reference, ties and all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels import reference
from recsys_mf.kernels.backend import PredictionKernels
from recsys_mf.kernels.cpu import top_of_levels, top_of_samples
from recsys_mf.kernels.cpu.prediction import CpuPrediction
from recsys_mf.kernels.operands import Curves, LevelScores, NoiseTables, SampleTables, TopQuery
from recsys_mf.kernels.torch.prediction import TorchPrediction
from tests.backends import interpreted, on_triton

PREDICTORS: dict[str, Callable[[], PredictionKernels]] = {
    "cpu-1": lambda: CpuPrediction(1),
    "cpu-2": lambda: CpuPrediction(2),
    "torch": lambda: TorchPrediction("cpu"),
    "torch in parts": lambda: TorchPrediction("cpu", room=5_000),
    "torch-cuda": lambda: TorchPrediction("cuda"),
    "triton": lambda: on_triton("cpu").make_prediction(),
    "triton-cuda": lambda: on_triton("cuda").make_prediction(),
}
MARKS: dict[str, Any] = {"torch-cuda": pytest.mark.cuda, "triton-cuda": pytest.mark.cuda, "triton": interpreted}
NAMES = [pytest.param(name, marks=MARKS.get(name, ())) for name in PREDICTORS]
SHAPES = ((1, 1), (5, 15), (6, 16), (13, 100), (200, 33))  # within, at and past the bounds of a tile


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest) -> PredictionKernels:
    return PREDICTORS[request.param]()


def left_out(rng: np.random.Generator, rows: int, n: int) -> Csr:
    """Some columns of every row, of the first row all, of the last none."""
    chosen = rng.random((rows, n)) < 0.3
    chosen[0], chosen[-1] = True, rows == 1
    starts = np.concatenate([[0], np.cumsum(chosen.sum(1))])
    return Csr(starts.astype(np.int64), np.nonzero(chosen)[1].astype(np.int32), None, n)


@pytest.mark.parametrize("count", [1, 4, 120])
@pytest.mark.parametrize(("rows", "n"), SHAPES)
@pytest.mark.parametrize("width", [0, 1, 10])
def test_lists_are_those_of_the_reference_where_sums_are_exact(
    engine: PredictionKernels, rows: int, n: int, width: int, count: int
) -> None:
    rng = np.random.default_rng([rows, n, width])
    queries, table = (rng.integers(-2, 3, (size, width)).astype(np.float32) for size in (rows, n))  # many ties
    for excluded in (None, left_out(rng, rows, n)):
        columns, scores = engine.find_top(queries, table, count, excluded)
        expected = reference.find_top(queries, table, count, excluded)
        np.testing.assert_array_equal(columns, expected[0])
        np.testing.assert_array_equal(scores, expected[1])
        assert columns.dtype.name == "int32"
        assert scores.dtype.name == "float32"


@pytest.mark.parametrize("count", [1, 7, 40])
def test_scores_that_are_given_are_searched_alike(engine: PredictionKernels, count: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.choice(np.array([-1e30, -2.5, -0.0, 0.0, 1.0, 3.25, -np.inf], np.float32), (70, 31))
    for excluded in (None, left_out(rng, *scores.shape)):
        found = engine.select_top(scores, count, excluded)
        for ours, expected in zip(found, reference.select_top(scores, count, excluded), strict=True):
            np.testing.assert_array_equal(ours, expected)


def test_nothing_asked_or_nothing_there_is_an_empty_list(engine: PredictionKernels) -> None:
    for rows, n in ((0, 5), (3, 0)):
        columns, scores = engine.find_top(np.ones((rows, 2), np.float32), np.ones((n, 2), np.float32), 2, None)
        assert columns.tolist() == [[-1, -1]] * rows
        assert scores.tolist() == [[-np.inf, -np.inf]] * rows


def test_a_list_does_not_depend_on_the_others_asked_for_nor_on_threads() -> None:
    rng = np.random.default_rng(1)
    queries, table = (rng.standard_normal((size, 33)).astype(np.float32) for size in (500, 300))
    columns, scores = CpuPrediction(2).find_top(queries, table, 10, None)
    for row in (0, 7, 499):
        alone = CpuPrediction(1).find_top(queries[row : row + 1], table, 10, None)
        np.testing.assert_array_equal(alone[0][0], columns[row])
        np.testing.assert_array_equal(alone[1][0], scores[row])


def test_scores_are_products_within_rounding(engine: PredictionKernels) -> None:
    rng = np.random.default_rng(2)
    queries, table = (rng.standard_normal((size, 64)).astype(np.float32) for size in (40, 90))
    _, scores = engine.find_top(queries, table, 90, None)
    exact = np.sort(queries.astype(np.float64) @ table.T.astype(np.float64), axis=1)[:, ::-1]
    bound = 64 * np.finfo(np.float32).eps * np.abs(queries).max() * np.abs(table).max() * 8
    np.testing.assert_allclose(scores, exact, rtol=0, atol=bound)


@pytest.mark.slow
@pytest.mark.parametrize("with_squares", [False, True])
@pytest.mark.parametrize(("rank", "n_samples"), [(0, 1), (3, 5), (16, 40)])
def test_lists_by_means_over_samples_have_the_scores_of_the_reference(
    engine: PredictionKernels, rank: int, n_samples: int, with_squares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top_of_samples, "_ROOM", 40_000)  # users and items in several blocks
    rng = np.random.default_rng([rank, n_samples])
    m, n, width = 150, 210, rank + 1
    rows = [rng.integers(-3000, 3000, (size, n_samples, width)).astype(np.int16) for size in (m, n)]
    units = rng.uniform(1e-4, 4e-4, (3, n_samples)).astype(np.float32)
    offsets = rng.standard_normal(n_samples).astype(np.float32) * 0.1
    samples = SampleTables(rows[0], rows[1], None, units, offsets)
    users = np.concatenate([[-1], rng.integers(0, m, 120)]).astype(np.int32)
    items = np.flatnonzero(rng.random(n) < 0.7).astype(np.int32)
    K = 9
    values, squares = (rng.standard_normal((n_samples, K, 4)).astype(np.float32) for _ in range(2))
    steps = rng.uniform(0.1, 0.3, n_samples).astype(np.float32)
    curves = Curves(-K / 2 * steps, steps, values, squares if with_squares else None, 0.7, 0.1)
    excluded = left_out(rng, len(users), len(items))
    query = TopQuery(users, items, 8, excluded)
    columns, scores = engine.find_top_of_samples(samples, query, curves)
    everything = reference.find_top_of_samples(samples, query._replace(length=len(items)), curves)
    # A cubic is steep, and jumps between intervals: a value that rounding puts into the next one counts there.
    tolerance = 2e-3
    np.testing.assert_allclose(scores, everything[1][:, :8], atol=tolerance, rtol=tolerance)
    of_column = np.full((len(users), len(items) + 1), -np.inf)
    np.put_along_axis(of_column, everything[0], everything[1], axis=1)
    found = np.take_along_axis(of_column, columns, axis=1)
    np.testing.assert_allclose(found, np.where(columns < 0, -np.inf, scores), atol=tolerance, rtol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("with_squares", [False, True])
@pytest.mark.parametrize("personal", [False, True])
@pytest.mark.parametrize(("rank", "n_samples"), [(0, 1), (3, 5), (16, 40)])
def test_lists_by_expected_levels_have_the_scores_of_the_reference(
    engine: PredictionKernels, rank: int, n_samples: int, personal: bool, with_squares: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(top_of_levels, "_ROOM", 40_000)  # users and items in several blocks
    rng = np.random.default_rng([rank, n_samples])
    m, n, width = 150, 210, rank + 1
    rows = [rng.integers(-3000, 3000, (size, n_samples, width)).astype(np.int16) for size in (m, n)]
    units = rng.uniform(1e-4, 4e-4, (3, n_samples)).astype(np.float32)
    offsets = rng.standard_normal(n_samples).astype(np.float32) * 0.1
    factors = [rng.integers(8192, 32768, (size, n_samples)).astype(np.int16) for size in (m, n)]
    noise = NoiseTables(factors[0], factors[1], np.full((2, n_samples), 2 / 32767, np.float32))
    samples = SampleTables(rows[0], rows[1], None, units, offsets, noise if personal else None)
    users = np.concatenate([[-1], rng.integers(0, m, 120)]).astype(np.int32)
    items = np.flatnonzero(rng.random(n) < 0.7).astype(np.int32)
    thresholds = np.sort(rng.standard_normal((n_samples, 4)), axis=1).astype(np.float32)
    values = np.array([-2.0, -1, 0, 1, 2])
    noises = rng.uniform(0.5, 1, n_samples).astype(np.float32)
    levels = LevelScores(thresholds, noises, values, values**2 if with_squares else None, 0.7)
    query = TopQuery(users, items, 8, left_out(rng, len(users), len(items)))
    columns, scores = engine.find_top_of_levels(samples, query, levels)
    everything = reference.find_top_of_levels(samples, query._replace(length=len(items)), levels)
    tolerance = 2e-5 if not with_squares else 2e-4  # Φ to 3e-7, and the root of a difference
    np.testing.assert_allclose(scores, everything[1][:, :8], atol=tolerance)
    of_column = np.full((len(users), len(items) + 1), -np.inf)
    np.put_along_axis(of_column, everything[0], everything[1], axis=1)
    found = np.take_along_axis(of_column, columns, axis=1)
    np.testing.assert_allclose(found, np.where(columns < 0, -np.inf, scores), atol=tolerance)


WIDE = 2100  # columns that Triton's kernel searches
TRITON = pytest.param("triton", marks=interpreted), pytest.param("triton-cuda", marks=pytest.mark.cuda)


@pytest.mark.parametrize("name", TRITON)
@pytest.mark.parametrize("width", [1, 10, 100])
def test_groups_give_the_lists_of_the_reference_where_sums_are_exact(name: str, width: int) -> None:
    """Many ties: rows that are unsure are searched as a whole."""
    rng, engine = np.random.default_rng(width), PREDICTORS[name]()
    queries, table = (rng.integers(-2, 3, (size, width)).astype(np.float32) for size in (5, WIDE))
    for excluded in (None, left_out(rng, 5, WIDE)):
        found, expected = (of.find_top(queries, table, 7, excluded) for of in (engine, reference))
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("name", TRITON)
def test_groups_find_what_lies_far_below_the_largest_number(name: str) -> None:
    """Scores that differ by one part in a million are told apart, or their row is searched as a whole."""
    rng, engine = np.random.default_rng(3), PREDICTORS[name]()
    table = np.ones((WIDE, 3), np.float32)
    table[:, 1] = 1e-6 * rng.standard_normal(WIDE)
    table[0, 2] = -5e4
    queries = np.array([[1, 1, 1e-3], [3.5, 1, 0], [0, 1, 0], [1e20, 1e20, 0], [1e-20, 1e-20, 0]], np.float32)
    columns, scores = engine.find_top(queries, table, 5, None)
    products = queries.astype(np.float64) @ table.T.astype(np.float64)
    ours = np.take_along_axis(products, columns, axis=1)
    best = -np.sort(-products, axis=1)[:, :5]
    np.testing.assert_allclose(ours, best, rtol=3e-7)  # float32 scores, in which neighbours may be equal
    np.testing.assert_allclose(scores, best, rtol=3e-7)


@pytest.mark.parametrize("name", TRITON)
def test_numbers_that_are_not_finite_are_left_to_torch(name: str) -> None:
    engine, table = PREDICTORS[name](), np.ones((WIDE, 2), np.float32)
    table[5] = np.inf
    columns, scores = engine.find_top(np.ones((1, 2), np.float32), table, 2, None)
    assert (columns.tolist(), scores.tolist()) == ([[5, 0]], [[np.inf, 2.0]])


@pytest.mark.parametrize("name", TRITON)
def test_a_table_is_searched_in_parts_with_the_same_lists(name: str) -> None:
    on, rng = "cuda" if "cuda" in name else "cpu", np.random.default_rng(4)
    from recsys_mf.kernels.triton.prediction import TritonPrediction

    queries, table = (rng.standard_normal((size, 6)).astype(np.float32) for size in (9, WIDE))
    table.flags.writeable = False
    excluded, engine = left_out(rng, 9, WIDE), TritonPrediction(on, room=60_000)
    whole = PREDICTORS[name]().find_top(queries, table, 3, excluded)
    for _ in range(2):  # the table stays on the device
        for found, expected in zip(engine.find_top(queries, table, 3, excluded), whole, strict=True):
            np.testing.assert_array_equal(found, expected)
