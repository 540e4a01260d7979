"""Memory: how sizes are written, and work that does not fit is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recsys_mf import SOLVERS, memory, train
from recsys_mf.errors import ResourceError
from recsys_mf.models import Posterior
from recsys_mf.solvers.compression import compress
from tests.trained import posterior_run, small_split


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 29, "1.5 GiB"),
        (3 << 50, "3072.0 TiB"),
    ],
)
def test_sizes_are_written_in_the_largest_unit_that_fits(size: int, words: str) -> None:
    assert memory.in_words(size) == words


def test_work_that_would_not_fit_is_refused_with_both_sizes() -> None:
    message = r"^the table needs 2.0 KiB, but only 1.0 KiB are free; use less$"
    with pytest.raises(ResourceError, match=message):
        memory.require(2048, "the table", there=1024, fix="use less")
    with pytest.raises(ResourceError, match=r"needs 1048576.0 TiB, but only .*B are free"):
        memory.require(1 << 60, "the table", fix="use less")


def test_work_that_fits_is_allowed() -> None:
    memory.require(1024, "the table", there=1024, fix="use less")
    memory.require(1, "the table", fix="use less")


def test_peak_is_in_bytes_and_counts_what_was_touched() -> None:
    touched = np.ones(8 << 20)  # 64 MiB
    assert touched.nbytes <= memory.peak() < 1 << 50


def group(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_control_groups_of_both_versions_limit_the_available_memory(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("4:memory:/a\n1:cpu:/a\n0::/b/c\nodd\n")
    assert list(memory._of_groups(membership, tmp_path)) == []
    group(tmp_path / "memory/a", {"memory.limit_in_bytes": "1000", "memory.usage_in_bytes": "600"})
    group(tmp_path / "b", {"memory.max": "5000", "memory.current": "4000", "memory.stat": "inactive_file 500\nx 1\n"})
    group(tmp_path / "b/c", {"memory.max": "max", "memory.current": "4000"})
    assert sorted(memory._of_groups(membership, tmp_path)) == [400, 1500]
    assert list(memory._of_groups(tmp_path / "none", tmp_path)) == []


def test_a_limit_on_the_address_space_counts() -> None:
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30));"
        "from recsys_mf import memory; print(memory.available())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 1 << 30


def test_a_system_without_the_module_resource_can_import_and_ask() -> None:
    script = (
        "import sys; sys.modules['resource'] = None;"
        "from recsys_mf import memory; print(memory.peak() >= 0, memory.available() > 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


@pytest.mark.parametrize(
    "error",
    [MemoryError(), MemoryError("Unable to allocate 9 GiB"), RuntimeError("[enforce fail] can't allocate memory")],
)
def test_a_failed_allocation_becomes_one_of_our_errors(error: Exception) -> None:
    line = r"^fitting ran out of memory: .* are free.*; use less$"
    with pytest.raises(ResourceError, match=line), memory.guarded("fitting", fix="use less"):
        raise error
    with pytest.raises(RuntimeError, match="another"), memory.guarded("fitting", fix="use less"):
        raise RuntimeError("another")


PEAK = """
import sys
import numpy as np
from recsys_mf import SOLVERS, Ratings, hold_out, memory, train, training
from recsys_mf.kernels import select
from recsys_mf.solvers import TruncatedSvd

table, validation, name, *settings = sys.argv[1:]
settings = dict(setting.split("=") for setting in settings)
compress = int(settings.pop("compress", 0)) or None
solver = SOLVERS[name].from_texts(settings)
rng, n = np.random.default_rng(0), 60_000 if table == "wide" else 4_000_000
if table == "wide":
    users, items = np.arange(n), np.concatenate([np.arange(30_000), rng.integers(0, 30_000, n - 30_000)])
else:
    users, items = np.divmod(np.sort(rng.choice(6000 * 4000, n, replace=False)), 4000)
times = rng.integers(0, 1000 * 86400, n) if "timed" in table else None
weights = rng.uniform(0.5, 1.5, n) if "weighted" in table else None
split = hold_out(Ratings.from_ids(users, items, (users + items) % 5 + 1, times, weights=weights), 0)
del users, items, times, weights
baselines = {"svd bias": TruncatedSvd(ranks=(1,))}
for each in (*baselines.values(), solver):
    training.epochs.compile_kernels(each, select("cpu"))
