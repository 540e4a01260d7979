"""The oracle: the error of every operation of a backend against the float64 reference, and the bound from rounding.

A check makes operands from a seed (`kernels.cases`), gives them to a backend and to `kernels.reference`, and returns
an `Agreement`. The tests check every backend; the first use of a card, and the GPU benchmarks, check that of the card.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels import reference
from recsys_mf.kernels.backend import Backend, PredictionKernels
from recsys_mf.kernels.cases import (
    CONTEXTS,
    SHAPE,
    M,
    N,
    Shape,
    SolveCase,
    draw_rows,
    get_state,
    make_refine,
    make_rows,
    make_state,
    make_table,
    make_visits,
    put_state,
)
from recsys_mf.kernels.operands import (
    GaussianPrior,
    Less,
    Pairs,
    Regressors,
    SgdState,
    SgdStep,
    Tables,
)

EPSILON = float(np.finfo(np.float32).eps)
UNITS = {"half": 2.0**-11, "bfloat16": 2.0**-8}  # by how much rounding may change a number: half an ulp, an ulp
RANKS = (1, 3, 64, 100)
STEP = SgdStep(0.05, 0.02, 0.1, 0.3)
WEIGHED_STEPS = (STEP, SgdStep(0.004, 0.002, 0.1, 0.3), SgdStep(0.004, 0.002, 0.1, 0.3, is_linear=True))


class Agreement(NamedTuple):
    """The largest error of a result, and the bound that the rounding of float32 allows."""

    worst: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the error is within the bound; false for NaN."""
        return self.worst <= self.bound


def find_worst(found: Any, exact: Any) -> float:
    """The largest difference; infinite if a result is NaN."""
    errors = np.abs(np.asarray(found, np.float64) - exact)
    if not errors.size:
        return 0.0
    return float(errors.max()) if np.isfinite(errors).all() else float("inf")


def check_epoch(
    backend: Backend, rank: int, batch: int, *, precision: str = "float32", shape: Shape = SHAPE,
    weighted: SgdStep | None = None,
) -> Agreement:  # fmt: skip
    """An epoch of SGD; the error of the summed squares is relative. weighted : the step, if triples have weights"""
    rng, step = np.random.default_rng(rank), weighted or STEP
    visits = make_visits(rng, shape, weighted=weighted is not None)
    # The factors are so short that a tile of updates of one item stays below a full correction.
    state = make_state(rng, rank, shape, 0.3 if shape == SHAPE else 0.9 / np.sqrt(max(rank, 9)))
    exact = SgdState(*(table.copy() for table in state))
    expected = reference.epoch(visits.plan(None, batch, rank), exact, step)
    ours = put_state(backend, state, precision)
    error = backend.sgd.epoch(visits.plan(backend, batch, ours.P.shape[1]), ours, step)
    worst = [find_worst(a, b) for a, b in zip(get_state(backend, ours, rank), exact, strict=True)]
    if precision == "float32":  # at most m + n updates touch a row, each with the rounding of a sum of k terms
        bound = sum(shape) * (rank + 4) * EPSILON / 4
    else:  # a row is rounded when it is first stored and after each update; the factors stay below 2
        bound = 4 * UNITS[precision] * float(np.sqrt(max(shape)))
    return Agreement(max(*worst, abs(error / expected - 1)), bound)


def check_visits(backend: Backend, rank: int, batch: int, shape: Shape = SHAPE) -> Agreement:
    """Short runs as a single stratum, with step 0: every rating is visited once, with the error of the first state."""
    rng = np.random.default_rng(rank)
    visits, state, still = make_visits(rng, shape), make_state(rng, rank, shape), SgdStep(0.0, 0.0, 0.0, 0.0)
    n = len(visits.triples.users)
    visits = visits._replace(bounds=np.append(np.arange(0, n, 50), n)[None])
    expected = reference.epoch(visits.plan(None, batch, rank), SgdState(*map(np.copy, state)), still)
    ours = put_state(backend, state)
    error = backend.sgd.epoch(visits.plan(backend, batch, ours.P.shape[1]), ours, still)
    return Agreement(abs(error / expected - 1), (rank + 4) * EPSILON)


def check_solve(backend: Backend, case: SolveCase) -> tuple[Agreement, Agreement]:
    """The rows, and their squared errors."""
    exact, exact_errors = reference.solve(*case)
    ours, errors = (backend.device.get(a) for a in backend.rows.solve(*case.put(backend)))
    # The condition of the heaviest row amplifies the rounding of sums of up to N + k terms.
    n, width = case.ratings.n_columns, exact.shape[1]
    regressors = case.regressors.rows
    if case.regressors.context_rows is not None:
        regressors = regressors + case.regressors.context_rows[:1]
    heaviest = 1.0 if case.regressors.weights is None else float(case.regressors.weights.max())
    heaviest *= float(reference.row_scales(case.ratings, case.regressors).max(initial=1.0))
    precision = np.eye(width) / 4
    if isinstance(case.prior, GaussianPrior):
        precision = case.prior.precision + np.eye(width)
    condition = np.linalg.cond(precision + 1.7 * heaviest * regressors.T @ regressors)
    size = np.abs(exact).max()
    # Squared errors are differences of sums of N squares of targets and predictions.
    squares = heaviest * n * (1 + np.abs(regressors).max() * np.sqrt(width) * size) ** 2
    return (
        Agreement(find_worst(ours, exact), float(condition * (n + width) * EPSILON * size)),
        Agreement(find_worst(errors, exact_errors), float(condition * EPSILON * squares)),
    )


