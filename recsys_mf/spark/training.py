"""Training: `train`, an experiment with a table that Spark reads, and with SGD or ALS on its workers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from recsys_mf.errors import ConfigError
from recsys_mf.experiment import Experiment
from recsys_mf.run import Run
from recsys_mf.solvers import Solver
from recsys_mf.spark.engine import Cluster, opened_engine
from recsys_mf.spark.reading import read
from recsys_mf.splits import By
from recsys_mf.training import EVERY, Watcher
from recsys_mf.training.trainer import as_solver

SOLVERS = ("sgd", "als")
"""Solvers that run on the workers."""


def train(
    source: Any,
    solver: Solver | type[Solver] | str = "sgd",
    *,
    session: Any = None,
    master: str | None = None,
    cluster: Cluster | None = None,
    order_by: str | Sequence[str] | None = None,
    hold_out: float = 0.1,
    by: By = "random",
    seed: int = 0,
    validation: float = 0.1,
    compared_with: Mapping[str, Solver] | None = None,
    reading: Mapping[str, Any] | None = None,
    watch: Watcher = lambda progress: None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: float = EVERY,
    **settings: Any,
) -> Run:
    """Train on a table that Spark reads, and evaluate on the part held out. Returns the same Run as an `Experiment` on
    one machine, with the same bytes.

    source : the path or URI of a Parquet file or tree, or a DataFrame
    solver, settings : as in `recsys_mf.train`; masked SGD (sgd) and ALS (als) run on the workers
    session, master : an existing session of Spark, or where to start one; by default the session of the DataFrame, the
        active session, or a new one at local[*]
    cluster : how the workers are used: storage, workers, deadline (`Cluster`)
    order_by : names of columns that order the rows of a DataFrame; no two rows may be equal in all of them
    hold_out, by, seed, validation, compared_with, checkpoint, every, watch : as in `Experiment` and `recsys_mf.train`
    reading : keywords of `read_ratings`: names of columns, ids, duplicates
    The driver fits the baselines, chooses on validation rows and makes the report; it holds the columns of the table
    and the factors. Raises what `Experiment.run` raises, ConfigError for another solver and for a DataFrame without
    order_by, DeviceError for a cluster that cannot be used, ArtifactError for a storage that cannot be written.
    """
    chosen = as_solver(solver, settings)
    require_solver(chosen)
    if session is None and master is None:
        session = getattr(source, "sparkSession", None)
    with opened_engine(session, master, cluster) as engine:
        table = read(engine.session, source, engine.storage, order_by=order_by, **(reading or {}))
        experiment = Experiment(
            ratings=table, solver=chosen, hold_out=hold_out, by=by, seed=seed, validation=validation,
            baselines=compared_with,
        )  # fmt: skip
        return experiment.run(device=engine.backend, watch=watch, checkpoint=checkpoint, every=every).run


def require_solver(solver: Solver) -> None:
    """Raise ConfigError for a solver that does not run on the workers."""
    if solver.name not in SOLVERS:
        fix = f"use {' or '.join(SOLVERS)}, or train on one machine"
        raise ConfigError("this solver does not run on Spark yet", where="solver", seen=solver.name, fix=fix)