estimates, require, before = [], memory.require, memory.reset_peak()
memory.require = lambda needed, what, **rest: (estimates.append(needed), require(needed, what, **rest))
train(split, solver, validation=float(validation), compared_with=baselines, device="cpu", compress=compress)
print(estimates[0], memory.peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets a peak")
@pytest.mark.parametrize(
    ("table", "validation", "fit"),
    [
        ("wide", 0, "sgd rank=128 epochs=1 members=2"),
        ("wide", 0, "sgd rank=256 epochs=2 members=3"),
        ("wide", 0, "sgd rank=256 epochs=1 members=1"),
        ("wide", 0, "als rank=96 epochs=1 members=2 cg_steps=1"),
        ("wide", 0, "als rank=192 epochs=3 members=3 cg_steps=1"),
        ("wide", 0, "als rank=192 epochs=1 members=1 cg_steps=1"),
        ("wide", 0, "als rank=192 epochs=3 members=1 cg_steps=1"),
        ("wide", 0, "gibbs rank=8 sweeps=50 burn_in=1 likelihood=gaussian"),
        ("wide", 0, "gibbs rank=8 sweeps=20 burn_in=1 samples=2 likelihood=gaussian compress=256"),
        ("wide", 0, "gibbs rank=8 sweeps=20 burn_in=1 samples=2 likelihood=ordinal compress=128"),
        ("long", 0, "sgd rank=4 epochs=2"),
        ("long", 0, "sgd rank=4 epochs=2 noise=personal"),
        ("long weighted", 0, "sgd rank=4 epochs=2"),
        ("long timed", 0.1, "sgd rank=4 epochs=2"),
        ("long", 0, "als rank=4 epochs=2"),
        ("long", 0, "als rank=4 epochs=2 noise=personal"),
        ("long timed weighted", 0.1, "als rank=4 epochs=2"),
        ("long", 0, "gibbs rank=4 sweeps=4 burn_in=1 likelihood=gaussian"),
        ("long", 0, "gibbs rank=4 sweeps=4 burn_in=1 likelihood=gaussian links=none chains=4"),
        ("long timed weighted", 0.1, "gibbs rank=4 sweeps=4 burn_in=1 likelihood=gaussian"),
        ("long", 0.1, "gibbs rank=4 sweeps=4 burn_in=1 likelihood=ordinal chains=1"),
        ("long timed", 0.1, "gibbs rank=4 sweeps=4 burn_in=1 likelihood=ordinal"),
    ],
)
def test_the_peak_is_within_a_quarter_of_the_estimate(table: str, validation: float, fit: str) -> None:
    command = [sys.executable, "-c", PEAK, table, str(validation), *fit.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    estimate, measured = map(int, done.stdout.split())
    assert estimate == pytest.approx(measured, rel=0.25, abs=16 << 20)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_fit_that_would_not_fit_is_refused_with_both_sizes(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1000)
    with pytest.raises(
        ResourceError, match=rf"^training '{solver}' on 40 users and 30 items needs .*B, but only 1000 B are free"
    ):
        train(small_split(), solver, device="cpu")


def test_a_rank_to_compress_to_is_at_most_that_of_the_matrix() -> None:
    run, table = posterior_run("ordinal"), small_split().train
    assert isinstance(run.model, Posterior)
    wide, most = (compress(run.model, rank, table) for rank in (10**9, min(table.n_users, table.n_items)))
    assert {name: array.tobytes() for name, array in wide.arrays().items()} == {
        name: array.tobytes() for name, array in most.arrays().items()
    }


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets a peak")
def test_a_peak_that_is_reset_is_that_of_what_came_after() -> None:
    big = np.ones(20_000_000)
    before = memory.peak()
    del big
    resident = memory.reset_peak()
    assert resident is not None
    assert resident < before - 100_000_000
    more = np.ones(10_000_000)
    assert 70_000_000 < memory.peak() - resident < 120_000_000
    del more
