"""`--html` and `--plots` of every command that has them: checked before the work, written after it, never halves."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys_mf.drawing import picture
from recsys_mf.store import save
from tests.cli.conftest import Cli
from tests.trained import small_run, small_split, small_table

SMALL = ("-p", "rank=2", "-p", "epochs=3", "-p", "members=1", "--svd-ranks", "1,2", "-q")

COMMANDS: dict[str, list[str]] = {
    "train": ["train", "table.parquet", "-o", "new", *SMALL],
    "folds": ["train", "table.parquet", "-o", "new", "--folds", "2", *SMALL],
    "nothing held out": ["train", "table.parquet", "-o", "new", "--hold-out", "0", *SMALL],
    "evaluate": ["evaluate", "run", "--test", "test.parquet"],
    "compare": ["compare", "table.parquet", "--solvers", "bias,mean", "-q"],
    "compare runs": ["compare", "run", "other", "--test", "test.parquet"],
    "complete": ["complete", "matrix.csv", "-o", "full.csv"],
}


@pytest.fixture
def recsys(recsys: Cli) -> Cli:
    """In a folder with a table, its test rows, two runs, titles and a matrix with missing entries."""
    small_table().to_frame().to_parquet("table.parquet")
    test = small_split().test_as_read
    assert test is not None
    test.to_frame().to_parquet("test.parquet")
    save(small_run(), Path("run"))
    save(small_run(), Path("other"))
    pd.DataFrame({"item_id": [100, 102], "title": ["A & B", "<i>"]}).to_csv("titles.csv", index=False)
    A = np.random.default_rng(0).standard_normal((30, 4)).cumsum(axis=1)
    A[::5, 1] = np.nan
    pd.DataFrame(A, columns=list("abcd")).to_csv("matrix.csv", index=False)
    return recsys


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_writes_its_page_with_the_command_that_was_typed(recsys: Cli, name: str) -> None:
    code, out, err = recsys(*COMMANDS[name], "--html", "a page.html", "--plots", "pictures")
    assert code == 0, err
    assert out
    page = Path("a page.html").read_text()
    assert "--html &#39;a page.html&#39; --plots pictures" in page
    drawn = {path.stem for path in Path("pictures").glob("*.svg")}
    assert all(f'<figure id="{one}">' in page for one in drawn)
    assert drawn or name == "nothing held out"
    code, _, err = recsys(*COMMANDS[name], "--html", "a page.html")
    assert code in (2, 5)
    assert "a page.html: the file exists" in err or "new: the directory holds a run" in err or "full.csv" in err
    assert Path("a page.html").read_text() == page
    code, _, err = recsys(*COMMANDS[name], "--html", "a page.html", "--plots", "pictures", "--force")
    assert code == 0, err


def test_titles_stand_on_the_page(recsys: Cli) -> None:
    code, _, err = recsys(*COMMANDS["evaluate"], "--html", "page.html", "--titles", "titles.csv")
    assert code == 0, err
    page = Path("page.html").read_text()
    assert '<th scope="col">title</th>' in page
    assert "<i>" not in page


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [(("--html", "page.txt"), "end the name in .html"), (("--html", "none/page.html"), "no such folder"),
     (("--plots", "none/pictures"), "no such folder"),
     (("--plots", "run"), "is not a folder of pictures|would replace"),
     (("--plots", "table.parquet"), "is not a folder of pictures|would replace")],
)  # fmt: skip
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    recsys: Cli, name: str, options: tuple[str, ...], message: str
) -> None:
    before = sorted(Path().rglob("*"))
    code, out, err = recsys(*COMMANDS[name], *options)
    assert code in (2, 5), err
    assert re.search(message, err)
    assert not out
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("options", [("--html", "page.html"), ("--plots", "pictures")])
def test_a_missing_package_is_said_before_the_work(
    recsys: Cli, name: str, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(module: str) -> Any:
        return None if module == "jinja2" else importlib.util.find_spec(module)

    monkeypatch.setattr(picture, "find_spec", find)
    before = sorted(Path().rglob("*"))
    code, _, err = recsys(*COMMANDS[name], *options)
    assert code == 2
    assert f"{options[0]}: pictures need jinja2" in err
    assert "pip install 'recsys-mf[report]'" in err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("command", ["evaluate", "compare", "compare runs"])
def test_force_without_a_file_to_replace_is_refused(recsys: Cli, command: str) -> None:
    code, _, err = recsys(*COMMANDS[command], "--force")
    assert code == 2
    assert "there is no output file to replace" in err
