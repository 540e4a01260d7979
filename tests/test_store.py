"""A run on disk: bit for bit what was saved, complete or absent, and it never replaces anything else."""

from __future__ import annotations

import json
import math
import os
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from recsys_mf.arrays import mapped
from recsys_mf.errors import ArtifactError, DataError, ResourceError
from recsys_mf.evaluation import evaluate
from recsys_mf.evaluation.report import Report
from recsys_mf.models import Factorization, RatedPairs
from recsys_mf.store import check_free, load, save, saving
from recsys_mf.store.layout import RATED, sealed
from tests.trained import posterior_run, small_run, small_split


def small_report() -> Report:
    """The report of `small_run` on its test rows."""
    test = small_split().test
    assert test is not None
    return evaluate(small_run(), test)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(small_run(), tmp_path / "run", report=small_report())
    return tmp_path / "run"


@pytest.mark.parametrize("strings", [False, True])
def test_a_loaded_run_is_the_saved_one_bit_for_bit(tmp_path: Path, strings: bool) -> None:
    run = small_run(strings=strings)
    save(run, tmp_path / "run")
    again = load(tmp_path / "run")
    users, items = run.user_vocabulary.entries, run.item_vocabulary.entries
    pairs = users.take(pa.array(np.arange(90) % len(users))), items.take(pa.array(np.arange(90) % len(items)))
    assert again.predict(*pairs).tobytes() == run.predict(*pairs).tobytes()
    assert again.fit.history == run.fit.history
    assert dict(again.provenance) == dict(run.provenance)
    for label, fit in {**run.baselines, "model": run.fit}.items():
        other = {**again.baselines, "model": again.fit}[label]
        assert other.settings == fit.settings
        for name in ("user_bias", "item_bias", "user_factors", "item_factors"):
            assert getattr(other.model, name).tobytes() == getattr(fit.model, name).tobytes()
        assert isinstance(fit.model, Factorization)
        assert isinstance(other.model, Factorization)
        assert (other.model.mean, other.model.rating_range) == (fit.model.mean, fit.model.rating_range)
    assert again.user_counts.tolist() == run.user_counts.tolist()
    assert run.rated is not None
    assert again.rated is not None
    assert again.rated.starts.tolist() == run.rated.starts.tolist()
    assert again.rated.items.tolist() == run.rated.items.tolist()


def test_a_loaded_posterior_predicts_the_same_bits(tmp_path: Path) -> None:
    run = posterior_run()
    save(run, tmp_path / "run")
    again = load(tmp_path / "run")
    pairs = [5, 8, 777], [100, 102, 100], [10, 90_000, 10]
    assert again.predict(*pairs).tobytes() == run.predict(*pairs).tobytes()
    assert again.model.facts() == run.model.facts()
    assert again.fit.history == run.fit.history


def test_a_run_has_the_documented_files_and_no_pickle(saved: Path) -> None:
    names = {"run.json", "report.json", "model.safetensors", "baselines.safetensors"}
    names |= {"users.parquet", "items.parquet", "rated.parquet"}
    assert {path.name for path in saved.iterdir()} == names
    assert pq.read_table(saved / "users.parquet").column_names == ["id", "ratings"]
    assert json.loads((saved / "report.json").read_text())["kind"] == "held-out"
    facts = json.loads((saved / "run.json").read_text())
    assert facts["parts"].keys() == names - {"run.json"}
    with safe_open(saved / "model.safetensors", "np") as model:
        assert model.metadata() == {"run": facts["run"]}
    for name in ("users", "items", "rated"):
        assert pq.read_schema(saved / f"{name}.parquet").metadata[b"run"].decode() == facts["run"]


def test_the_same_run_has_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save(replace(small_run(), provenance={**small_run().provenance, "platform": "another"}), tmp_path / "again")
    for path in (tmp_path / "again").iterdir():
        assert (path.read_bytes() == (saved / path.name).read_bytes()) is (path.name != "run.json")


def test_pairs_are_stored_unless_that_is_not_wanted(tmp_path: Path) -> None:
    save(small_run(), tmp_path / "run", keep_rated=False)
    assert not (tmp_path / "run" / "rated.parquet").exists()
    assert load(tmp_path / "run").rated is None


