"""The whole command line as on a card, but on torch's CPU device: with the kernels of `cuda`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from recsys_mf import training
from recsys_mf.cli import command as group
from recsys_mf.errors import ConfigError, LeakWarning, ResourceError
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.cpu.backend import make_backend
from recsys_mf.kernels.torch import memory
from recsys_mf.kernels.torch.device import TorchDevice
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import SOLVERS, Solver
from recsys_mf.splits import hold_out
from tests.backends import BACKENDS, interpreted
from tests.planted import planted

QUICK = {
    "sgd": ["-p", "rank=4", "-p", "epochs=12", "-p", "members=2"],
    "als": ["-p", "rank=4", "-p", "epochs=8", "-p", "members=2"],
    "gibbs": ["-p", "rank=4", "--sweeps", "100"],
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Planted stars with times."""
    ratings, _ = planted(n_users=120, n_items=80)
    stars = np.clip(np.round(ratings.values), 1, 5)
    columns = {"user_id": ratings.users, "item_id": ratings.items, "rating": stars}
    path = tmp_path / "stars.parquet"
    pq.write_table(pa.table(columns | {"timestamp": np.arange(len(stars)) * 3600}), path)
    return path


def command(*arguments: str) -> Result:
    return CliRunner().invoke(group, list(arguments), catch_exceptions=False)


def rmse(result: Result, label: str) -> float:
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    return float(next(row["scores"]["rmse"]["value"] for row in rows if row["label"] == label))


def use(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.trainer, "select", lambda *_: backend)


@pytest.mark.slow
@pytest.mark.parametrize("solver", QUICK)
def test_a_run_on_torch_is_as_good_as_one_on_numba(
    solver: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["train", str(table), "--solver", solver, *QUICK[solver], "--svd-ranks", "2", "--json", "--quiet"]
    here = rmse(command(*arguments, "-o", str(tmp_path / "cpu"), "--device", "cpu"), solver)
    use(BACKENDS["torch"](), monkeypatch)
    there = command(*arguments, "-o", str(tmp_path / "torch"))
    # The same problem with another order of steps, or other draws: they differ only by chance.
    assert rmse(there, solver) == pytest.approx(here, rel=0.1)
    kept = json.loads((tmp_path / "torch" / "run.json").read_text())["provenance"]
    assert kept["kernels"].startswith("torch ")
    with pytest.warns(LeakWarning, match="was trained on"):
        assert command("evaluate", str(tmp_path / "torch"), "--test", str(table), "--json").exit_code == 0
    pairs, predicted = tmp_path / "pairs.csv", tmp_path / "predicted.csv"
    pairs.write_text("user_id,item_id\n1,2\n999,2\n")
    assert command("predict", str(tmp_path / "torch"), str(pairs), "-o", str(predicted)).exit_code == 0
    assert len(predicted.read_text().splitlines()) == 3


@interpreted
@pytest.mark.parametrize("extra", [[], ["--precision", "half"], ["--schedule", "hogwild"]], ids=str)
def test_the_command_line_trains_with_triton_and_the_report_says_how(
    extra: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratings, _ = planted(n_users=25, n_items=15)
    path = tmp_path / "small.csv"
    rows = (f"{u},{i},{r:.3f}" for u, i, r in zip(ratings.users, ratings.items, ratings.values, strict=True))
    path.write_text("user,item,rating\n" + "\n".join(rows) + "\n")
    use(BACKENDS["triton"](), monkeypatch)
    settings = ["-p", "rank=2", "-p", "members=1", "-p", "epochs=2", "--validation", "0", "--svd-ranks", "2"]
    result = command("train", str(path), "-o", str(tmp_path / "run"), "--quiet", *settings, *extra)
    assert result.exit_code == 0, result.output
    assert "triton 3" in result.output
    for option, name in (("--precision", "precision half"), ("--schedule", "schedule hogwild")):
        assert (f"sgd: {name}" in result.output) == (option in extra)


@interpreted
def test_a_rank_the_kernels_do_not_take_is_refused_before_any_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    use(BACKENDS["triton"](), monkeypatch)
    split = hold_out(planted(n_users=25, n_items=15)[0], 0.1)
    message = r"^rank: rank out of range of the CUDA kernels \(saw 300\); give 1 to 256, or use the device 'cpu'$"
    with pytest.raises(ConfigError, match=message):
        training.train(split, SOLVERS["sgd"](rank=300), watch=lambda progress: pytest.fail("a fit was begun"))


def test_a_full_card_is_a_resource_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (3 << 30, 80 << 30))
    message = (
        r"^the card's memory is full: 3\.0 GiB of 80\.0 GiB are free \(saw Tried to allocate 9 GiB\); "
        r"lower the rank, store factors with --precision half, or use the device 'cpu'$"
    )
    with pytest.raises(ResourceError, match=message), memory.guarded():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has 3 GiB.")


class Counting(TorchDevice):
    """A device that counts the numbers that are fetched from it."""

    fetched = 0

    def get(self, array: torch.Tensor) -> NDArray[Any]:
        """Fetch an array, and count its numbers."""
        found = super().get(array)
        self.fetched += found.size
        return found


SOLVE: dict[str, Callable[[int], Solver]] = {
    "sgd": lambda epochs: SOLVERS["sgd"](rank=4, members=1, epochs=epochs),
    "als": lambda epochs: SOLVERS["als"](rank=4, members=1, epochs=epochs),
    "gibbs": lambda epochs: SOLVERS["gibbs"](rank=4, sweeps=100, burn_in=90, likelihood="gaussian", chains=1),
}


@pytest.mark.parametrize("solver", SOLVE)
def test_epochs_fetch_no_tables_from_the_device(solver: str) -> None:
    ratings: Ratings = planted(n_users=500, n_items=400, density=0.05)[0]
    fetched = []
    for epochs in (1, 4):
        device = Counting("cpu", 1, "torch")
        backend = replace(BACKENDS["torch"](), device=device)
        users, items = (device.put(a) for a in (ratings.users, ratings.items))
        run = SOLVE[solver](epochs).run(ratings, rng=np.random.default_rng(0), backend=backend)
        for epoch in islice(run, epochs):
            assert epoch.predictor is not None
            epoch.predictor()(users, items, None)
        fetched.append(device.fetched)
    # What a sweep fetches grows only with the rank squared: the scatter of rows and coefficients of each table.
    assert (fetched[1] - fetched[0]) / 3 <= 4 * 5**2


def test_the_cpu_backend_predicts_an_epoch_as_its_model_does() -> None:
    ratings = planted()[0]
    for solver in ("sgd", "als"):
        (*_, last) = SOLVE[solver](3).run(ratings, rng=np.random.default_rng(0), backend=make_backend(1))
        assert last.predictor is not None
        np.testing.assert_allclose(
            last.predictor()(ratings.users, ratings.items, None),
            predict(last.model(), ratings.users, ratings.items).values,
            atol=1e-5,
        )
