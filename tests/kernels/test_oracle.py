"""Every backend computes what the float64 reference computes, over awkward shapes (`kernels.oracle`)."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_mf.arrays.aligned import align
from recsys_mf.arrays.csr import Csr
from recsys_mf.arrays.threads import side_by_side
from recsys_mf.kernels import cases, oracle, reference
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.cases import M, N
from recsys_mf.kernels.cpu import scheduler, visits
from recsys_mf.kernels.cpu.backend import make_backend
from recsys_mf.kernels.cpu.prediction import CpuPrediction
from recsys_mf.kernels.operands import (
    FactorModel,
    GaussianPrior,
    Offsets,
    Pairs,
    Regressors,
    SgdState,
    SgdStep,
    Shrinkage,
)
from recsys_mf.kernels.oracle import EPSILON, RANKS, Agreement
from tests.backends import BACKENDS, NAMES


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]()


def holds(*agreements: Agreement) -> bool:
    assert all(agreement.holds for agreement in agreements), agreements
    return True


def is_interpreted(backend: Backend) -> bool:
    """Whether Triton's kernels run under the interpreter, which takes seconds per row of a large system."""
    facts = backend.device.describe()
    return facts["device"] == "cpu" and facts.get("kernels", "").startswith("triton")


@pytest.mark.parametrize("rank", [0, *RANKS])
def test_predict_agrees_with_the_reference_and_falls_back_for_unknown_ids(rank: int) -> None:
    rng = np.random.default_rng(rank)
    P, Q = (rng.standard_normal((rows, rank)).astype(np.float32) for rows in (M, N))
    b_u, b_i = (rng.standard_normal(rows).astype(np.float32) for rows in (M, N))
    users = np.append(rng.integers(-1, M, 200), [M - 1, -1, -1, 0]).astype(np.int32)
    items = np.append(rng.integers(-1, N, 200), [N - 1, -1, 0, -1]).astype(np.int32)
    case = FactorModel(0.5, b_u, b_i, P, Q, (-3.0, 4.0)), Pairs(users, items)
    # A sum of k products of standard normals, each rounded: k eps times their typical size, with room for tails.
    np.testing.assert_allclose(CpuPrediction().predict(*case), reference.predict(*case), atol=(rank + 4) * 8 * EPSILON)


@pytest.mark.parametrize("rank", RANKS)
def test_epoch_agrees_with_the_reference(backend: Backend, rank: int) -> None:
    batch = 1 if backend.device.xp is np else 7
    assert holds(oracle.check_epoch(backend, rank, batch))


@pytest.mark.parametrize("step", oracle.WEIGHED_STEPS, ids=["long", "short", "linear"])
@pytest.mark.parametrize("rank", RANKS)
def test_epoch_with_weights_agrees_with_the_reference(backend: Backend, rank: int, step: SgdStep) -> None:
    batch = 1 if backend.device.xp is np else 3
    assert holds(oracle.check_epoch(backend, rank, batch, weighted=step))


@pytest.mark.slow
@pytest.mark.parametrize("with_contexts", [False, True])
@pytest.mark.parametrize("with_normals", [False, True])
@pytest.mark.parametrize("rank", [0, *RANKS, 14, 15, 16, 200])  # near the size of a tile, and too wide for lanes
def test_solve_agrees_with_the_reference(backend: Backend, rank: int, with_normals: bool, with_contexts: bool) -> None:
    slow = is_interpreted(backend)
    if slow and rank == 100 and not (with_normals and with_contexts):
        pytest.skip("seconds per row under the interpreter")
    case = cases.make_solve(rank, contexts=with_contexts, normals=with_normals, shape=(6 if slow else M, N))
    assert holds(*oracle.check_solve(backend, case))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 3, 16, 200])
def test_solve_with_the_prior_of_als_agrees_with_the_reference(backend: Backend, rank: int) -> None:
    shape = 6 if is_interpreted(backend) else M, N
    case = cases.make_solve(rank, contexts=False, normals=False, shrinkage=True, shape=shape)
    assert holds(*oracle.check_solve(backend, case))


@pytest.mark.slow
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("rank", [0, *RANKS, 16, 200])
def test_solve_with_weights_agrees_with_the_reference(backend: Backend, rank: int, both: bool) -> None:
    shape = 6 if is_interpreted(backend) else M, N
    case = cases.make_solve(rank, contexts=both, normals=both, shrinkage=not both, weighted=True, shape=shape)
    assert holds(*oracle.check_solve(backend, case))


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("with_contexts", [False, True])
@pytest.mark.parametrize("rank", [0, 3, 16, 200])
def test_solve_with_scales_of_rows_agrees_with_the_reference(
    backend: Backend, rank: int, with_contexts: bool, weighted: bool
) -> None:
    shape = 6 if is_interpreted(backend) else M, N
    case = cases.make_solve(rank, contexts=with_contexts, normals=True, weighted=weighted, scaled=True, shape=shape)
    assert holds(*oracle.check_solve(backend, case), oracle.check_row_scales(backend, case))


