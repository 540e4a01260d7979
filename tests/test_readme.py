"""What the README shows is what the program does."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_mf.loaders.catalog import sample

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def commands(block: str) -> list[tuple[str, str]]:
    """(command, output) pairs of a console block."""
    return [(part.partition("\n")[0], part.partition("\n")[2].strip()) for part in block.split("$ ")[1:]]


def agree(shown: str, printed: str) -> bool:
    """The same words, and numbers nearly equal (processors round differently); seconds, rates and memory may differ."""
    shown, printed = (re.sub(r"peak memory .*|\d+ threads|─+", "", text) for text in (shown, printed))
    lines = list(zip(shown.splitlines(), printed.splitlines(), strict=True))
    return all(_alike(*(line.replace("±", " ").split() for line in pair)) for pair in lines)


def _alike(shown: list[str], printed: list[str]) -> bool:
    in_table = shown[:1] in (["mean"], ["bias"], ["SVD,"], ["sgd"])
    if in_table:  # the last two are the seconds and the speed of the fit
        shown, printed = shown[:-2], printed[:-2]
    return len(shown) == len(printed) and all(map(_near, shown, printed))


def _near(shown: str, printed: str) -> bool:
    if re.fullmatch(r"[+-]?[\d.]+", shown) and re.fullmatch(r"[+-]?[\d.]+", printed):
        return abs(float(shown) - float(printed)) <= max(0.005, 0.1 * abs(float(shown)))
    return shown == printed or ("," in shown and shown.split(",")[:2] == printed.split(",")[:2])


def test_the_example_session_prints_what_is_shown(tmp_path: Path) -> None:
    scripts = str(Path(sys.executable).parent)
    for command, shown in commands(CONSOLE[0]):
        done = subprocess.run(
            ["bash", "-c", f'PATH="{scripts}:$PATH"; {command}'],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert agree(shown, done.stdout.strip()), f"{command}\n{done.stdout}"


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
