"""What the README shows is what the program does."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from recsys_mf.loaders.catalog import sample
from tests.documents import agree, blocks, commands, output_of

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
CONSOLE, PYTHON = (
    [block.text for block in blocks(README) if block.language == language] for language in ("console", "python")
)


@pytest.mark.slow
def test_the_example_session_prints_what_is_shown(tmp_path: Path) -> None:
    for command, shown in commands(CONSOLE[0]):
        printed = output_of(command, tmp_path)
        assert agree(shown, printed, whole_numbers_may_differ=True), f"{command}\n{printed}"


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_the_python_examples_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(sample(), tmp_path)
    monkeypatch.chdir(tmp_path)
    printed: list[str] = []
    exec(block, {"print": lambda *values: printed.append(" ".join(map(str, values)))})
    prints = re.findall(r"^print\(.*\)(?: +# ([\d.]+))?", block, re.MULTILINE)
    assert prints
    for comment, line in zip(prints, printed, strict=True):
        assert not comment or float(line) == pytest.approx(float(comment), abs=5e-4)


def test_python_and_command_line_show_the_same_example() -> None:
    command, python = CONSOLE[0], PYTHON[0]
    for shared in ("sample.parquet", "train"):
        assert shared in command
        assert shared in python
