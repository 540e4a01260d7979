"""A training that is interrupted and continued ends in the same bytes as one that was not."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys_mf import store
from recsys_mf.run import Run
from recsys_mf.solvers import SOLVERS, Solver
from recsys_mf.splits import Split, hold_out
from recsys_mf.training import BASELINE, Progress, train
from recsys_mf.training.kept_files import Kept, KeptFiles
from tests.planted import planted

MEASURED = {"seconds", "ratings_per_second", "peak_memory", "digest", "sha256", "bytes"}
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("sgd", {"rank": 4, "regularisation": 0.04, "epochs": 6, "members": 1}),
    "sgd, a committee": ("sgd", {"rank": 4, "regularisation": 0.04, "epochs": 5, "members": 3}),
    "als": ("als", {"rank": 3, "regularisation": 1.0, "epochs": 4, "members": 1}),
    "als, a committee": ("als", {"rank": 3, "regularisation": 1.0, "epochs": 3, "members": 2, "cg_steps": 0}),
    "svd": ("svd", {"ranks": (1, 2, 4)}),
    "bias": ("bias", {}),
}
FEW = {BASELINE: SOLVERS["svd"](ranks=(2, 3))}


def solver(case: str) -> Solver:
    name, settings = SETTINGS[case]
    return SOLVERS[name](**settings)


@functools.cache
def one_part() -> Split:
    """A split of a table that is large enough to be validated on a single part."""
    return hold_out(planted(density=0.2)[0], 0.1, seed=0)


def facts(run: Run, folder: Path) -> Any:
    """Everything that `save` writes of a run, but for what is measured."""
    store.save(run, folder, force=True)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items() if key not in MEASURED}
        return [plain(entry) for entry in value] if isinstance(value, list) else value

    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".json"}
    return plain(json.loads((folder / "run.json").read_text())), files


class HaltedError(Exception):
    """What a test ends a training with."""


class Halting:
    """A watcher that ends the training at the epoch of this number, counted over everything."""

    def __init__(self, at: int | None) -> None:
        self.at, self.told = at, 0

    def __call__(self, progress: Progress) -> None:
        self.told += 1
        if self.told == self.at:
            raise HaltedError


def halted(trained: Callable[[Halting], Run]) -> tuple[Run, int]:
    """The run of a training that is halted again and again after one epoch, or two or four, and the number of times."""
    for times in range(1000):
        try:
            return trained(Halting((2, 3, 5)[times % 3])), times
        except HaltedError:
            continue
    raise AssertionError("it never ended")


@pytest.mark.parametrize("case", SETTINGS)
def test_a_training_halted_again_and_again_ends_in_the_same_bytes(case: str, tmp_path: Path) -> None:
    split = one_part()
    expected = train(split, solver(case), device="cpu", compared_with=FEW)
    found, times = halted(
        lambda watch: train(
            split, solver(case), device="cpu", compared_with=FEW, watch=watch,
            checkpoint=tmp_path / "kept", every=0,
        )
    )  # fmt: skip
    assert times > 0
    assert facts(found, tmp_path / "found") == facts(expected, tmp_path / "expected")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("case", ["sgd", "sgd, a committee", "als, a committee"])
def test_a_training_halted_after_every_state_ends_in_the_same_bytes(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = one_part()
    expected = train(split, solver(case), device="cpu", compared_with=FEW)
    write, saved = KeptFiles.write_state, []

    def halting(files: KeptFiles, kept: Kept) -> None:
        write(files, kept)
        saved.append(kept.key)
        raise HaltedError

    monkeypatch.setattr(KeptFiles, "write_state", halting)
    found, times = halted(
        lambda _: train(
            split, solver(case), device="cpu", compared_with=FEW, checkpoint=tmp_path / "kept", every=0
        )
    )  # fmt: skip
    members, epochs = (int(SETTINGS[case][1][name]) for name in ("members", "epochs"))
    inside = members * (epochs - 1) + members - 1
    assert times == len(saved) >= inside
    assert max(Counter(saved).values()) >= inside  # of the fit: every epoch of every member but the last
    assert facts(found, tmp_path / "found") == facts(expected, tmp_path / "expected")