def test_users_and_items_without_a_pair_are_stored(tmp_path: Path) -> None:
    """Ids with side information alone have no training rating."""
    run = small_run()
    m = len(run.user_counts)
    for rated in (
        RatedPairs(np.zeros(m + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32)),
        RatedPairs(
            np.append(np.zeros(m, np.int64), 2),
            np.array([0, len(run.item_counts) - 1], np.int32),
            np.array([-1.5, 0.0], np.float32),
        ),
    ):
        save(replace(run, rated=rated), tmp_path / "run", force=True)
        again = load(tmp_path / "run").rated
        assert again is not None
        for name in ("starts", "items", "values"):
            np.testing.assert_array_equal(getattr(again, name), getattr(rated, name))


def test_figures_that_are_not_finite_are_stored_as_null(tmp_path: Path) -> None:
    run = posterior_run()
    nan, inf = math.nan, math.inf
    traces = {"noise": [[1.0, nan, inf]]}
    history = ({"epoch": 1, "train_rmse": None, "valid_rmse": nan, "seconds": 1.0},)
    fit = replace(run.fit, valid_rmse=nan, train_rmse=inf, traces=traces, history=history)
    report = SimpleNamespace(to_mapping=lambda: {"r_hat": inf, "rows": ({"rmse": nan},)})
    save(replace(run, fit=fit), tmp_path / "run", report=report)
    assert "NaN" not in (tmp_path / "run" / "run.json").read_text()
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == {"r_hat": None, "rows": [{"rmse": None}]}
    again = load(tmp_path / "run").fit
    assert again.valid_rmse is None
    assert math.isnan(again.train_rmse)
    np.testing.assert_array_equal(again.traces["noise"], [[1.0, nan, nan]])
    assert again.history[0]["train_rmse"] is None
    assert math.isnan(again.history[0]["valid_rmse"])


def test_an_evaluation_of_the_loaded_run_equals_that_of_the_run(saved: Path) -> None:
    test = small_split().test
    assert test is not None
    assert evaluate(load(saved), test).to_mapping() == evaluate(small_run(), test).to_mapping()


def test_nothing_is_overwritten_unless_forced(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match="run: the directory holds a run already; give another directory, or --force"
    ):
        save(small_run(), saved)
    save(small_run(), saved, force=True)
    assert not (saved / "report.json").exists()
    folder = tmp_path / "mine"
    folder.mkdir()
    check_free(folder)
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match="mine: the directory exists and is not a run; give another directory"):
        save(small_run(), folder, force=True)
    with pytest.raises(ArtifactError, match="missing: no such folder; create it first"):
        check_free(tmp_path / "missing" / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "run"]


@pytest.mark.parametrize("others", [["o.csv"], ["a", "b", "c", "d", "users.parquet.bak"]])
def test_force_does_not_replace_a_folder_with_other_files(saved: Path, others: list[str]) -> None:
    for name in others:
        (saved / name).write_text("mine")
    with pytest.raises(
        ArtifactError, match=rf"run: the directory holds files that do not belong to the run \(saw {others[0]}.*move"
    ) as e:
        save(small_run(), saved, force=True)
    assert ("and 2 more" in str(e.value)) == (len(others) > 3)
    assert all((saved / name).read_text() == "mine" for name in others)


def test_force_does_not_replace_a_folder_with_another_run_json(tmp_path: Path) -> None:
    for number, text in enumerate(['{"another": "tool"}', "[]", "{", '"recsys_mf run"', "[" * 100_000]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "run.json").write_text(text)
        with pytest.raises(ArtifactError, match="the directory exists and is not a run"):
            save(small_run(), folder, force=True)
        assert (folder / "run.json").read_text() == text


def test_force_does_not_replace_a_folder_with_the_name_of_a_part(saved: Path) -> None:
    (saved / "report.json").unlink()
    (saved / "report.json").mkdir()
    (saved / "report.json" / "thesis.tex").touch()
    with pytest.raises(ArtifactError, match=r"do not belong to the run \(saw report.json\)"):
        save(small_run(), saved, force=True)


