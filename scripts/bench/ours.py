"""Ours: one of our solvers on the tables of a trial.

Run with the package's own Python: ours.py SOLVER FOLDER SETTINGS THREADS RESULT. SETTINGS is JSON. Settings of the
solver are strings, as `-p` takes them; `compress` is the value of `--compress`; `rehearse` fits a single epoch, so that
the kernels are compiled and cached.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trial

from recsys_mf import SOLVERS, train
from recsys_mf.models import Fit
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.solvers import Solver, TruncatedSvd
from recsys_mf.splits import Split
from recsys_mf.training import BASELINE


def run(
    name: str, folder: Path, texts: Mapping[str, str], threads: int, *, compress: int | None = None,
    rehearse: bool = False,
) -> trial.Figures:  # fmt: skip
    """Choose the epochs on validation rows cut from train, fit on all of train, predict the test pairs.

    The seconds of the fit are those of the final fit.
    """
    rows = trial.read_train(folder)
    pairs, ratings = trial.read_test(folder)
    solver = SOLVERS[name].from_texts(texts)
    if rehearse:
        found = fit(as_ratings(rows), solver.stopped_at(1), threads, validation=0)
    else:
        found = fit(as_ratings(rows), solver, threads, compress=compress)
    predictions, _, seconds = trial.timed(lambda: lambda: found.predict(pairs.users, pairs.items, pairs.times))
    return trial.scored(
        predictions, rows, pairs, ratings,
        fit_seconds=found.fit.seconds, predict_seconds=seconds, settings=_chosen(found.fit),
    )  # fmt: skip


def as_ratings(rows: trial.Train) -> Ratings:
    """The training rows as a table of the package."""
    return Ratings.from_ids(rows.users, rows.items, rows.values, rows.times)


def fit(
    table: Ratings, solver: Solver, threads: int, *, seed: int = 0, validation: float = 0.1, compress: int | None = None
) -> Run:
    """A training on all rows of a table. It needs one baseline, and gets the cheapest."""
    return train(
        Split(table, None, None, "given", None),
        solver,
        seed=seed,
        validation=validation,
        device="cpu",
        threads=threads,
        compared_with={BASELINE: TruncatedSvd(filling="bias", ranks=(1,), route="operator")},
        compress=compress,
    )


def _chosen(fit: Fit) -> dict[str, Any]:
    """What a reader wants to know about a fit besides the options given."""
    if "ranks" in fit.settings:
        return {"rank": fit.model.rank}
    own = {key: fit.settings[key] for key in ("rank", "likelihood", "members") if key in fit.settings}
    steps = "sweeps" if "sweeps" in fit.settings else "epochs"
    return own | {steps: fit.epochs} if own else {}


if __name__ == "__main__":
    solver, tables, settings, n_threads, result = sys.argv[1:6]
    options = json.loads(settings)
    special = {key: options.pop(key) for key in ("compress", "rehearse") if key in options}
    trial.write(run(solver, Path(tables), options, int(n_threads), **special), Path(result))
