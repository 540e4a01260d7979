"""Clock: the seconds of a pass, from a short and a long run of the same fit, in the environment of the system.

Run as clock.py NAME FOLDER OPTIONS THREADS RESULT. OPTIONS is JSON: rank, short and long (numbers of passes), and
settings. NAME is one of our solvers, or a key of `peers.PEERS`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trial import Fit, Pairs, Train, read_train

from recsys_mf.prediction import predict

OURS: dict[str, tuple[str, dict[str, Any]]] = {  # per solver: the setting for the number of passes, and fixed settings
    "sgd": ("epochs", {"members": 1}),
    "als": ("epochs", {"members": 1}),
    "gibbs": ("sweeps", {"links": "none", "time": "none", "likelihood": "gaussian"}),
}
THEIRS: dict[str, Callable[[int, int], dict[str, Any]]] = {  # per peer: settings for a rank and a number of passes
    "libmf": lambda rank, passes: {"k": rank, "nr_iters": passes, "eta": 0.05, "regularisation": 0.06},
    "cmfrec": lambda rank, passes: {"k": rank, "niter": passes, "lambda_": 0.07},
    "implicit": lambda rank, passes: {"factors": rank, "iterations": passes},
    "myfm": lambda rank, passes: {"rank": rank, "sweeps": passes},
    "smurff": lambda rank, passes: {"rank": rank, "burn_in": 1, "samples": passes - 1, "precision": 1.5},
}


def fits_of(name: str, train: Train, rank: int, settings: Mapping[str, Any], threads: int) -> Callable[[int], Fit]:
    """A function from a number of passes to a fit with that many, which predicts a single pair."""
    if name in OURS:
        return _ours(name, train, rank, settings, threads)
    from peers import PEERS

    pair = Pairs(train.users[:1], train.items[:1], None)
    return lambda passes: PEERS[name](train, pair, threads, **THEIRS[name](rank, passes), **settings)


def _ours(name: str, train: Train, rank: int, settings: Mapping[str, Any], threads: int) -> Callable[[int], Fit]:
    import numpy as np
    from threadpoolctl import ThreadpoolController

    from recsys_mf.kernels import select
    from recsys_mf.ratings import Ratings
    from recsys_mf.solvers import SOLVERS

    ratings = Ratings.from_ids(train.users, train.items, train.values)
    passes, fixed = OURS[name]
    solver = SOLVERS[name](rank=rank, **fixed, **settings)
    backend, libraries = select("cpu", threads), ThreadpoolController()

    def fit_of(length: int) -> Fit:
        def fit() -> Callable[[], np.ndarray]:
            with libraries.limit(limits=1, user_api="blas"):  # as `recsys_mf.training` does
                method = replace(solver, **{passes: length})
                for epoch in method.run(ratings, rng=np.random.default_rng(0), backend=backend):
                    last = epoch
            return lambda: predict(last.model(), train.users[:1], train.items[:1]).values

        return fit

    return fit_of


def seconds(fit: Fit) -> float:
    """Seconds of one fit."""
    began = time.perf_counter()
    fit()
    return time.perf_counter() - began


if __name__ == "__main__":
    system, tables, options, n_threads, result = sys.argv[1:6]
    asked = json.loads(options)
    fit_of = fits_of(system, read_train(Path(tables)), asked["rank"], asked["settings"], int(n_threads))
    seconds(fit_of(asked["short"]))  # compiles the kernels and warms up the processor
    short, long = (seconds(fit_of(asked[length])) for length in ("short", "long"))
    figures = {"seconds_per_pass": (long - short) / (asked["long"] - asked["short"])}
    Path(result).write_text(json.dumps(figures))
