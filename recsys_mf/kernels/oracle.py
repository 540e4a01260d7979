"""The oracle: the error of every operation of a backend against the float64 reference, and the bound from rounding.

A check makes operands from a seed, gives them to a backend and to `kernels.reference`, and returns an `Agreement`.
The tests check every backend, the GPU benchmarks check that of the card. The table has a user without a rating, one
with a single rating, one who rated every item, and the last index of both sides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import sorting
from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels import reference
from recsys_mf.kernels.backend import Backend, PredictionKernels
from recsys_mf.kernels.operands import (
    GaussianPrior,
    Less,
    NoiseScales,
    Pairs,
    RatingScale,
    Regressors,
    RowPrior,
    SgdState,
    SgdStep,
    Shrinkage,
    Tables,
    Triples,
)
from recsys_mf.kernels.schedule import host
from recsys_mf.kernels.schedule.grid import Grid, Places
from recsys_mf.kernels.schedule.passes import HostTriples
from recsys_mf.kernels.schedule.plan import SgdPlan

EPSILON = float(np.finfo(np.float32).eps)
UNITS = {"half": 2.0**-11, "bfloat16": 2.0**-8}  # by how much rounding may change a number: half an ulp, an ulp
RANKS = (1, 3, 64, 100)
SHAPE = M, N = 37, 23
CONTEXTS = 5
STEP = SgdStep(0.05, 0.02, 0.1, 0.3)
WEIGHED_STEPS = (STEP, SgdStep(0.004, 0.002, 0.1, 0.3), SgdStep(0.004, 0.002, 0.1, 0.3, is_linear=True))

Shape = tuple[int, int]


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


def make_table(rng: np.random.Generator, shape: Shape = SHAPE, *, weighted: bool = False) -> Triples:
    """Triples of the table of the module's docstring, in random order. weighted : with weights from 1/8 to 8"""
    _, n = shape
    observed = rng.random(shape) < 0.4
    observed[0], observed[1], observed[2] = False, np.arange(n) == min(5, n - 1), True
    observed[-1, -1] = True
    users, items = np.nonzero(observed)
    shuffled = rng.permutation(len(users))
    values = rng.standard_normal(len(users)).astype(np.float32)
    weights = (8 ** rng.uniform(-1, 1, len(users))).astype(np.float32) if weighted else None
    return Triples(users[shuffled].astype(np.int32), items[shuffled].astype(np.int32), values, weights)


def make_rows(triples: Triples, n_rows: int, n_columns: int) -> Csr:
    """The triples by user."""
    starts, order = sorting.group(triples.users, n_rows)
    return Csr(starts, triples.items[order], triples.values[order], n_columns)


def row_weights(triples: Triples, n_rows: int) -> NDArray[np.float32] | None:
    """The weights of the triples in the order of `make_rows`."""
    return None if triples.weights is None else triples.weights[sorting.group(triples.users, n_rows)[1]]


def draw_rows(rng: np.random.Generator, rows: int, width: int) -> NDArray[np.float32]:
    """Rows (factors, bias) of standard normals."""
    return rng.standard_normal((rows, width)).astype(np.float32)


class Visits(NamedTuple):
    """Triples in the order of a schedule, and the bounds of its blocks."""

    triples: Triples
    bounds: NDArray[np.int64]
    places: Places

    def plan(self, backend: Backend | None, batch: int, width: int) -> SgdPlan:
        """The plan of a backend with these visits; None for the reference's."""
        passes: Any = HostTriples(*self.triples, self.bounds)
        if backend is not None:
            passes = backend.sgd.stream(self.triples, self.bounds)  # type: ignore[attr-defined]
        return SgdPlan(passes, self.places.users, self.places.items, width, batch)


def make_visits(
    rng: np.random.Generator, shape: Shape = SHAPE, grid: Grid = Grid(4, 3, 2), *, weighted: bool = False  # noqa: B008
) -> Visits:  # fmt: skip
    """A table in a grid of 4 by 4 conflict-free blocks, some of them empty, and of 3 by 2 parts each."""
    triples = make_table(rng, shape, weighted=weighted)
    users, items = (np.bincount(keys, minlength=size) for keys, size in zip(triples[:2], shape, strict=True))
    places, scale = Places.draw(users, items, grid, rng), RatingScale(0.0, 1.0, (1.0, 5.0))
    arranged = host.arrange(triples, places, grid, scale, int(rng.integers(2**63)), threads=2)
    return Visits(Triples(*arranged[:4]), arranged.bounds(grid), places)


def make_state(rng: np.random.Generator, rank: int, shape: Shape = SHAPE, length: float = 0.3) -> SgdState:
    """P, Q and biases in float64; length : the standard deviation of a factor's entries."""
    P, Q = (rng.standard_normal((rows, rank)) * length for rows in shape)
    return SgdState(P, Q, *(rng.standard_normal(rows) * 0.3 for rows in shape))


