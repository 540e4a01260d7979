"""Row solves by workers, here endpoints in this process: the bytes of the CPU, also when some are lost."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_mf.errors import RecsysWarning, ResourceError, SolveError
from recsys_mf.kernels import select
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import Offsets
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import SOLVERS
from recsys_mf.solvers.protocol import Epoch
from recsys_mf.spark.crew import Crew, LostWorkers
from recsys_mf.spark.crews import Crews, RecoveryPoint
from recsys_mf.spark.storage import Storage
from recsys_mf.training.provenance import digest
from tests.planted import planted

pytest.importorskip("recsys_mf.spark.wire")
from recsys_mf.spark import engine, rows, wire, worker

SETTINGS: dict[str, Any] = {"rank": 5, "regularisation": 0.5, "epochs": 7, "members": 1, "noise": "common"}


class NearCrew(Crew):
    """Workers of this process."""

    def __init__(self, storage: Storage, size: int) -> None:
        self.size, self._ended, self._failure = size, threading.Event(), None
        job = worker.Job("near", "token", storage)
        self.workers = [worker.Worker(number, job, 1) for number in range(size)]
        self._endpoints = [wire.Endpoint("127.0.0.1", job.token, w.mailbox, w.act, w.give) for w in self.workers]
        self.peers = [wire.Peer(f"127.0.0.1:{endpoint.port}", job.token) for endpoint in self._endpoints]
        for one in self.workers:
            one.peers = self.peers
            one.ready.set()

    def lose(self) -> None:
        """End them, as a killed executor does."""
        for endpoint in self._endpoints:
            endpoint.shutdown()

    def stop(self) -> None:
        self.lose()

    def cancel(self) -> None:
        self.lose()


class Near:
    """A backend whose rows are solved by such crews, each of another size."""

    def __init__(self, folder: Path, sizes: list[int], every: int = 2) -> None:
        self.storage = Storage.new(str(folder))
        self.crews: list[NearCrew] = []

        def start(most: int) -> Crew:
            self.crews.append(NearCrew(self.storage, sizes[len(self.crews) % len(sizes)]))
            return self.crews[-1]

        self.calls = Crews(start)
        plain = select("cpu", 1)
        kernels = rows.SparkRows(self.calls, self.storage, threads=1, every=every, least=0)
        self.backend: Backend = replace(plain, device=engine.SparkDevice(1), rows=kernels)


def ratings() -> Ratings:
    found = planted(20, 12, density=0.6)[0]
    weights = np.random.default_rng(1).uniform(0.5, 2, len(found)).astype(np.float32)
    return replace(found, weights=weights)


def fitted(
    train: Ratings, backend: Backend, near: Near | None = None, lost: tuple[int, ...] = (), **settings: Any
) -> Epoch:
    """The last epoch of a run, in which crews are lost after some epochs."""
    solver = SOLVERS["als"](**SETTINGS | settings)
    last = None
    for epoch in solver.run(train, rng=np.random.default_rng(0), backend=backend):
        if near is not None and epoch.number in lost:
            near.crews[-1].lose()
        last = epoch
    assert last is not None
    return last


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cg_steps", [0, 3])
@pytest.mark.parametrize("workers", [1, 3, 13])
def test_workers_reach_the_bytes_of_one_machine(tmp_path: Path, workers: int, cg_steps: int, *, weighted: bool) -> None:
    train = ratings() if weighted else replace(ratings(), weights=None)
    near = Near(tmp_path, [workers])
    one, there = (fitted(train, b, cg_steps=cg_steps) for b in (select("cpu", 1), near.backend))
    assert digest(there.model()) == digest(one.model())
    assert there.train_rmse == one.train_rmse
    near.calls.close()


@pytest.mark.slow
@pytest.mark.parametrize("cg_steps", [0, 3])
@pytest.mark.parametrize("lost", [(1,), (2,), (3,), (5, 6), (7,), (1, 2, 3, 4, 5, 6, 7)])
def test_another_crew_makes_again_what_was_lost(tmp_path: Path, lost: tuple[int, ...], cg_steps: int) -> None:
    train, near = ratings(), Near(tmp_path, [3, 2, 4])
    one = fitted(train, select("cpu", 1), cg_steps=cg_steps)
    with pytest.warns(RecsysWarning, match=r"lost in epoch [2-7] .* go on from epoch [0-6]$"):
        found = digest(fitted(train, near.backend, near, lost, cg_steps=cg_steps).model())
    assert found == digest(one.model())
    assert len(near.crews) == 1 + len(lost)
    near.calls.close()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 5, 8, 19])
def test_products_have_the_bytes_and_the_layout_of_one_machine(tmp_path: Path, width: int, dtype: Any) -> None:
    near, matrix = Near(tmp_path, [3, 2]), ratings().by_item()
    X = np.random.default_rng(3).standard_normal((matrix.n_columns, width)).astype(dtype)
    offsets = Offsets(*(np.random.default_rng(4).standard_normal(n) for n in (matrix.n_rows, matrix.n_columns)))
    for one, subtracted in ((matrix, None), (matrix, offsets), (matrix.pattern(), None)):
        expected, found = (backend.rows.multiply(one, X, subtracted) for backend in (select("cpu", 1), near.backend))
        assert np.array_equal(expected, found)
        assert (expected.dtype, expected.strides) == (found.dtype, found.strides)
    near.crews[-1].lose()
    with pytest.warns(RecsysWarning, match=r"^workers were lost in a product .*; others make it again$"):
        assert np.array_equal(expected, near.backend.rows.multiply(one, X))
    near.calls.close()


@pytest.mark.parametrize("weighted", [False, True])
def test_truncated_svd_and_biases_have_the_bytes_of_one_machine(tmp_path: Path, *, weighted: bool) -> None:
    near = Near(tmp_path, [2])
    train = ratings() if weighted else replace(ratings(), weights=None)
    for solver in (SOLVERS["svd"](ranks=(1, 4), route="operator"), SOLVERS["bias"]()):
        found = [
            [digest(epoch.model()) for epoch in solver.run(train, rng=np.random.default_rng(0), backend=backend)]
            for backend in (select("cpu", 1), near.backend)
        ]
        assert found[0] == found[1]
    assert near.crews
    near.calls.close()


@pytest.mark.slow
def test_no_more_is_kept_than_what_can_be_needed(tmp_path: Path) -> None:
    """Neither by workers nor in the storage, whatever the number of epochs; nor do runs leave their ratings behind."""
    near = Near(tmp_path, [2])
    for _ in range(2):
        fitted(ratings(), near.backend, epochs=12)
        gc.collect()
    folder = Path(near.storage.uri)
    names = [path.name for path in folder.iterdir()]
    assert len([name for name in names if name.startswith("side")]) <= 2
    fitted(ratings(), near.backend, epochs=1)
    shares = near.crews[0].workers[0]._shares
    assert len(shares._tables) <= 6
    assert len(shares._errors) <= 6
    gc.collect()
    assert len([path for path in folder.iterdir() if path.name.startswith("rows")]) <= 2
    near.calls.close()


def test_an_epoch_can_be_predicted_with_and_kept_while_others_follow(tmp_path: Path) -> None:
    train, near = ratings(), Near(tmp_path, [2])
    pairs = train.users[:50], train.items[:50]
    found: list[list[Any]] = []
    for backend in (select("cpu", 1), near.backend):
        epochs = list(SOLVERS["als"](**SETTINGS).run(train, rng=np.random.default_rng(0), backend=backend))
        predicted = [epoch.predictor()(*pairs, None) for epoch in epochs if epoch.predictor is not None]
        states = [epoch.state().arrays for epoch in epochs if epoch.state is not None]
        found.append([np.array(predicted), *(state[name] for state in states for name in ("users", "items"))])
    assert len(found[0]) == 13
    for one, there in zip(*found, strict=True):
        assert np.array_equal(one, there)
    near.calls.close()


def test_a_system_that_cannot_be_solved_is_the_error_of_one_machine(tmp_path: Path) -> None:
    train, near = planted(300, 200, density=0.3)[0], Near(tmp_path, [2])
    settings: dict[str, Any] = {
        "rank": 200,
        "regularisation": 1e-6,
        "bias_regularisation": 1e-6,
        "count_exponent": 0.0,
        "cg_steps": 0,
    }
    for backend in (select("cpu", 1), near.backend):
        with pytest.raises(SolveError, match=r"^ALS met a system that it cannot solve in epoch \d+ .* nearer to 1"):
            fitted(train, backend, **settings)
    near.calls.close()


def test_crews_that_are_lost_time_after_time_end_the_training() -> None:
    def start(most: int) -> Crew:
        raise LostWorkers("gone")

    with (
        pytest.warns(RecsysWarning, match=r"workers were lost in epoch 3 .gone.; others go on from epoch 2"),
        pytest.raises(ResourceError, match=r"^Spark: workers were lost 4 times in a row; look at"),
    ):
        Crews(start).run(lambda crew: None, lambda: RecoveryPoint.of_epochs(3, 2), most=1)