def test_scales_of_rows_are_weights_of_their_ratings() -> None:
    """In the reference: with the products of the scales as weights the solution is the same."""
    case = cases.make_solve(5, contexts=True, normals=True, weighted=True, scaled=True)
    regressors = case.regressors
    weights = regressors.weights * reference.row_scales(case.ratings, regressors)
    same = case._replace(regressors=regressors._replace(weights=weights, scales=None))
    for found, wanted in zip(reference.solve(*case), reference.solve(*same), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_solve_gives_nan_for_a_system_that_is_not_positive_definite(backend: Backend) -> None:
    put = backend.device.put
    ratings = Csr(np.array([0, 0, 1]), np.zeros(1, np.int32), np.ones(1, np.float32), 1).to(put)
    nothing = Shrinkage(put(np.zeros(2, np.float32)), put(np.zeros(2, np.float32)))
    rows, _ = backend.rows.solve(ratings, Regressors(put(np.ones((1, 2), np.float32))), nothing, 1.0, None)
    assert np.isnan(backend.device.get(rows)[0]).any()


@pytest.mark.parametrize("columns", [1, 5, 8, 30, 64])
def test_multiply_agrees_with_the_reference(backend: Backend, columns: int) -> None:
    matrix = cases.make_rows(cases.make_table(np.random.default_rng(columns)), M, N)
    rng = np.random.default_rng(columns)
    offsets = Offsets(rng.standard_normal(M), rng.standard_normal(N))
    products = (matrix, None), (matrix.pattern(), None), (matrix, offsets)
    assert holds(*(oracle.check_multiply(backend, S, columns, subtracted) for S, subtracted in products))


def long_row(rng: np.random.Generator, n: int, starts: list[int], columns: int = 9) -> Csr:
    others, values = rng.integers(0, columns, n).astype(np.int32), rng.standard_normal(n).astype(np.float32)
    return Csr(np.array(starts), others, values, columns)


def test_multiply_of_a_long_row_agrees_with_the_reference(backend: Backend) -> None:
    matrix = long_row(np.random.default_rng(0), 9000, [0, 0, 5003, 5004, 9000], 6000)
    assert holds(oracle.check_multiply(backend, matrix, 3))


@pytest.mark.parametrize("rank", [3, 64])
def test_row_with_thousands_of_ratings_agrees_with_the_reference(backend: Backend, rank: int) -> None:
    rng, width = np.random.default_rng(0), rank + 1
    prior = GaussianPrior(2 * np.eye(width, dtype=np.float32), np.zeros((3, width), np.float32))
    regressors = Regressors(cases.draw_rows(rng, 9, width))
    case = cases.SolveCase(long_row(rng, 5004, [0, 5003, 5003, 5004]), regressors, prior, 1.0, None)
    exact, exact_errors = reference.solve(*case)
    ours, errors = (backend.device.get(a) for a in backend.rows.solve(*case.put(backend)))
    # Sums of 5,003 terms, and a smallest eigenvalue of two.
    np.testing.assert_allclose(ours, exact, atol=5003 * EPSILON * rank)
    np.testing.assert_allclose(errors, exact_errors, atol=5003 * EPSILON * rank * errors.max())


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    order = cases.make_visits(np.random.default_rng(0))
    results = []
    for threads in (1, 2):
        backend = make_backend(threads)
        P, Q = (np.ones((rows, 16), np.float32) * 0.1 for rows in (M, N))
        state = SgdState(P, Q, np.zeros(M, np.float32), np.zeros(N, np.float32))
        for _ in range(5):
            backend.sgd.epoch(order.plan(backend, 1, 16), state, oracle.STEP)
        results.append([table.tobytes() for table in state])
    assert results[0] == results[1]


@pytest.mark.parametrize("with_contexts", [False, True])
@pytest.mark.parametrize("rank", [0, *RANKS, 300])
def test_pair_values_agree_with_the_reference(backend: Backend, rank: int, with_contexts: bool) -> None:
    assert holds(oracle.check_pair_values(backend, rank, contexts=with_contexts))


@pytest.mark.parametrize("with_contexts", [False, True])
@pytest.mark.parametrize("rank", [0, *RANKS])
def test_row_values_agree_with_the_reference(backend: Backend, rank: int, with_contexts: bool) -> None:
    assert holds(oracle.check_row_values(backend, rank, contexts=with_contexts))


def test_expected_levels_agree_with_the_reference(backend: Backend) -> None:
    means = np.append(np.random.default_rng(0).normal(0, 2, 100), [-40, 40]).astype(np.float32)
    levels = np.array([1, 2, 3.5, 5], np.float32)
    some = np.random.default_rng(1).uniform(0.2, 5, len(means)).astype(np.float32)
    for scales in (None, some):
        rest = np.array([-1.2, 0.1, 0.9]), 0.7, levels
        there = None if scales is None else backend.device.put(scales)
        ours = backend.device.get(backend.probit.expected_levels(backend.device.put(means), there, *rest))
        exact = reference.expected_levels(means, scales, *rest)
        np.testing.assert_allclose(ours, exact, atol=8 * EPSILON * levels[-1])


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("rank", [0, *RANKS, 16, 200])
def test_refine_agrees_with_the_reference(backend: Backend, rank: int, steps: int) -> None:
    assert holds(*oracle.check_refine(backend, rank, steps))


@pytest.mark.parametrize("rank", [0, *RANKS, 16])
def test_refine_with_weights_agrees_with_the_reference(backend: Backend, rank: int) -> None:
    assert holds(*oracle.check_refine(backend, rank, 3, weighted=True))


def twice(ratings: Csr, weights: NDArray[np.float32]) -> tuple[Csr, NDArray[np.int64]]:
    """The ratings with those of weight 2 twice, and the place of each among the ratings."""
    places = np.repeat(np.arange(len(weights)), weights.astype(int))
    starts = np.concatenate([[0], np.cumsum(weights)])[ratings.starts].astype(np.int64)
    return ratings._replace(starts=starts, columns=ratings.columns[places], values=ratings.values[places]), places


@pytest.mark.slow
@pytest.mark.parametrize("rank", [3, 64, 200])
def test_a_rating_of_weight_two_is_the_rating_twice_in_a_solution(backend: Backend, rank: int) -> None:
    slow = is_interpreted(backend)
    case = cases.make_solve(rank, contexts=True, normals=True, shape=(6 if slow else M, N))
    weights = np.random.default_rng(0).integers(1, 3, len(case.ratings.columns)).astype(np.float32)
    ratings, places = twice(case.ratings, weights)
    regressors = case.regressors
    assert regressors.contexts is not None
    repeated = case._replace(ratings=ratings, regressors=regressors._replace(contexts=regressors.contexts[places]))
    weighted = case._replace(regressors=regressors._replace(weights=weights))
    (one, errors), (other, same_errors) = (backend.rows.solve(*of.put(backend)) for of in (repeated, weighted))
    bounds = [agreement.bound for agreement in oracle.check_solve(backend, repeated)]
    np.testing.assert_allclose(backend.device.get(other), backend.device.get(one), atol=2 * bounds[0])
    np.testing.assert_allclose(backend.device.get(same_errors), backend.device.get(errors), atol=2 * bounds[1])


def test_a_rating_of_weight_two_is_the_rating_twice_in_a_refinement(backend: Backend) -> None:
    case = cases.make_refine(0, 20)
    weights = np.random.default_rng(0).integers(1, 3, len(case.ratings.columns)).astype(np.float32)
    repeated = case._replace(ratings=twice(case.ratings, weights)[0])
    weighted = case._replace(regressors=case.regressors._replace(weights=weights))
    (one, errors), (other, same_errors) = (backend.rows.refine(*of.put(backend), 3) for of in (repeated, weighted))
    tolerance = 4 * 2 * N * 24 * EPSILON  # as in `oracle.check_refine`, of rows twice as long
    np.testing.assert_allclose(backend.device.get(other), backend.device.get(one), atol=tolerance)
    np.testing.assert_allclose(
        backend.device.get(same_errors), backend.device.get(errors), rtol=tolerance, atol=tolerance
    )


def test_enough_refinement_steps_solve_the_rows(backend: Backend) -> None:
    case = cases.make_refine(1, rank=5)
    solved, errors = reference.solve(case.ratings, case.regressors, case.prior, 1.0, None)
    ours, left = (backend.device.get(a) for a in backend.rows.refine(*case.put(backend), 18))
    np.testing.assert_allclose(ours, solved, atol=1e-4)
    np.testing.assert_allclose(left, errors, atol=1e-4 * N)


@pytest.mark.parametrize("threads", [1, 3, 9])
def test_an_epoch_has_the_same_result_for_any_number_of_threads_even_if_few_run_at_a_time(threads: int) -> None:
    rng = np.random.default_rng(0)
    order = cases.make_visits(rng)
    start = [align((rng.standard_normal((rows, 16)) * 0.3).astype(np.float32)) for rows in (M, N)]
    numbers = [np.float32(x) for x in oracle.STEP[:4]]
    results = []
    for running, given in ((1, 1), (1, threads), (2, threads)):  # `running` run at a time, `given` take blocks
        P, Q, b_u, b_i = (a.copy() for a in (*start, np.zeros(M, np.float32), np.zeros(N, np.float32)))
        strata, edges = order.bounds.shape
        board, squares = scheduler.make_board(strata, edges - 1, given), np.zeros((4, 4))
        tasks, kernel = [(thread,) for thread in range(given)], visits.visit_kernel(16)
        part = *order.triples, order.bounds
        side_by_side(kernel, tasks, running, given, board, *part, P, Q, b_u, b_i, *numbers, False, squares)
        results.append([a.tobytes() for a in (P, Q, b_u, b_i, squares)])
    assert results[0] == results[1] == results[2]
