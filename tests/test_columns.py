"""Columns in files: the same numbers, only beyond the limit, and no file is left."""

from __future__ import annotations

import errno
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_mf import memory
from recsys_mf.arrays import mapped, sorting
from recsys_mf.errors import ConfigError, ResourceError
from recsys_mf.kernels.cpu.backend import make_backend
from recsys_mf.kernels.cpu.sgd import CpuSgd
from recsys_mf.kernels.operands import Part, SgdState, SgdStep
from recsys_mf.memory import parsed
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import SOLVERS, Biases, Sgd, TruncatedSvd
from recsys_mf.solvers.truncated_svd import FILLINGS
from recsys_mf.splits import hold_out
from recsys_mf.training import train
from tests.planted import planted


def test_a_column_is_in_a_file_if_it_exceeds_its_share_of_the_limit() -> None:
    with mapped.limited(32 * 4000):
        assert not mapped.is_mapped(mapped.empty(1000, np.float32))
        assert mapped.is_mapped(mapped.empty(1001, np.float32))
    assert not mapped.is_mapped(mapped.empty(1001, np.float32))


@pytest.mark.parametrize("rows", [np.arange(3000)[::-2], np.arange(3000) % 3 == 1], ids=["numbers", "mask"])
def test_taken_is_the_same_as_indexing(rows: np.ndarray) -> None:
    column = np.random.default_rng(0).random(3000)
    with mapped.limited(1):
        taken = mapped.taken(column, rows)
    assert mapped.is_mapped(taken)
    assert np.array_equal(taken, column[rows])


def test_what_is_dropped_from_memory_is_still_in_the_file() -> None:
    with mapped.limited(1):
        column = mapped.empty(100_000, np.int64)
    column[:] = np.arange(100_000)
    mapped.drop(column, 100, 99_000)
    mapped.read_ahead(column, 0, 100_000)
    assert np.array_equal(column, np.arange(100_000))


