"""Tests of an installed package, away from its sources: run by `test_wheel` and by scripts/matrix."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import recsys_mf as mf
from recsys_mf.loaders.catalog import catalog, sample

QUICK = {
    "sgd": {"rank": "2", "epochs": "5", "members": "1"},
    "als": {"rank": "2", "epochs": "5", "members": "1"},
    "gibbs": {"rank": "2", "sweeps": "10", "burn_in": "5"},
    "svd": {"ranks": "2"},
    "bias": {},
    "mean": {},
}


def recsys(folder: Path, *arguments: str) -> str:
    """What the installed command prints."""
    command = str(Path(sys.executable).parent / "recsys-mf")
    done = subprocess.run([command, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_is_the_installed_one() -> None:
    installed = metadata.distribution("recsys-mf")
    assert Path(str(installed.locate_file("recsys_mf/__init__.py"))) == Path(mf.__file__)
    assert installed.version == mf.__version__


def test_the_sample_and_the_catalogue_come_with_it() -> None:
    assert len(mf.read_ratings(sample())) == 100_000
    assert len(catalog()) == 8


def test_every_solver_is_tried() -> None:
    assert QUICK.keys() == mf.SOLVERS.keys()


@pytest.mark.parametrize("name", QUICK)
def test_a_solver_trains_and_its_run_predicts_the_same_when_loaded(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(60 * 40)[:1200], 40)
    ratings = mf.Ratings.from_ids(users, items, 3 + np.sin(users) + np.cos(items))
    split = mf.hold_out(ratings, 0.1, seed=0)
    assert split.test is not None
    run = mf.train(split, mf.SOLVERS[name].from_texts(QUICK[name]), device="cpu")
    errors = {row.label: row.scores["rmse"].value for row in mf.evaluate(run, split.test, device="cpu").rows}
    assert errors[name] <= errors["mean"]
    mf.save(run, tmp_path / "run")
    pairs = [0, 1, 999], [0, 1, 2]
    np.testing.assert_array_equal(mf.load(tmp_path / "run").predict(*pairs), run.predict(*pairs))


def test_the_command_trains_evaluates_and_predicts(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n1,1\n1,2\n")
    settings = [part for name, value in QUICK["sgd"].items() for part in ("-p", f"{name}={value}")]
    report = recsys(tmp_path, "train", str(sample()), "-o", "run", "--quiet", *settings)
    assert "sgd" in report
    recsys(tmp_path, "predict", "run", "pairs.csv", "-o", "predicted.csv")
    assert len((tmp_path / "predicted.csv").read_text().splitlines()) == 3
