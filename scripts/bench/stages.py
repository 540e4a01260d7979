#!/usr/bin/env python
"""Time the steps around training on a generated table of 25 million ratings, then the kernels and the machine.

    scripts/bench/stages.py [--turns 5] [--only stages|limits]

Reading (integer and string ids), splitting, predicting from Parquet to Parquet, evaluating; then the kernels, compared
with the limits of the machine. Writes two sections of BENCHMARKS.md. Needs no data and no peers.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import click
import document
import environments
import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from recsys_mf import evaluate, hold_out, read_ratings, splits, train
from recsys_mf.arrays.aligned import align
from recsys_mf.kernels import select
from recsys_mf.kernels.cpu import cholesky
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import Als, Sgd, TruncatedSvd
from recsys_mf.streaming import predict_file
from recsys_mf.training import BASELINE

TURNS, THREADS, RANK = 5, 2, 64
MAKE_SAMPLE = environments.HERE.parent / "make_sample.py"


@click.command()
@click.option("--turns", default=TURNS, show_default=True)
@click.option("--only", type=click.Choice(["stages", "limits"]), help="Run only one of the two sections.")
def main(turns: int, only: str | None) -> None:
    """Time every stage, then the kernels."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "ml-25m.parquet"
        subprocess.run([sys.executable, str(MAKE_SAMPLE), "--like", "ml-25m", "-o", str(table)], check=True)
        parts = {"stages": _stages, "limits": _limits}
        sections = {name: part(table, turns) for name, part in parts.items() if only in (None, name)}
    for name, text in sections.items():
        whole = f"{document.machine()}; threads: {THREADS}; medians of {turns} turns.\n\n{text}"
        if turns == TURNS:
            document.write_section(environments.ROOT / "BENCHMARKS.md", name, whole)
        else:
            print(whole)


def _seconds(action: Callable[[], Any], turns: int) -> float:
    """Median seconds of the turns, after a first one that is not counted."""
    taken = []
    for _ in range(turns + 1):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return median(taken[1:])


def _stages(path: Path, turns: int) -> str:
    folder = path.parent
    strings, pairs, predicted = (folder / name for name in ("strings.parquet", "pairs.parquet", "predicted.parquet"))
    table = pq.read_table(path)
    words = {name: _worded(table[name], prefix) for name, prefix in (("user_id", "user-"), ("item_id", "item-"))}
    pq.write_table(pa.table({**words, "rating": table["rating"], "timestamp": table["timestamp"]}), strings)
    pq.write_table(table.select(["user_id", "item_id"]), pairs, compression="zstd")
    del table, words
    ratings = read_ratings(path)
    split = hold_out(ratings, 0.1)
    cheapest = {BASELINE: TruncatedSvd(filling="bias", ranks=(1,), route="operator")}
    run = train(split, Sgd(rank=RANK, members=1, epochs=2), validation=0, compared_with=cheapest)
    assert split.test is not None
    rows: Mapping[str, tuple[int, Callable[[], Any]]] = {
        "read Parquet, integer ids and timestamps": (len(ratings), lambda: read_ratings(path)),
        "read Parquet, string ids and timestamps": (len(ratings), lambda: read_ratings(strings)),
        "hold out a tenth at random": (len(ratings), lambda: splits.hold_out(ratings, 0.1)),
        f"predict, Parquet to Parquet, rank {RANK}": (
            len(ratings), lambda: predict_file(run, pairs, predicted, force=True),
        ),
        "report on the test tenth: 2 models, intervals, segments": (len(split.test), lambda: evaluate(run, split.test)),  # type: ignore[arg-type]
    }  # fmt: skip
    lines = []
    for name, (count, action) in rows.items():
        seconds = _seconds(action, turns)
        print(f"{name}: {seconds:.3f} s", file=sys.stderr)
        lines.append([name, f"{count:,}", f"{seconds:.2f}", f"{count / seconds / 1e6:.1f}"])
    return document.table(("stage", "rows", "s", "M rows/s"), lines)


def _worded(column: Any, prefix: str) -> Any:
    return pc.binary_join_element_wise(pa.scalar(prefix), column.cast(pa.string()), pa.scalar(""))