@pytest.mark.parametrize("solver", ["sgd", "als", "svd"])
def test_results_do_not_depend_on_where_columns_are(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_LEAST", 700)  # sorts into files take several passes
    settings = {"epochs": 5, "members": 2, "rank": 8} if solver != "svd" else {}
    runs = []
    for limit in (None, 1):
        with mapped.limited(limit):
            split = hold_out(planted()[0], 0.1)
            assert mapped.is_mapped(split.train.users) == (limit is not None)
            runs.append(train(split, SOLVERS[solver](**settings)))
    one, other = (run.fit for run in runs)
    assert all(
        a.tobytes() == b.tobytes()
        for a, b in zip(one.model.arrays().values(), other.model.arrays().values(), strict=True)
    )
    assert [row["train_rmse"] for row in one.history] == [row["train_rmse"] for row in other.history]


def test_sorts_into_files_write_few_groups_in_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_LEAST", 10)
    starts = np.array([0, 4, 4, 9, 30, 31, 32, 40])
    in_memory = np.empty(40, np.int32)
    groups, first, columns = next(mapped.windows(starts, (in_memory, None)))
    assert (groups, first, columns[1]) == (slice(0, 7), 0, None)
    assert columns[0] is in_memory
    with mapped.limited(1):
        in_file, found = mapped.empty(40, np.int32), []
        for groups, first, (column, _) in mapped.windows(starts, (in_file, None)):
            assert column is not None
            assert not mapped.is_mapped(column)  # the file is written from it once, one page after another
            column[: starts[groups.stop] - first] = np.arange(first, starts[groups.stop])
            found.append(groups)
        assert np.array_equal(in_file, np.arange(40))
    assert found == [slice(0, 3), slice(3, 4), slice(4, 7)]


@pytest.mark.parametrize("limit", [None, 1])
@pytest.mark.parametrize(("n_groups", "n_others"), [(1, 200_000), (1_000, 50), (100_000, 3_000), (200_000, 1)])
def test_groups_are_in_the_order_of_the_other_column(
    n_groups: int, n_others: int, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "_LEAST", 70_000)
    rng = np.random.default_rng(n_groups)
    keys, others = (rng.integers(0, n, 200_000).astype(np.int32) for n in (n_groups, n_others))
    values = rng.random(200_000, dtype=np.float32)
    with mapped.limited(limit):
        starts, *found = sorting.grouped(keys, n_groups, others, values, n_others=n_others)
    order = np.lexsort((np.arange(len(keys)), others, keys))
    assert np.array_equal(starts, np.searchsorted(keys[order], np.arange(n_groups + 1)))
    assert np.array_equal(found[0], others[order])
    assert np.array_equal(found[1], values[order])


def test_sums_by_key_do_not_depend_on_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_PART", 7)
    keys = np.array([0, 3, 3, 1] * 5, np.int8)
    values = np.arange(20, dtype=np.float32)
    assert sorting.sums(keys, 5, values).tolist() == np.bincount(keys, values, 5).tolist()
    assert sorting.sums(keys, 5, None).tolist() == [5, 5, 0, 10, 0]


def test_epochs_of_triples_in_a_file_take_one_stratum_at_a_time() -> None:
    seen: list[int] = []

    class Counting(CpuSgd):
        def visit(self, part: Part, batch: int, state: SgdState, step: SgdStep) -> float:
            seen.append(len(part.bounds))
            return super().visit(part, batch, state, step)

    backend = replace(make_backend(2), sgd=Counting(2))
    with mapped.limited(1):
        table = planted()[0].select(np.arange(5000))
        list(Sgd(members=1, epochs=1).run(table, rng=np.random.default_rng(0), backend=backend))
    assert len(seen) > 1
    assert set(seen) == {1}


def test_a_folder_without_space_is_an_error_with_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    message = r"^no room for 1\.0 MiB in .*: No space left on device; set TMPDIR to a folder with more room$"
    with mapped.limited(1), pytest.raises(ResourceError, match=message):
        mapped.empty(1 << 20, np.uint8)


def test_no_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with mapped.limited(1):
        column = mapped.empty(1000, np.int32)
    assert mapped.is_mapped(column)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "size"), [("2GiB", 2 << 30), ("500 MB", 500_000_000), ("1.5g", 1_500_000_000), ("4096", 4096)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parsed(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "2 GiB of it"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^not a memory size \(saw .*\); write it as 2GiB or 500MB$"):
        parsed(text)


def resident(found: Callable[[], memory.Resident | None] = memory.resident) -> int:
    """Bytes of this process in memory; found : the function as it was before a test replaced it"""
    now = found()
    assert now is not None
    return now.all


@pytest.mark.skipif(memory.resident() is None, reason="only Linux says what a process holds")
def test_unused_columns_are_not_in_the_memory_of_the_process() -> None:
    with mapped.limited(1):
        column = mapped.empty(1 << 25, np.uint8)
        column[:] = 7
        touched = resident()
        mapped.release_pages()
        assert touched - resident() > 30 << 20
        assert (column == 7).all()


@pytest.mark.skipif(memory.resident() is None, reason="only Linux says what a process holds")
def test_a_pass_over_columns_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_INTERVAL", 0.001)
    monkeypatch.setattr(mapped, "_SHARE", 1 << 20)
    monkeypatch.setattr(memory, "resident", lambda: memory.Resident(held() + (1 << 25), held()))
    start = resident()

    def held() -> int:
        return resident() - start

    with mapped.limited((1 << 25) + (1 << 24)):  # the process, and two of the eight parts of the column
        column, most = mapped.empty(1 << 27, np.uint8), 0
        for part in mapped.parts(len(column)):
            column[part] = 7
            most = max(most, held())
            time.sleep(0.002)
        assert (column == 7).all()
    assert 1 << 20 < most < 1 << 26


@pytest.mark.parametrize("name", ["sgd", "als"])
def test_columns_in_files_need_no_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 250_000  # bytes, fewer than the columns of a solver need and more than the factors
    monkeypatch.setattr(memory, "available", lambda: free)
    table, _ = planted()
    assert 24 * len(table) > free
    settings: dict[str, Any] = {
        "compared_with": {"svd bias": TruncatedSvd(ranks=(1,))},
        "rank": 1,
        "members": 1,
        "epochs": 2,
    }
    with pytest.raises(ResourceError, match=r"; lower the rank, give --memory \(columns in files\) or train on"):
        train(table, name, **settings)
    with mapped.limited(1):
        in_files = planted()[0].select(np.arange(len(table)))
        run = train(in_files, name, **settings)
        monkeypatch.setattr(memory, "available", lambda: 1000)
        with pytest.raises(ResourceError, match=r"; lower the rank or train on another machine$"):
            train(in_files, name, **settings)
    assert run.fit.history


@pytest.mark.parametrize("name", ["mean", "sgd", "als"])
def test_a_training_makes_no_array_as_long_as_the_table_in_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_PART", 1 << 13)
    rng, n_users, n_items, n = np.random.default_rng(0), 800, 500, 200_000
    users, items = np.divmod(rng.choice(n_users * n_items, n, replace=False), n_items)
    table = Ratings.from_ids(users, items, rng.integers(1, 6, n).astype(np.float32))
    svds = {f"svd {filling}": TruncatedSvd(filling=filling, ranks=(1,)) for filling in FILLINGS}
    few: dict[str, Any] = {} if name == "mean" else {"rank": 2, "members": 1, "epochs": 2}

    def fit() -> None:
        train(split, name, compared_with={"bias": Biases(), **svds}, device="cpu", threads=1, **few)

    with mapped.limited(1):
        split = hold_out(table.select(np.arange(n)), 0.1, seed=0)
        fit()  # compiles
        tracemalloc.start()  # counts the arrays of NumPy, and no mapped files
        try:
            fit()
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 8 * n
