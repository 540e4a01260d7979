"""HDFS, with a folder of this machine in the place of a cluster: files get their names when they are complete."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

import recsys_mf as mf
from recsys_mf.errors import ArtifactError
from recsys_mf.storage import Address, systems
from recsys_mf.storage.systems import Opened
from tests.trained import small_run


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root folder of hdfs://host."""
    root = tmp_path / "cluster"
    (root / "models" / "run").mkdir(parents=True)

    def local(address: Address) -> Opened:
        return Opened(fs.SubTreeFileSystem(str(root), fs.LocalFileSystem()), address.path)

    monkeypatch.setattr(systems, "_hdfs", local)
    return root


def test_a_run_comes_back_and_no_name_is_left_behind(cluster: Path) -> None:
    for force in (False, True):
        mf.save(small_run(), "hdfs://host/models/run", force=force)
        assert not [path for path in cluster.rglob("*") if "_COPYING_" in path.name or path.name.startswith(".")]
        assert mf.load("hdfs://host/models/run").predict(5, 100) == small_run().predict(5, 100)


def test_a_table_and_a_tree_are_read(cluster: Path) -> None:
    text = "user_id,item_id,rating\n1,10,4\n2,10,3\n"
    (cluster / "t.csv").write_text(text)
    (cluster / "tree").mkdir()
    (cluster / "tree" / "part-0.csv").write_text(text)
    for name in ("t.csv", "tree", "tree/*.csv"):
        assert len(mf.read_ratings(f"hdfs://host/{name}")) == 2


def test_a_file_that_cannot_be_finished_leaves_none(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise OSError("the name node is gone\nat org.apache")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(systems, "_take_place", broken)
    message = r"^hdfs://host/models/run/\S+: not sent: the cluster refuses \(saw the name node is gone\)"
    with pytest.raises(ArtifactError, match=message):
        mf.save(small_run(), "hdfs://host/models/run")
    assert not [path for path in cluster.rglob("*") if path.is_file()]
