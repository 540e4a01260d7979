"""The simulation of an epoch on several machines: what it must give where the answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCH = Path(__file__).parents[1] / "scripts" / "bench"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program, imported as it imports its neighbours."""
    monkeypatch.syspath_prepend(str(BENCH))
    import cluster

    return cluster


def test_without_a_network_to_wait_for_workers_divide_the_time(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "LATENCY", 0.0)
    job = cluster.Job(1e9, 1e7, 1e6, bandwidth=np.inf, noise=0.0)
    rng = np.random.default_rng(0)
    one = cluster.epoch_seconds(job, np.ones((1, 1)), 1.0, rng)
    assert one == pytest.approx(1e9 / (16 * cluster.RATES[64]))
    assert cluster.epoch_seconds(job, np.ones((8, 8)), 1.0, rng) == pytest.approx(one / 8)


def test_item_rows_pass_every_worker(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "LATENCY", 0.0)
    job = replace(cluster.Job(1e-3, 1.0, 1e6, noise=0.0), bandwidth=1e9)
    seconds = cluster.epoch_seconds(job, np.ones((4, 4)), 1.0, np.random.default_rng(0))
    assert seconds == pytest.approx(1e6 * 80 * 4 / 1e9)


def test_threads_wait_for_bands(cluster: Any) -> None:
    rng = np.random.default_rng(0)
    assert cluster.busy(4, 1, rng, 0.0) == pytest.approx(1.0)
    assert cluster.busy(1, 4, rng, 0.0) == pytest.approx(1 / 4)
    assert cluster.busy(4, 4, rng, 0.0) < cluster.busy(16, 4, rng, 0.0)


def test_sizes_of_super_blocks_are_shares(cluster: Any) -> None:
    sizes = cluster.block_sizes(None, 4, np.random.default_rng(0))
    assert sizes.shape == (4, 4)
    assert sizes.mean() == pytest.approx(1.0)
    assert np.abs(sizes.sum(axis=0) - 4).max() < 0.1
    assert np.abs(sizes.sum(axis=1) - 4).max() < 0.1
