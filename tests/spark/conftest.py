"""A cluster for the tests of Spark, which are skipped where there is none to start."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.planted import planted
from tests.spark.cluster import LocalCluster, cluster


@pytest.fixture(scope="module")
def local_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A master and two workers."""
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("needs pyspark: pip install 'recsys-mf[spark]'")
    if shutil.which("java") is None:
        pytest.skip("needs Java 17: scripts/java installs it")
    with cluster(tmp_path_factory.mktemp("spark")) as found:
        yield found


@pytest.fixture(scope="module")
def session(local_cluster: LocalCluster) -> Iterator[Any]:
    """A session that stands, as in a notebook."""
    from recsys_mf.spark.session import opened

    with opened(None, local_cluster.master) as standing:
        yield standing


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of Parquet files whose order is that of their paths, with names that a URI does not take as they are."""
    folder = tmp_path_factory.mktemp("a tree")
    ratings = planted(900, 500, density=0.15)[0]
    columns = {"user_id": ratings.users, "item_id": ratings.items + 1000, "rating": np.round(ratings.values * 2) / 2}
    table = pa.table(columns)
    for low, high, name in ((0, 9000, "b c/1.parquet"), (9000, 30000, "b c/é=ü.parquet"), (30000, 10**6, "a.parquet")):
        (folder / name).parent.mkdir(exist_ok=True)
        pq.write_table(table.slice(low, high - low), folder / name, row_group_size=4000)
    return folder
