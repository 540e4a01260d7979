"""The oracle: every backend computes what the float64 reference computes, over awkward shapes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_mf.arrays import sorting
from recsys_mf.arrays.threads import side_by_side
from recsys_mf.kernels import Kernels, cpu_sgd, layout, reference, turns
from recsys_mf.kernels.cpu import CpuKernels
from recsys_mf.kernels.cpu_predict import CpuPredictor
from recsys_mf.kernels.cuda import TorchKernels
from recsys_mf.kernels.vectors import aligned
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import blocks
from recsys_mf.vocabulary import Vocabulary
from tests.backends import BACKENDS, NAMES

EPSILON = float(np.finfo(np.float32).eps)
RANKS = (1, 3, 64, 100)
M, N = 37, 23


@pytest.fixture(params=NAMES)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return BACKENDS[request.param]()


class Table(NamedTuple):
    """Triples in which user 0 has no rating, user 1 has one, user 2 rated every item, and the last of both occur."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    values: NDArray[np.float32]


def table(rng: np.random.Generator) -> Table:
    observed = rng.random((M, N)) < 0.4
    observed[0], observed[1], observed[2] = False, np.arange(N) == 5, True
    observed[-1, -1] = True
    users, items = np.nonzero(observed)
    shuffled = rng.permutation(len(users))
    values = rng.standard_normal(len(users)).astype(np.float32)
    return Table(users[shuffled].astype(np.int32), items[shuffled].astype(np.int32), values)


def padded(factors: NDArray[Any], width: int) -> NDArray[np.float32]:
    wide = np.zeros((len(factors), width), np.float32)
    wide[:, : factors.shape[1]] = factors
    return wide


@pytest.mark.parametrize("rank", [0, *RANKS])
def test_predict_agrees_with_the_reference_and_falls_back_for_unknown_ids(rank: int) -> None:
    rng = np.random.default_rng(rank)
    P, Q = (rng.standard_normal((rows, rank)).astype(np.float32) for rows in (M, N))
    b_u, b_i = (rng.standard_normal(rows).astype(np.float32) for rows in (M, N))
    users = np.append(rng.integers(-1, M, 200), [M - 1, -1, -1, 0]).astype(np.int32)
    items = np.append(rng.integers(-1, N, 200), [N - 1, -1, 0, -1]).astype(np.int32)
    arguments = 0.5, b_u, b_i, P, Q, users, items, (-3.0, 4.0)
    # A sum of k products of standard normals, each rounded: k eps times their typical size, with room for tails.
    np.testing.assert_allclose(
        CpuPredictor().predict(*arguments), reference.predict(*arguments), atol=(rank + 4) * 8 * EPSILON
    )


def scheduled(rng: np.random.Generator) -> blocks.Blocks:
    """The triples in a grid of 4 by 4 conflict-free blocks, some of them empty, and of 3 by 2 parts each."""
    users, items, values = table(rng)
    ratings = Ratings(users, items, values, None, vocabulary(M), vocabulary(N))
    return blocks.schedule(ratings, layout.Grid(4, 3, 2), rng, center=0.0, scale=1.0, kernels=CpuKernels(2))


def vocabulary(size: int) -> Vocabulary:
    return Vocabulary.encode(np.arange(size))[0]


@pytest.mark.parametrize("rank", RANKS)
def test_sgd_epoch_agrees_with_the_reference(kernels: Kernels, rank: int) -> None:
    rng = np.random.default_rng(rank)
    order = scheduled(rng)
    batch = 7 if isinstance(kernels, TorchKernels) else 1
    factors = [rng.standard_normal((rows, rank)) * 0.3 for rows in (M, N)]
    biases = [rng.standard_normal(rows) * 0.3 for rows in (M, N)]
    settings = 0.05, 0.02, 0.1, 0.3
    exact = [a.copy() for a in (*factors, *biases)]
    triples = order.users, order.items, order.values
    expected = reference.sgd_epoch(*triples, order.bounds, batch, *exact, *settings, 0)

    width = kernels.width(rank)
    ours = [*(padded(f, width) for f in factors), *(b.astype(np.float32) for b in biases)]
    ours = [kernels.put(a) for a in ours]
    put = [kernels.put(a) for a in (*triples, order.bounds)]
    error = kernels.sgd_epoch(*put, batch, *ours, *settings, 0)

    # At most M + N updates touch a row; each carries the rounding of a k-term sum of terms below one.
    tolerance = (M + N) * (rank + 4) * EPSILON / 4
    assert error == pytest.approx(expected, rel=tolerance)
    for got, want in zip(ours, exact, strict=True):
        rows = kernels.get(got)
        assert rows.ndim == 1 or not rows[:, rank:].any()
        np.testing.assert_allclose(rows[:, :rank] if rows.ndim == 2 else rows, want, atol=tolerance)