def test_what_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    for name, message in (
        ("x" * 241, "the name is too long (saw 241 bytes); give a name of at most 240 bytes"),
        ("file/run", "no such folder"),
        ("file", "the directory exists and is not a run"),
        ("circle", "cannot be written (saw Too many levels of symbolic links)"),
        ("null\0", "cannot be written"),
    ):
        with pytest.raises(ArtifactError) as checked:
            check_free(tmp_path / name, force=True)
        with pytest.raises(ArtifactError) as tried:
            save(small_run(), tmp_path / name)
        assert message in str(checked.value)
        assert message in str(tried.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["circle", "file"]
    save(small_run(), tmp_path / ("x" * 240))
    assert load(tmp_path / ("x" * 240)).fit.solver == "sgd"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("step", ["_write_vocabulary", "_write_rated", "_part", "sealed"])
def test_an_interrupted_save_leaves_the_old_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, old: bool, step: str
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise error

    if old:
        save(small_run(), tmp_path / "run")
    monkeypatch.setattr(saving, step, interrupted)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ResourceError) as raised:
        save(posterior_run(), tmp_path / "run", force=True)
    if isinstance(error, OSError):
        assert "run: cannot be written (saw No space left on device); free some space there" in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run"] * old
    if old:
        assert load(tmp_path / "run").fit.solver == "sgd"


def test_a_run_that_was_saved_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trainings with the same output: the second to end does not replace the first."""

    def late(facts: Any) -> bytes:
        monkeypatch.setattr(saving, "sealed", sealed)
        save(posterior_run(), tmp_path / "run")
        return sealed(facts)

    monkeypatch.setattr(saving, "sealed", late)
    with pytest.raises(ArtifactError, match="the directory holds a run already"):
        save(small_run(), tmp_path / "run")
    assert load(tmp_path / "run").fit.solver == "gibbs"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "run").symlink_to("there/run")
    save(small_run(), tmp_path / "run")
    save(posterior_run(), tmp_path / "run", force=True)
    assert (tmp_path / "run").is_symlink()
    assert load(tmp_path / "there" / "run").fit.solver == "gibbs"
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["run"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_modes_of_all_files_follow_the_umask(tmp_path: Path, mask: int) -> None:
    old = os.umask(mask)
    try:
        save(small_run(), tmp_path / "run", report=small_report())
    finally:
        os.umask(old)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").iterdir()} == {0o666 & ~mask}
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o777 & ~mask


def test_a_reader_during_a_save_sees_one_run_or_the_other(tmp_path: Path) -> None:
    """The files of both have the same names, and one even the same bytes."""
    runs = small_run(), posterior_run()
    pairs = [5, 8, 777], [100, 102, 100]
    whole = {run.predict(*pairs).tobytes() for run in runs}
    save(runs[0], tmp_path / "run")
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            save(runs[number % 2], tmp_path / "run", force=True)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [load(tmp_path / "run") for _ in range(60)]
    finally:
        done.set()
        writer.join()
    assert {run.predict(*pairs).tobytes() for run in seen} == whole
    assert {(run.fit.solver, run.model.kind) for run in seen} == {("sgd", "factorization"), ("gibbs", "posterior")}


SAVER = """
import sys
from pathlib import Path
from recsys_mf import store
run = store.load(sys.argv[1])
print("ready", flush=True)
while True:
    store.save(run, sys.argv[2], force=True)
"""


def test_a_saver_killed_at_any_moment_leaves_a_whole_run(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "folder" / "target"
    target.parent.mkdir()
    save(posterior_run(), target)
    for number in range(4):
        arguments = [sys.executable, "-c", SAVER, str(saved), str(target)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.013 * number)
            process.kill()
        assert load(target).fit.solver in ("sgd", "gibbs")
    save(posterior_run(), target, force=True)
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_rated_pairs_that_are_written_group_by_group_are_read_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run()
    assert run.rated is not None
    save(run, tmp_path / "whole")
    monkeypatch.setattr(saving, "_GROUP", 7)
    monkeypatch.setattr(mapped, "_PART", 5)
    save(run, tmp_path / "groups")
    assert pq.ParquetFile(tmp_path / "whole" / RATED).num_row_groups == 1
    assert pq.ParquetFile(tmp_path / "groups" / RATED).num_row_groups > 3
    found = load(tmp_path / "groups").rated
    assert found is not None
    for name in ("starts", "items", "values"):
        assert np.array_equal(getattr(found, name), getattr(run.rated, name))


@pytest.mark.parametrize("place", [0, 4, 5, 9, 10])
def test_rated_items_that_do_not_ascend_are_found_wherever_they_are(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "_PART", 5)
    starts, items = np.array([0, 0, 11, 11]), np.arange(11, dtype=np.int32)
    RatedPairs(starts, items, np.ones(11, np.float32))
    for wrong in (-1, items[place] - 1):
        if place or wrong < 0:
            bad = items.copy()
            bad[place] = wrong
            with pytest.raises(DataError, match="not ascending"):
                RatedPairs(starts, bad, np.ones(11, np.float32))
