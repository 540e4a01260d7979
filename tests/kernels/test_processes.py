"""Processes and threads: forks, threads that predict at once, and how many threads a process takes."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_mf
from recsys_mf.arrays import cores, threads
from recsys_mf.kernels.cpu.prediction import CpuPrediction
from recsys_mf.kernels.operands import FactorModel, Pairs

PACKAGE = Path(recsys_mf.__file__).parent
PAIRS = 200_000  # enough for several tasks

PRELUDE = """
import multiprocessing, os, warnings
import numpy as np
import recsys_mf as mf

if __name__ == "__main__":
    multiprocessing.set_start_method({start!r})
users, items = np.repeat(np.arange(60), 20), np.tile(np.arange(20), 60)
ratings = mf.Ratings.from_ids(users, items, (users * items) % 5 + 1)
solver = {solver}

def trained(seed):
    beside = dict([("svd bias", mf.SOLVERS["svd"](ranks=(2,)))])
    split = mf.hold_out(ratings, 0.1, seed=1)
    return mf.train(split, solver, seed=seed, threads=min(2, os.cpu_count()), compared_with=beside)

def predicted(k):
    return float(run.predict(np.tile(users, 100), np.tile(items, 100)).sum())

def fitted(seed):
    return float(trained(seed).predict(users, items).sum())

run = trained(0)
"""
SOLVERS = {
    "sgd": "mf.SOLVERS['sgd'](rank=4, members=1, epochs=2)",
    "als": "mf.SOLVERS['als'](rank=4, members=1, epochs=2)",
    "gibbs": "mf.SOLVERS['gibbs'](rank=4, sweeps=4, burn_in=2)",
}


def done(script: str, **variables: str) -> str:
    """What a separate process prints that runs the script."""
    environment = {**os.environ, **variables}
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=280, env=environment
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout


def script(body: str, solver: str = "sgd", start: str = "fork") -> str:
    return PRELUDE.format(solver=SOLVERS[solver], start=start) + body


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("solver", SOLVERS)
def test_forked_children_predict_and_train_as_their_parent_does(solver: str) -> None:
    body = """
own = predicted(0), fitted(3)
with multiprocessing.Pool(2) as pool:
    print(set(pool.map(predicted, range(6))) == {own[0]}, set(pool.map(fitted, [3, 3])) == {own[1]})
print(predicted(0) == own[0])
"""
    assert done(script(body, solver)).split() == ["True"] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_children_of_a_process_that_forks_itself_predict_and_train() -> None:
    """Servers do this: they load a model, try it and then fork their workers."""
    body = """
own = predicted(0)
warnings.simplefilter("error")
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        os._exit(int(predicted(0) != own) + int(fitted(1) != fitted(1)))
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
"""
    assert done(script(body)).split("\n")[0] == "[0, 0, 0]"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_workers_of_a_data_loader_predict() -> None:
    body = """
import torch
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, k):
        return predicted(k)
own = predicted(0)
print({float(x) for x in torch.utils.data.DataLoader(Rows(), batch_size=None, num_workers=2)} == {own})
"""
    assert done(script(body)).split() == ["True"]


@pytest.mark.slow
def test_spawned_processes_predict_and_train(tmp_path: Path) -> None:
    body = """
if __name__ == "__main__":
    own = predicted(0), fitted(3)
    with multiprocessing.Pool(2) as pool:
        print(pool.map(predicted, [0, 1]) == [own[0]] * 2, pool.map(fitted, [3, 3]) == [own[1]] * 2)
"""
    file = tmp_path / "program.py"
    file.write_text(script(body, start="spawn"))

    finished = subprocess.run([sys.executable, file], capture_output=True, text=True, check=False, timeout=280)
    assert finished.stdout.split() == ["True", "True"], finished.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_threads_that_predict_and_train_at_once_agree_under_every_threading_layer_of_numba(layer: str) -> None:
    body = """
from concurrent.futures import ThreadPoolExecutor
own = predicted(0), fitted(3)
with ThreadPoolExecutor(8) as pool:
    print(set(pool.map(predicted, range(24))) == {own[0]}, set(pool.map(fitted, [3] * 2)) == {own[1]})
"""
    assert done(script(body), NUMBA_THREADING_LAYER=layer).split() == ["True", "True"]


def test_no_threading_layer_of_numba_is_ever_started() -> None:
    """No kernel uses one, so that none can break a fork or fail because other threads use it."""
    for path in PACKAGE.rglob("*.py"):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not names & {"prange", "set_num_threads", "get_num_threads"}, path
        assert "parallel=" not in path.read_text(), path
        assert path.name == "jit.py" or "njit" not in names, f"{path}: kernels are compiled by arrays.jit"
    body = "import sys\nfrom numba.np.ufunc import parallel\nprint(parallel._is_initialized)"
    assert done(script(body)).split() == ["False"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["NUMBA_NUM_THREADS", "OMP_NUM_THREADS"])
def test_a_process_told_to_use_one_thread_uses_one_and_more_if_asked(name: str) -> None:
    """joblib tells its workers this."""
    body = """