def pad(factors: NDArray[Any], width: int) -> NDArray[np.float32]:
    """The factors in float32, with columns of zeros up to that width."""
    wide = np.zeros((len(factors), width), np.float32)
    wide[:, : factors.shape[1]] = factors
    return wide


def put_state(backend: Backend, state: SgdState, precision: str = "float32") -> SgdState:
    """The state on a backend's device."""
    width = backend.sgd.width(state.P.shape[1])  # type: ignore[attr-defined]
    factors = (backend.sgd.put_factors(pad(F, width), precision) for F in state[:2])
    return SgdState(*factors, *(backend.device.put(b.astype(np.float32)) for b in state[2:]))


def get_state(backend: Backend, state: SgdState, rank: int) -> SgdState:
    """The state as NumPy arrays, without the columns that only pad. Raises AssertionError if those are not zero."""
    P, Q, *biases = (backend.device.get(table) for table in state)
    assert not P[:, rank:].any()
    assert not Q[:, rank:].any()
    return SgdState(P[:, :rank], Q[:, :rank], *biases)


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


class SolveCase(NamedTuple):
    """The operands of `solve` on the host."""

    ratings: Csr
    regressors: Regressors
    prior: RowPrior
    noise_precision: float
    normals: NDArray[np.float32] | None

    def put(self, backend: Backend) -> SolveCase:
        """The same on a device."""
        put = backend.device.put
        return SolveCase(
            self.ratings.to(put),
            self.regressors.put(put),
            type(self.prior)(*map(put, self.prior)),
            self.noise_precision,
            None if self.normals is None else put(self.normals),
        )


def make_solve(
    rank: int, *, contexts: bool, normals: bool, shrinkage: bool = False, weighted: bool = False,
    scaled: bool = False, shape: Shape = SHAPE,
) -> SolveCase:  # fmt: skip
    """A system for every row.

    contexts, normals : with them; weighted : with weights of the ratings
    shrinkage : with the prior of ALS instead of that of the sampler; scaled : with noise scales for every table
    """
    rng, width, n_rows = np.random.default_rng(rank), rank + 1, shape[0]
    triples = make_table(rng, shape, weighted=weighted)
    ratings = make_rows(triples, *shape)
    third = rng.integers(0, CONTEXTS, len(triples.users)).astype(np.int32)
    Y, C = draw_rows(rng, shape[1], width), draw_rows(rng, CONTEXTS, width)
    root = rng.standard_normal((width, width)).astype(np.float32) / np.float32(np.sqrt(width))
    prior: RowPrior = GaussianPrior((root @ root.T + np.eye(width)).astype(np.float32), draw_rows(rng, n_rows, width))
    if shrinkage:
        weights, ridge = ((0.5 + rng.random(size)).astype(np.float32) for size in (n_rows, width))
        prior = Shrinkage(weights, ridge)
    noise = draw_rows(rng, n_rows, width) if normals else None
    regressors = Regressors(Y, third, C) if contexts else Regressors(Y)
    regressors = regressors._replace(weights=row_weights(triples, n_rows))
    if scaled:
        scales = ((2 ** rng.uniform(-1, 1, size)).astype(np.float32) for size in (n_rows, shape[1], CONTEXTS))
        regressors = regressors._replace(
            scales=NoiseScales(*scales) if contexts else NoiseScales(next(scales), next(scales))
        )
    return SolveCase(ratings, regressors, prior, 1.7, noise)


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


class RefineCase(NamedTuple):
    """The operands of `refine` on the host, except the number of steps."""

    ratings: Csr
    X: NDArray[np.float32]
    regressors: Regressors
    prior: Shrinkage

    def put(self, backend: Backend) -> RefineCase:
        """The same on a device."""
        put = backend.device.put
        return RefineCase(self.ratings.to(put), put(self.X), self.regressors.put(put), Shrinkage(*map(put, self.prior)))


def make_refine(seed: int, rank: int, shape: Shape = SHAPE, *, weighted: bool = False) -> RefineCase:
    """Rows to refine, one of them without a rating."""
    rng = np.random.default_rng(seed)
    triples = make_table(rng, shape, weighted=weighted)
    ratings = make_rows(triples, *shape)
    X, Y = (draw_rows(rng, rows, rank + 1) * np.float32(0.3) for rows in shape)
    weights, ridge = (rng.random(size).astype(np.float32) + np.float32(0.5) for size in (shape[0], rank + 1))
    return RefineCase(ratings, X, Regressors(Y, weights=row_weights(triples, shape[0])), Shrinkage(weights, ridge))


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


def check_find_top(kernels: PredictionKernels, width: int, n: int, rows: int = 5, count: int = 7) -> Agreement:
    """The best columns, with some left out: the scores returned, and the reference's scores of the columns returned."""
    rng = np.random.default_rng(width)
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
