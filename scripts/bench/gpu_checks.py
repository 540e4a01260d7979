"""Every Triton kernel beside the float64 reference, and runs of SGD beside each other.

The bounds are those of the package's tests. The table has a user without a rating, one with a single rating, one who
rated everything, the last index of either side, and items that occur often in a tile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from gpu_data import planted
from gpu_session import Figures, Session
from numpy.typing import NDArray

from recsys_mf.arrays import sorting
from recsys_mf.kernels import layout, reference
from recsys_mf.kernels.cpu import CpuKernels
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import blocks
from recsys_mf.solvers.solver import moments
from recsys_mf.vocabulary import Vocabulary

EPSILON = float(np.finfo(np.float32).eps)
UNITS = {"half": 2.0**-11, "bfloat16": 2.0**-8}  # what rounding may change of a number
STEPS = 0.05, 0.02, 0.1, 0.3  # rate, bias_rate, ridge, bias_ridge
CONTEXTS, BATCH = 5, 16
TABLE, RUNS = "kernels beside the reference", "runs beside each other"


class Table(NamedTuple):
    """Triples, and how many users and items there are."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    values: NDArray[np.float32]
    m: int
    n: int


def table(rng: np.random.Generator, m: int, n: int) -> Table:
    """See above."""
    observed = rng.random((m, n)) < 0.4
    observed[0], observed[1], observed[2] = False, np.arange(n) == n // 2, True
    observed[-1, -1] = True
    users, items = rng.permutation(np.argwhere(observed)).T.astype(np.int32)
    return Table(users, items, rng.standard_normal(len(users)).astype(np.float32), m, n)


def checks(session: Session, rank: int) -> None:
    """All of them at a rank."""
    kernels = session.kernels
    for precision in kernels.precisions if rank <= kernels.most_rank else ():
        session.row(TABLE, f"sgd_epoch, rank {rank}, {precision}", lambda p=precision: _sgd(session, rank, p))
    session.row(TABLE, f"sgd_epoch, rank {rank}, hogwild with step 0", lambda: _visits(session, rank))
    for with_contexts, with_normals in ((False, False), (True, True)):
        label = "contexts and normals" if with_contexts else "the mode"
        session.row(
            TABLE, f"solve_rows, rank {rank}, {label}",
            lambda c=with_contexts, z=with_normals: _solve(session, rank, c, z),
        )  # fmt: skip
    session.row(TABLE, f"refine_rows, rank {rank}, 3 steps", lambda: _refine(session, rank))
    for with_contexts in (False, True):
        label = ", contexts" if with_contexts else ""
        session.row(TABLE, f"pair_values, rank {rank}{label}", lambda c=with_contexts: _values(session, rank, c))
    for precision in kernels.precisions:
        session.row(RUNS, f"sgd_epoch, rank {rank}, {precision}", lambda p=precision: _repeated(session, rank, p))


def _agreement(worst: float, bound: float) -> Figures:
    return {"worst error": worst, "bound": bound, "agrees": "yes" if worst <= bound else "NO"}


def _worst(found: Any, exact: Any) -> float:
    """The largest difference; infinite for what is not a number."""
    errors = np.abs(np.asarray(found, np.float64) - exact)
    return float(errors.max()) if np.isfinite(errors).all() else float("inf")


def _started(rng: np.random.Generator, rank: int, m: int, n: int) -> list[NDArray[Any]]:
    """P, Q and the biases, so short that a tile of one item's updates stays below a full correction."""
    length = 0.9 / np.sqrt(max(rank, 9))
    factors = [rng.standard_normal((rows, rank)) * length for rows in (m, n)]
    return factors + [rng.standard_normal(rows) * 0.3 for rows in (m, n)]


def _put(session: Session, tables: list[NDArray[Any]], rank: int, precision: str) -> list[Any]:
    kernels = session.kernels
    extra = kernels.width(rank) - rank
    wide = [np.pad(F, ((0, 0), (0, extra))).astype(np.float32) for F in tables[:2]]
    factors = [kernels.put_factors(F, precision) for F in wide]
    return factors + [kernels.put(b.astype(np.float32)) for b in tables[2:]]


