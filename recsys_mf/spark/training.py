"""Training: `train`, an experiment whose table Spark reads and whose SGD or ALS its workers do."""

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
"""Solvers whose work the workers do."""


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
    """Train on a table that Spark reads, and evaluate on the part held out: the Run of an `Experiment`, to its bytes.

    source : the path or URI of a Parquet file or tree, or a DataFrame with order_by, the names of the columns that give
        its rows an order
    solver, settings : as in `recsys_mf.train`; masked SGD (sgd) and ALS (als) are what the workers do
    session, master : a session of Spark that stands, or where to start one; by default that of a DataFrame,
        the one that stands, or local[*]
    cluster : how the workers are used: storage, workers, deadline (`Cluster`)
    hold_out, by, seed, validation, compared_with, checkpoint, every, watch : as in `Experiment` and `recsys_mf.train`
    reading : keywords of `read_ratings`: names of columns, ids, duplicates
    The baselines, the choice on validation rows and the report are the driver's work, which holds the columns of the
    table and the factors. Raises what `Experiment.run` raises, ConfigError for another solver and for a DataFrame
    without order_by, DeviceError for a cluster that cannot be used, ArtifactError for a storage that cannot be written.
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
    """Raise ConfigError for a solver whose work the workers do not do."""
    if solver.name not in SOLVERS:
        fix = f"use {' or '.join(SOLVERS)}, or train on one machine"
        raise ConfigError("this solver does not run on Spark yet", where="solver", seen=solver.name, fix=fix)
