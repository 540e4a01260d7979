"""A training that is interrupted and continued ends in the same bytes as one that was not."""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pytest

from recsys_mf import store
from recsys_mf.errors import ArtifactError, CheckpointWarning, ConfigError, ResourceError
from recsys_mf.experiment import Experiment
from recsys_mf.kernels.backend import Backend
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.solvers import SOLVERS, Epoch, Solver
from recsys_mf.splits import Split, hold_out
from recsys_mf.store.tensors import read_sealed, sealed_tensors
from recsys_mf.training import BASELINE, Checkpoint, Continued, Progress, provenance, train
from recsys_mf.training.kept_files import Kept, KeptFiles
from tests.planted import planted
from tests.trained import small_split

T = TypeVar("T")
MEASURED = {
    "seconds", "fit_seconds", "ratings_per_second", "peak_memory", "peak_memory_bytes", "digest", "sha256", "bytes",
}  # fmt: skip
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("sgd", {"rank": 4, "regularisation": 0.04, "epochs": 6, "members": 1}),
    "sgd, a committee": ("sgd", {"rank": 4, "regularisation": 0.04, "epochs": 5, "members": 3}),
    "als": ("als", {"rank": 3, "regularisation": 1.0, "epochs": 4, "members": 1}),
    "als, a committee": ("als", {"rank": 3, "regularisation": 1.0, "epochs": 3, "members": 2, "cg_steps": 0}),
    "gibbs": ("gibbs", {"rank": 2, "sweeps": 30, "noise": "personal"}),
    "gibbs, ordinal with times": ("gibbs", {"rank": 2, "sweeps": 9, "likelihood": "ordinal", "samples": 4}),
    "gibbs, chains of the fit alone": ("gibbs", {"rank": 2, "sweeps": 6, "chains": 2, "joined_after": 0}),
    "svd": ("svd", {"ranks": (1, 2, 4)}),
    "bias": ("bias", {}),
}
FEW = {BASELINE: SOLVERS["svd"](ranks=(2, 3))}


def solver(case: str) -> Solver:
    name, settings = SETTINGS[case]
    return SOLVERS[name](**settings)


@functools.cache
def one_part(case: str = "") -> Split:
    """A split of a table that is large enough to be validated on a single part; of an ordinal case of stars."""
    table = planted(density=0.2)[0]
    if "ordinal" in case:
        stars = np.clip(np.rint(table.values), 1, 5)
        stars[7] = 0.5  # a level that train has in one row alone
        table = Ratings.from_ids(table.users, table.items, stars, np.arange(len(table)) * 20_000)
    return hold_out(table, 0.1, seed=0)


def facts(run: Run, folder: Path) -> Any:
    """Everything that `save` writes of a run, but for what is measured."""
    store.save(run, folder, force=True)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items() if key not in MEASURED}
        return [plain(entry) for entry in value] if isinstance(value, list) else value

    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".json"}
    return json.dumps(plain(json.loads((folder / "run.json").read_text())), indent=1), files  # in its order


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


def halted(trained: Callable[[Halting], T]) -> tuple[T, int]:
    """What a training gives that is halted again and again after one epoch, or two or four, and the number of times."""
    for times in range(1000):
        try:
            return trained(Halting((2, 3, 5)[times % 3])), times
        except HaltedError:
            continue
    raise AssertionError("it never ended")


@pytest.mark.slow
@pytest.mark.parametrize("case", SETTINGS)
def test_a_training_halted_again_and_again_ends_in_the_same_bytes(case: str, tmp_path: Path) -> None:
    split = one_part(case)
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


@pytest.mark.parametrize("case", ["sgd", "sgd, a committee", "als, a committee", "gibbs, ordinal with times"])
def test_a_training_halted_after_every_state_ends_in_the_same_bytes(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = one_part(case)
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
    settings = SETTINGS[case][1]
    members, epochs = settings.get("members", 1), settings.get("epochs", 7)  # a sampler has 2 of its 9 before
    inside = members * (epochs - 1) + members - 1
    assert times == len(saved) >= inside
    assert max(Counter(saved).values()) >= inside  # of the fit: every epoch of every member but the last
    assert facts(found, tmp_path / "found") == facts(expected, tmp_path / "expected")


def begun(folder: Path, epochs: int = 4, **options: Any) -> None:
    """A training that is halted after so many epochs, its states kept in the folder."""
    with pytest.raises(HaltedError):
        again(folder, watch=Halting(epochs), **options)


def again(folder: Path | Checkpoint, **options: Any) -> Run:
    """A training of `one_part` without validation, in which the first two epochs are those of the baseline."""
    given: dict[str, Any] = {"data": one_part(), "solver": solver("sgd"), "compared_with": FEW, "validation": 0}
    return train(**{**given, "device": "cpu", "checkpoint": folder, "every": 0, **options})


def states(folder: Path) -> list[Path]:
    return sorted(folder.glob("state-*"))


def test_the_last_two_states_are_kept_and_all_are_gone_after_the_training(tmp_path: Path) -> None:
    begun(tmp_path / "kept", 7)
    assert len(states(tmp_path / "kept")) == 2
    assert {path.name for path in (tmp_path / "kept").iterdir() if "-" not in path.name} == {"checkpoint.json"}
    again(tmp_path / "kept")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["a bit", "an end", "nothing"])
