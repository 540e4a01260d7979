"""The GPU benchmark goes through all of its parts without a card, and refuses to pass that off as figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).parent.parent / "scripts" / "bench" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a dry run is for machines without a card")
def test_a_dry_run_goes_through_every_part(tmp_path: Path) -> None:
    benchmarks = PROGRAM.parent.parent.parent / "BENCHMARKS.md"
    before = benchmarks.read_text()
    result = run("--dry-run", "--output", str(tmp_path))
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    parts = found["parts"]
    assert found["dry_run"]
    assert list(parts) == [
        "machine", "checks", "sgd", "sweeps", "rows", "accuracy", "data", "bands", "streaming", "svd",
    ]  # fmt: skip
    assert all(rows and not any("failed" in row for row in rows) for rows in parts.values()), result.stdout
    assert all(row["held"] == "yes" for row in parts["checks"])
    text = (tmp_path / "gpu.md").read_text()
    assert text.startswith("**A dry run")
    assert text.count("\n| ") == sum(len(rows) + 2 for rows in parts.values())
    assert benchmarks.read_text() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so(tmp_path: Path) -> None:
    result = run("--output", str(tmp_path))
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == (
        "Error: CUDA is not available here; give --dry-run to try the program without a card"
    )
    assert not any(tmp_path.iterdir())
