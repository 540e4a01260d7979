#!/usr/bin/env python
"""Masked SGD on the workers of a local Spark cluster, compared with MLlib's ALS on the same cluster and split.

    scripts/bench/spark.py --data DIR [--only ml-1m]

A standalone master and two workers of one core each, as processes on this machine. Both systems start from an open
session and from a table in memory: MLlib's is cached, ours is a split in the driver. Only the fits are timed; ours
include the start of its workers. Writes a section of BENCHMARKS.md, or with `--only` prints it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import document
import environments
import numpy as np
import tables

sys.path.insert(0, str(environments.ROOT))

CONTESTS = {
    "ml-1m": ((32, 0.05, 5), (32, 0.05, 10), (32, 0.1, 10), (32, 0.05, 15)),
    "ml-25m": ((32, 0.05, 5), (32, 0.05, 10)),
}
"""The settings of MLlib that are tried: rank, regParam, maxIter."""

OURS: dict[str, tuple[dict[str, Any], ...]] = {
    "ml-1m": (
        {"rank": 32, "regularisation": 0.045, "epochs": 16, "members": 1, "noise": "common"},
        {"rank": 64, "regularisation": 0.0375, "epochs": 45, "members": 6, "noise": "personal"},
    ),
    "ml-25m": ({"rank": 32, "regularisation": 0.045, "epochs": 16, "members": 1, "noise": "common"},),
}


@dataclass(frozen=True)
class Result:
    """What a row of the table says."""

    system: str
    seconds: float
    rmse: float
    note: str


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder with ml-1m.parquet.")
@click.option("--only", metavar="TABLE", type=click.Choice(list(CONTESTS)), help="Only this one; nothing is written.")
def main(data: Path, only: str | None) -> None:
    """Start the cluster, fit, and write the table."""
    from tests.spark.cluster import cluster

    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with cluster(folder, cores=1, memory="4g") as found:
            session = _session(found.master)
            for name in [only] if only else list(CONTESTS):
                for result in _contest(session, name, data, folder):
                    load = f"{os.getloadavg()[0]:.1f}"
                    rows.append([name, result.system, f"{result.seconds:.1f}", f"{result.rmse:.4f}", result.note, load])
                    print(" | ".join(rows[-1]), file=sys.stderr)
            session.stop()
    header = ("table", "system and settings", "seconds of the fit", "held-out RMSE", "details", "load")
    note = (
        f"{document.machine()}; a master and two workers of one core each, on this machine. *load*: the load average "
        "of the machine over the last minute; the cluster itself causes about 3 of it. The seconds of `sgd` go from a "
        "split in the driver's memory to the model and include the start of the workers; those of MLlib are `ALS.fit` "
        "on a cached table. Every row is a single fit; ours is the second of two, so that the kernels are compiled, "
        "and MLlib ran a short fit first. The settings of `sgd` were known to be good on MovieLens 1M; of MLlib those "
        "shown were tried. Neither was tuned on the generated table."
    )
    text = f"{note}\n\n{document.table(header, rows, left=(0, 1, 4))}"
    if only:
        print(text)
    else:
        document.write_section(environments.ROOT / "BENCHMARKS.md", "spark", text)


def _session(master: str) -> Any:
    """A session with memory for MLlib."""
    from pyspark.sql import SparkSession

    from recsys_mf.spark.session import _ON_LOOPBACK, _SETTINGS

    builder = SparkSession.builder.master(master).config("spark.executor.memory", "3g")
    for name, value in (_SETTINGS | _ON_LOOPBACK | {"spark.driver.memory": "2g"}).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _contest(session: Any, name: str, data: Path, folder: Path) -> Iterator[Result]:
    """Fit one system after another on a table."""
    import recsys_mf as mf

    place = folder / name
    place.mkdir()
    tables.write(name, data, place, validation=False)
    train, test = (mf.read_ratings(place / f"{part}.parquet", time_column="none") for part in ("train", "test"))
    split = mf.given(train, test)
    for ours in OURS[name]:
        yield _ours(session, split, ours, folder)
    frames = [session.read.parquet(str(place / f"{part}.parquet")).repartition(4).cache() for part in ("train", "test")]
    for frame in frames:
        frame.count()
    _mllib(frames, (8, 0.1, 1))  # so that Java has compiled it
    for theirs in CONTESTS[name]:
        yield _mllib(frames, theirs)
    for frame in frames:
        frame.unpersist()


def _ours(session: Any, split: Any, settings: dict[str, Any], folder: Path) -> Result:
    """The second of two fits: the first compiles the kernels."""
    from recsys_mf import SOLVERS
    from recsys_mf.prediction import rmse
    from recsys_mf.spark.engine import Cluster, opened_engine
    from recsys_mf.training import fit_alone

    solver, seconds = SOLVERS["sgd"](**settings), 0.0
    for _ in range(2):
        with opened_engine(session, cluster=Cluster(storage=folder)) as engine:
            began = time.perf_counter()
            fit = fit_alone(split, solver, engine.backend, validation=0)
            seconds = time.perf_counter() - began
            error = rmse(fit.model, split.test, engine.backend.make_prediction())
    words = ", ".join(f"{name} {value}" for name, value in settings.items())
    of: Any = engine.backend.sgd
    spent = of.seconds
    note = (
        f"job start {spent.starting:.1f} s, plans {spent.preparing:.1f} s, kernels {spent.kernels:.1f} s, "
        f"transport and waiting {spent.epochs - spent.kernels:.1f} s"
    )
    return Result(f"sgd: {words}", seconds, error, note)


def _mllib(frames: list[Any], settings: tuple[int, float, int]) -> Result:
    from pyspark.ml.recommendation import ALS

    from recsys_mf.spark.reading import quiet

    rank, penalty, iterations = settings
    als = ALS(
        rank=rank, regParam=penalty, maxIter=iterations, userCol="user_id", itemCol="item_id", ratingCol="rating",
        seed=0, numUserBlocks=2, numItemBlocks=2,
    )  # fmt: skip
    train, test = frames
    began = time.perf_counter()
    model = als.fit(train)
    seconds = time.perf_counter() - began
    with quiet():
        predicted = model.transform(test).select("rating", "prediction").toArrow()
    ratings, values = (np.asarray(predicted[name], np.float64) for name in ("rating", "prediction"))
    missing = np.isnan(values)
    mean, low, high = train.selectExpr("avg(rating)", "min(rating)", "max(rating)").first()
    values = np.clip(np.where(missing, mean, values), low, high)
    error = float(np.sqrt(np.mean((values - ratings) ** 2)))
    return Result(f"MLlib ALS: rank {rank}, regParam {penalty}, maxIter {iterations}", seconds, error,
                  f"{int(missing.sum())} pairs without a prediction get the mean of the training ratings")  # fmt: skip


if __name__ == "__main__":
    main()