@pytest.mark.parametrize("how_many", [1, 2])
def test_a_damaged_state_gives_way_to_the_one_before_and_says_so(damage: str, how_many: int, tmp_path: Path) -> None:
    expected = facts(again(tmp_path / "kept"), tmp_path / "expected")
    begun(tmp_path / "kept", 7)
    for path in reversed(states(tmp_path / "kept")[-how_many:]):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes({"a bit": bytes(data), "an end": bytes(data[: len(data) // 2]), "nothing": b""}[damage])
    told: list[Continued] = []
    with warnings.catch_warnings(record=True) as warned, Checkpoint(tmp_path / "kept", 0, on_continue=told.append) as c:
        warnings.simplefilter("always", CheckpointWarning)
        run = again(c)
        c.remove()
    assert facts(run, tmp_path / "found") == expected
    ends = ["the previous state is used instead", "this step is repeated"][:how_many]
    assert [str(warning.message).partition(" is damaged: ")[2] for warning in warned] == ends
    places = [(one.finished, one.label, one.epoch) for one in told]
    assert places == [(1, "sgd", 3) if how_many == 1 else (1, None, None)]


def test_a_damaged_result_of_a_step_is_made_again_and_that_is_said(tmp_path: Path) -> None:
    expected = facts(again(tmp_path / "kept"), tmp_path / "expected")
    begun(tmp_path / "kept")
    (path,) = (tmp_path / "kept").glob("step-*")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(CheckpointWarning, match=r"is damaged: this step is repeated$"):
        assert facts(again(tmp_path / "kept"), tmp_path / "found") == expected


def test_a_result_under_the_name_of_another_step_is_not_taken_for_it(tmp_path: Path) -> None:
    expected = facts(again(tmp_path / "kept"), tmp_path / "expected")
    begun(tmp_path / "kept")
    (path,) = (tmp_path / "kept").glob("step-*")
    found, arrays = read_sealed(path.read_bytes())
    path.write_bytes(sealed_tensors(found | {"key": "of another step"}, arrays))
    with pytest.warns(CheckpointWarning, match=r"is damaged: this step is repeated$"):
        assert facts(again(tmp_path / "kept"), tmp_path / "found") == expected


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 1}, "seed 0, now 1"),
    "solver": ({"solver": SOLVERS["als"]()}, "solver sgd, now als"),
    "settings": ({"solver": SOLVERS["sgd"](**{**SETTINGS["sgd"][1], "rank": 5})}, "rank 4, now 5"),
    "validation": ({"validation": 0.2}, "validation 0.0, now 0.2"),
    "split": ({"data": hold_out(planted(density=0.2)[0], 0.1, seed=5)}, "split seed 0, now 5"),
    "table": ({"data": hold_out(planted(density=0.2, seed=8)[0], 0.1, seed=0)}, "other ratings"),
    "baselines": ({"compared_with": {BASELINE: SOLVERS["svd"](ranks=(2,))}}, "other baselines"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_the_checkpoint_of_another_training_is_refused_and_stays(what: str, tmp_path: Path) -> None:
    begun(tmp_path / "kept")
    before = {path: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    options, seen = OTHERS[what]
    with pytest.raises(ArtifactError, match=re.escape(f"belongs to another training (saw {seen}); repeat its command")):
        again(tmp_path / "kept", **options)
    assert before == {path: path.read_bytes() for path in (tmp_path / "kept").iterdir()}


def test_another_machine_is_refused_but_not_another_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path / "kept", threads=1)
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "target", lambda: "another processor")
        with pytest.raises(ArtifactError, match=r"saw processor .*, now another processor"):
            again(tmp_path / "kept")
    again(tmp_path / "kept", threads=2)


def test_a_folder_with_other_files_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match=r"not a folder of a checkpoint; give another folder, or a new one$"):
        Checkpoint(tmp_path)
    with pytest.raises(ArtifactError, match=r"no such folder; create it first$"):
        Checkpoint(tmp_path / "not" / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_checkpoint_in_use_is_refused(tmp_path: Path) -> None:
    with Checkpoint(tmp_path / "kept") as one:
        again(one)
        with pytest.raises(ArtifactError, match=r"another process uses this checkpoint"):
            again(tmp_path / "kept")
    again(tmp_path / "kept")


def test_a_full_disk_is_one_line_and_what_was_saved_before_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = facts(again(tmp_path / "kept"), tmp_path / "expected")
    begun(tmp_path / "kept", 4)

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ResourceError, match=r"cannot be written \(saw No space left on device\); free some space"):
            again(tmp_path / "kept")
    assert len(states(tmp_path / "kept")) == 1
    assert facts(again(tmp_path / "kept"), tmp_path / "found") == expected


@pytest.mark.parametrize("every", [-1, float("nan"), "60s", True])
def test_a_time_between_states_that_is_none_is_refused(every: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^every is out of range"):
        again(tmp_path / "kept", every=every)


def test_states_are_saved_no_more_often_than_asked_for(tmp_path: Path) -> None:
    begun(tmp_path / "kept", 7, every=3600)
    assert states(tmp_path / "kept") == []


def test_a_stop_saves_after_the_epoch_and_the_training_goes_on(tmp_path: Path) -> None:
    expected = facts(again(tmp_path / "kept"), tmp_path / "expected")

    def stop_in_fourth(progress: Progress) -> None:
        if (progress.label, progress.epoch) == ("sgd", 4):
            assert checkpoint.stop()
            assert not checkpoint.stop()  # asked again, it is not waited for

    with Checkpoint(tmp_path / "kept", 3600) as checkpoint, pytest.raises(KeyboardInterrupt):
        again(checkpoint, watch=stop_in_fourth)
    assert len(states(tmp_path / "kept")) == 1
    first: list[Progress] = []
    assert facts(again(tmp_path / "kept", watch=first.append), tmp_path / "found") == expected
    assert (first[0].label, first[0].epoch) == ("sgd", 5)


@pytest.mark.slow
def test_a_cross_validation_goes_on_with_the_fold_it_was_in(tmp_path: Path) -> None:
    experiment = Experiment(ratings=planted(density=0.2)[0], solver=solver("als"), folds=3, baselines=FEW)
    expected = experiment.run(device="cpu")
    (found, report, _), times = halted(
        lambda watch: experiment.run(device="cpu", watch=watch, checkpoint=tmp_path / "kept", every=0)
    )
    assert times > 0
    assert facts(found, tmp_path / "found") == facts(expected.run, tmp_path / "expected")
    assert [row.scores for row in report.rows] == [row.scores for row in expected.report.rows]
    assert not (tmp_path / "kept").exists()


def test_a_continued_run_that_is_fitted_again_goes_on_too(tmp_path: Path) -> None:
    split = one_part()
    first = train(replace(split, train=split.train.select(np.arange(6000))), solver("sgd"), compared_with=FEW)
    expected = train(split, solver("sgd"), start=first)
    found, times = halted(
        lambda watch: train(split, solver("sgd"), start=first, watch=watch, checkpoint=tmp_path / "kept", every=0)
    )
    assert times > 0
    assert facts(found, tmp_path / "found") == facts(expected, tmp_path / "expected")


@dataclass(frozen=True)
class Plain(Solver):
    """A solver as others write one: without states."""

    name: ClassVar[str] = "plain"

    def run(self, train: Ratings, *, rng: np.random.Generator, backend: Backend) -> Iterator[Epoch]:
        for epoch in range(1, 4):
            yield replace(next(SOLVERS["bias"]().run(train, rng=rng, backend=backend)), number=epoch)

    @property
    def n_epochs(self) -> int:
        return 3


def test_a_solver_without_states_begins_its_step_again(tmp_path: Path) -> None:
    begun(tmp_path / "kept", 4, solver=Plain())
    assert states(tmp_path / "kept") == []
    told: list[Progress] = []
    again(tmp_path / "kept", solver=Plain(), watch=told.append)
    assert [(one.label, one.epoch) for one in told] == [("plain", 1), ("plain", 2), ("plain", 3)]


def test_a_search_on_the_parts_of_a_small_table_goes_on(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "data": small_split(), "solver": SOLVERS["sgd"](epochs=3, members=2), "compared_with": FEW, "device": "cpu",
    }  # fmt: skip
    expected = train(**given)
    assert {row["stage"] for row in expected.fit.history} <= {"member", "committee", "single"}
    found, times = halted(lambda watch: train(**given, watch=watch, checkpoint=tmp_path / "kept", every=0))
    assert times > 10
    assert facts(found, tmp_path / "found") == facts(expected, tmp_path / "expected")
