"""Curve: held-out error against the seconds of the fit, for one system, in its environment.

Run as curve.py NAME FOLDER OPTIONS THREADS RESULT. OPTIONS is JSON: settings, lengths, seed. NAME is `sgd`, `als` or
`gibbs` for ours, or a key of `peers.PEERS`. The seconds in which an error is measured do not count.

Ours, and the samplers among the peers, are fitted once: the error is measured after every epoch (for a committee, after
every member; for a sampler, of the mean over its draws so far). Every other peer is fitted again for every length.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from trial import Clock, Pairs, Train, read_test, read_train, scored, timed

Points = list[tuple[float, float]]
PASSES = {
    "libmf": "nr_iters", "cornac": "max_iter", "cmfrec": "niter", "surprise-svd": "n_epochs",
    "surprise-svdpp": "n_epochs", "lenskit": "epochs",
}  # fmt: skip
"""The setting of a peer for the number of passes."""

_FIRST_DRAW = 11  # sweep of ours from which the mean over draws is taken, as with the least burn-in


def ours(
    name: str, rows: Train, pairs: Pairs, ratings: np.ndarray, settings: Mapping[str, str], seed: int, threads: int
) -> Points:
    """One of our solvers, with what it chose on validation rows before the clock starts."""
    import ours as adapter
    from threadpoolctl import ThreadpoolController

    from recsys_mf import SOLVERS
    from recsys_mf.kernels import select
    from recsys_mf.prediction import predict
    from recsys_mf.solvers.protocol import Epoch
    from recsys_mf.training.continuing import solver_of

    table = adapter.as_ratings(rows)
    solver = solver_of(adapter.fit(table, SOLVERS[name].from_texts(settings), threads, seed=seed).fit)
    backend = select("cpu", threads)
    users, items = (
        np.where(ids < n, ids, -1).astype(np.int32)
        for ids, n in ((pairs.users, rows.n_users), (pairs.items, rows.n_items))
    )
    there = [None if column is None else backend.device.put(column) for column in (users, items, pairs.times)]
    engine = backend.make_prediction()
    clock = Clock(rows, pairs, ratings)

    def draw_of(epoch: Epoch) -> np.ndarray:
        assert epoch.predictor is not None
        return backend.device.get(epoch.predictor()(*there))

    def predicted(epoch: Epoch) -> np.ndarray:
        return predict(epoch.model(), users, items, pairs.times, backend=engine).values

    with ThreadpoolController().limit(limits=1, user_api="blas"):  # as `recsys_mf.training` does
        for epoch in solver.run(table, rng=np.random.default_rng(seed), backend=backend):
            if isinstance(epoch, Epoch) and epoch.is_draw:
                clock.add_draw(partial(draw_of, epoch), epoch.number, first=_FIRST_DRAW)
            elif isinstance(epoch, Epoch):  # not a pause
                clock.add(partial(predicted, epoch))
    return clock.points


def theirs(
    name: str, rows: Train, pairs: Pairs, ratings: np.ndarray, settings: Mapping[str, Any], lengths: Sequence[int],
    threads: int,
) -> Points:  # fmt: skip
    """A peer: one fit of a sampler, else a fit of every length."""
    from peers import PEERS, SAMPLERS

    if name in SAMPLERS:
        clock = Clock(rows, pairs, ratings)
        fit = PEERS[name](rows, pairs, threads, **settings, watch=clock)
        clock.start()
        fit()
        return clock.points
    points = []
    for length in lengths:
        fit = PEERS[name](rows, pairs, threads, **{**settings, PASSES[name]: length})
        predictions, seconds, _ = timed(fit)
        figures = scored(predictions, rows, pairs, ratings, fit_seconds=seconds, predict_seconds=0.0, settings=settings)
        points.append((seconds, figures.rmse))
    return points


if __name__ == "__main__":
    system, tables, options, n_threads, result = sys.argv[1:6]
    asked = json.loads(options)
    table = read_train(Path(tables)), *read_test(Path(tables)), asked["settings"]
    if system in ("sgd", "als", "gibbs"):
        points = ours(system, *table, asked["seed"], int(n_threads))
    else:
        points = theirs(system, *table, asked["lengths"], int(n_threads))
    Path(result).write_text(json.dumps({"points": points}))
