"""Prediction kernels: the CPU and torch devices agree with the reference, part by part, within bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from recsys_mf import streaming
from recsys_mf.errors import ResourceError
from recsys_mf.evaluation import evaluate
from recsys_mf.kernels import predictor, reference
from recsys_mf.kernels.backend import PredictionKernels
from recsys_mf.kernels.cpu.prediction import CpuPrediction
from recsys_mf.kernels.operands import FactorModel, NoiseTables, Pairs, RatingScale, SampleTables
from recsys_mf.kernels.torch.prediction import TorchPrediction
from recsys_mf.loaders import parquet
from recsys_mf.models import Factorization, Posterior
from recsys_mf.prediction import predict, rmse
from recsys_mf.run import Run
from tests.trained import posterior_run, small_run, small_split

EPSILON = float(np.finfo(np.float32).eps)
RANKS = (0, 1, 3, 64)
M, N, CONTEXTS, SAMPLES, PAIRS = 37, 23, 4, 7, 200

PREDICTORS: dict[str, Callable[[], PredictionKernels]] = {
    "cpu": CpuPrediction,
    "torch": lambda: TorchPrediction("cpu"),
    "torch in parts": lambda: TorchPrediction("cpu", room=20_000),  # parts of the pairs, and one sample at a time
    "torch in runs": lambda: TorchPrediction("cpu", room=3 * 4096 * 150),  # parts of the samples, if the rank is 0
    "torch without room": lambda: TorchPrediction("cpu", room=0),  # one pair at a time
    "torch-cuda": lambda: TorchPrediction("cuda"),
    "torch-cuda in parts": lambda: TorchPrediction("cuda", room=20_000),
}
on_card = [pytest.param(name, marks=pytest.mark.cuda) for name in PREDICTORS if "cuda" in name]
NAMES = [*(name for name in PREDICTORS if "cuda" not in name), *on_card]


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest) -> PredictionKernels:
    return PREDICTORS[request.param]()


def pairs(rng: np.random.Generator, *, contexts: bool = False) -> Pairs:
    """Pairs in which one id is unknown, both are, and both are the last."""
    users = np.append(rng.integers(-1, M, PAIRS), [M - 1, -1, -1, 0]).astype(np.int32)
    items = np.append(rng.integers(-1, N, PAIRS), [N - 1, -1, 0, -1]).astype(np.int32)
    return Pairs(users, items, rng.integers(-1, CONTEXTS, len(users)).astype(np.int32) if contexts else None)


def noise(rng: np.random.Generator) -> NoiseTables:
    """Factors on the noise from 1/2 to 2."""
    users, items = (rng.integers(8192, 32768, (n, SAMPLES)).astype(np.int16) for n in (M, N))
    return NoiseTables(users, items, np.full((2, SAMPLES), 2 / 32767, np.float32))


def posterior(rng: np.random.Generator, rank: int) -> SampleTables:
    """Tables whose entries lie in [-1, 1], their units and offsets."""
    users, items, contexts = (
        rng.integers(-32767, 32768, (n, SAMPLES, rank + 1)).astype(np.int16) for n in (M, N, CONTEXTS)
    )
    scales = (rng.random((3, SAMPLES)) / 32767).astype(np.float32)
    return SampleTables(users, items, contexts, scales, rng.standard_normal(SAMPLES).astype(np.float32))


@pytest.mark.parametrize("rank", RANKS)
def test_predict_agrees_with_the_reference(engine: PredictionKernels, rank: int) -> None:
    rng = np.random.default_rng(rank)
    P, Q = (rng.standard_normal((rows, rank)).astype(np.float32) for rows in (M, N))
    b_u, b_i = (rng.standard_normal(rows).astype(np.float32) for rows in (M, N))
    arguments = FactorModel(0.5, b_u, b_i, P, Q, (-3.0, 4.0)), pairs(rng)
    ours = engine.predict(*arguments)
    assert ours.dtype == np.float32
    # A sum of k products of standard normals, each rounded: k eps times their typical size, with room for tails.
    np.testing.assert_allclose(ours, reference.predict(*arguments), atol=(rank + 4) * 8 * EPSILON)


@pytest.mark.parametrize("with_contexts", [False, True])
@pytest.mark.parametrize("rank", RANKS)
def test_predict_samples_agrees_with_the_reference(engine: PredictionKernels, rank: int, with_contexts: bool) -> None:
    rng = np.random.default_rng(rank)
    mean, deviation = 3.5, 1.25
    scale = RatingScale(mean, deviation, (2.5, 4.5))
    arguments = posterior(rng, rank), pairs(rng, contexts=with_contexts), scale
    ours: tuple[NDArray[Any], ...] = engine.predict_samples(*arguments)
    exact = reference.predict_samples(*arguments)
    # A sample carries the rounding of 3 k + 5 terms of at most one, and of the mean; a change δ in every sample moves
    # the mean by at most δ and the variance by 2 δ standard deviations; the variance is rounded itself.
    change = deviation * (3 * rank + 5) * 8 * EPSILON + mean * EPSILON
    tolerances = change, change, 2 * change * np.sqrt(exact[2].max()) + EPSILON * exact[2].max()
    dtypes = np.float32, np.float32, np.float64  # squares of ratings beyond 1e19 overflow float32
    for got, want, tolerance, dtype in zip(ours, exact, tolerances, dtypes, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("personal", [False, True])
@pytest.mark.parametrize("with_contexts", [False, True])
@pytest.mark.parametrize("rank", RANKS)
def test_predict_levels_agrees_with_the_reference(
    engine: PredictionKernels, rank: int, with_contexts: bool, personal: bool
) -> None:
    rng = np.random.default_rng(rank)
    thresholds = np.sort(rng.standard_normal((SAMPLES, 4)), axis=1).astype(np.float32)
    noises = (0.5 + rng.random(SAMPLES)).astype(np.float32)
    tables, of = posterior(rng, rank), pairs(rng, contexts=with_contexts)
    if personal:
        tables = tables._replace(noise=noise(rng))
    arguments = tables, of, thresholds, noises
    ours = engine.predict_levels(*arguments)
    # Φ has slope below one half, and its argument carries the rounding of 3 k + 5 terms over a noise of at least 0.5,
    # or of a quarter of that.
    bound = (3 * rank + 5) * (32 if personal else 8) * EPSILON
    np.testing.assert_allclose(ours, reference.predict_levels(*arguments), atol=bound)
    np.testing.assert_allclose(ours.sum(axis=1), 1, atol=8 * EPSILON)


@pytest.mark.parametrize("personal", [False, True])
def test_predict_noise_agrees_with_the_reference(engine: PredictionKernels, personal: bool) -> None:
    rng = np.random.default_rng(0)
    tables = posterior(rng, 2)._replace(noise=noise(rng) if personal else None)
    arguments = tables, pairs(rng), (0.5 + rng.random(SAMPLES)).astype(np.float32)
    np.testing.assert_allclose(engine.predict_noise(*arguments), reference.predict_noise(*arguments), rtol=16 * EPSILON)


def test_no_pairs_have_no_predictions(engine: PredictionKernels) -> None:
    none = np.zeros(0, np.int32)
    tables = posterior(np.random.default_rng(0), 2)
    found = engine.predict_samples(tables, Pairs(none, none, none), RatingScale(3.5, 1.0, (1, 5)))
    assert [len(part) for part in found] == [0, 0, 0]


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the largest tensor that any operation returns."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        for tensor in given if isinstance(given, tuple | list) else (given,):
            if isinstance(tensor, torch.Tensor) and not tensor._is_view():
                self.bytes = max(self.bytes, tensor.nbytes)
        return given


@pytest.mark.slow
@pytest.mark.parametrize("room", [30_000, 300_000])
def test_no_temporary_exceeds_the_room(room: int) -> None:
    rng = np.random.default_rng(0)
    m, n, rank, samples, z = 9, 7, 20, 8, 4000
    users, items, contexts = (
        frozen(rng.integers(-9, 9, (rows, samples, rank + 1)).astype(np.int16)) for rows in (m, n, 2)
    )
    scales, offsets = np.ones((3, samples), np.float32), np.zeros(samples, np.float32)
    thresholds = np.zeros((samples, 3), np.float32)
    u, i, c = (rng.integers(-1, rows, z).astype(np.int32) for rows in (m, n, 2))
    P, Q = (frozen(rng.standard_normal((rows, rank)).astype(np.float32)) for rows in (m, n))
    tables = SampleTables(users, items, contexts, scales, offsets)
    engine = TorchPrediction("cpu", room=room)
    with Largest() as largest:  # type: ignore[no-untyped-call]
        engine.predict(FactorModel(0.0, P[:, 0], Q[:, 0], P, Q, (0, 1)), Pairs(u, i))
        engine.predict_samples(tables, Pairs(u, i, c), RatingScale(0.0, 1.0, (0, 1)))
        engine.predict_levels(tables, Pairs(u, i, c), thresholds, offsets + 1)
    assert room / 30 < largest.bytes < room


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def test_a_writable_table_is_copied_to_the_device_for_every_call() -> None:
    P, none = np.ones((1, 1), np.float32), np.zeros(1, np.float32)
    engine, row = TorchPrediction("cpu"), np.zeros(1, np.int32)
    for value in (1.0, 2.0):
        P[:] = value
        assert engine.predict(FactorModel(0.0, none, none, P, P, (0, 9)), Pairs(row, row)) == value**2


RUNS: dict[str, Callable[[], Run]] = {
    "factorization": small_run,
    "gaussian posterior": posterior_run,
    "ordinal posterior": lambda: posterior_run("ordinal"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_model_predicts_the_same_on_another_device(engine: PredictionKernels, name: str) -> None:
    model, test = RUNS[name]().model, small_split().train.select(np.arange(100))
    ordinal, where = isinstance(model, Posterior) and model.is_ordinal, (test.users, test.items, test.times)
    asked: dict[str, Any] = {"probability": 0.9 if isinstance(model, Posterior) else None, "distribution": ordinal}
    tolerance = 5 * 40 * EPSILON  # ratings up to 5, sums of some ten terms
    moved, here = predict(model, *where, **asked, backend=engine), predict(model, *where, **asked)
    np.testing.assert_allclose(moved.values, here.values, atol=tolerance)
    assert rmse(model, test, engine) == pytest.approx(rmse(model, test), abs=tolerance)
    if ordinal:
        assert moved.distribution is not None
        assert here.distribution is not None
        np.testing.assert_allclose(moved.distribution, here.distribution, atol=tolerance)
    elif isinstance(model, Posterior):
        for got, want in zip(moved[1:3], here[1:3], strict=True):
            assert got is not None
            assert want is not None
            np.testing.assert_allclose(got, want, atol=4 * tolerance)


@pytest.mark.parametrize("name", RUNS)
def test_tables_are_copied_to_the_device_once_for_many_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run = RUNS[name]()
    rng = np.random.default_rng(0)
    table = {"user": rng.integers(0, 130, 5000), "item": rng.integers(98, 165, 5000)}
    pq.write_table(pa.table(table), tmp_path / "pairs.parquet", row_group_size=999)
    monkeypatch.setattr(parquet, "_BATCH", 512)
    engine = TorchPrediction("cpu")
    monkeypatch.setattr(streaming, "predictor", lambda device, threads: {"cuda": engine}[device])
    tables: list[list[int]] = []

    def watch(rows: int) -> None:
        tables.append([id(tensor) for _, tensor in engine._kept.values()])

    out = tmp_path / "out.parquet"
    streaming.predict_file(run, tmp_path / "pairs.parquet", out, watch=watch, wanted=streaming.Wanted(device="cuda"))
    assert len(tables) > 5
    assert len(tables[0]) == (4 if isinstance(run.model, Factorization) else 3)
    assert all(later == tables[0] for later in tables)
    expected = run.predict(table["user"], table["item"])
    np.testing.assert_allclose(pq.read_table(out)["prediction"].to_numpy(), expected, atol=5 * 40 * EPSILON)


@pytest.mark.parametrize("device", ["cpu", pytest.param("auto", marks=pytest.mark.skipif(
    torch.cuda.is_available(), reason="auto takes the card"))])  # fmt: skip
def test_without_a_card_models_predict_on_the_cpu(device: str) -> None:
    assert predictor(device, 1) == CpuPrediction(1)


def test_a_device_without_free_memory_is_a_resource_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **keywords: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has less")

    monkeypatch.setattr(torch, "zeros", full)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 1 << 31))
    with pytest.raises(ResourceError, match=r"card's memory is full: 1.0 GiB of 2.0 GiB are free \(saw Tried to"):
        predict(small_run().model, np.array([0]), np.array([0]), backend=TorchPrediction("cpu"))


@pytest.mark.cuda
@pytest.mark.parametrize("name", RUNS)
def test_a_report_is_the_same_on_the_card(name: str) -> None:
    run, test = RUNS[name](), small_split().test
    assert test is not None
    ours, theirs = (evaluate(run, test, device=device).rows for device in ("cuda", "cpu"))
    for one, other in zip(ours, theirs, strict=True):
        assert one.scores["rmse"].value == pytest.approx(other.scores["rmse"].value, abs=1e-5)