CONTEXTS = 5


@pytest.mark.parametrize("with_contexts", [False, True])
@pytest.mark.parametrize("with_normals", [False, True])
@pytest.mark.parametrize("rank", [0, *RANKS, 14, 15, 16, 200])  # about a tile, and too wide for lanes
def test_solve_rows_agrees_with_the_reference(
    kernels: Kernels, rank: int, with_normals: bool, with_contexts: bool
) -> None:
    slow = isinstance(kernels, TorchKernels) and kernels.device == "cpu" and kernels.written_in.startswith("triton")
    if slow and rank == 100 and not (with_normals and with_contexts):
        pytest.skip("seconds a row under the interpreter")
    rng = np.random.default_rng(rank)
    users, items, values = table(rng)
    n_rows = 6 if slow else M
    users, items, values = (column[users < n_rows] for column in (users, items, values))
    starts, order = sorting.group(users, n_rows)
    width = rank + 1
    contexts = rng.integers(0, CONTEXTS, len(users) if with_contexts else 0).astype(np.int32)
    Y, C = (rng.standard_normal((rows, width)).astype(np.float32) for rows in (N, CONTEXTS))
    root = rng.standard_normal((width, width)).astype(np.float32) / np.float32(np.sqrt(width))
    prior = (root @ root.T + np.eye(width)).astype(np.float32)
    arrays = (
        starts, items[order], contexts, values[order], Y, C,
        prior, rng.standard_normal((n_rows, width)).astype(np.float32),
        rng.random(n_rows).astype(np.float32), rng.random(width).astype(np.float32),
    )  # fmt: skip
    normals = rng.standard_normal((n_rows if with_normals else 0, width)).astype(np.float32)
    exact, exact_errors = reference.solve_rows(*arrays, 1.7, normals)
    put = [kernels.put(a) for a in arrays]
    ours, errors = (kernels.get(a) for a in kernels.solve_rows(*put, 1.7, kernels.put(normals)))
    # The condition of the heaviest row amplifies the rounding of sums of up to N + k terms.
    regressors = Y + C[:1] * with_contexts
    worst = np.linalg.cond(prior + 1.7 * regressors.T @ regressors + np.eye(width))
    size = np.abs(exact).max()
    np.testing.assert_allclose(ours, exact, atol=worst * (N + width) * EPSILON * size)
    # Squared errors are differences of sums of N squares of targets and predictions.
    squares = N * (1 + np.abs(regressors).max() * np.sqrt(width) * size) ** 2
    np.testing.assert_allclose(errors, exact_errors, atol=worst * EPSILON * squares)


def test_solve_rows_gives_nan_for_a_system_that_is_not_positive_definite(kernels: Kernels) -> None:
    starts, others = np.array([0, 0, 1]), np.zeros(1, np.int32)
    zero, one = np.zeros((2, 2), np.float32), np.ones(1, np.float32)
    nothing, none = np.zeros(2, np.float32), np.zeros(0, np.int32)
    arguments = starts, others, none, one, np.ones((1, 2), np.float32), zero[:0], zero, zero, nothing, nothing
    rows, _ = kernels.solve_rows(*(kernels.put(a) for a in arguments), 1.0, kernels.put(zero[:0]))
    assert np.isnan(kernels.get(rows)[0]).any()


