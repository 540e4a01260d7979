"""Curve: held-out error against the seconds of the fit, for one system, in its environment.

Run as curve.py NAME FOLDER OPTIONS THREADS RESULT. OPTIONS is JSON: settings, lengths (in passes), seed. NAME is `sgd`
for ours, or a key of `peers.PEERS`. Our error is measured after every pass of one fit (for a committee, after every
member), and only the time of the passes counts; a peer is fitted again for every length.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from trial import Pairs, Train, read_test, read_train, scored, timed

from recsys_mf.prediction import predict

PASSES = {"libmf": "nr_iters", "cornac": "max_iter"}  # the setting of a peer for the number of passes


def ours(
    train: Train, pairs: Pairs, ratings: np.ndarray, settings: Mapping[str, Any], seed: int, threads: int
) -> Iterator[tuple[float, float]]:
    """Seconds so far and RMSE, after every pass or member."""
    from threadpoolctl import ThreadpoolController

    from recsys_mf.kernels import select
    from recsys_mf.ratings import Ratings
    from recsys_mf.solvers import Sgd

    table = Ratings.from_ids(train.users, train.items, train.values)
    users, items = (
        np.where(ids < n, ids, -1) for ids, n in ((pairs.users, train.n_users), (pairs.items, train.n_items))
    )
    backend, libraries = select("cpu", threads), ThreadpoolController()
    for solver in (Sgd(members=1, epochs=1), Sgd(**settings)):  # the first compiles the kernels
        epochs = solver.run(table, rng=np.random.default_rng(seed), backend=backend)
        seconds = 0.0
        while True:
            began = time.perf_counter()
            with libraries.limit(limits=1, user_api="blas"):  # as `recsys_mf.training` does
                epoch = next(epochs, None)
            seconds += time.perf_counter() - began
            if epoch is None:
                break
            if settings.get("epochs") == solver.epochs:
                errors = predict(epoch.model(), users, items).values - ratings
                yield seconds, float(np.sqrt(np.mean(errors.astype(np.float64) ** 2)))


def theirs(
    name: str, train: Train, pairs: Pairs, ratings: np.ndarray, settings: Mapping[str, Any], lengths: Sequence[int],
    threads: int,
) -> Iterator[tuple[float, float]]:  # fmt: skip
    """Seconds and RMSE of a fit of every length."""
    from peers import PEERS

    for length in lengths:
        fit = PEERS[name](train, pairs, threads, **settings, **{PASSES[name]: length})
        predictions, seconds, _ = timed(fit)
        figures = scored(
            predictions, train, pairs, ratings, fit_seconds=seconds, predict_seconds=0.0, settings=settings
        )
        yield seconds, figures.rmse


if __name__ == "__main__":
    system, tables, options, n_threads, result = sys.argv[1:6]
    asked = json.loads(options)
    rows, (wanted, values) = read_train(Path(tables)), read_test(Path(tables))
    table = rows, wanted, values, asked["settings"]
    if system == "sgd":
        points = list(ours(*table, asked["seed"], int(n_threads)))
    else:
        points = list(theirs(system, *table, asked["lengths"], int(n_threads)))
    Path(result).write_text(json.dumps({"points": points}))
