"""Clock: seconds of two lengths of the same sampler, in the environment of the sampler.

Run as clock.py NAME FOLDER SETTINGS THREADS RESULT; settings as JSON: rank, short and long, in sweeps. NAME is `gibbs`
for ours, or a function of `peers.PEERS`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from trial import Fit, Pairs, Train, read_train


def sweeps_of(name: str, train: Train, rank: int, threads: int) -> Callable[[int], Fit]:
    """From a number of sweeps to the fit of so many, with a single pair to predict."""
    if name == "gibbs":
        return _ours(train, rank, threads)
    from peers import PEERS

    pair = Pairs(train.users[:1], train.items[:1], None)
    lengths: dict[str, Callable[[int], dict[str, float]]] = {
        "myfm": lambda sweeps: {"sweeps": sweeps},
        "smurff": lambda sweeps: {"burn_in": 1, "samples": sweeps - 1, "precision": 1.5},
    }
    return lambda sweeps: PEERS[name](train, pair, threads, rank=rank, **lengths[name](sweeps))


def _ours(train: Train, rank: int, threads: int) -> Callable[[int], Fit]:
    import numpy as np
    from threadpoolctl import ThreadpoolController

    from recsys_mf.kernels import select
    from recsys_mf.ratings import Ratings
    from recsys_mf.solvers import SOLVERS

    ratings = Ratings.from_ids(train.users, train.items, train.values)
    plain = SOLVERS["gibbs"](rank=rank, links="none", time="none", likelihood="gaussian")
    kernels, libraries = select("cpu", threads), ThreadpoolController()

    def fit_of(sweeps: int) -> Fit:
        def fit() -> Callable[[], np.ndarray]:
            with libraries.limit(limits=1, user_api="blas"):  # as `recsys_mf.training` does
                for epoch in replace(plain, sweeps=sweeps).run(ratings, rng=np.random.default_rng(0), kernels=kernels):
                    last = epoch
            return lambda: last.model().predict(train.users[:1], train.items[:1])

        return fit

    return fit_of


def seconds(fit: Fit) -> float:
    """Of one fit."""
    began = time.perf_counter()
    fit()
    return time.perf_counter() - began


if __name__ == "__main__":
    sampler, tables, options, n_threads, result = sys.argv[1:6]
    asked = json.loads(options)
    fit_of = sweeps_of(sampler, read_train(Path(tables)), asked["rank"], int(n_threads))
    seconds(fit_of(asked["short"]))  # compiles, and wakes the processor
    short, long = (seconds(fit_of(asked[length])) for length in ("short", "long"))
    figures = {"seconds_per_sweep": (long - short) / (asked["long"] - asked["short"])}
    Path(result).write_text(json.dumps(figures))