@pytest.mark.parametrize("columns", [1, 5, 64])
def test_sparse_product_agrees_with_the_reference(kernels: Kernels, columns: int) -> None:
    rng = np.random.default_rng(columns)
    users, items, values = table(rng)
    starts, order = sorting.group(users, M)
    for entries in (values[order], values[:0]):
        arguments = starts, items[order], entries, rng.standard_normal((N, columns))
        ours = kernels.get(kernels.sparse_product(*(kernels.put(a) for a in arguments)))
        np.testing.assert_allclose(ours, reference.sparse_product(*arguments), atol=N * 8 * np.finfo(np.float64).eps)


def test_sparse_product_of_a_long_row_agrees_with_the_reference(kernels: Kernels) -> None:
    rng = np.random.default_rng(0)
    starts, others = np.array([0, 0, 5003, 5004, 9000]), rng.integers(0, 9, 9000).astype(np.int32)
    arguments = starts, others, rng.standard_normal(9000).astype(np.float32), rng.standard_normal((9, 3))
    ours = kernels.get(kernels.sparse_product(*(kernels.put(a) for a in arguments)))
    np.testing.assert_allclose(ours, reference.sparse_product(*arguments), atol=5003 * 4 * np.finfo(np.float64).eps)


@pytest.mark.parametrize("rank", [3, 64])
def test_row_with_thousands_of_ratings_agrees_with_the_reference(kernels: Kernels, rank: int) -> None:
    rng = np.random.default_rng(0)
    starts, others = np.array([0, 5003, 5003, 5004]), rng.integers(0, 9, 5004).astype(np.int32)
    width, no_contexts = rank + 1, np.zeros(0, np.int32)
    none = np.zeros((0, width), np.float32)
    arrays = (
        starts, others, no_contexts, rng.standard_normal(5004).astype(np.float32),
        rng.standard_normal((9, width)).astype(np.float32), none, np.eye(width, dtype=np.float32),
        np.zeros((3, width), np.float32), np.ones(3, np.float32), np.ones(width, np.float32),
    )  # fmt: skip
    exact, exact_errors = reference.solve_rows(*arrays, 1.0, none)
    ours, errors = (
        kernels.get(a) for a in kernels.solve_rows(*(kernels.put(a) for a in arrays), 1.0, kernels.put(none))
    )
    # Sums of 5,003 terms against a smallest eigenvalue of two.
    np.testing.assert_allclose(ours, exact, atol=5003 * EPSILON * rank)
    np.testing.assert_allclose(errors, exact_errors, atol=5003 * EPSILON * rank * errors.max())


def test_threads_do_not_change_a_bit() -> None:
    rng = np.random.default_rng(0)
    order = scheduled(rng)
    results = []
    for threads in (1, 2):
        kernels = CpuKernels(threads)
        P, Q = (np.ones((rows, 16), np.float32) * 0.1 for rows in (M, N))
        b_u, b_i = np.zeros(M, np.float32), np.zeros(N, np.float32)
        for _ in range(5):
            kernels.sgd_epoch(
                order.users, order.items, order.values, order.bounds, 1, P, Q, b_u, b_i, 0.05, 0.02, 0.1, 0.3, 0
            )
        results.append((P.tobytes(), Q.tobytes(), b_u.tobytes(), b_i.tobytes()))
    assert results[0] == results[1]


@pytest.mark.parametrize("with_contexts", [False, True])
@pytest.mark.parametrize("rank", [0, *RANKS, 300])
def test_pair_values_agree_with_the_reference(kernels: Kernels, rank: int, with_contexts: bool) -> None:
    rng = np.random.default_rng(rank)
    X, Y, C = (rng.standard_normal((rows, rank + 1)).astype(np.float32) for rows in (M, N, CONTEXTS))
    users, items, contexts = (
        np.append(rng.integers(-1, rows, 100), [-1, rows - 1, -1, 0]).astype(np.int32) for rows in (M, N, CONTEXTS)
    )
    arguments = users, items, contexts if with_contexts else contexts[:0], X, Y, C
    ours = kernels.get(kernels.pair_values(*(kernels.put(a) for a in arguments)))
    np.testing.assert_allclose(ours, reference.pair_values(*arguments), atol=(rank + 4) * 16 * EPSILON)


