"""Names: a table of titles is read by id, whatever holds it, and a wrong one is refused by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from recsys_mf.errors import DataError
from recsys_mf.loaders.names import read_names
from recsys_mf.loaders.source import Role
from recsys_mf.vocabulary import Vocabulary

INTEGERS = Vocabulary(pa.array([3, 10, 20], pa.int64()))
TEXTS = Vocabulary(pa.array(["003", "10", "ü"], pa.large_string()))


def names_of(table: Any, vocabulary: Vocabulary = INTEGERS, role: Role = "item") -> list[str | None]:
    found = read_names(table, role, vocabulary)
    assert found.type == pa.large_string()
    names: list[str | None] = found.to_pylist()
    return names


def table(ids: Any = (20, 3, 7), **columns: Any) -> dict[str, Any]:
    return {"item_id": ids, **(columns or {"title": ["c", "a", "x"]})}


def test_names_are_in_the_order_of_the_vocabulary_and_null_if_the_table_has_none() -> None:
    assert names_of(table()) == ["a", None, "c"]
    assert names_of(table(title=[None, "", "x"])) == ["", None, None]


TITLES = ["c", "a", "x"]
FORMS: dict[str, Any] = {
    "pandas": pd.DataFrame(table()),
    "categories": pd.DataFrame(table()).astype({"title": "category"}),
    "Arrow": pa.table({"item_id": [20, 3, 7], "title": TITLES}),
    "views": pa.table({"item_id": [20, 3, 7], "title": pa.array(TITLES).cast(pa.string_view())}),
    "dictionary": pa.table({"item_id": [20, 3, 7], "title": pa.array(TITLES).dictionary_encode()}),
    "bytes": pa.table({"item_id": [20, 3, 7], "title": [text.encode() for text in TITLES]}),
    "chunks": pa.table({"item_id": pa.chunked_array([[20], [3]]), "title": pa.chunked_array([["c"], ["a"]])}),
    "rows": [{"item_id": 20, "title": "c"}, {"item_id": 3, "title": "a"}],
    "index": pd.DataFrame(table()).set_index("item_id"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_table_in_memory_may_have_any_form(form: str) -> None:
    assert names_of(FORMS[form]) == ["a", None, "c"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".json"])
def test_a_file_may_have_any_format(suffix: str, tmp_path: Path) -> None:
    path, frame = tmp_path / f"movies{suffix}", pd.DataFrame(table(title=['c, "d"', "ä", "1984"]))
    if suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".json":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    assert names_of(path) == ["ä", None, 'c, "d"']


def test_titles_that_look_like_numbers_are_text_in_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "movies.csv"
    path.write_text("movieId,title\n20,1984\n3,300\n")
    assert names_of(path) == ["300", None, "1984"]


def test_ids_are_read_as_the_run_has_them(tmp_path: Path) -> None:
    path = tmp_path / "movies.csv"
    path.write_text("movieId,title\n003,a\n10,b\nü,c\n", encoding="utf-8")
    assert names_of(path, TEXTS) == ["a", "b", "c"]
    path.write_text("movieId,title\n3,a\n10,b\n", encoding="utf-8")
    assert names_of(path) == ["a", "b", None]


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        (("title", "name"), "title"),
        (("name", "title"), "title"),
        (("label", "name"), "name"),
        (("movie_title", "subtitle"), "movie_title"),
        (("subtitle", "Title"), "Title"),
        (("year", "Movie-Title"), "Movie-Title"),
        (("item_name", "title:token_seq"), "title:token_seq"),
    ],
)
def test_the_column_of_names_is_recognised(columns: tuple[str, str], chosen: str) -> None:
    given = {name: [name] for name in columns}
    assert names_of({"item_id": [10], **given}) == [None, chosen, None]


def test_users_have_names_too() -> None:
    assert names_of({"user_id": [10], "user_name": ["Ann"]}, role="user") == [None, "Ann", None]


WRONG: dict[str, tuple[Any, str]] = {
    "no names": (table(year=[1, 2, 3]), r"titles: no column is recognised as the names \(saw columns item_id, year\)"),
    "no ids": ({"title": ["a"]}, r"no column is recognised as the item ids \(saw columns title\); call it item_id$"),
    "numbers": (table(title=[1, 2, 3]), r"titles, column title: names must be text \(saw int64\); store text"),
    "only nulls": (table(title=[None] * 3), r"titles, column title: names must be text \(saw null\)"),
    "lists": (table(title=[["a"], ["b"], ["c"]]), r"names must be text \(saw list"),
    "bytes": (table(title=[b"a", b"\xff", b"c"]), r"titles, column title, row 1: not text in UTF-8"),
    "twice": (table([20, 3, 20]), r"titles, column item_id: id occurs twice \(saw 20 in row 0 and again\); give one"),
    "null": (table([20, None, 3]), r"titles, column item_id, row 1: null id"),
    "unknown": (table([1, 2, 4]), r"titles, column item_id: the model has none of these items \(saw 3 ids\); give the"),
    "empty": (pa.table(table(pa.array([], pa.int64()), title=pa.array([], pa.string()))), r"none of these .*\(saw 0 i"),
    "text": (table(["20", "3", "7"]), r"titles, column item_id: the ids are strings, but the model was trained on"),
    "two columns": (pd.DataFrame([[10, "a", "b"]], columns=["item_id", "title", "title"]), "two columns of the same n"),
    "no table": (3, r"titles: not a table \(saw int\)"),
    "no file": (Path("movies.csv"), "movies.csv: no such file"),
}  # fmt: skip


@pytest.mark.parametrize("given", WRONG)
def test_what_is_no_table_of_names_is_refused(given: str) -> None:
    wrong, message = WRONG[given]
    with pytest.raises(DataError, match=message):
        read_names(wrong, "item", INTEGERS)


def test_an_id_in_text_that_is_no_integer_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "movies.csv"
    path.write_text("movieId,title\n20,a\ntt1,b\n")
    with pytest.raises(
        DataError, match=r"row 1 \(line 3\): id is not an integer \(saw 'tt1'\); give integer ids like 3$"
    ):
        read_names(path, "item", INTEGERS)
