"""The GPU benchmark runs all its parts without a card, and never reports these as figures of a card."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
PARTS = ["machine", "checks", "sgd", "rows", "sweeps", "accuracy", "streams", "lists", "svd", "real"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(ROOT / "scripts" / "bench" / "gpu.py")
    return subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True, check=False)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of a dry run."""
    before = (ROOT / "BENCHMARKS.md").read_text()
    output = tmp_path_factory.mktemp("gpu")
    result = run("--dry-run", "--output", str(output))
    assert result.returncode == 0, result.stderr
    assert (ROOT / "BENCHMARKS.md").read_text() == before
    return output


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "gpu.json").read_text())["rows"]
    return found


def test_a_dry_run_runs_every_part(folder: Path) -> None:
    record = json.loads((folder / "gpu.json").read_text())
    assert record["dry_run"]
    assert record["finished"]
    assert list(dict.fromkeys(row["part"] for row in rows(folder))) == PARTS
    assert not [row for row in rows(folder) if row["failure"]]
    assert not [row for row in rows(folder) if row["figures"].get("agrees") == "NO"]


def test_the_markdown_says_it_is_a_dry_run_and_has_every_row_and_figure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "bench"))
    import gpu_report

    text = (folder / "gpu.md").read_text()
    assert gpu_report.REHEARSED in text
    lines = text.splitlines()
    for row in rows(folder):
        if row["table"] in ("versions", "compiled kernels"):
            assert all(f"| {name} | {value} |" in lines for name, value in row["figures"].items())
            continue
        shown = [gpu_report.shown(name, value) for name, value in row["figures"].items()]
        same = [line.strip("| ").split(" | ") for line in lines if line.startswith(f"| {row['name']} |")]
        assert any(set(shown) <= {cell.strip() for cell in cells} for cells in same), row


def test_a_dry_run_cannot_become_a_section_of_the_benchmarks(folder: Path) -> None:
    before = (ROOT / "BENCHMARKS.md").read_text()
    result = run("--section", str(folder / "gpu.json"))
    assert result.returncode == 1
    assert result.stderr == "Error: these are the figures of a dry run, which go into no document\n"
    assert (ROOT / "BENCHMARKS.md").read_text() == before


def test_a_part_that_runs_too_long_is_stopped_and_reported(tmp_path: Path) -> None:
    result = run("--dry-run", "--only", "svd", "--budget", "0.5", "--output", str(tmp_path))
    assert result.returncode == 0, result.stderr
    (row,) = rows(tmp_path)
    assert row["failure"].startswith("stopped: ")
    assert f"- the part, svd: {row['failure']}" in (tmp_path / "gpu.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so_in_a_line_and_writes_nothing(tmp_path: Path) -> None:
    result = run("--output", str(tmp_path / "gpu"))
    assert result.returncode == 1
    assert result.stderr == "Error: no CUDA card is here; --dry-run rehearses all parts on the CPU\n"
    assert not any(tmp_path.iterdir())
