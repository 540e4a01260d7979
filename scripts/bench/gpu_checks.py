"""Compares every Triton kernel with the float64 reference, and runs of SGD with each other.

The cases and the bounds are those of the package's tests (`kernels.oracle`), on a table of another size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
from gpu_data import planted
from gpu_kernels import arrange
from gpu_session import Figures, Session
from threadpoolctl import threadpool_limits

from recsys_mf.kernels import cases, oracle
from recsys_mf.kernels.operands import Triples
from recsys_mf.kernels.oracle import Agreement
from recsys_mf.kernels.schedule.grid import Grid
from recsys_mf.kernels.schedule.plan import SgdPlan, find_bounds

BATCH = 16
TABLE, RUNS = "kernels beside the reference", "runs beside each other"


def checks(session: Session, rank: int) -> None:
    """All checks at a rank. The reference uses one thread, since other ranks are checked at the same time."""
    with threadpool_limits(1, user_api="blas"):
        _checks(session, rank)


def _checks(session: Session, rank: int) -> None:
    backend, shape = session.backend, session.plan.check_table

    def row(operation: str, detail: str, check: Callable[[], Agreement]) -> None:
        def figures() -> Figures:
            found = check()
            agrees = "yes" if found.holds else "NO"
            return {"worst error": found.worst, "bound": found.bound, "agrees": agrees}

        session.row(TABLE, f"{operation}, rank {rank}" + (f", {detail}" if detail else ""), figures)

    for precision in backend.sgd.precisions if rank <= backend.sgd.max_rank else ():
        row("epoch", precision, partial(oracle.check_epoch, backend, rank, BATCH, precision=precision, shape=shape))
    row("epoch", "hogwild with step 0", partial(oracle.check_visits, backend, rank, BATCH, shape))
    for both in (False, True):
        case = partial(cases.make_solve, rank, contexts=both, normals=both, shape=shape)
        detail = "contexts and normals" if both else "the mode"
        row("solve", detail, lambda case=case: oracle.check_solve(backend, case())[0])  # type: ignore[misc]
    row("refine", "3 steps", lambda: oracle.check_refine(backend, rank, 3, shape)[0])
    for contexts in (False, True):
        row(
            "pair_values",
            "contexts" if contexts else "",
            partial(oracle.check_pair_values, backend, rank, contexts=contexts, shape=shape),
        )
    if not session.settings.rehearsal:
        row("find_top", "", partial(oracle.check_find_top, backend.make_prediction(), rank, 5000))
    for precision in backend.sgd.precisions:
        session.row(RUNS, f"epoch, rank {rank}, {precision}", partial(_repeat, session, rank, precision))


def _repeat(session: Session, rank: int, precision: str) -> Figures:
    """Whether an epoch gives the same bytes in a second run, on one program and on seven."""
    backend, train = session.backend, planted(session.plan.repeat_table, session.device).train
    sgd, shape = backend.sgd, (train.n_users, train.n_items)
    grid: Grid = sgd.grid(len(train), *shape, sgd.width(rank))
    places, arranged = arrange(train, grid, session.cpu_backend)
    bounds = find_bounds(arranged, grid, "conflict-free")
    triples = sgd.stream(Triples(*arranged[:3]), bounds)
    plan = SgdPlan(triples, places.users, places.items, sgd.width(rank), BATCH)
    start = cases.make_state(np.random.default_rng(0), rank, shape, 0.9 / np.sqrt(max(rank, 9)))

    def result(programs: int | None) -> list[bytes]:
        state = cases.put_state(backend, start, precision)
        with _programs(programs):
            for seed in range(2):
                sgd.epoch(plan, state, oracle.STEP._replace(seed=seed))
        return [backend.device.get(a).tobytes() for a in state]

    first = result(None)
    same = {"again": result(None), "1 program": result(1)}
    if not session.settings.rehearsal:  # the interpreter runs one program to its end before the next
        same["7 programs"] = result(7)
    verdict = {f"same bytes, {name}": "yes" if other == first else "NO" for name, other in same.items()}
    agree = all(other == first for other in same.values())
    return {"bands": grid.bands} | verdict | {"agrees": "yes" if agree else "NO"}


@contextmanager
def _programs(number: int | None) -> Iterator[None]:
    """Inside, SGD runs on this number of programs; None for its own choice."""
    from recsys_mf.kernels.triton import sgd

    before = sgd.programs
    if number is not None:
        sgd.programs = lambda *_: number  # type: ignore[assignment]
    try:
        yield
    finally:
        sgd.programs = before


def compiled_for_cpu(session: Session) -> None:
    """Run the fits of the CPU on a tiny table first, so that their kernels are compiled before they are timed."""
    from gpu_session import REHEARSAL
    from gpu_sweeps import fits

    def figures() -> Figures:
        train = planted(REHEARSAL.tables["1 M"], "cpu").train
        began, rank = time.perf_counter(), session.plan.ranks[0]
        for _, solver in (*fits(REHEARSAL, rank), *fits(REHEARSAL, rank // 2)):
            for _ in solver.run(train, rng=np.random.default_rng(0), backend=session.cpu_backend):
                pass
        return {"s": time.perf_counter() - began}

    session.row("set-up", "the CPU's kernels compiled", figures)
