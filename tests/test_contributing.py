"""The examples of CONTRIBUTING.md run unchanged, one after another, as a reader would type them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from recsys_mf.evaluation import metrics

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(metrics.METRICS)
    module = ModuleType("contributed")  # dataclasses look up their module
    monkeypatch.setitem(sys.modules, "contributed", module)
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert len(blocks) == 5
    try:
        for block in blocks:
            exec(compile(block, "CONTRIBUTING.md", "exec"), module.__dict__)
    finally:
        metrics.METRICS.clear()
        metrics.METRICS.update(before)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", TEXT))
def test_its_links_lead_to_files(link: str) -> None:
    assert (Path(__file__).parents[1] / link).is_file()


@pytest.mark.parametrize("script", sorted(set(re.findall(r"scripts/\w+", TEXT))))
def test_the_scripts_it_names_exist(script: str) -> None:
    assert (Path(__file__).parents[1] / script).is_file()
