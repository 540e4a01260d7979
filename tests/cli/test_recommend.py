"""`recommend` and `similar` typed: what is printed, what is written, and a message for every mistake."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mf.cli import columns
from recsys_mf.prediction.ranking import Draw
from recsys_mf.store import save
from tests.trained import factor_run, posterior_run, small_run

Cli = Callable[..., tuple[int, str, str]]
EVIL = "x\x1b]0;owned\x07\nforged\u202e"


@pytest.fixture
def recsys(recsys: Cli) -> Cli:
    """Runs the command in a folder that holds the runs `run` and `words`; returns (exit code, stdout, stderr)."""
    save(factor_run(), "run")
    save(factor_run(strings=True), "words")
    return recsys


def cells(printed: str) -> list[list[str]]:
    return [line.split() for line in printed.splitlines()]


def test_the_lists_of_some_users_are_printed(recsys: Cli) -> None:
    code, out, err = recsys("recommend", "run", "--users", "8,5", "--top", "3")
    assert (code, err) == (0, "")
    lists = factor_run().recommend([8, 5], 3)
    assert cells(out)[0] == ["user_id", "rank", "item_id", "score"]
    assert cells(out)[1:] == [
        [str(row.user_id), str(row.rank), str(row.item_id), f"{row.score:.4f}"] for row in lists.itertuples()
    ]
    assert len({len(line) for line in out.splitlines()}) == 1  # numbers end in the same column


def test_string_ids_are_typed_as_they_are(recsys: Cli) -> None:
    code, out, _ = recsys("recommend", "words", "--users", "u101", "--top", "2", "--exclude", "none")
    assert code == 0
    assert [row[0] for row in cells(out)[1:]] == ["u101", "u101"]


@pytest.mark.parametrize("output", ["o.csv", "o.tsv", "o.parquet"])
def test_the_lists_of_all_users_are_written(recsys: Cli, output: str) -> None:
    code, out, err = recsys("recommend", "run", "-o", output, "--top", "3")
    assert (code, err) == (0, "")
    assert out == f"{output}: 120 rows, up to 3 items for each of 40 users\n"
    assert recsys("recommend", "run", "-o", output)[0] == 2
    code, out, _ = recsys("recommend", "run", "-o", output, "--force", "--users", "5")
    assert (code, out) == (0, f"{output}: 10 rows, up to 10 items for each of 1 users\n")


def test_filters_come_from_files(recsys: Cli) -> None:
    Path("users.txt").write_text("5\n8\n")
    pd.DataFrame({"movieId": [100, 102, 104], "genre": "drama"}).to_csv("drama.csv", index=False)
    pd.DataFrame({"user_id": [5, 8], "item_id": [100, 102]}).to_parquet("seen.parquet")
    options = "--users", "users.txt", "--among", "drama.csv", "--exclude", "seen.parquet", "-o", "o.parquet"
    assert recsys("recommend", "run", *options)[0] == 0
    expected = factor_run().recommend([5, 8], among=[100, 102, 104], exclude=pd.read_parquet("seen.parquet"))
    pd.testing.assert_frame_equal(pq.read_table("o.parquet").to_pandas(), expected, check_dtype=False)


def test_scores_have_their_options(recsys: Cli) -> None:
    save(posterior_run(), "sampled")
    for run, options, score in (
        ("run", ["--score", "lower"], "lower"),
        ("sampled", ["--score", "draw"], "draw"),
        ("sampled", ["--score", "draw", "--seed", "7"], Draw(7)),
    ):
        code, _, err = recsys("recommend", run, "-o", "o.parquet", "--force", *options)
        assert code == 0, err
        expected = (factor_run() if run == "run" else posterior_run()).recommend(score=score)
        pd.testing.assert_frame_equal(pq.read_table("o.parquet").to_pandas(), expected, check_dtype=False)
    narrow = recsys("recommend", "run", "--users", "5", "--score", "lower", "--interval", "0.5")[1]
    assert narrow != recsys("recommend", "run", "--users", "5", "--score", "lower")[1]


def test_titles_are_printed_safely_and_in_line(recsys: Cli) -> None:
    items = factor_run().recommend(5, 6)["item_id"].tolist()
    titles = ["long " * 40, EVIL, "千と千尋の神隠し", "Ame\u0301lie", "Plain"]
    pd.DataFrame({"item_id": items[:5], "title": titles}).to_parquet("titles.parquet")
    code, out, err = recsys("recommend", "run", "--users", "5", "--top", "6", "--titles", "titles.parquet")
    assert code == 0
    assert err == f"note: titles: 1 of the 6 items listed have no title, such as item {items[5]}\n"
    assert out.replace("\n", "").isprintable()
    head, *rows = out.splitlines()
    assert len(rows) == 6
    assert "…" in rows[0]
    assert r"x\x1b]0;owned\x07\nforged\u202e" in rows[1]
    assert "nan" not in out
    assert "None" not in out
    assert {columns._width(line) for line in rows} == {columns._width(head)}
    assert [row.rstrip().split()[-1] for row in rows] == [f"{s:.4f}" for s in factor_run().recommend(5, 6)["score"]]


def test_users_without_items_and_users_that_are_not_shown_are_counted(
    recsys: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    rated = factor_run().rated
    assert rated is not None
    users, items = factor_run().user_vocabulary.entries, factor_run().item_vocabulary.entries
    first = items[int(rated.items[0])]
    user = users[int(rated.users[0])]
    code, out, _ = recsys("recommend", "run", "--users", f"{user}", "--among", f"{first}")
    assert (code, out) == (0, "user_id  rank  item_id  score\nno items are left for 1 of the users\n")
    monkeypatch.setattr(sys.modules["recsys_mf.cli.recommend"], "_MAX_PRINTED", 4)
    code, out, _ = recsys("recommend", "run", "--users", "5,8,11,14,17", "--top", "2")
    assert code == 0
    assert [row[0] for row in cells(out)[1:5]] == ["5", "5", "8", "8"]
    assert out.splitlines()[5:] == ["and 3 more users; give -o FILE to write all of them"]
    assert len(recsys("recommend", "run", "--users", "5,8", "--top", "9999999999999")[1].splitlines()) > 10


def listed(user: int, ratings: list[tuple[int, float]]) -> list[list[str]]:
    """The cells of the best three items of a new user with these ratings of items."""
    frame = pd.DataFrame(ratings, columns=["item_id", "rating"]).assign(user_id=user)
    rows = factor_run().fold_in(frame).recommend(user, 3).itertuples()
    return [[str(row.user_id), str(row.rank), str(row.item_id), f"{row.score:.4f}"] for row in rows]


def test_duplicates_of_new_users_are_refused_unless_a_rule_is_given(recsys: Cli) -> None:
    Path("new.csv").write_text("user_id,item_id,rating\n9000,100,1\n9000,102,5\n9000,100,4\n")
    code, out, err = recsys("recommend", "run", "--ratings", "new.csv")
    assert (code, out) == (3, "")
    assert err.startswith("error: new.csv: 1 duplicate (user, item) pairs")
    assert "or choose --duplicates last" in err
    for rule, rating in (("last", 4.0), ("mean", 2.5)):
        code, out, err = recsys("recommend", "run", "--ratings", "new.csv", "--duplicates", rule, "--top", "3")
        assert (code, err) == (0, "")
        assert cells(out)[1:] == listed(9000, [(102, 5.0), (100, rating)])


def test_ratings_of_new_users_are_read_from_named_columns(recsys: Cli) -> None:
    Path("new.csv").write_text("who;what;stars\n9000;100;1\n9000;102;5\n", encoding="utf-16")
    assert recsys("recommend", "run", "--ratings", "new.csv")[0] == 3
    named = ("--user-column", "who", "--item-column", "what", "--rating-column", "stars", "--encoding", "utf-16")
    code, out, err = recsys("recommend", "run", "--ratings", "new.csv", *named, "--ids", "integer", "--top", "3")
    assert (code, err) == (0, "")
    assert cells(out)[1:] == listed(9000, [(100, 1.0), (102, 5.0)])


def test_similar_items_and_users_are_printed(recsys: Cli) -> None:
    pd.DataFrame({"item_id": [100], "name": ["A"]}).to_csv("names.csv", index=False)
    code, out, _ = recsys("similar", "run", "100,102", "--top", "3", "--titles", "names.csv")
    assert code == 0
    assert cells(out)[0] == ["item_id", "rank", "similar_item_id", "title", "cosine"]
    found = factor_run().similar([100, 102], 3)
    assert [row[2] for row in cells(out)[1:]] == [str(item) for item in found["similar_item_id"]]
    code, out, _ = recsys("similar", "run", "5", "--users", "--top", "2")
    assert code == 0
    assert [row[2] for row in cells(out)[1:]] == [
        str(user) for user in factor_run().similar(5, 2, side="user").iloc[:, 2]
    ]


WRONG: dict[str, tuple[list[str], int, str]] = {
    "nobody": ([], 2, "error: --users: the lists of all users are too long to print; give some with --users, or a fil"),
    "force": (["--users", "5", "--force"], 2, "error: --force: there is no output file to replace; leave it out, or g"),
    "unknown user": (["--users", "5,6"], 3, "error: --users: the run has no user with this id (saw 6); the run has"),
    "missing file": (["--users", "u.csv"], 3, "error: --users: neither integer ids nor the name of a file (saw 'u.csv"),
    "empty users": (["--users", ""], 3, "error: --users: no user ids (saw ''); give ids such as 17,42, or a file"),
    "empty among": (["--users", "5", "--among", ""], 3, "error: --among: no item ids (saw '')"),
    "unknown item": (["--users", "5", "--among", "1"], 3, "error: among, item ids: the run has no item with this id"),
    "top": (["--users", "5", "--top", "0"], 2, "error: --top: out of range (saw 0); give a whole number, 1 or more"),
    "top before users": (["--top", "-5"], 2, "error: --top: out of range (saw -5); give a whole number, 1 or more"),
    "seed alone": (["--users", "5", "--seed", "1"], 2, "error: --seed has no effect with --score mean; leave it out,"),
    "interval alone": (
        ["--users", "5", "--interval", "0.5"], 2, "error: --interval has no effect with --score mean; leave it out, or"
    ),
    "seed of lower": (
        ["--users", "5", "--score", "lower", "--seed", "1"], 2, "error: --seed has no effect with --score lower; leave"
    ),
    "negative seed": (
        ["--users", "5", "--score", "draw", "--seed", "-1"], 2, "error: --seed: out of range (saw -1); give a whole num"
    ),
    "interval": (
        ["--users", "5", "--score", "lower", "--interval", "2"], 2, "error: probability out of range (saw 2.0); give a"
    ),
    "draw": (["--users", "5", "--score", "draw"], 2, "error: the model has no samples to draw from (saw a factorisati"),
    "score": (["--users", "5", "--score", "best"], 2, "error: Invalid value for '--score'"),
    "columns of no table": (
        ["--users", "5", "--user-column", "who"], 2, "error: --user-column has no effect without --ratings; give --rat"
    ),
    "duplicates of no table": (
        ["--users", "5", "--duplicates", "last"], 2, "error: --duplicates has no effect without --ratings; give --rat"
    ),
    "exclude": (["--users", "5", "--exclude", "al"], 2, "error: exclude: neither a choice nor a file (saw 'al'); give"),
    "titles": (["--users", "5", "--titles", "t.csv"], 3, "error: t.csv: no such file"),
    "suffix": (["-o", "o.json"], 2, "error: o.json: unknown file type for the output; end the name in .parquet, .csv"),
    "threads": (["--users", "5", "--threads", "0"], 2, "error: number of threads out of range (saw 0)"),
    "device": (["--users", "5", "--device", "tpu"], 2, "error: unknown device (saw tpu)"),
}  # fmt: skip


@pytest.mark.parametrize("given", WRONG)
def test_what_cannot_be_is_refused_in_a_line(recsys: Cli, given: str) -> None:
    options, expected, message = WRONG[given]
    code, out, err = recsys("recommend", "run", *options)
    assert (code, out) == (expected, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_outputs_and_options_are_checked_before_the_run_is_read(recsys: Cli) -> None:
    Path("there.csv").write_text("mine")
    for options, message in (
        (["-o", "there.csv"], "there.csv: the file exists"),
        (["-o", "nowhere/o.csv"], "no such folder"),
        (["--users", "5", "--top", "0"], "--top: out of range"),
        (["--users", "5", "--seed", "1"], "--seed has no effect"),
    ):
        code, _, err = recsys("recommend", "no-such-run", *options)
        assert (code, message in err) == (2, True), err
    assert Path("there.csv").read_text() == "mine"


def test_a_run_without_its_ratings_says_what_to_give(recsys: Cli) -> None:
    save(replace(factor_run(), rated=None), "bare")
    code, _, err = recsys("recommend", "bare", "--users", "5")
    assert code == 2
    assert "exclude: the run did not keep its training ratings (saw 'rated'); give a table" in err
    assert recsys("recommend", "bare", "--users", "5", "--exclude", "none")[0] == 0


@pytest.mark.parametrize(
    ("run", "options", "expected", "message"),
    [
        ("run", ["1"], 3, "error: item ids: the run has no item with this id (saw 1); the run has ids like 100\n"),
        (
            "run",
            ["A"],
            3,
            "error: IDS: neither integer ids nor the name of a file (saw 'A'); give integer ids like 100\n",
        ),
        ("words", ["1"], 3, "error: item ids: the run has no item with this id (saw '1'); the run has ids like 'ü100"),
        ("run", ["100", "--top", "0"], 2, "error: --top: out of range (saw 0); give a whole number, 1 or more\n"),
        (
            "plain",
            ["100"],
            2,
            "error: the model has no factors to compare, only biases (saw rank 4); train with a rank",
        ),
    ],
)
def test_what_cannot_be_similar_is_refused_in_a_line(
    recsys: Cli, run: str, options: list[str], expected: int, message: str
) -> None:
    save(small_run(), "plain")
    code, out, err = recsys("similar", run, *options)
    assert (code, out) == (expected, "")
    assert err.startswith(message)


def test_a_table_without_rows_prints_its_head(capfd: pytest.CaptureFixture[str]) -> None:
    columns.print_table(pa.table({"a": pa.array([], pa.int64()), "bc": pa.array([], pa.string())}))
    assert capfd.readouterr().out == "a  bc\n"


@pytest.mark.parametrize(
    ("text", "width"), [("", 0), ("abc", 3), ("é", 1), ("e\u0301", 1), ("映画", 4), ("Ｆ", 2), ("a\u200db", 2)]
)
def test_a_letter_takes_the_columns_that_a_terminal_gives_it(text: str, width: int) -> None:
    assert columns._width(text) == width
