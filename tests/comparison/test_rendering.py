"""Rendering: the sentence, the table and the legend say the same, with and without a terminal."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from recsys_mf.comparison.differences import Difference
from recsys_mf.comparison.rendering import describe_verdict, to_json, to_markdown, to_text
from recsys_mf.comparison.table import BOOTSTRAP, T_TEST, Comparison, Row, Setup

SETUP = Setup(
    data="table.csv",
    splits=("random, 10% of ratings held out",),
    train_ratings=(900,),
    test_ratings=(100,),
    folds=None,
    seeds=1,
    seed=0,
    device="cpu",
    threads=2,
    weighted=False,
)
FOLDS = replace(
    SETUP, splits=("fold",) * 6, train_ratings=(666, 667) * 3, test_ratings=(334, 333) * 3, folds=3, seeds=2, seed=4
)


def row(name: str, rmse: float, reach: float | None = None, *, worse: bool = False) -> Row:
    """A row whose RMSE lies `rmse` - 0.8 above that of the best, with an interval of this half-width."""
    value = rmse - 0.8
    difference = None if reach is None else Difference(value, value - reach, value + reach, 0.01)
    return Row(
        name=name, solver="sgd", rmse=rmse, mae=0.5, difference=difference, adjusted_p=None if reach is None else 0.02,
        is_worse=worse, is_on_front=name == "a", fit_seconds=1.5, seconds=4.0, memory=3 << 20, ranks=(4,),
        rmses=(rmse,), maes=(0.5,), settings=({"rank": 4},),
    )  # fmt: skip


def comparison(*rows: Row, setup: Setup = SETUP, method: str = BOOTSTRAP) -> Comparison:
    return Comparison(rows, method, len(rows) * (len(rows) - 1) // 2, setup)


BEST, CLOSE, WORSE = row("a", 0.8), row("b", 0.81, 0.02), row("c", 0.9, 0.01, worse=True)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([BEST, WORSE], "a is best; c is 0.1000 worse (95 % interval 0.0900 to 0.1100)."),
        (
            [BEST, WORSE, row("d", 1.0, 0.1, worse=True)],
            "a is best; the next is c, 0.1000 worse (95 % interval 0.0900 to 0.1100).",
        ),
        ([BEST, CLOSE], "a has the lowest RMSE, but it is not clear that it is better than b (0.0100 worse)."),
        (
            [BEST, CLOSE, WORSE],
            "a has the lowest RMSE, but it is not clear that it is better than b (0.0100 worse). 1 other is worse.",
        ),
        (
            [BEST, *(row(name, 0.81, 0.02) for name in "bcdef")],
            "a has the lowest RMSE, but it is not clear that it is better than b (0.0100 worse), c (0.0100 worse), "
            "d (0.0100 worse) and 2 more.",
        ),
    ],
)
def test_the_verdict_is_one_sentence(rows: list[Row], sentence: str) -> None:
    assert describe_verdict(comparison(*rows)) == sentence


def test_only_the_worse_are_shaded_and_their_rows_say_so() -> None:
    text = to_text(comparison(BEST, CLOSE, WORSE), lambda line: f"<{line}>")
    shaded = [line for line in text.split("\n") if line.startswith("<")]
    assert len(shaded) == 1
    assert shaded[0].startswith("<c ")
    assert " worse " in shaded[0]
    assert text.replace("<", "").replace(">", "") == to_text(comparison(BEST, CLOSE, WORSE))


def test_text_and_markdown_have_the_same_figures() -> None:
    shown = comparison(BEST, CLOSE, WORSE)
    for text in (to_text(shown), to_markdown(shown)):
        for figure in ("0.8000", "+0.0100 ±0.0200", "+0.1000 ±0.0100", "best", "unclear", "worse", "3.0 MiB", "front"):
            assert figure in text
    assert "| c | sgd | 4 | 0.9000 | +0.1000 ±0.0100 | worse | 0.5000 | 1.50 | 4.00 | 3.0 MiB |  |" in to_markdown(
        shown
    )
    assert max(map(len, to_text(shown).split("\n"))) <= 100


def test_the_solver_has_a_column_if_the_names_do_not_say_it() -> None:
    named = [replace(one, name=f"sgd {one.name}") for one in (BEST, WORSE)]
    assert "| solver |" in to_markdown(comparison(BEST, WORSE))
    assert "| solver |" not in to_markdown(comparison(*named))


def test_the_method_is_named_with_what_it_assumes() -> None:
    single = " ".join(to_text(comparison(BEST, CLOSE, WORSE)).split())
    assert "from a paired bootstrap of the test rows. It does not say how much the difference varies" in single
    assert "after Holm's correction for all 3 pairs of candidates" in single
    several = " ".join(to_text(comparison(BEST, WORSE, setup=FOLDS, method=T_TEST)).split())
    assert "over 3 folds × 2 seeds" in several
    assert "seeds 4 to 5" in several
    assert "666 to 667 training ratings · 333 to 334 test ratings per split" in several
    assert "the corrected resampled t-test (Nadeau and Bengio 2003): variance (1/6 + n_test/n_train) s²" in several
    assert "n_test/n_train = 0.500, 5 degrees of freedom" in several
    assert "Holm" not in several


def test_few_splits_are_said_to_be_few_if_that_is_why_something_is_unclear() -> None:
    three, clear = replace(FOLDS, splits=("fold",) * 3, seeds=1), row("b", 0.85, 0.02)
    hint = "Over 3 splits even a large difference can remain unclear"
    assert hint in " ".join(to_text(comparison(BEST, clear, WORSE, setup=three, method=T_TEST)).split())
    assert hint not in " ".join(to_text(comparison(BEST, CLOSE, WORSE, setup=three, method=T_TEST)).split())
    assert "even a large" not in to_text(comparison(BEST, clear, WORSE, setup=FOLDS, method=T_TEST))


def test_what_is_not_known_is_not_shown_as_a_figure() -> None:
    rows = [replace(one, seconds=None, memory=None) for one in (BEST, WORSE)]
    text = to_text(comparison(*rows, setup=replace(SETUP, threads=None, seed=None, data=None)))
    assert "unknown" in text
    assert "choosing" not in text.split("±")[0]
    assert "None" not in text


def test_json_is_everything() -> None:
    facts = json.loads(to_json(comparison(BEST, CLOSE, WORSE)))
    assert (facts["kind"], facts["best"], facts["method"], facts["n_pairs"]) == ("comparison", "a", BOOTSTRAP, 3)
    assert facts["rows"][0]["difference"] is None
    assert facts["rows"][1]["difference"] == pytest.approx({"value": 0.01, "low": -0.01, "high": 0.03, "p": 0.01})
    assert facts["rows"][2]["is_worse"] is True
    assert facts["setup"]["test_ratings"] == [100]


def test_a_name_cannot_move_the_cursor() -> None:
    evil = replace(WORSE, name="x\x1b]0;owned\x07\ny")
    shown = comparison(BEST, evil, setup=replace(SETUP, data="a\x1bb"))
    for text in (to_text(shown), to_markdown(shown)):
        assert all(line.isprintable() for line in text.split("\n"))
        assert r"x\x1b]0;owned\x07\ny" in text
