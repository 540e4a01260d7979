"""Masked SGD on a real cluster of Spark: the bytes of a single machine, whatever happens to workers."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recsys_mf as mf
from recsys_mf import cli, spark, store
from recsys_mf.errors import ArtifactError, ConfigError, DataError, DeviceError
from recsys_mf.solvers import SOLVERS
from recsys_mf.spark import crew, reading, worker
from recsys_mf.spark.storage import Storage
from tests.planted import planted
from tests.spark.cluster import LocalCluster
from tests.spark.comparing import FEW, assert_a_killed_worker_changes_nothing, assert_same, at, on_one_machine

pytestmark = pytest.mark.slow

SETTLED: dict[str, Any] = {"rank": 8, "regularisation": 0.04, "epochs": 7}


def test_one_two_and_four_workers_reach_the_bytes_of_one_machine(
    local_cluster: LocalCluster, session: Any, tree: Path, tmp_path: Path
) -> None:
    one = on_one_machine(tree, **SETTLED, members=1)
    store.save(one, tmp_path / "one")
    for workers in (1, 2, 4):
        cluster = at(local_cluster, workers)
        run = spark.train(
            str(tree), "sgd", session=session, cluster=cluster, compared_with=FEW, validation=0, **SETTLED, members=1
        )
        assert_same(one, run)
        store.save(run, tmp_path / f"of {workers}")
        for name in ("model.safetensors", "users.parquet", "items.parquet"):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / f"of {workers}" / name).read_bytes()
    assert not list(local_cluster.storage.iterdir())


def test_what_validation_chooses_and_committees_are_those_of_one_machine(
    local_cluster: LocalCluster, session: Any, tree: Path
) -> None:
    settings: dict[str, Any] = {"rank": 4, "epochs": 12, "members": 3}
    one = on_one_machine(tree, **settings, validation=0.1)
    run = spark.train(str(tree), "sgd", session=session, cluster=at(local_cluster), compared_with=FEW, **settings)
    assert_same(one, run)
    assert run.provenance["engine"] == "spark"


def test_a_killed_worker_changes_nothing(local_cluster: LocalCluster, session: Any, tree: Path) -> None:
    settings = SETTLED | {"epochs": 9, "members": 1}
    assert_a_killed_worker_changes_nothing(local_cluster, session, tree, "sgd", settings)
    assert threading.active_count() < 50


def test_a_dataframe_has_the_order_of_its_columns(local_cluster: LocalCluster, session: Any, tree: Path) -> None:
    table = mf.read_ratings(tree)
    frame = session.read.option("recursiveFileLookup", "true").parquet(str(tree)).repartition(7)
    order = np.lexsort((table.items, table.users))
    expected = mf.Experiment(
        ratings=table.select(order), solver=SOLVERS["sgd"](**SETTLED, members=1), baselines=FEW, validation=0
    ).run(device="cpu").run  # fmt: skip
    run = spark.train(
        frame, "sgd", order_by=["user_id", "item_id"], cluster=at(local_cluster), compared_with=FEW, validation=0,
        **SETTLED, members=1,
    )  # fmt: skip
    assert_same(expected, run)

    chosen = frame.where("user_id < 20").select("user_id", "item_id")
    pairs, predicted = chosen.toArrow(), spark.predict(run, chosen).toArrow()
    by_pair = dict(
        zip(zip(*(predicted[name].to_pylist() for name in ("user_id", "item_id")), strict=True),
            predicted["prediction"].to_pylist(), strict=True)
    )  # fmt: skip
    values = run.predict(pairs["user_id"], pairs["item_id"])
    asked = zip(pairs["user_id"].to_pylist(), pairs["item_id"].to_pylist(), strict=True)
    assert [by_pair[pair] for pair in asked] == values.tolist()

    lists = spark.recommend(run, 3, session=session).toArrow().to_pandas()
    expected_lists = run.recommend(None, 3)
    lists = lists.sort_values(["user_id", "rank"]).reset_index(drop=True)
    assert lists["item_id"].tolist() == expected_lists["item_id"].tolist()

    with pytest.raises(ConfigError, match=r"^order_by: a DataFrame has no order of its rows; .* order_by='timestamp'"):
        spark.train(frame, "sgd", cluster=at(local_cluster))
    with pytest.raises(DataError, match=r"^order_by: rows are equal in what orders them \(saw \[\d+\]\); name more"):
        spark.train(frame, "sgd", order_by="user_id", cluster=at(local_cluster))
    with pytest.raises(DataError, match=r"^order_by: no column 'user'; did you mean 'user_id'"):
        spark.train(frame, "sgd", order_by="user", cluster=at(local_cluster))
    with pytest.raises(
        ConfigError, match=r"^solver: this solver does not run on Spark yet \(saw gibbs\); use sgd or als"
    ):
        spark.train(frame, "gibbs", order_by="user_id", cluster=at(local_cluster))


def test_rows_are_those_of_one_machine(
    local_cluster: LocalCluster, session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a hive tree, with times, weights and texts as ids, written into the storage in many pieces."""
    monkeypatch.setattr(reading, "_CHUNK", 500)
    ratings = planted(60, 50, density=0.5)[0]
    rng = np.random.default_rng(2)
    folders = [
        tmp_path / "tree" / f"site={site}" / f"year={year}" for site in ("b", "a c", "é") for year in (2021, 2020)
    ]
    rows = np.sort(rng.integers(0, len(folders), len(ratings)))
    for number, folder in enumerate(folders):
        mine = rows == number
        folder.mkdir(parents=True)
        table = pa.table({
            "user": [f"u{user}" for user in ratings.users[mine]],
            "item": ratings.items[mine].astype(np.int32),
            "rating": ratings.values[mine].astype(np.float64),
            "time": pa.array(rng.integers(10**9, 2 * 10**9, mine.sum()) * 1000, pa.timestamp("ms")),
            "weight": rng.uniform(0.5, 2, mine.sum()),
        })  # fmt: skip
        pq.write_table(table, folder / "part.parquet", row_group_size=100)
    where, storage = str(tmp_path / "tree"), Storage.new(str(local_cluster.storage))
    for columns in ({"weight_column": "weight"}, {"item_column": "year", "duplicates": "mean"}):
        here = mf.read_ratings(where, **columns)  # type: ignore[arg-type]
        there = reading.read(session, where, storage, **columns)  # type: ignore[arg-type]
        assert here.fingerprint == there.fingerprint
        for by in ("random", "user", "time", "user-time"):
            parts = [mf.hold_out(table, 0.5, by=by).test_as_read for table in (here, there)]
            assert parts[0] is not None
            assert parts[1] is not None
            assert parts[0].fingerprint == parts[1].fingerprint
    storage.remove()


