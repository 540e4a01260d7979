"""A training on a cluster beside that of one machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import recsys_mf as mf
from recsys_mf import spark
from recsys_mf.errors import RecsysWarning
from recsys_mf.run import Run
from recsys_mf.solvers import SOLVERS
from recsys_mf.training import BASELINE, Progress
from recsys_mf.training.provenance import digest
from tests.spark.cluster import LocalCluster

FEW = {BASELINE: SOLVERS["svd"](ranks=(2,))}


def at(cluster: LocalCluster, workers: int | None = None, **options: Any) -> spark.Cluster:
    return spark.Cluster(storage=cluster.storage, workers=workers, least=0, **options)


def on_one_machine(tree: Path, solver: str = "sgd", **settings: Any) -> Run:
    validation = settings.pop("validation", 0)
    experiment = mf.Experiment(
        ratings=str(tree), solver=SOLVERS[solver](**settings), baselines=FEW, validation=validation
    )
    return experiment.run(device="cpu").run


def assert_same(one: Run, other: Run) -> None:
    """Everything but what is measured, and where it ran."""
    assert digest(one.model) == digest(other.model)
    for fact in ("train_fingerprint", "test_fingerprint", "split_rule", "rating_range", "settings"):
        assert one.provenance[fact] == other.provenance[fact], fact
    assert [row["valid_rmse"] for row in one.fit.history] == [row["valid_rmse"] for row in other.fit.history]
    assert one.fit.train_rmse == other.fit.train_rmse
    assert one.fit.settings == other.fit.settings
    for row, again in zip(one.report.rows, other.report.rows, strict=True):
        assert (row.label, row.scores, row.differences) == (again.label, again.scores, again.differences)


def assert_a_killed_worker_changes_nothing(
    local_cluster: LocalCluster, session: Any, tree: Path, solver: str, settings: dict[str, Any]
) -> None:
    """Kill a process of the workers in the fifth of nine epochs."""
    one = on_one_machine(tree, solver, **settings)
    killed: list[int] = []

    def watch(progress: Progress) -> None:
        if progress.label == solver and progress.epoch == 5 and not killed:
            killed.extend(local_cluster.one_executor())
            for process in killed:
                os.kill(process, signal.SIGKILL)

    with pytest.warns(RecsysWarning, match=r"workers were lost in epoch [56] .* others go on from epoch 4"):
        run = spark.train(
            str(tree), solver, session=session, cluster=at(local_cluster, 3, every=2), compared_with=FEW, validation=0,
            watch=watch, **settings,
        )  # fmt: skip
    assert killed
    assert_same(one, run)
    assert not list(local_cluster.storage.iterdir())
