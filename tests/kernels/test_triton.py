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

from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import DeviceError
from recsys_mf.kernels import cases, oracle, reference
from recsys_mf.kernels.cases import M, N
from recsys_mf.kernels.operands import GaussianPrior, RatingScale, Regressors, SgdState, Triples
from recsys_mf.kernels.oracle import UNITS
from recsys_mf.kernels.schedule import host
from recsys_mf.kernels.schedule.grid import Grid, Places
from recsys_mf.kernels.schedule.plan import PlanSettings
from recsys_mf.kernels.torch.backend import make_backend as on_torch
from recsys_mf.kernels.triton import pairs, sgd
from recsys_mf.kernels.triton import rows as triton_rows
from recsys_mf.kernels.triton.occupancy import fitting
from recsys_mf.ratings import Ratings
from tests.backends import BACKENDS, on_triton

TRITON = BACKENDS["triton-cuda" if torch.cuda.is_available() else "triton"]


def epoch(
    rank: int, precision: str, seed: int = 0, bounds: NDArray[np.int64] | None = None, state: SgdState | None = None
) -> tuple[SgdState, float]:
    """P, Q and the biases after an epoch, and the squared error, by Triton."""
    backend, rng = TRITON(), np.random.default_rng(rank)
    order = cases.make_visits(rng)
    order = order if bounds is None else order._replace(bounds=bounds)
    ours = cases.put_state(backend, cases.make_state(rng, rank) if state is None else state, precision)
    error = backend.sgd.epoch(order.plan(backend, 7, ours.P.shape[1]), ours, oracle.STEP._replace(seed=seed))
    return cases.get_state(backend, ours, rank), error


def copy(state: SgdState) -> SgdState:
    return SgdState(*map(np.copy, state))


@pytest.mark.parametrize("precision", ["half", "bfloat16"])
@pytest.mark.parametrize("rank", [3, 100])
def test_the_error_of_factors_in_half_the_bytes_is_their_rounding(rank: int, precision: str) -> None:
    rng = np.random.default_rng(rank)
    order = cases.make_visits(rng)
    exact = cases.make_state(rng, rank)
    expected = reference.epoch(order.plan(None, 7, rank), exact, oracle.STEP)
    found, error = epoch(rank, precision)
    # A row is rounded when it is first stored and after each of at most M updates; the factors stay below 2.
    unit = 2 * UNITS[precision]
    assert error == pytest.approx(expected, rel=8 * UNITS[precision])
    for got, want in zip(found[:2], exact[:2], strict=True):
        assert np.abs(got - want).max() <= unit * np.sqrt(M) * 2
        assert np.abs(got - want).max() > 0


def test_bfloat16_is_rounded_up_and_down_so_that_the_mean_is_exact() -> None:
    rank = 3
    exact = cases.make_state(np.random.default_rng(5), rank)
    # Start from values that can be stored exactly, so that the first rounding loses nothing.
    P, Q = (torch.tensor(F).bfloat16().double().numpy() for F in exact[:2])
    stored = exact._replace(P=P, Q=Q)
    once = np.array([[0, 7]])
    order, want = cases.make_visits(np.random.default_rng(rank))._replace(bounds=once), copy(stored)
    reference.epoch(order.plan(None, 7, rank), want, oracle.STEP)
    draws = [epoch(rank, "bfloat16", seed, once, stored)[0].Q for seed in range(60)]
    errors = np.mean(draws, axis=0) - want.Q
    deviation = np.maximum(np.std(draws, axis=0), 1e-9)
    touched = np.std(draws, axis=0) > 0
    assert touched.sum() >= rank
    assert (np.abs(errors) <= 5 * deviation / np.sqrt(len(draws)) + 1e-6)[touched].all()


def test_the_same_seed_rounds_in_the_same_way_and_another_differently() -> None:
    one, same, other = (epoch(3, "bfloat16", seed)[0] for seed in (1, 1, 2))
    assert [a.tobytes() for a in one] == [a.tobytes() for a in same]
    assert one.P.tobytes() != other.P.tobytes()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter runs a program to its end before the next")
def test_a_wait_for_a_program_that_does_not_run_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sgd, "programs", lambda *_: 2)
    monkeypatch.setattr(sgd, "MAX_POLLS", 20)
    with pytest.raises(DeviceError, match="stood still") as error:
        epoch(3, "float32")
    assert "--schedule hogwild" in str(error.value)


