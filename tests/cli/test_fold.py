"""`fold-in`, `forget` and `explain` typed: what they write and say, and a message for every mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recsys_mf.store import load, save
from tests.trained import factor_run

Cli = Callable[..., tuple[int, str, str]]
NEW = 100_000


@pytest.fixture
def recsys(recsys: Cli) -> Cli:
    """Runs the command in a folder that holds `run` and `new.csv`, ratings of a user that the run does not know."""
    save(factor_run(), "run")
    items = factor_run().item_vocabulary.entries.to_pylist()[:4]
    rows = [f"{NEW},{item},{1 + n}" for n, item in enumerate(items)]
    Path("new.csv").write_text("\n".join(["user_id,item_id,rating", *rows]) + "\n")
    Path("foreign.csv").write_text(f"user_id,item_id,rating\n{NEW},777777,4\n")
    return recsys


def test_a_new_user_is_folded_in_explained_and_forgotten(recsys: Cli) -> None:
    code, out, err = recsys("fold-in", "run", "new.csv", "-o", "more")
    assert (code, err) == (0, "")
    assert out == "more: users added: 1, ratings added: 4, ratings replaced: 0\n"
    code, out, _ = recsys("explain", "more", str(NEW), "158", "--top", "2")
    assert code == 0
    assert "effect of all 4" in out
    assert len(out.splitlines()) == 7
    code, out, err = recsys("forget", "more", "--users", str(NEW), "-o", "less")
    assert code == 0
    assert out == f"less: users: {len(factor_run().user_vocabulary)}, forgotten: 1\n"
    assert err.startswith("warning: users forgotten: 1, with their rows, their ids and 4 ratings.")
    before, after = factor_run().model.arrays(), load("less").model.arrays()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_lists_for_new_users_need_no_other_run(recsys: Cli) -> None:
    code, out, _ = recsys("recommend", "run", "--ratings", "new.csv", "--top", "2")
    assert code == 0
    listed = factor_run().fold_in("new.csv").recommend(NEW, 2)
    assert [line.split()[2] for line in out.splitlines()[1:]] == [str(item) for item in listed["item_id"]]


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ("fold-in run none.csv -o x", 3, "none.csv: no such file"),
        ("fold-in run new.csv -o run", 2, "run: --output would replace RUN, which the command reads (saw run)"),
        ("fold-in run foreign.csv -o x", 3, "the model knows no item of these ratings (saw 1 ratings); give ratings"),
        ("forget run --users 123456 -o x", 3, "the run has no user with this id (saw 123456); the run has ids like 5"),
        ("forget run --users , -o x", 3, "--users: no user ids"),
        ("explain run 5 123456", 3, "the run has no item with this id (saw 123456)"),
        ("explain run 123456 100", 3, "the run has no user with this id (saw 123456)"),
        ("explain run 5 100 --top 0", 2, "--top: out of range (saw 0)"),
        ("explain run 5 100 --titles new.csv", 3, "no column is recognised as the names"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(recsys: Cli, given: str, code: int, message: str) -> None:
    found, out, err = recsys(*given.split())
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not Path("x").exists()