def check_refine(
    backend: Backend, rank: int, steps: int, shape: Shape = SHAPE, *, weighted: bool = False
) -> tuple[Agreement, Agreement]:
    """The rows, and their squared errors."""
    case = make_refine(rank, rank, shape, weighted=weighted)
    exact, exact_errors = reference.refine(*case, steps)
    ours, errors = (backend.device.get(a) for a in backend.rows.refine(*case.put(backend), steps))
    # A step divides rounded sums of at most N products of k + 1 terms by other sums of that size; the ratio of the
    # largest to the smallest of those is that of the diagonal.
    tolerance = (steps + 1) * shape[1] * (rank + 4) * EPSILON
    return (
        Agreement(find_worst(ours, exact), float(tolerance * np.abs(exact).max())),
        Agreement(find_worst(errors, exact_errors), float(tolerance * max(1.0, exact_errors.max()))),
    )


def check_multiply(backend: Backend, matrix: Csr, columns: int, less: Less | None = None) -> Agreement:
    """A sparse matrix, or what is left of it, times columns in float64."""
    X, put = np.random.default_rng(columns).standard_normal((matrix.n_columns, columns)), backend.device.put
    there = None if less is None else Less(*map(put, less))
    ours = backend.device.get(backend.rows.multiply(matrix.to(put), put(X), there))
    longest = int(np.diff(matrix.starts).max())
    exact = reference.multiply(matrix, X, less)
    return Agreement(find_worst(ours, exact), longest * 8 * float(np.finfo(np.float64).eps))


def check_pair_values(backend: Backend, rank: int, *, contexts: bool, shape: Shape = SHAPE) -> Agreement:
    """Values of pairs, unknown rows among them."""
    rng, sizes = np.random.default_rng(rank), (*shape, CONTEXTS)
    tables = Tables(*(draw_rows(rng, rows, rank + 1) for rows in sizes))
    pairs = Pairs(*(np.append(rng.integers(-1, n, 100), [-1, n - 1, -1, 0]).astype(np.int32) for n in sizes))
    if not contexts:
        tables, pairs = tables._replace(contexts=None), pairs._replace(contexts=None)
    put = backend.device.put
    there = [type(of)(*(None if a is None else put(a) for a in of)) for of in (pairs, tables)]
    ours = backend.device.get(backend.rows.pair_values(*there))  # type: ignore[arg-type]
    return Agreement(find_worst(ours, reference.pair_values(pairs, tables)), (rank + 4) * 16 * EPSILON)


def check_row_scales(backend: Backend, case: SolveCase) -> Agreement:
    """The products of the scales of every rating; the error is relative."""
    there = case.put(backend)
    ours = backend.device.get(backend.rows.row_scales(there.ratings, there.regressors))
    return Agreement(find_worst(ours / reference.row_scales(case.ratings, case.regressors), 1.0), 4 * EPSILON)


def check_row_values(backend: Backend, rank: int, *, contexts: bool) -> Agreement:
    """Values of the ratings of rows."""
    rng, put = np.random.default_rng(rank), backend.device.put
    ratings = make_rows(make_table(rng), M, N)
    third = rng.integers(0, CONTEXTS, len(ratings.columns)).astype(np.int32)
    X, Y, C = (draw_rows(rng, rows, rank + 1) for rows in (M, N, CONTEXTS))
    regressors = Regressors(Y, third, C) if contexts else Regressors(Y)
    ours = backend.device.get(backend.rows.row_values(ratings.to(put), put(X), regressors.put(put)))
    # A sum of 3 k + 3 products of standard normals, with room for tails.
    return Agreement(find_worst(ours, reference.row_values(ratings, X, regressors)), (3 * rank + 3) * 8 * EPSILON)


def check_find_top(kernels: PredictionKernels, width: int, n: int) -> Agreement:
    """The best columns, with some left out: the scores returned, and the reference's scores of the columns returned."""
    rng = np.random.default_rng(width)
    rows, count = 5, 7
    queries, table = draw_rows(rng, rows, width), draw_rows(rng, n, width)
    chosen = rng.random((rows, n)) < np.linspace(0, 1, rows)[:, None]  # all columns of the last row
    starts = np.append(0, np.cumsum(chosen.sum(1)))
    excluded = Csr(starts, np.nonzero(chosen)[1].astype(np.int32), None, n)
    columns, scores = kernels.find_top(queries, table, count, excluded)
    _, expected = reference.find_top(queries, table, count, excluded)
    bound = (width + 4) * 16 * EPSILON
    if columns.min() < -1 or columns.max() >= n:
        return Agreement(float("inf"), bound)
    products = np.where(chosen, -np.inf, queries.astype(np.float64) @ table.T.astype(np.float64))
    there = np.take_along_axis(np.hstack([products, np.full((rows, 1), -np.inf)]), columns, axis=1)
    empty = np.isinf(expected)
    if not (np.array_equal(empty, np.isinf(scores)) and np.array_equal(empty, np.isinf(there))):
        return Agreement(float("inf"), bound)
    worst = max(find_worst(found[~empty], expected[~empty]) for found in (scores, there))
    return Agreement(worst, bound)
