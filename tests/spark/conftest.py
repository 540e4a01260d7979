"""A cluster for the tests of Spark, which are skipped where there is none to start."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

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