def _scheduled(session: Session, rank: int) -> tuple[Table, blocks.Blocks, list[NDArray[Any]]]:
    """A table, its triples in a grid of 4 by 4 blocks, and what an epoch starts from."""
    rng = np.random.default_rng(rank)
    rows = table(rng, *session.plan.check_table)
    vocabularies = (Vocabulary.encode(np.arange(size))[0] for size in (rows.m, rows.n))
    ratings = Ratings(*rows[:3], None, *vocabularies)
    order = blocks.schedule(ratings, layout.Grid(4), rng, center=0.0, scale=1.0, kernels=CpuKernels(1))
    return rows, order, _started(rng, rank, rows.m, rows.n)


def _sgd(session: Session, rank: int, precision: str) -> Figures:
    rows, order, tables = _scheduled(session, rank)
    kernels, triples = session.kernels, (order.users, order.items, order.values, order.bounds)
    exact = [a.copy() for a in tables]
    expected = reference.sgd_epoch(*triples, BATCH, *exact, *STEPS, 0)
    ours = _put(session, tables, rank, precision)
    squares = kernels.sgd_epoch(*(kernels.put(a) for a in triples), BATCH, *ours, *STEPS, 0)
    found = [kernels.get(a) for a in ours]
    errors = [_worst(F[:, :rank] if F.ndim == 2 else F, want) for F, want in zip(found, exact, strict=True)]
    if precision == "float32":  # at most m + n updates touch a row, each with the rounding of a sum of k terms
        bound = (rows.m + rows.n) * (rank + 4) * EPSILON / 4
    else:  # a row is rounded when it is first stored and after each update; the factors stay below 2
        bound = 4 * UNITS[precision] * float(np.sqrt(max(rows.m, rows.n)))
    return _agreement(max(*errors, abs(squares / expected - 1)), bound)


def _visits(session: Session, rank: int) -> Figures:
    """Hogwild with step 0 meets the squared error of the start, once for every rating."""
    _, order, tables = _scheduled(session, rank)
    kernels = session.kernels
    runs = np.append(np.arange(0, len(order.users), 50), len(order.users))[None]
    triples = order.users, order.items, order.values, runs
    expected = reference.sgd_epoch(*triples, BATCH, *(a.copy() for a in tables), 0.0, 0.0, 0.0, 0.0, 0)
    ours = _put(session, tables, rank, "float32")
    squares = kernels.sgd_epoch(*(kernels.put(a) for a in triples), BATCH, *ours, 0.0, 0.0, 0.0, 0.0, 0)
    return _agreement(abs(squares / expected - 1), (rank + 4) * EPSILON)


def _solve(session: Session, rank: int, with_contexts: bool, with_normals: bool) -> Figures:
    rng, width, kernels = np.random.default_rng(rank), rank + 1, session.kernels
    rows = table(rng, *session.plan.check_table)
    starts, order = sorting.group(rows.users, rows.m)
    contexts = rng.integers(0, CONTEXTS, len(order) if with_contexts else 0).astype(np.int32)
    Y, C = (rng.standard_normal((size, width)).astype(np.float32) for size in (rows.n, CONTEXTS))
    root = rng.standard_normal((width, width)).astype(np.float32) / np.float32(np.sqrt(width))
    prior = (root @ root.T + np.eye(width)).astype(np.float32)
    arrays = (
        starts, rows.items[order], contexts, rows.values[order], Y, C,
        prior, rng.standard_normal((rows.m, width)).astype(np.float32),
        rng.random(rows.m).astype(np.float32), rng.random(width).astype(np.float32),
    )  # fmt: skip
    normals = rng.standard_normal((rows.m if with_normals else 0, width)).astype(np.float32)
    exact, _ = reference.solve_rows(*arrays, 1.7, normals)
    ours, _ = kernels.solve_rows(*(kernels.put(a) for a in arrays), 1.7, kernels.put(normals))
    # The condition of the heaviest row amplifies the rounding of sums of up to n + k terms.
    regressors = Y + C[:1] * with_contexts
    condition = np.linalg.cond(prior + 1.7 * regressors.T @ regressors + np.eye(width))
    bound = float(condition * (rows.n + width) * EPSILON * np.abs(exact).max())
    return _agreement(_worst(kernels.get(ours), exact), bound)


