"""The storage of a training on Spark: a folder on this machine, or in S3, against a server on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys_mf.errors import ArtifactError, ConfigError
from recsys_mf.spark.storage import Storage
from tests.servers import Bucket


def check(storage: Storage) -> None:
    """All that a storage does."""
    table = np.arange(12, dtype=np.float32).reshape(6, 2)
    storage.put("x/table", table)
    storage.put("x/none", table[:0])
    assert np.array_equal(storage.get("x/table", np.float32, width=2), table)
    assert np.array_equal(storage.get("x/table", np.float32, slice(2, 5), 2), table[2:5])
    assert not len(storage.get("x/none", np.float32))
    storage.put_table("y/columns", pa.table({"a": [1, 2], "b": ["c", "d"]}))
    assert storage.get_column("y/columns", "b").to_pylist() == ["c", "d"]
    assert storage.get_facts("facts") is None
    storage.put_facts("facts", {"a": [1, 0.1]})
    assert storage.get_facts("facts") == {"a": [1, 0.1]}
    storage.remove("x")
    storage.remove("none")
    with pytest.raises(ArtifactError):
        storage.get("x/table", np.float32)
    assert storage.get_facts("facts") is not None
    storage.remove()
    assert storage.get_facts("facts") is None


def test_a_folder_holds_what_was_put(tmp_path: Path) -> None:
    for folder in (str(tmp_path / "a b"), f"file://{tmp_path}/uri"):
        check(Storage.new(folder))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a b", "uri"]


def test_a_bucket_holds_what_was_put(s3: Bucket) -> None:
    storage = Storage.new("s3://bucket/a folder/")
    assert s3.names() == [f"{storage.uri.removeprefix('s3://bucket/')}/storage.json"]
    check(storage)
    assert s3.names() == []


def test_a_storage_that_cannot_be_written_is_an_error_in_one_line(s3: Bucket) -> None:
    for folder, message in (
        ("s3://none/x", r"^s3://none/x/.*: there is no bucket 'none'; check its name"),
        ("https://example.org/x", r"^https://example.org/x: the web can only be read; give a path, or an address"),
    ):
        with pytest.raises(ArtifactError, match=message):
            Storage.new(folder)
    with pytest.raises(ConfigError, match=r"^gopher://x/y: unknown kind of address 'gopher://'"):
        Storage.new("gopher://x/y")


_TRAIN = """
import sys
from recsys_mf import SOLVERS, Experiment, spark
from recsys_mf.training.provenance import digest
for name, settings in (("sgd", {"noise": "common"}), ("als", {})):
    run = spark.train(
        sys.argv[1], name, master="local[2]", cluster=spark.Cluster(storage="s3://bucket/spark", least=0, every=1),
        validation=0, rank=4, regularisation=0.5, epochs=3, members=1, **settings,
    )
    solver = SOLVERS[name](rank=4, regularisation=0.5, epochs=3, members=1, **settings)
    one = Experiment(ratings=sys.argv[1], solver=solver, validation=0).run(device="cpu").run
    print(digest(run.model) == digest(one.model))
"""


@pytest.mark.slow
def test_a_training_has_its_storage_in_a_bucket(s3: Bucket, tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyspark")
    (tmp_path / "train.py").write_text(_TRAIN)
    command = [sys.executable, str(tmp_path / "train.py"), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "True"]), done.stderr
    assert s3.names() == []
