#!/usr/bin/env python
"""Try settings of the peers on validation rows cut from train; the best ones are listed in systems.py.

    scripts/bench/tune.py --data DIR --set u1 [--only cornac,libmf]

Every point of a peer's grid is fitted on 90 % of the training rows of the set and scored on the other 10 %
(`numpy.random.default_rng(1)`); the test rows are not used.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import environments
import running
from systems import PEERS

SMALL: dict[str, dict[str, list[Any]]] = {
    "surprise-svd": {"n_factors": [100], "lr_all": [0.005], "reg_all": [0.08, 0.1], "n_epochs": [60, 100]},
    "surprise-svdpp": {"n_factors": [20], "lr_all": [0.007], "reg_all": [0.08, 0.1], "n_epochs": [40]},
    "cmfrec": {"k": [20, 40], "lambda_": [0.1, 0.13, 0.16], "niter": [10], "add_implicit_features": [True, False]},
    "myfm": {"rank": [8, 16], "sweeps": [300]},
    "myfm-sets": {"rank": [8, 12], "sweeps": [200], "ordinal": [False]},
    "myfm-sets-ordinal": {"rank": [8, 12], "sweeps": [200], "ordinal": [True]},
    "smurff": {"rank": [8, 16, 32], "precision": [1.2, 1.5], "burn_in": [20], "samples": [200]},
    "libmf": {"k": [32, 64], "regularisation": [0.09, 0.12, 0.15], "eta": [0.03, 0.05], "nr_iters": [40, 60]},
    "lenskit": {"embedding_size": [50, 80], "regularization": [0.12, 0.14, 0.16], "epochs": [15]},
    "cornac": {"k": [100, 150], "lambda_reg": [0.07, 0.08, 0.1], "learning_rate": [0.005], "max_iter": [100, 150]},
}  # fmt: skip

LARGE: dict[str, dict[str, list[Any]]] = {
    "surprise-svd": {"n_factors": [50, 100], "lr_all": [0.005], "reg_all": [0.05, 0.06], "n_epochs": [50]},
    "surprise-svdpp": {"n_factors": [20], "lr_all": [0.01], "reg_all": [0.03], "n_epochs": [10]},
    "cmfrec": {"k": [40, 64], "lambda_": [0.06, 0.07, 0.08], "niter": [10], "add_implicit_features": [True]},
    "myfm": {"rank": [20], "sweeps": [40]},
    "myfm-sets": {"rank": [16], "sweeps": [20], "ordinal": [False]},
    "myfm-sets-ordinal": {"rank": [16], "sweeps": [20], "ordinal": [True]},
    "smurff": {"rank": [32, 48], "precision": [1.5], "burn_in": [10], "samples": [60]},
    "libmf": {"k": [64, 128], "regularisation": [0.05, 0.06], "eta": [0.05], "nr_iters": [40, 60]},
    "lenskit": {"embedding_size": [50, 64], "regularization": [0.07, 0.09], "epochs": [15]},
    "cornac": {"k": [100, 150], "lambda_reg": [0.05, 0.06], "learning_rate": [0.005], "max_iter": [60, 80]},
}  # fmt: skip


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the tables.")
@click.option("--set", "table", default="u1", show_default=True, metavar="u1|ml-100k|ml-1m")
@click.option("--only", default="", metavar="NAME,…", help="Only these peers.")
@click.option("--environments", "folder", default=environments.DEFAULT, type=click.Path(path_type=Path))
@click.option("--threads", default=1, show_default=True)
@click.option("--limit", default=900.0, show_default=True, help="Seconds after which a fit is stopped.")
def main(data: Path, table: str, only: str, folder: Path, threads: int, limit: float) -> None:
    """Print every point tried, the best last."""
    names = [name for name in only.split(",") if name] or list(PEERS)
    with tempfile.TemporaryDirectory() as tables:
        running.write_tables(table, data, Path(tables), validation=True)
        for name in names:
            found = []
            for settings in _points(name, table):
                outcome = running.trial(PEERS[name], settings, Path(tables), folder, threads=threads, limit=limit)
                found.append((outcome.figures.get("rmse", float("inf")), settings, outcome))
            for rmse, settings, outcome in sorted(found, key=lambda point: -point[0]):
                seconds = outcome.figures.get("fit_seconds", float("nan"))
                print(f"{table} {name} {rmse:.4f} {seconds:7.2f} s {settings} {outcome.failure}", flush=True)


def _points(name: str, table: str) -> Iterator[dict[str, Any]]:
    grid = (LARGE if table == "ml-1m" else SMALL)[name]
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


if __name__ == "__main__":
    main()
