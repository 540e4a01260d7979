"""A run on disk: bit for bit what was saved, whole or not there, and refused when it is not what it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mf import store
from recsys_mf.errors import ArtifactError
from recsys_mf.evaluation import evaluate
from recsys_mf.store import check_free, load, save
from recsys_mf.vocabulary import Vocabulary
from tests.trained import posterior_run, small_run, small_split


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(small_run(), tmp_path / "run", report=evaluate(small_run(), small_split().test))
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
        assert (other.model.mean, other.model.rating_range) == (fit.model.mean, fit.model.rating_range)
    assert again.user_counts.tolist() == run.user_counts.tolist()


def test_a_loaded_posterior_predicts_the_same_bits(tmp_path: Path) -> None:
    run = posterior_run()
    save(run, tmp_path / "run")
    again = load(tmp_path / "run")
    pairs = [5, 8, 777], [100, 102, 100], [10, 90_000, 10]
    assert again.predict(*pairs).tobytes() == run.predict(*pairs).tobytes()
    assert again.model.facts() == run.model.facts()
    assert again.fit.history == run.fit.history


def test_a_run_has_the_documented_files_and_no_pickle(saved: Path) -> None:
    names = {"run.json", "report.json", "model.safetensors", "baselines.safetensors", "users.parquet", "items.parquet"}
    assert {path.name for path in saved.iterdir()} == names
    assert pq.read_table(saved / "users.parquet").column_names == ["id", "ratings"]
    assert json.loads((saved / "report.json").read_text())["kind"] == "held-out"


def test_an_evaluation_of_the_loaded_run_is_the_one_of_the_run(saved: Path) -> None:
    test = small_split().test
    assert test is not None
    assert evaluate(load(saved), test).to_mapping() == evaluate(small_run(), test).to_mapping()


def test_nothing_is_overwritten_unless_forced(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="run: there is a run already; give another directory, or --force"):
        save(small_run(), saved)
    save(small_run(), saved, force=True)
    assert not (saved / "report.json").exists()
    folder = tmp_path / "mine"
    folder.mkdir()
    check_free(folder)
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match="mine: there already, and no run; give another directory"):
        save(small_run(), folder, force=True)
    with pytest.raises(ArtifactError, match="missing: no such folder; make it first"):
        check_free(tmp_path / "missing" / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "run"]


def test_an_interrupted_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_write_vocabulary", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(small_run(), tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["model.safetensors", "baselines.safetensors", "users.parquet", "items.parquet"])
def test_a_missing_or_changed_file_is_named(saved: Path, part: str) -> None:
    whole = (saved / part).read_bytes()
    for damaged in (whole[:-3], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]):
        (saved / part).write_bytes(damaged)
        with pytest.raises(ArtifactError, match=rf"{part}: changed since the run was written \(saw SHA-256"):
            load(saved)
    (saved / part).unlink()
    with pytest.raises(ArtifactError, match=f"{part}: a file of the run is missing"):
        load(saved)


def test_a_foreign_or_damaged_run_json_is_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="none: no such directory"):
        load(tmp_path / "none")
    with pytest.raises(ArtifactError, match="not a run directory"):
        load(tmp_path)
    facts = json.loads((saved / "run.json").read_text())
    for changed, message in (
        ("{", r"run.json: damaged \(saw"),
        ("[]", r"field format: not a run of recsys_mf \(saw list\)"),
        (facts | {"format": "other"}, r"field format: not a run of recsys_mf \(saw other\)"),
        (facts | {"version": 99}, r"field version: a run of another version \(saw 99\); this release reads version 3"),
        ({key: facts[key] for key in facts if key != "fit"}, r"field fit: damaged \(saw not there\)"),
        ({key: facts[key] for key in facts if key != "baseline"}, r"run.json: damaged \(saw KeyError\('baseline'\)\)"),
        (facts | {"users_fingerprint": "0"}, "users.parquet: another vocabulary"),
    ):
        (saved / "run.json").write_text(changed if isinstance(changed, str) else json.dumps(changed))
        with pytest.raises(ArtifactError, match=message):
            load(saved)


def test_tensors_of_another_shape_are_named(saved: Path, tmp_path: Path) -> None:
    save(small_run(strings=True), tmp_path / "other")
    facts = json.loads((saved / "run.json").read_text())
    shutil.copy(tmp_path / "other" / "users.parquet", saved / "users.parquet")
    table = pq.read_table(saved / "users.parquet").slice(1)
    pq.write_table(table, saved / "users.parquet")
    facts["files"]["users.parquet"] = store._digest(saved / "users.parquet")
    facts["users_fingerprint"] = Vocabulary(table["id"].combine_chunks()).fingerprint
    (saved / "run.json").write_text(json.dumps(facts))
    with pytest.raises(ArtifactError, match=r"model.safetensors, user_bias: shape does not match \(saw \(\d+,\)\)"):
        load(saved)