def test_a_storage_that_cannot_be_written_is_an_error_in_one_line(
    local_cluster: LocalCluster, session: Any, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", Path("/proc/none")):
        with pytest.raises(ArtifactError, match=r": the storage cannot be used \(saw .*\); make it writable"):
            spark.train(str(tree), "sgd", cluster=spark.Cluster(storage=folder))
    with pytest.raises(ConfigError, match="a cluster needs a storage that all its machines see"):
        spark.train(str(tree), "sgd")


def test_the_command_line_trains_on_the_cluster(
    local_cluster: LocalCluster, session: Any, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)

    def recsys(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["recsys-mf", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return (int(stop.value.code or 0), *capfd.readouterr())

    settings = ["-p", "rank=8", "-p", "regularisation=0.04", "-p", "epochs=4", "-p", "members=2", "--svd-ranks", "2"]
    there = ["--engine", "spark", "--master", local_cluster.master, "--storage", str(local_cluster.storage)]
    there += ["--memory", "4MiB"]  # so that the driver has its columns in files
    code, one, err = recsys("train", str(tree), "-o", "one", "-q", *settings)
    assert code == 0, err
    assert len(mf.read_ratings(tree)) > 2 * spark.Cluster().least, "workers are to train this"
    code, two, err = recsys("train", str(tree), "-o", "two", "-q", *settings, *there)
    assert (code, err) == (0, "")
    for name in ("model.safetensors", "baselines.safetensors", "users.parquet", "items.parquet", "rated.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert len(one.splitlines()) == len(two.splitlines())
    assert [line.split()[:6] for line in one.splitlines() if "±" in line] == [
        line.split()[:6] for line in two.splitlines() if "±" in line
    ]
    code, _, err = recsys("train", "--repeat", "two", "-o", "again")
    assert "the model and its baselines equal those in two byte for byte" in err
    code, _, err = recsys("train", str(tmp_path / "none"), "-o", "r", *there)
    assert (code, err.count("\n")) == (3, 1)
    assert re.match(r"error: .*none: no such file or folder; check the path", err)
    pq.write_table(pa.table({"user_id": [1, None], "item_id": [1, 2], "rating": [1.0, 2.0]}), "nulls.parquet")
    said = [recsys("train", "nulls.parquet", "-o", "r", *options) for options in ([], there)]
    assert said[0] == said[1]
    assert said[0][0] == 3
    assert not (tmp_path / "r").exists()
    assert not list(local_cluster.storage.iterdir())


def test_a_worker_of_another_version_ends_the_training(
    local_cluster: LocalCluster, session: Any, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "describe_software", lambda: worker.describe_software() | {"recsys_mf": "9.9"})
    message = (
        rf"^Spark: a worker has another recsys_mf \(saw {mf.__version__}, expected 9.9\); install recsys_mf 9.9 on"
    )
    with pytest.raises(DeviceError, match=message):
        spark.train(str(tree), "sgd", cluster=at(local_cluster), compared_with=FEW, validation=0, **SETTLED)
    assert session.range(3).count() == 3  # its tasks are gone


def test_a_cluster_without_a_free_worker_is_given_up_at_the_deadline(
    local_cluster: LocalCluster, session: Any, tree: Path
) -> None:
    context = session.sparkContext
    busy = threading.Thread(target=context.parallelize([8] * 4, 4).map(time.sleep).count)
    busy.start()
    time.sleep(1)
    message = rf"^{local_cluster.master}: no worker of the cluster took a task within 2 s; start workers, or free some"
    with pytest.raises(DeviceError, match=message):
        spark.train(str(tree), "sgd", cluster=at(local_cluster, deadline=2.0))
    busy.join()
    message = (
        r"^workers: the cluster has no room for so many workers \(saw 4 task slots for 99 workers\); ask for fewer"
    )
    with pytest.raises(DeviceError, match=message):
        spark.train(str(tree), "sgd", cluster=at(local_cluster, 99, deadline=3.0), compared_with=FEW, **SETTLED)


_TRY = """
import sys
from recsys_mf import spark
from recsys_mf.errors import RecsysError
cluster = spark.Cluster(storage=".", deadline=4.0)
try:
    spark.train("t.parquet", master=sys.argv[1], cluster=cluster)
except RecsysError as error:
    print(error)
"""


def test_a_master_that_says_nothing_is_given_up_at_the_deadline(local_cluster: LocalCluster, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        master = f"spark://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-c", _TRY, master]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert re.fullmatch(rf"{master}: the master did not give a session within 4 s; check .*\n", done.stdout)
    assert done.stderr == ""
