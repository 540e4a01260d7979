"""Triton's kernels beyond the oracle: what they compile to, storage in fewer bits, schedules, occupancy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recsys_mf.kernels import layout, reference, triton_rows
from recsys_mf.kernels.occupancy import fitting
from tests.backends import BACKENDS
from tests.kernels.test_oracle import M, N, padded, scheduled

TRITON = BACKENDS["triton-cuda" if torch.cuda.is_available() else "triton"]
SETTINGS = 0.05, 0.02, 0.1, 0.3
UNITS = {"half": 2.0**-11, "bfloat16": 2.0**-8}  # what rounding may change of a number: half of an ulp, an ulp


def epoch(
    rank: int, precision: str, seed: int = 0, bounds: NDArray[np.int64] | None = None, tables: Any = None
) -> tuple[list[NDArray[Any]], float]:
    """P, Q and the biases after an epoch, and the squared error, by Triton."""
    kernels, rng = TRITON(), np.random.default_rng(rank)
    order = scheduled(rng)
    factors, biases = start(rng, rank) if tables is None else tables
    ours = [kernels.put_factors(padded(F, kernels.width(rank)), precision) for F in factors]
    ours += [kernels.put(b.astype(np.float32)) for b in biases]
    put = [kernels.put(a) for a in (order.users, order.items, order.values, order.bounds if bounds is None else bounds)]
    error = kernels.sgd_epoch(*put, 7, *ours, *SETTINGS, seed)
    P, Q, b_u, b_i = (kernels.get(a) for a in ours)
    return [P[:, :rank], Q[:, :rank], b_u, b_i], error


def start(rng: np.random.Generator, rank: int) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    return [rng.standard_normal((rows, rank)) * 0.3 for rows in (M, N)], [
        rng.standard_normal(rows) * 0.3 for rows in (M, N)
    ]


@pytest.mark.parametrize("precision", ["half", "bfloat16"])
@pytest.mark.parametrize("rank", [3, 100])
def test_factors_in_half_the_bytes_are_off_by_their_rounding(rank: int, precision: str) -> None:
    rng = np.random.default_rng(rank)
    order = scheduled(rng)
    factors, biases = start(rng, rank)
    exact = [a.copy() for a in (*factors, *biases)]
    expected = reference.sgd_epoch(order.users, order.items, order.values, order.bounds, 7, *exact, *SETTINGS, 0)
    found, error = epoch(rank, precision)
    # A row is rounded when it is first stored and after each of at most M updates; the factors stay below 2.
    unit = 2 * UNITS[precision]
    assert error == pytest.approx(expected, rel=8 * UNITS[precision])
    for got, want in zip(found[:2], exact[:2], strict=True):
        assert np.abs(got - want).max() <= unit * np.sqrt(M) * 2
        assert np.abs(got - want).max() > 0


def test_bfloat16_is_rounded_up_and_down_so_that_the_mean_is_exact() -> None:
    rank = 3
    exact = [*map(np.copy, (tables := start(np.random.default_rng(5), rank))[0]), *map(np.copy, tables[1])]
    # Stored values to begin with, so that the first rounding loses nothing.
    stored = [torch.tensor(F).bfloat16().double().numpy() for F in exact[:2]]
    order = scheduled(np.random.default_rng(rank))
    once = np.array([[0, 7]])
    want = [a.copy() for a in (*stored, *exact[2:])]
    reference.sgd_epoch(order.users, order.items, order.values, once, 7, *want, *SETTINGS, 0)
    draws = [epoch(rank, "bfloat16", seed, once, (stored, exact[2:]))[0][1] for seed in range(60)]
    errors = np.mean(draws, axis=0) - want[1]
    deviation = np.maximum(np.std(draws, axis=0), 1e-9)
    touched = np.std(draws, axis=0) > 0
    assert touched.sum() >= rank
    assert (np.abs(errors) <= 5 * deviation / np.sqrt(len(draws)) + 1e-6)[touched].all()


def test_the_same_seed_rounds_alike_and_another_differently() -> None:
    one, same, other = (epoch(3, "bfloat16", seed)[0] for seed in (1, 1, 2))
    assert [a.tobytes() for a in one] == [a.tobytes() for a in same]
    assert one[0].tobytes() != other[0].tobytes()


def test_hogwild_visits_every_rating_once() -> None:
    order = scheduled(np.random.default_rng(3))
    runs = np.append(np.arange(0, len(order.users), 50), len(order.users))[None]
    factors, biases = start(np.random.default_rng(9), 3)
    found, error = epoch(3, "float32", 0, runs, (factors, biases))
    exact = [a.copy() for a in (*factors, *biases)]
    expected = reference.sgd_epoch(order.users, order.items, order.values, runs, 7, *exact, *SETTINGS, 0)
    assert error == pytest.approx(expected, rel=1e-2 if torch.cuda.is_available() else 1e-5)
    assert all(np.isfinite(a).all() for a in found)


def test_a_rank_beyond_the_kernels_is_solved_by_torch_with_the_same_result() -> None:
    rng, kernels, rank = np.random.default_rng(0), TRITON(), 140
    starts, others, width = np.array([0, 3, 3, 5]), rng.integers(0, 9, 5).astype(np.int32), rank + 1
    none = np.zeros((0, width), np.float32)
    arrays = (
        starts, others, np.zeros(0, np.int32), rng.standard_normal(5).astype(np.float32),
        rng.standard_normal((9, width)).astype(np.float32), none, np.eye(width, dtype=np.float32),
        np.zeros((3, width), np.float32), np.ones(3, np.float32), np.ones(width, np.float32),
    )  # fmt: skip
    exact, _ = reference.solve_rows(*arrays, 1.0, none)
    ours, _ = kernels.solve_rows(*(kernels.put(a) for a in arrays), 1.0, kernels.put(none))
    np.testing.assert_allclose(kernels.get(ours), exact, atol=1e-3)


def test_blocks_of_a_table_do_not_depend_on_the_card() -> None:
    kernels = TRITON()
    assert kernels.grid(100_000_000, 480_000, 100_000, 128) == layout.Grid(1024)
    assert kernels.grid(1_000_000, 6040, 3706, 64) == layout.Grid(125)
    assert kernels.grid(50, 30, 2, 64) == layout.Grid(1)


@pytest.mark.parametrize(
    ("registers", "warps", "shared", "programs"),
    [
        (64, 1, 0, 16),
        (207, 1, 0, 8),
        (149, 1, 0, 12),
        (255, 2, 0, 4),
        (255, 4, 0, 2),
        (32, 4, 100_000, 2),
        (32, 32, 0, 2),
    ],
)
def test_programs_that_fit_by_registers_memory_threads(registers: int, warps: int, shared: int, programs: int) -> None:
    card = SimpleNamespace(
        regs_per_multiprocessor=65536, shared_memory_per_multiprocessor=233472, max_threads_per_multi_processor=2048,
        multi_processor_count=132,
    )  # fmt: skip
    assert fitting(card, registers, warps, shared) == 132 * programs


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_cards_that_are_not_here(capability: int) -> None:
    program = Path(__file__).with_name("compiled.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, str(program), str(capability)], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    for line in result.stdout.splitlines():
        registers, spilt, shared, ahead = line.split()[-4:]
        assert int(registers) <= 255, line
        assert int(spilt) <= 128, line  # bytes of a thread that do not fit its registers
        assert int(shared) <= 160 * 1024, line  # what every card of that capability has
        if line.startswith("_epoch"):
            assert ahead == "False", line  # a row must not be read before the one before it is written


@pytest.mark.parametrize("grid", [layout.Grid(1), layout.Grid(4), layout.Grid(3, 2, 4)], ids=str)
def test_the_schedule_made_on_the_device_is_that_of_the_host(grid: layout.Grid) -> None:
    rng = np.random.default_rng(1)
    n, n_users, n_items = 700, 50, 31
    users, items = (rng.integers(0, size, n).astype(np.int32) for size in (n_users, n_items))
    values = rng.standard_normal(n).astype(np.float32)
    places = [rng.permutation(size).astype(np.int32) for size in (n_users, n_items)]
    parts = [
        (place * bands // size).astype(np.int32)
        for place, size, bands in zip(
            places, (n_users, n_items), (grid.bands * grid.user_parts, grid.bands * grid.item_parts), strict=True
        )
    ]
    arguments = users, items, values, *places, *parts, grid, 0.3, 1.7, 2**62 + 12345
    kernels = TRITON()
    here, there = layout.blocked(*arguments, threads=2), kernels.blocked(*arguments)
    assert isinstance(there.users, torch.Tensor)
    for ours, theirs in zip(here[:3], there[:3], strict=True):
        assert kernels.get(theirs).tobytes() == ours.tobytes()
    np.testing.assert_array_equal(there.starts, here.starts)


def test_a_schedule_beyond_the_room_is_made_on_the_host() -> None:
    order = scheduled(np.random.default_rng(0))
    zeros = [np.zeros(size, np.int32) for size in (M, N)]
    kernels = TRITON()
    kernels._room = 64 * len(order.users) - 1  # type: ignore[attr-defined]
    triples = order.users, order.items, order.values, *zeros, *zeros
    assert isinstance(kernels.blocked(*triples, layout.Grid(1), 0.0, 1.0, 0).users, np.ndarray)


def test_rows_solved_some_at_a_time_are_those_solved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, rank = np.random.default_rng(0), 3
    starts, width = np.array([0, 2, 2, 30, 31, 45]), rank + 1
    none = np.zeros((0, width), np.float32)
    arrays = (
        starts, rng.integers(0, 9, 45).astype(np.int32), np.zeros(0, np.int32),
        rng.standard_normal(45).astype(np.float32), rng.standard_normal((9, width)).astype(np.float32), none,
        np.eye(width, dtype=np.float32), rng.standard_normal((5, width)).astype(np.float32),
        rng.random(5).astype(np.float32), np.ones(width, np.float32),
    )  # fmt: skip
    results = []
    for buffer, piece in ((1 << 30, 2048), (2 * 4 * 18 * 16, 2048), (2 * 4 * 18 * 16, 16)):
        monkeypatch.setattr(triton_rows, "_BUFFER", buffer)
        monkeypatch.setattr(triton_rows, "PIECE", piece)
        kernels = TRITON()
        solved = kernels.solve_rows(*(kernels.put(a) for a in arrays), 1.0, kernels.put(none))
        results.append([kernels.get(a) for a in solved])
    for one, other in zip(results[0], results[1], strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(results[0], results[2], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
