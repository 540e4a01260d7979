"""The pages of the documentation run as they are shown, block after block in an empty folder, and print what they show.

A `console` block shows commands and what they print, a `sh` block only commands. A `python` block prints what the
`text` block after it shows; all of a page are one program. What a page says to install with `pip install` it needs.
Code of other packages and commands that install stand in `{code-block}`, which is not run.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.documents import Program, agree, blocks, commands

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
RECIPES = [page for page in PAGES if page.parent.name == "recipes"]
RUN = [page for page in PAGES if blocks(page.read_text(encoding="utf-8"))]


def name_of(page: Path) -> str:
    """The page as tests call it."""
    return page.relative_to(DOCS).with_suffix("").as_posix()


def skip_without_packages(page: Path) -> None:
    """Skip the test unless all packages that the page names are installed."""
    names = " ".join(re.findall(r"`pip install ([\w\- ]+)`", page.read_text(encoding="utf-8"))).split()
    missing = [name for name in names if not _is_installed(name)]
    if page.stem == "spark" and shutil.which("java") is None:
        missing.append("Java 17")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


def _is_installed(name: str) -> bool:
    with contextlib.suppress(PackageNotFoundError):
        return bool(version(name))
    return False


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_a_page_prints_what_it_shows(page: Path, tmp_path: Path) -> None:
    skip_without_packages(page)
    with Program(tmp_path) as program:
        _follow(page, program)


def _follow(page: Path, program: Program) -> None:
    """Run the blocks of a page and compare what they print."""
    shown = blocks(page.read_text(encoding="utf-8"))
    for block, after in itertools.pairwise([*shown, None]):
        assert block is not None
        assert block.language in ("console", "sh", "python", "text")
        if block.language == "console":
            for command, output in commands(block.text):
                printed = program.output_of(command)
                assert agree(output, printed), f"{command}\n{printed}"
        elif block.language == "sh":
            program.output_of(block.text)
        elif block.language == "python":
            printed = program.run(block.text)
            expected = after.text.strip() if after is not None and after.language == "text" else ""
            assert agree(expected, printed), f"{block.text}\n{printed}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_that_is_not_run_is_not_ours(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```\{code-block\} \w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        assert not re.search(r"recsys_mf|^recsys-mf", block, re.MULTILINE), block


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_the_readme_links_to_a_recipe(recipe: Path) -> None:
    assert f"docs/recipes/{recipe.name}" in (recipe.parents[2] / "README.md").read_text(encoding="utf-8")
