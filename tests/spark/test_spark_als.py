"""ALS on a real cluster of Spark: the bytes of a single machine, whatever happens to workers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from recsys_mf import cli, spark, store
from tests.spark.cluster import LocalCluster
from tests.spark.comparing import FEW, assert_a_killed_worker_changes_nothing, assert_same, at, on_one_machine

pytestmark = pytest.mark.slow

SETTLED: dict[str, Any] = {"rank": 6, "regularisation": 1.0, "epochs": 9, "members": 1}


def test_one_two_and_four_workers_reach_the_bytes_of_one_machine(
    local_cluster: LocalCluster, session: Any, tree: Path, tmp_path: Path
) -> None:
    one = on_one_machine(tree, "als", **SETTLED)
    assert one.fit.settings["noise"] == "personal"
    store.save(one, tmp_path / "one")
    for workers in (1, 2, 4):
        cluster = at(local_cluster, workers)
        run = spark.train(
            str(tree), "als", session=session, cluster=cluster, compared_with=FEW, validation=0, **SETTLED
        )
        assert_same(one, run)
        store.save(run, tmp_path / f"of {workers}")
        for name in ("model.safetensors", "users.parquet", "items.parquet"):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / f"of {workers}" / name).read_bytes()
    assert not list(local_cluster.storage.iterdir())


def test_exact_solutions_and_a_common_noise_have_the_bytes_of_one_machine(
    local_cluster: LocalCluster, session: Any, tree: Path
) -> None:
    settings = SETTLED | {"epochs": 3, "cg_steps": 0, "noise": "common", "members": 2}
    one = on_one_machine(tree, "als", **settings)
    cluster = at(local_cluster, 3)
    run = spark.train(str(tree), "als", session=session, cluster=cluster, compared_with=FEW, validation=0, **settings)
    assert_same(one, run)


def test_a_killed_worker_changes_nothing(local_cluster: LocalCluster, session: Any, tree: Path) -> None:
    assert_a_killed_worker_changes_nothing(local_cluster, session, tree, "als", SETTLED)


def test_the_command_line_trains_with_the_defaults_on_the_cluster(
    local_cluster: LocalCluster, session: Any, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    there = ["--engine", "spark", "--master", local_cluster.master, "--storage", str(local_cluster.storage)]
    there += ["--memory", "4MiB"]  # so that the driver has its columns in files
    for name, options in (("one", []), ("two", there)):
        command = ["recsys-mf", "train", str(tree), "-o", name, "-q", "--solver", "als", "--svd-ranks", "2", *options]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert (stop.value.code or 0, capfd.readouterr().err) == (0, "")
    for name in ("model.safetensors", "baselines.safetensors", "users.parquet", "items.parquet", "rated.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