def _limits(path: Path, turns: int) -> str:
    """Operations and bytes per second of the kernels on one core, compared with sgemm and a copy."""
    rows = []
    with threadpool_limits(1):
        source = np.ones(1 << 28, np.uint8)
        target = np.empty_like(source)
        copy = 2 * source.size / _seconds(lambda: np.copyto(target, source), turns)
        matrix = np.ones((2048, 2048), np.float32)
        sgemm = 2 * 2048**3 / _seconds(lambda: matrix @ matrix, turns)
    rows.append(["copy of 256 MiB, read and written", "", f"{copy / 1e9:.1f}", "", ""])
    rows.append(["sgemm, 2048 by 2048", f"{sgemm / 1e9:.0f}", "", "100%", ""])
    ratings = read_ratings(path, time_column="none")
    part = ratings.select(np.arange(1_000_000)).restricted()  # whole users, whose rows are consecutive
    for name, table in (("25 M ratings", ratings), ("the first million", part)):
        for rank in (32, 64, 128):
            rate = len(table) / _epoch_seconds(table, rank, turns)
            # 2 k operations for the product and 6 k for the update; two rows are read and written, the triple is read.
            flops, moved = rate * 8 * rank, rate * (16 * rank + 12)
            shares = f"{flops / sgemm:.0%}", f"{moved / copy:.0%}"
            label = f"SGD, rank {rank}, {name}: {rate / 1e6:.0f} M updates/s"
            rows.append([label, f"{flops / 1e9:.0f}", f"{moved / 1e9:.1f}", *shares])
    for rank in (32, 64, 128):
        flops = _gram_flops(part, rank, turns)
        rows.append([f"Gram matrices of rows, rank {rank}", f"{flops / 1e9:.0f}", "", f"{flops / sgemm:.0%}", ""])
    for rank in (64, 128):
        flops = _cg_flops(part, rank, turns)
        rows.append([f"ALS by conjugate gradients, rank {rank}", f"{flops / 1e9:.0f}", "", f"{flops / sgemm:.0%}", ""])
    header = ("one core", "GFLOP/s", "GB/s", "of sgemm", "of the copy")
    note = (
        "SGD at rank k moves 4 k numbers per update, mostly to and from the caches, which limit its speed; the copy is "
        "a copy of main memory. The Gram matrices count only the useful triangle."
    )
    return f"{document.table(header, rows)}\n\n{note}"


def _epoch_seconds(table: Ratings, rank: int, turns: int) -> float:
    backend = select("cpu", 1)
    epochs = Sgd(rank=rank, members=1, epochs=turns + 2).run(table, rng=np.random.default_rng(0), backend=backend)
    next(epochs)
    return _seconds(lambda: next(epochs), turns)


def _gram_flops(table: Ratings, rank: int, turns: int) -> float:
    """Operations per second, counting the useful triangle of Σ q qᵀ over the ratings of every user."""
    grouped = table.by_user()
    factors = np.random.default_rng(0).standard_normal((table.n_items, rank)).astype(np.float32)
    Y, none = align(factors), align(np.zeros((0, rank), np.float32))
    arguments = *grouped[:3], Y, np.zeros(len(Y), np.float32), none, np.zeros(0, np.float32), rank + 1
    return len(table) * rank * (rank + 1) / _seconds(lambda: _gram_matrices(*arguments), turns)


@numba.njit(nogil=True)
def _gram_matrices(
    starts: Any, others: Any, values: Any, Y: Any, y_bias: Any, C: Any, c_bias: Any, width: Any
) -> Any:  # fmt: skip
    A = np.zeros(cholesky.padded(width), np.float32)
    Z, V, E = cholesky.packed(Y.shape[1])
    contexts = np.zeros(0, np.int32)
    for g in range(starts.size - 1):
        cholesky.sum_ratings(
            A, width, Z, V, E, starts[g], starts[g + 1], others, contexts, values, Y, y_bias, C, c_bias
        )
    return A


def _cg_flops(table: Ratings, rank: int, turns: int) -> float:
    backend = select("cpu", 1)
    epochs = Als(rank=rank, members=1, epochs=turns + 2).run(table, rng=np.random.default_rng(0), backend=backend)
    next(epochs)
    passes = 2 * (1 + Als().cg_steps)  # over users and items: one for the residuals, then one per step
    return passes * 4 * rank * len(table) / _seconds(lambda: next(epochs), turns)


if __name__ == "__main__":
    main()