def _refine(session: Session, rank: int) -> Figures:
    rng, kernels, steps = np.random.default_rng(rank), session.kernels, 3
    rows = table(rng, *session.plan.check_table)
    starts, order = sorting.group(rows.users, rows.m)
    X, Y = ((rng.standard_normal((size, rank + 1)) * 0.3).astype(np.float32) for size in (rows.m, rows.n))
    weights, ridge = (rng.random(size).astype(np.float32) + np.float32(0.5) for size in (rows.m, rank + 1))
    arguments = starts, rows.items[order], rows.values[order], X, Y, weights, ridge
    exact, _ = reference.refine_rows(*arguments, steps)
    ours, _ = kernels.refine_rows(*(kernels.put(a) for a in arguments), steps)
    bound = (steps + 1) * rows.n * (rank + 4) * EPSILON * np.abs(exact).max()
    return _agreement(_worst(kernels.get(ours), exact), float(bound))


def _values(session: Session, rank: int, with_contexts: bool) -> Figures:
    rng, kernels, (m, n) = np.random.default_rng(rank), session.kernels, session.plan.check_table
    X, Y, C = (rng.standard_normal((size, rank + 1)).astype(np.float32) for size in (m, n, CONTEXTS))
    users, items, contexts = (
        np.append(rng.integers(-1, size, 300), [-1, size - 1, -1, 0]).astype(np.int32) for size in (m, n, CONTEXTS)
    )
    arguments = users, items, contexts if with_contexts else contexts[:0], X, Y, C
    ours = kernels.get(kernels.pair_values(*(kernels.put(a) for a in arguments)))
    return _agreement(_worst(ours, reference.pair_values(*arguments)), (rank + 4) * 16 * EPSILON)


def _repeated(session: Session, rank: int, precision: str) -> Figures:
    """Whether two runs of an epoch give the same bytes, and whether one program, seven, and all of them do."""
    kernels, train = session.kernels, planted(session.plan.repeat_table, session.device).train
    rng, (mean, deviation) = np.random.default_rng(0), moments(train)
    grid = kernels.grid(len(train), train.n_users, train.n_items, kernels.width(rank))
    order = blocks.schedule(train, grid, rng, center=mean, scale=deviation, kernels=CpuKernels(1))
    triples = [kernels.put(a) for a in (order.users, order.items, order.values, order.bounds)]
    tables = _started(rng, rank, train.n_users, train.n_items)

    def result(programs: int | None) -> list[bytes]:
        ours = _put(session, tables, rank, precision)
        with _programs(programs):
            for seed in range(2):
                kernels.sgd_epoch(*triples, BATCH, *ours, *STEPS, seed)
        return [kernels.get(a).tobytes() for a in ours]

    first = result(None)
    same = {"again": result(None), "1 program": result(1)}
    if not session.settings.rehearsal:  # the interpreter runs one program to its end before the next
        same["7 programs"] = result(7)
    verdict = {f"same bytes, {name}": "yes" if other == first else "NO" for name, other in same.items()}
    agree = all(other == first for other in same.values())
    return {"bands": grid.bands} | verdict | {"agrees": "yes" if agree else "NO"}


@contextmanager
def _programs(number: int | None) -> Iterator[None]:
    """SGD on so many programs inside; None for as many as it takes by itself."""
    from recsys_mf.kernels import triton_sgd

    name = "programs" if hasattr(triton_sgd, "programs") else "resident_programs"
    before = getattr(triton_sgd, name)
    if number is not None:
        setattr(triton_sgd, name, lambda *_: number)
    try:
        yield
    finally:
        setattr(triton_sgd, name, before)


def compiled_for_cpu(session: Session) -> None:
    """Run what the CPU will run on a tiny table, so that its kernels are on disk when they are timed."""
    from gpu_session import REHEARSAL
    from gpu_sweeps import fits

    def figures() -> Figures:
        train = planted(REHEARSAL.tables["1 M"], "cpu").train
        began, rank = time.perf_counter(), session.plan.ranks[0]
        for _, solver in (*fits(REHEARSAL, rank), *fits(REHEARSAL, rank // 2)):
            for _ in solver.run(train, rng=np.random.default_rng(0), kernels=session.cpu_kernels):
                pass
        return {"s": time.perf_counter() - began}

    session.row("set-up", "the CPU's kernels compiled", figures)
