"""Lists of ids: typed or in a table, of the kind that the run has."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from recsys_mf.errors import DataError, ReadingNotice
from recsys_mf.loaders.id_lists import read_ids
from recsys_mf.vocabulary import Vocabulary

INTEGERS = Vocabulary(pa.array([3, 10, 20], pa.int64()))
TEXTS = Vocabulary(pa.array(["003", "10", "ü"], pa.large_string()))


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def integers(text: str) -> list[int]:
    found: list[int] = read_ids(text, "user", INTEGERS, where="--users").to_pylist()
    return found


def texts(text: str) -> list[str]:
    found: list[str] = read_ids(text, "user", TEXTS, where="--users").to_pylist()
    return found


@pytest.mark.parametrize(
    ("typed", "ids"), [("3", [3]), (" 20, 3,,10 ", [20, 3, 10]), ("3,20,3", [3, 20]), ("-5", [-5])]
)
def test_typed_ids_keep_their_order_and_come_once(typed: str, ids: list[int]) -> None:
    assert integers(typed) == ids


def test_typed_ids_are_text_if_those_of_the_run_are() -> None:
    assert texts("003, ü,10,003") == ["003", "ü", "10"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".json"])
def test_a_table_may_have_any_format_and_other_columns(suffix: str) -> None:
    frame, path = pd.DataFrame({"age": [1, 2, 3], "User-ID": [20, 3, 20]}), f"users{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".json":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    assert integers(path) == [20, 3]


@pytest.mark.parametrize("head", ["user_id\n", "anything\n", "", "# mine\n\n"])
@pytest.mark.parametrize("rows", ["20\n3\n10\n", "20\n3\n10", "20\r\n3\r\n10\r\n", '"20"\n3\n10\n', "20\n\n3\n10\n"])
def test_a_text_of_a_single_column_of_integers_needs_no_name(head: str, rows: str) -> None:
    Path("ids.csv").write_text(head + rows)
    assert integers("ids.csv") == [20, 3, 10]


@pytest.mark.parametrize("head", ["user_id\n", "userId\n", "id\n", ""])
@pytest.mark.parametrize("rows", ["ann\nbob\n", "ann\n10\n", "ü\nann", "003\n10\n"])
def test_a_text_of_a_single_column_loses_no_id_to_a_name(head: str, rows: str) -> None:
    Path("ids.txt").write_text(head + rows, encoding="utf-8")
    assert texts("ids.txt") == rows.split()


@pytest.mark.parametrize("typed", ["", " , ", ","])
def test_no_ids_are_refused(typed: str) -> None:
    with pytest.raises(DataError, match=r"--users: no user ids \(saw '.*'\); give ids such as 17,42, or a file"):
        integers(typed)


@pytest.mark.parametrize("typed", ["users.csv", "3;10", "3,x", "1.5", "1.0", "0x10", "٣"])
def test_what_is_neither_integers_nor_a_file_is_refused(typed: str) -> None:
    message = r"--users: neither integer ids nor the name of a file \(saw '.*'\); give integer ids like 3$"
    with pytest.raises(DataError, match=message):
        integers(typed)


@pytest.mark.parametrize("given", ["003", "+3", "-03", "20,003"])
@pytest.mark.parametrize("in_file", [False, True])
def test_an_id_with_leading_zeros_is_not_the_integer(given: str, in_file: bool) -> None:
    if in_file:
        Path("ids.csv").write_text("user_id\n" + given.replace(",", "\n"))
    wrong = re.escape(repr(given.split(",")[-1]))
    message = rf"id with leading zeros or a plus sign; .* \(saw {wrong}\); give integer ids like 3$"
    with pytest.raises(DataError, match=message):
        integers("ids.csv" if in_file else given)


@pytest.mark.parametrize("in_file", [False, True])
def test_an_id_beyond_64_bits_is_called_so(in_file: bool) -> None:
    Path("ids.csv").write_text(f"user_id\n20\n{'9' * 30}")
    with pytest.raises(DataError, match=rf"id beyond 64-bit integers \(saw '{'9' * 30}'\); give integer ids like 3$"):
        integers("ids.csv" if in_file else "9" * 30)


def test_whole_floats_in_a_table_are_integers() -> None:
    Path("ids.csv").write_text("user_id\n20.0\n3.0\n")
    with pytest.warns(ReadingNotice, match="column user_id: whole numbers of type double are read as"):
        assert integers("ids.csv") == [20, 3]


def test_a_file_wins_over_ids_of_the_same_spelling() -> None:
    Path("3").write_text("user_id\n20\n")
    assert integers("3") == [20]


def test_a_table_without_rows_or_without_the_column_is_refused() -> None:
    pd.DataFrame({"user_id": pd.Series([], dtype=int)}).to_parquet("none.parquet")
    with pytest.raises(DataError, match=r"none.parquet: no user ids; give at least one row"):
        integers("none.parquet")
    pd.DataFrame({"a": [1], "b": [2]}).to_parquet("other.parquet")
    message = r"other.parquet: no column is recognised as the user ids \(saw columns a, b\); call it user_id$"
    with pytest.raises(DataError, match=message):
        integers("other.parquet")


def test_a_word_in_a_table_of_integers_is_refused_with_its_line() -> None:
    Path("ids.csv").write_text("user_id\n20\nAnn\n")
    with pytest.raises(
        DataError, match=r"row 1 \(line 3\): id is not an integer \(saw 'Ann'\); give integer ids like 3$"
    ):
        integers("ids.csv")