def test_expected_levels_agree_with_the_reference(kernels: Kernels) -> None:
    means = np.append(np.random.default_rng(0).normal(0, 2, 100), [-40, 40]).astype(np.float32)
    levels = np.array([1, 2, 3.5, 5], np.float32)
    arguments = np.array([-1.2, 0.1, 0.9]), 0.7, levels
    ours = kernels.get(kernels.expected_levels(kernels.put(means), *arguments))
    np.testing.assert_allclose(ours, reference.expected_levels(means, *arguments), atol=8 * EPSILON * levels[-1])


def refinement(rng: np.random.Generator, rank: int) -> tuple[Any, ...]:
    """Arguments of refine_rows but the steps, with a row without a rating."""
    users, items, values = table(rng)
    starts, order = sorting.group(users, M)
    X, Y = ((rng.standard_normal((rows, rank + 1)) * 0.3).astype(np.float32) for rows in (M, N))
    weights, ridge = (rng.random(size).astype(np.float32) + np.float32(0.5) for size in (M, rank + 1))
    return starts, items[order], values[order], X, Y, weights, ridge


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("rank", [0, *RANKS, 16, 200])
def test_refine_rows_agrees_with_the_reference(kernels: Kernels, rank: int, steps: int) -> None:
    arguments = refinement(np.random.default_rng(rank), rank)
    exact, exact_errors = reference.refine_rows(*arguments, steps)
    put = [kernels.put(a) for a in arguments]
    ours, errors = (kernels.get(a) for a in kernels.refine_rows(*put, steps))
    # A step divides sums of at most N products of k + 1 terms, which are rounded, by others of their size; the ratio
    # of the largest to the smallest of those is that of the diagonal.
    tolerance = (steps + 1) * N * (rank + 4) * EPSILON
    np.testing.assert_allclose(ours, exact, atol=tolerance * np.abs(exact).max())
    np.testing.assert_allclose(errors, exact_errors, atol=tolerance * max(1.0, exact_errors.max()))


def test_enough_refinement_solves_the_rows(kernels: Kernels) -> None:
    rank = 5
    starts, others, values, X, Y, weights, ridge = refinement(np.random.default_rng(1), rank)
    width = rank + 1
    none = np.zeros(0, np.int32), np.zeros((0, width), np.float32)
    prior, normals = (np.zeros((width, width), np.float32), np.zeros((M, width), np.float32)), none[1]
    solved, errors = reference.solve_rows(
        starts, others, none[0], values, Y, none[1], *prior, weights, ridge, 1.0, normals
    )
    put = [kernels.put(a) for a in (starts, others, values, X, Y, weights, ridge)]
    ours, left = (kernels.get(a) for a in kernels.refine_rows(*put, 3 * width))
    np.testing.assert_allclose(ours, solved, atol=1e-4)
    np.testing.assert_allclose(left, errors, atol=1e-4 * N)


@pytest.mark.parametrize("threads", [1, 3, 9])
def test_any_number_of_threads_however_few_run_at_a_time_ends_an_epoch_with_the_same_result(threads: int) -> None:
    rng = np.random.default_rng(0)
    order = scheduled(rng)
    start = [aligned((rng.standard_normal((rows, 16)) * 0.3).astype(np.float32)) for rows in (M, N)]
    numbers = [np.float32(x) for x in (0.05, 0.02, 0.1, 0.3)]
    results = []
    for running, given in ((1, 1), (1, threads), (2, threads)):  # two can run at a time, `given` take blocks
        P, Q, b_u, b_i = (a.copy() for a in (*start, np.zeros(M, np.float32), np.zeros(N, np.float32)))
        board, squares = turns.board(*order.bounds.shape - np.array([0, 1]), given), np.zeros((4, 4))
        triples = order.users, order.items, order.values
        tasks, kernel = [(thread,) for thread in range(given)], cpu_sgd.visit_kernel(16)
        side_by_side(kernel, tasks, running, given, board, *triples, order.bounds, P, Q, b_u, b_i, *numbers, squares)
        results.append([a.tobytes() for a in (P, Q, b_u, b_i, squares)])
    assert results[0] == results[1] == results[2]