from recsys_mf.kernels import available_threads, processors
print(available_threads(), run.provenance["threads"] == min(2, os.cpu_count()))
print(mf.train(mf.hold_out(ratings, 0.1, seed=1), solver).provenance["threads"])
"""
    assert done(script(body), **{name: "1"}).split() == ["1", "True", "1"]


@pytest.mark.slow
def test_the_command_line_trains_if_numba_is_told_to_use_one_thread(tmp_path: Path) -> None:
    rows = "".join(f"{u},{i},{(u * i) % 5 + 1}\n" for u in range(40) for i in range(12))
    (tmp_path / "table.csv").write_text("user_id,item_id,rating\n" + rows)
    finished = subprocess.run(
        [sys.executable, "-c", "from recsys_mf.cli import main; main()", "train", "table.csv", "-o", "run", "-q"],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=280,
        env={**os.environ, "NUMBA_NUM_THREADS": "1"},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr


def version_1(group: str, quota: int) -> dict[str, str]:
    """The files for the limit of a group in version 1 of control groups."""
    folder = f"sys/fs/cgroup/cpu{group}"
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": "100000\n"}


GROUPS, TOP = "proc/self/cgroup", "sys/fs/cgroup/cpu.max"
NESTED = {"sys/fs/cgroup/a/cpu.max": "300000 100000", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}
OLD = "4:cpu,cpuacct:/docker/1\n1:memory:/m\n"


@pytest.mark.parametrize(
    ("files", "granted"),
    [
        ({}, None),
        ({GROUPS: "0::/\n", TOP: "max 100000\n"}, None),
        ({GROUPS: "0::/\n", TOP: "150000 100000\n"}, 2),
        ({GROUPS: "0::/a/b\n", **NESTED}, 3),
        ({GROUPS: "0::/../x\n", TOP: "50000 100000\n"}, 1),
        ({GROUPS: OLD, **version_1("", -1), **version_1("/docker/1", 400000)}, 4),
        ({GROUPS: OLD, **version_1("", 200000)}, 2),
        ({GROUPS: "nonsense\n\n", TOP: "a b\n"}, None),
    ],
)
def test_the_default_number_of_threads_is_within_the_cpu_limit_of_a_container(
    tmp_path: Path, files: dict[str, str], granted: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores.granted(tmp_path) == (granted or 1 << 20)


def test_predictions_of_many_pairs_do_not_depend_on_the_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    P, Q = (rng.standard_normal((n, 33)).astype(np.float32) for n in (50, 40))
    users, items = (rng.integers(-1, n, PAIRS).astype(np.int32) for n in (50, 40))
    model = FactorModel(3.0, P[:, 0].copy(), Q[:, 0].copy(), P, Q, (1, 5))
    one = CpuPrediction(1).predict(model, Pairs(users, items))
    assert CpuPrediction(7).predict(model, Pairs(users, items)).tobytes() == one.tobytes()
    cuts = slice(9), slice(9, None)
    parts = [CpuPrediction(2).predict(model, Pairs(users[part], items[part])) for part in cuts]
    assert np.concatenate(parts).tobytes() == one.tobytes()


def test_few_pairs_are_predicted_without_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_helpers", lambda work, count: pytest.fail("a thread was asked for"))
    table, rows = np.ones((4000, 64), np.float32), np.arange(3700, dtype=np.int32)
    model = FactorModel(0.0, table[:, 0].copy(), table[:, 1].copy(), table, table, (1, 5))
    CpuPrediction(2).predict(model, Pairs(rows, rows))


@pytest.fixture
def visits() -> Iterator[list[tuple[int, str]]]:
    yield []
    threads._end()


def test_every_task_is_done_once_on_at_most_the_given_number_of_threads(visits: list[tuple[int, str]]) -> None:
    def visit(task: int) -> None:
        time.sleep(0.001)
        visits.append((task, threading.current_thread().name))

    threads.side_by_side(visit, [(task,) for task in range(40)], 3)
    assert sorted(task for task, _ in visits) == list(range(40))
    assert len({name for _, name in visits}) <= 3
    assert threading.current_thread().name in {name for _, name in visits}


@pytest.mark.parametrize("failing", ["the caller", "a helper"])
def test_an_error_in_a_task_ends_the_others_and_is_raised(failing: str) -> None:
    visited = []

    def visit(task: int) -> None:
        visited.append(task)
        if (threading.current_thread() is threading.main_thread()) == (failing == "the caller"):
            raise KeyboardInterrupt
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        threads.side_by_side(visit, [(task,) for task in range(1000)], 2)
    assert len(visited) < 1000


def test_work_is_done_if_the_system_gives_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def submit(self, work: Any) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_executor", Full)
    visited: list[int] = []
    threads.side_by_side(visited.append, [(task,) for task in range(5)], 4)
    assert visited == list(range(5))


def test_many_callers_share_the_threads_and_all_finish() -> None:
    def visit(task: int, into: list[int]) -> None:
        time.sleep(0.0005)
        into.append(task)

    def call(number: int) -> bool:
        into: list[int] = []
        threads.side_by_side(visit, [(task,) for task in range(20)], 4, into)
        return sorted(into) == list(range(20))

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(call, range(48)))
