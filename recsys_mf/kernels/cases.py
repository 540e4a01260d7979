"""Operands of every kernel, drawn at random: the cases on which a backend is compared with the reference.

The table has a user without a rating, one with a single rating, one who rated every item, and the last index of both
sides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import sorting
from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import (
    GaussianPrior,
    NoiseScales,
    RatingScale,
    Regressors,
    RowPrior,
    SgdState,
    Shrinkage,
    Triples,
)
from recsys_mf.kernels.schedule import host
from recsys_mf.kernels.schedule.grid import Grid, Places
from recsys_mf.kernels.schedule.passes import HostTriples
from recsys_mf.kernels.schedule.plan import SgdPlan

SHAPE = M, N = 37, 23
CONTEXTS = 5
Shape = tuple[int, int]


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


def make_visits(rng: np.random.Generator, shape: Shape = SHAPE, *, weighted: bool = False) -> Visits:
    """A table in a grid of 4 by 4 conflict-free blocks, some of them empty, and of 3 by 2 parts each."""
    grid = Grid(4, 3, 2)
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
