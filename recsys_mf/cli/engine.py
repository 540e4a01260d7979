"""The options that say where a training runs, on this machine or on a Spark cluster, and the backend they choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from recsys_mf.cli import options
from recsys_mf.errors import ConfigError

if TYPE_CHECKING:
    from recsys_mf.experiment import Experiment
    from recsys_mf.kernels.backend import Backend

_Command = TypeVar("_Command", bound=Callable[..., Any])
ENGINES = ("local", "spark")
_OF_SPARK = {"master": "--master", "storage": "--storage", "workers": "--workers"}
_NOT_WITH_SPARK = {
    "device": "--device", "start": "--from", "encoding": "--encoding",
    "user_features": "--user-features", "item_features": "--item-features",
}  # fmt: skip


def engine_options(command: _Command) -> _Command:
    """--engine, --master, --storage and --workers."""
    text = "Spark tasks that train in parallel.  [default: as many as the cluster has room for]"
    command = click.option("--workers", type=click.IntRange(min=1), metavar="N", help=text)(command)
    text = "Folder or URI that the Spark driver and all workers can access; needed unless the master is local."
    command = click.option("--storage", metavar="DIR", help=text)(command)
    text = "Where Spark runs: local[N], spark://HOST:PORT, yarn, …  [default: local[*]]"
    command = click.option("--master", metavar="URL", help=text)(command)
    return click.option(
        "--engine", default="local", show_default=True, metavar="local|spark",
        help="Train on this machine, or on Spark (sgd and als, with the same results byte for byte); "
        "RATINGS is then a Parquet file or a folder of them.",
    )(command)  # fmt: skip


def check_engine(engine: str, given: dict[str, Any]) -> None:
    """Raise ConfigError for an engine that does not exist, and for options that it does not take.

    given : the values of --master, --storage and --workers, by their names
    """
    from recsys_mf.arguments import choice

    choice(engine, "--engine", ENGINES, "unknown engine")
    if engine == "local":
        for name, option in _OF_SPARK.items():
            if given[name] is not None:
                raise ConfigError(f"{option} has no effect without --engine spark", fix="give --engine spark too")
        return
    for name, option in _NOT_WITH_SPARK.items():
        if options.is_given(name):
            fix = "leave it out, or train on one machine"
            raise ConfigError(f"{option} cannot be given with --engine spark", fix=fix)


def on_spark(
    experiment: Experiment, given: dict[str, Any], threads: int | None, context: click.Context
) -> tuple[Experiment, Backend]:
    """The experiment on the table as Spark reads it, and the backend that trains there until the command ends."""
    from recsys_mf.spark.engine import Cluster, opened_engine
    from recsys_mf.spark.reading import read
    from recsys_mf.spark.training import require_solver
    from recsys_mf.training import as_solver

    require_solver(as_solver(experiment.solver))
    cluster = Cluster(storage=given["storage"], workers=given["workers"])
    engine = context.with_resource(opened_engine(None, given["master"], cluster, threads))
    reading = {name: value for name, value in experiment.reading.items() if name != "encoding"}
    table = read(engine.session, experiment.ratings, engine.storage, **reading)
    return replace(experiment, ratings=table), engine.backend