@pytest.mark.parametrize("refusal", ["too many blocks in cooperative launch", "operation not supported"])
def test_one_launch_per_stratum_gives_the_same_if_a_cooperative_launch_is_refused(
    monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    whole, error = epoch(3, "float32")
    kernel, launches = sgd._epoch, []

    class Refusing:
        def __getitem__(self, grid: Any) -> Any:
            def launch(*arguments: Any, **options: Any) -> None:
                launches.append(options["launch_cooperative_grid"])
                if launches[-1]:
                    raise RuntimeError(f"Triton Error [CUDA]: {refusal}")
                kernel[grid](*arguments, **options)

            return launch

    programs = sgd.programs(8, torch.float32, torch.device(TRITON().device.name))
    monkeypatch.setattr(sgd, "_epoch", Refusing())
    monkeypatch.setattr(sgd, "programs", lambda *_: programs)
    parts, other = epoch(3, "float32")
    assert launches[0]
    assert len(launches) > 2
    assert not any(launches[1:])
    assert [a.tobytes() for a in parts] == [a.tobytes() for a in whole]
    assert other == error


def test_another_failure_of_a_launch_is_not_treated_as_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def __getitem__(self, grid: Any) -> Any:
            def launch(*arguments: Any, **options: Any) -> None:
                raise RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered")

            return launch

    monkeypatch.setattr(sgd, "_epoch", Failing())
    monkeypatch.setattr(sgd, "programs", lambda *_: 1)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        epoch(3, "float32")


def test_hogwild_visits_every_rating_once() -> None:
    order, start = cases.make_visits(np.random.default_rng(3)), cases.make_state(np.random.default_rng(9), 3)
    n = len(order.triples.users)
    runs = np.append(np.arange(0, n, 50), n)[None]
    found, error = epoch(3, "float32", 0, runs, start)
    expected = reference.epoch(order._replace(bounds=runs).plan(None, 7, 3), copy(start), oracle.STEP)
    assert error == pytest.approx(expected, rel=1e-2 if torch.cuda.is_available() else 1e-5)
    assert all(np.isfinite(a).all() for a in found)


def test_a_rank_beyond_the_kernels_is_solved_by_torch_with_the_same_result() -> None:
    rng, backend, width = np.random.default_rng(0), TRITON(), 141
    ratings = Csr(np.array([0, 3, 3, 5]), rng.integers(0, 9, 5).astype(np.int32), cases.draw_rows(rng, 1, 5)[0], 9)
    prior = GaussianPrior(2 * np.eye(width, dtype=np.float32), np.zeros((3, width), np.float32))
    case = cases.SolveCase(ratings, Regressors(cases.draw_rows(rng, 9, width)), prior, 1.0, None)
    exact, _ = reference.solve(*case)
    assert "kernels_by_torch" not in backend.device.describe()
    ours, _ = backend.rows.solve(*case.put(backend))
    np.testing.assert_allclose(backend.device.get(ours), exact, atol=1e-3)
    assert backend.device.describe()["kernels_by_torch"] == "solve of rank 140"


@pytest.mark.parametrize("rank", [3, 20])
def test_long_rows_are_refined_by_sums_over_their_pieces(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_rows, "PIECE", 5)
    monkeypatch.setattr(pairs, "LONG", 8)
    monkeypatch.setattr(triton_rows, "_BUFFER", 4 * 34 * 32 * 7)  # of seven pieces at most: rows in several parts
    for agreement in oracle.check_refine(TRITON(), rank, 3):
        assert agreement.holds


def test_blocks_of_a_table_do_not_depend_on_the_card() -> None:
    sgd: Any = TRITON().sgd
    assert sgd.grid(100_000_000, 480_000, 100_000, 128) == Grid(1188)
    assert sgd.grid(1_000_000, 6040, 3706, 64) == Grid(125)
    assert sgd.grid(50, 30, 2, 64) == Grid(1)


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
def test_the_number_of_programs_is_limited_by_registers_memory_and_threads(
    registers: int, warps: int, shared: int, programs: int
) -> None:
    card = SimpleNamespace(
        regs_per_multiprocessor=65536, shared_memory_per_multiprocessor=233472, max_threads_per_multi_processor=2048,
        multi_processor_count=132,
    )  # fmt: skip
    assert fitting(card, registers, warps, shared) == 132 * programs


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_cards_that_are_not_present(capability: int) -> None:
    program = Path(__file__).with_name("compiled.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, str(program), str(capability)], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    for line in result.stdout.splitlines():
        registers, spilt, shared, ahead = line.split()[-4:]
        assert int(registers) <= 255, line
        # Bytes per thread that do not fit its registers: on an H100, some spilling is faster than more warps.
        most = {"_solve": 2048, "_gram": 512}.get(line.split()[0], 128)
        assert int(spilt) <= most, line
        assert int(shared) <= 160 * 1024, line  # what every card of that capability has
        if line.startswith("_epoch"):
            assert ahead == "False", line  # a row must not be read before the one before it is written


def test_ratings_with_weights_are_left_to_torch_where_triton_does_not_take_them_and_the_device_says_so() -> None:
    backend = TRITON()
    solving = cases.make_solve(3, contexts=True, normals=False, weighted=True, scaled=True)
    backend.rows.solve(*solving.put(backend))
    backend.rows.refine(*cases.make_refine(0, 3).put(backend), 1)
    assert "kernels_by_torch" not in backend.device.describe()
    backend.rows.refine(*cases.make_refine(0, 3, weighted=True).put(backend), 1)
    assert backend.device.describe()["kernels_by_torch"] == "refine with weights"
    assert oracle.check_epoch(backend, 3, 3, weighted=oracle.STEP).holds
    assert backend.device.describe()["kernels_by_torch"] == "epoch with weights, refine with weights"


def test_a_plan_with_weights_is_that_of_torch() -> None:
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((40, 30)) < 0.5)
    table = Ratings.from_ids(users, items, rng.random(len(users)), weights=1 + rng.random(len(users)))
    settings = PlanSettings(3, RatingScale(0.5, 0.3, (0.0, 1.0)), "conflict-free", 0.03)
    device = TRITON().device.name
    plans = [backend.sgd.plan(table, settings, np.random.default_rng(1)) for backend in (TRITON(), on_torch(device))]
    (ours,), (theirs,) = (list(plan.triples.passes()) for plan in plans)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert plans[0].batch == plans[1].batch


@pytest.mark.parametrize("grid", [Grid(1), Grid(4), Grid(3, 2, 4)], ids=str)
def test_the_schedule_made_on_the_device_equals_that_of_the_host(grid: Grid) -> None:
    rng = np.random.default_rng(1)
    n, n_users, n_items = 700, 50, 31
    users, items = (rng.integers(0, size, n).astype(np.int32) for size in (n_users, n_items))
    values = rng.standard_normal(n).astype(np.float32)
    of_users, of_items = np.bincount(users, minlength=n_users), np.bincount(items, minlength=n_items)
    places, scale = Places.draw(of_users, of_items, grid, rng), RatingScale(0.3, 1.7, (1.0, 5.0))
    arguments = Triples(users, items, values), places, grid, scale, 2**62 + 12345
    backend = TRITON()
    here, there = host.arrange(*arguments, threads=2), backend.sgd.arrange(*arguments)  # type: ignore[attr-defined]
    assert isinstance(there.users, torch.Tensor)
    for ours, theirs in zip(here[:3], there[:3], strict=True):
        assert backend.device.get(theirs).tobytes() == ours.tobytes()
    np.testing.assert_array_equal(there.starts, here.starts)


def test_a_schedule_too_large_for_the_device_is_made_on_the_host() -> None:
    order = cases.make_visits(np.random.default_rng(0))
    zeros = [np.zeros(size, np.int32) for size in (M, N)]
    sgd: Any = on_triton("cpu", room=64 * len(order.triples.users) - 1).sgd
    arranged = sgd.arrange(order.triples, Places(*zeros, *zeros), Grid(1), RatingScale(0.0, 1.0, (1.0, 5.0)), 0)
    assert isinstance(arranged.users, np.ndarray)


def test_rows_solved_in_parts_equal_rows_solved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, width = np.random.default_rng(0), 4
    others, values = rng.integers(0, 9, 45).astype(np.int32), rng.standard_normal(45).astype(np.float32)
    prior = GaussianPrior(2 * np.eye(width, dtype=np.float32), cases.draw_rows(rng, 5, width))
    ratings, regressors = Csr(np.array([0, 2, 2, 30, 31, 45]), others, values, 9), cases.draw_rows(rng, 9, width)
    case = cases.SolveCase(ratings, Regressors(regressors), prior, 1.0, None)
    results = []
    for buffer, piece in ((1 << 30, 2048), (2 * 4 * 18 * 16, 2048), (2 * 4 * 18 * 16, 16)):
        monkeypatch.setattr(triton_rows, "_BUFFER", buffer)
        monkeypatch.setattr(triton_rows, "PIECE", piece)
        backend = TRITON()
        results.append([backend.device.get(a) for a in backend.rows.solve(*case.put(backend))])
    for one, other in zip(results[0], results[1], strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(results[0], results[2], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
