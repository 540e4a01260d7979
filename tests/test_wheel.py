"""The installed package is complete: outside the checkout it has its data, and no other packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("recsys_mf", "datasets"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run([*command, "--wheel-dir", str(folder)], cwd=folder / "source", check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_module_and_the_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "recsys_mf").rglob("*.py")}
    data = {f"recsys_mf/datasets/{name}" for name in ("__init__.py", "README.md", "catalog.toml", "sample.parquet")}
    assert modules | data | {"recsys_mf/py.typed", "recsys_mf/drawing/page.html.jinja"} <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"recsys_mf"}


@pytest.mark.slow
def test_the_installed_wheel_works_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    shutil.copy(ROOT / "tests" / "smoke.py", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "smoke.py"]
    found_first = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(command, cwd=tmp_path, env=found_first, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
