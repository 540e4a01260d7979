"""Tables of users and items become features according to their content, whatever the format."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from numpy.typing import NDArray

from recsys_mf.errors import ConfigError, DataError
from recsys_mf.features import Features
from recsys_mf.loaders import features_from_frame, read_features

IDS = [30, 10, 20, 40]  # the rows of the features are in the order 10, 20, 30, 40


def from_columns(ids: Any = IDS, **columns: Any) -> Features:
    return features_from_frame(pa.table({"item_id": ids, **columns}), role="item")


def dense(table: Features) -> NDArray[np.float32]:
    """The matrix [rows, columns], rounded to the accuracy of float32."""
    matrix = scipy.sparse.csr_matrix((table.values, table.columns, table.starts), shape=(len(table), len(table.names)))
    rounded: NDArray[np.float32] = matrix.toarray().round(6)
    return rounded


def column(table: Features, name: str) -> list[float]:
    values: list[float] = dense(table)[:, table.names.index(name)].tolist()
    return values


def parts(table: Features) -> list[Any]:
    """Everything that is the same in two equal tables."""
    arrays = [getattr(table, name).tolist() for name in ("starts", "columns", "values")]
    return [table.names, table.left_out, table.vocabulary.entries.to_pylist(), *arrays]


def test_rows_are_in_the_order_of_the_ids_and_columns_in_that_of_the_table() -> None:
    table = from_columns(year=[1, -1, 1, -1], kind=["b", "a", "b", "a"])
    assert table.vocabulary.entries.to_pylist() == [10, 20, 30, 40]
    assert table.names == ("year", "kind=a", "kind=b")
    assert dense(table).tolist() == [[-1, 1, 0], [1, 0, 1], [1, 0, 1], [-1, 1, 0]]
    assert table.columns.tolist() == [0, 1, 0, 2, 0, 2, 0, 1]
    assert table.left_out == ()


NUMBERS: dict[str, Any] = {
    "int8": pa.array([3, 1, None, 5], pa.int8()),
    "uint64": pa.array([3, 1, None, 5], pa.uint64()),
    "int64": pa.array([2**60, -(2**60), None, 3 * 2**60 - 1]),
    "float16": pa.array(np.array([3, 1, 0, 5], np.float16), mask=np.array([0, 0, 1, 0], bool)),
    "double": pa.array([0.3, 0.1, None, 0.5]),
    "huge": pa.array([0.0, -1.7e308, None, 1.7e308]),
    "tiny": pa.array([3e-308, 1e-308, None, 5e-308]),
    "decimal": pa.array([Decimal("0.3"), Decimal("0.1"), None, Decimal("0.5")]),
    "date32": pa.array([3, 1, None, 5], pa.int32()).cast(pa.date32()),
    "date64": pa.array([3, 1, None, 5], pa.int32()).cast(pa.date32()).cast(pa.date64()),
    "time": pa.array([datetime.time(3), datetime.time(1), None, datetime.time(5)]),
    "duration": pa.array([3, 1, None, 5], pa.duration("ms")),
    **{f"timestamp {unit}": pa.array([3, 1, None, 5], pa.timestamp(unit, "UTC")) for unit in ("s", "ms", "us", "ns")},
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_and_times_of_every_type_have_mean_0_and_deviation_1_and_a_null_is_the_mean(kind: str) -> None:
    table = from_columns(x=NUMBERS[kind])
    size = np.sqrt(1.5)  # -2, 0, 2 over their deviation
    assert table.names == ("x",)
    assert table.starts.tolist() == [0, 1, 1, 2, 3]  # id 20 has no entry
    np.testing.assert_allclose(table.values, np.array([-size, 0, size]), atol=1e-6)


def test_a_numeric_column_standardised_by_hand() -> None:
    values = np.random.default_rng(0).normal(7, 3, 50)
    table = from_columns(range(50), x=values)
    np.testing.assert_allclose(table.values, (values - values.mean()) / values.std(), rtol=1e-6)


def test_truth_values_are_numbers() -> None:
    assert column(from_columns(x=[True, False, True, False]), "x") == [-1, 1, 1, -1]


CATEGORIES: dict[str, Any] = {
    "string": pa.array(["b", "a", None, "a"]),
    "large_string": pa.array(["b", "a", None, "a"], pa.large_string()),
    "string_view": pa.array(["b", "a", None, "a"], pa.string_view()),
    "dictionary": pa.array(["b", "a", None, "a"]).dictionary_encode(),
    "chunks of dictionaries": pa.chunked_array(
        [pa.array(part).dictionary_encode() for part in (["b"], ["a", None], ["a"])]
    ),
    "blanks": pa.array(["b", " a", "  ", "a "]),
}


@pytest.mark.parametrize("kind", CATEGORIES)
def test_a_category_is_1_for_ids_in_it_and_one_with_a_single_id_is_left_out(kind: str) -> None:
    table = from_columns(x=CATEGORIES[kind])
    assert table.names == ("x=a",)
    assert table.left_out == ("x: 1 of 2 categories occurs once",)
    assert dense(table)[:, 0].tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("values", [[9, 10, 9, 10], [1.5, 10.5, 1.5, 10.5]])
def test_numbers_in_a_dictionary_are_categories(values: list[float]) -> None:
    table = from_columns(x=pa.array(values).dictionary_encode())
    assert set(table.names) == {f"x={value}" for value in values}
    assert column(table, f"x={values[0]}") == [0, 1, 1, 0]
    assert column(table, f"x={values[1]}") == [1, 0, 0, 1]


LISTS = [["c", "a"], ["a", "a", "b"], None, ["c", "b", None, "once", "a"]]
MULTIPLE: dict[str, Any] = {
    "separated": pa.array(["c|a", "a|a|b", None, "c|b||once|a"]),
    "separated with blanks": pa.array(["c | a", "a|a |b", "", " c|b| |once|a"]),
    "dictionary": pa.array(["c|a", "a|a|b", None, "c|b||once|a"]).dictionary_encode(),
    "list": pa.array(LISTS),
    "large_list": pa.array(LISTS, pa.large_list(pa.large_string())),
    "list of a dictionary": pa.array(LISTS, pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    "fixed_size_list": pa.array(
        [row and (row + [None] * 5)[:5] for row in LISTS], pa.list_(pa.string(), 5)
    ),
    "chunks": pa.chunked_array([pa.array(LISTS)[:1], pa.array(LISTS)[1:]]),
}  # fmt: skip


@pytest.mark.parametrize("kind", MULTIPLE)
def test_each_of_n_values_is_1_over_the_root_of_n_and_repeated_ones_count_once(kind: str) -> None:
    table = from_columns(x=MULTIPLE[kind])
    half, third = np.sqrt([1 / 2, 1 / 3])
    expected = np.array([[half, half, 0], [0, 0, 0], [half, 0, half], [third, third, third]], np.float32)
    assert table.names == ("x=a", "x=b", "x=c")
    assert table.left_out == ("x: 1 of 4 values occurs once",)
    np.testing.assert_array_equal(dense(table), expected.round(6))


def test_integers_in_lists_are_ordered_as_integers() -> None:
    for kind in (pa.int8(), pa.uint32(), pa.int64()):
        table = from_columns(x=pa.array([[10, 9], [9], [10], [10, 10]], pa.list_(kind)))
        assert table.names == ("x=9", "x=10")
        assert (dense(table) > 0).tolist() == [[True, False], [False, True], [True, True], [False, True]]
    assert from_columns(x=pa.array([[2**64 - 1]] * 3 + [[]], pa.list_(pa.uint64()))).names == (f"x={2**64 - 1}",)


def test_a_value_that_a_single_id_has_twice_is_left_out() -> None:
    table = from_columns(x=["a|z|z", "a", "b", "b|a"])
    assert table.names == ("x=a", "x=b")
    assert table.left_out == ("x: 1 of 3 values occurs once",)
    assert column(table, "x=a") == [1, 0, 1, np.float32(np.sqrt(0.5)).round(6)]


def test_columns_without_information_are_left_out_and_named() -> None:
    table = from_columns(
        kept=[1, 2, 3, 4],
        same=[1995, 1995, None, 1995],
        land=["US"] * 4,
        mixed=["US", "US|x", "US|y", "US"],
        missing=pa.array([None] * 4, pa.string()),
        untyped=[None] * 4,
        blank=["", " ", None, ""],
        title=["a", "b", "c", "d"],
        only=["a", None, None, None],
        bytes=[b"a", b"b", None, b"b"],
        views=pa.array([b"a", b"b", None, b"b"], pa.binary_view()),
        names=pa.array(pd.Categorical([b"\xff", b"a", b"a", None])),
        vectors=[[0.5], [1.5], [0.5], [1.5]],
        record=[{"a": 1}] * 4,
        some=["US", "US", None, "US"],
        __index_level_0__=[0, 1, 2, 3],
    )
    assert table.names == ("kept", "some=US")
    assert table.left_out == (
        "__index_level_0__: row labels of a pandas frame",
        "same: constant (1995)",
        "land: constant (US)",
        "mixed: constant (US), 2 of 3 values occur once",
        "missing: no values",
        "untyped: no values",
        "blank: no values",
        "title: all 4 categories occur once",
        "only: its only value occurs once",
        "bytes: values of type binary",
        "views: values of type binary_view",
        "names: values of type dictionary<values=binary, indices=int8, ordered=0>",
        "vectors: values of type list<item: double>",
        "record: values of type struct<a: int64>",
    )


CONTENT = pa.table(
    {
        "movieId": [7, 3, 5, 4, 1],
        "year": [1990, 1995, None, 2001, 1990],
        "score": [0.5, None, 3.25, 1e-3, 4.0],
        "new": [True, False, None, True, False],
        "seen": [datetime.date(1999, 1, 1), None, datetime.date(2001, 2, 3), datetime.date(1970, 1, 1), None],
        "at": pa.array([10**9, 10**9 + 1, None, 0, 7], pa.timestamp("s")),
        "land": ["US", "FR", "US", None, "IT"],
        "genres": ["Action|Comedy", "Comedy", None, "Comedy|Drama|Action", "War"],
        "code": [5, 5, 5, 5, 5],
    }
)


def _as_csv(path: Path, delimiter: str) -> Path:
    pyarrow.csv.write_csv(CONTENT, path, pyarrow.csv.WriteOptions(delimiter=delimiter))
    if delimiter == "\t":
        path.write_text(path.read_text().replace('"', ""))  # between tabs the loader treats quotes as letters
    return path


@pytest.mark.parametrize("name", ["parquet", "folder", "csv", "tsv", "pandas", "Arrow", "shuffled"])
def test_every_format_gives_the_same_features(tmp_path: Path, name: str) -> None:
    expected = features_from_frame(CONTENT, role="item")
    assert expected.names == ("year", "score", "new", "seen", "at", "land=US", "genres=Action", "genres=Comedy")
    if name in ("parquet", "folder"):
        path = tmp_path / "a.parquet"
        pq.write_table(CONTENT, path)
        table = read_features(path if name == "parquet" else tmp_path, role="item")
    elif name in ("csv", "tsv"):
        table = read_features(_as_csv(tmp_path / "a", {"csv": ",", "tsv": "\t"}[name]), role="item")
    else:
        frames = {
            "pandas": CONTENT.to_pandas,
            "Arrow": lambda: CONTENT,
            "shuffled": lambda: CONTENT.take([4, 1, 0, 3, 2]),
        }
        table = features_from_frame(frames[name](), role="item")
    if name == "shuffled":
        assert table.names == expected.names
        np.testing.assert_allclose(dense(table), dense(expected), atol=2e-6)
    else:
        assert parts(table) == parts(expected)


def test_pandas_categories_nan_and_columns_named_by_numbers_are_read() -> None:
    frame = pd.DataFrame({"user": ["b", "a", "c"], 0: [1.0, np.nan, 3.0]})
    frame["kind"] = pd.Categorical(["x", "x", None])
    frame["tags"] = pd.Series([["p", "q"], ["p"], np.array(["q"])])
    table = features_from_frame(frame, role="user")
    assert table.names == ("0", "kind=x", "tags=p", "tags=q")
    assert column(table, "0") == [0, -1, 1]
    assert column(table, "kind=x") == [1, 1, 0]


def test_fractions_after_many_integers_in_a_text_file_are_numbers(tmp_path: Path) -> None:
    """Arrow infers the type from the first block of a file; another type later would make the whole column text."""
    path = tmp_path / "a.csv"
    rows = 300_000
    path.write_text("id,x\n" + "".join(f"{1_000_000_000_000 + row},{row % 2}\n" for row in range(rows)) + "5,0.5\n")
    assert path.stat().st_size > 1 << 22
    table = read_features(path, role="user")
    assert table.names == ("x",)
    np.testing.assert_allclose(table.values[:3], [0, -1, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("names", "role", "found"),
    [
        (["userId", "id", "x"], "user", "userId"),
        (["x", "Movie ID", "item_id"], "item", "item_id"),
        (["x", "movieId"], "item", "movieId"),
        (["x", "ID"], "item", "ID"),
        (["x", "ID"], "user", "ID"),
    ],
)
def test_the_ids_are_recognised_by_the_name_of_their_column(names: list[str], role: Any, found: str) -> None:
    frame = pa.table({name: [1, 2] if name == found else [5, 6] for name in names})
    table = features_from_frame(frame, role=role)
    assert table.vocabulary.entries.to_pylist() == [1, 2]
    assert table.names == tuple(name for name in names if name != found)


def test_columns_can_be_chosen_and_come_in_that_order() -> None:
    frame = pa.table({"who": IDS, "b": [1, 2, 3, 4], "a": [4, 3, 2, 1], "__index_level_0__": [0, 2, 1, 3]})
    table = features_from_frame(frame, role="user", id_column="who", columns=["a", "b", "a"])
    assert table.names == ("a", "b")
    chosen = features_from_frame(frame, role="user", id_column="who", columns=["__index_level_0__"])
    assert (chosen.names, chosen.left_out) == (("__index_level_0__",), ())


def test_ids_can_be_read_as_strings(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,x\n007,1\n8,2\n")
    assert read_features(path, role="user", ids="integer").vocabulary.entries.to_pylist() == [7, 8]
    assert read_features(path, role="user", ids="string").vocabulary.entries.to_pylist() == ["007", "8"]


TEXT_FAULTS: dict[str, tuple[list[str], str]] = {
    "no names": (["1::Toy Story::Comedy", "2::Heat::Crime"], r"does not hold column names \(saw values in the"),
    "twice": (["id,x", "4,1", "3,2", "4,3"], r"column id: id occurs twice \(saw 4 in row 0 \(line 2\) and row 2"),
    "null id": (["id,x", "4,1", ",2"], r"column id, row 1 \(line 3\): null id \(saw null, one of 1 in the column\)"),
    "NaN": (["id,x", "4,1", "3,", "2,nan"], r"column x, row 2 \(line 4\): feature is not finite \(saw nan\)"),
    "infinite": (["id,x", "4,1.5", "3,inf"], r"column x, row 1 \(line 3\): feature is not finite \(saw inf\)"),
    "empty": (["id,x"], "no rows in the table; give at least one row"),
    "no ids": (["a,b", "c,d"], r"no column is recognised as the user ids \(saw columns a, b\); call it user_id,"),
    "two of a name": (["id,x,x", "1,2,3"], r"two columns of the same name \(saw 'x'\); rename one"),
    "float ids": (["id,x", "1.5,1"], r"column id, row 0 \(line 2\): id is not a whole number \(saw 1.5\)"),
    "nothing left": (["id,x,y", "1,a,5", "2,b,5"], r"no feature is left \(saw x: all 2 categories occur once; y"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXT_FAULTS)
def test_faults_of_text_name_file_column_line_and_value(tmp_path: Path, name: str) -> None:
    lines, message = TEXT_FAULTS[name]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + message):
        read_features(path, role="user")


FRAME_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "twice": ({"ids": ["b", "a", "a", "b"]}, r"column item_id: id occurs twice \(saw 'a' in row 1 and row 2\)"),
    "null id": ({"ids": [1, 2, None, 4]}, "column item_id, row 2: null id"),
    "NaN": ({"x": [1, None, np.nan, 4]}, r"column x, row 2: feature is not finite \(saw nan\)"),
    "infinite": ({"x": [1, None, 2, -np.inf]}, r"column x, row 3: feature is not finite \(saw -inf\)"),
    "empty": ({"ids": [], "x": []}, "no rows in the table; give at least one row"),
    "ids alone": ({}, r"no feature column \(saw columns item_id\); give at least one besides the ids"),
    "labels alone": ({"__index_level_0__": IDS}, r"no feature is left \(saw __index_level_0__: row labels of a"),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAME_FAULTS)
def test_faults_of_frames_name_column_row_and_value(name: str) -> None:
    columns, message = FRAME_FAULTS[name]
    columns = {"x": [1, 2, 3, 4], **columns} if "ids" in columns else columns
    with pytest.raises(DataError, match="^frame.*" + message):
        from_columns(**columns)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"columns": ["yeer"]}, DataError, r"frame: no feature column 'yeer'; did you mean 'year'"),
        ({"columns": ["item_id"]}, DataError, r"frame: no feature column 'item_id'; .*year, x"),
        ({"columns": []}, DataError, r"frame: no feature column \(saw no columns chosen\)"),
        ({"id_column": "item_di"}, DataError, r"frame: no column 'item_di'; did you mean 'item_id'"),
        ({"role": "items"}, ConfigError, r"role: unknown role \(saw items\); did you mean 'item'"),
        ({"ids": "integr"}, ConfigError, r"ids: unknown kind of ids \(saw integr\); did you mean 'integer'"),
    ],
)  # fmt: skip
def test_wrong_names_suggest_the_nearest(given: dict[str, Any], error: type[Exception], message: str) -> None:
    frame = pa.table({"item_id": IDS, "year": IDS, "x": IDS})
    with pytest.raises(error, match=message):
        features_from_frame(frame, **{"role": "item", **given})


def test_two_columns_of_a_frame_with_the_same_name_are_refused() -> None:
    frame = pd.DataFrame([[1, 2, 3]], columns=["id", "x", "x"])
    with pytest.raises(DataError, match=r"frame: two columns of the same name \(saw 'x'\); rename one"):
        features_from_frame(frame, role="user")


def test_the_genres_of_movielens_are_read(data_dir: Path) -> None:
    path = data_dir / "ml-100k.movies.parquet"
    raw = pq.read_table(path).to_pydict()
    table = read_features(path, role="item")
    assert table.left_out == ("title: 1,646 of 1,664 categories occur once",)
    assert [name for name in table.names if name.startswith("genres=")] == sorted(
        f"genres={genre}" for genre in {genre for text in raw["genres"] for genre in text.split("|")}
    )
    genres = dict(zip(raw["item_id"], raw["genres"], strict=True))
    for row, known in enumerate(table.vocabulary.entries.to_pylist()):
        entries = slice(*table.starts[row : row + 2])
        held = {table.names[j]: value for j, value in zip(table.columns[entries], table.values[entries], strict=True)}
        expected = {f"genres={genre}" for genre in genres[known].split("|")}
        assert {name for name in held if not name.startswith("title=")} == expected
        assert all(held[name] == np.float32(1 / np.sqrt(len(expected))) for name in expected)


def test_a_table_whose_titles_are_all_different_keeps_its_genres(data_dir: Path) -> None:
    table = read_features(data_dir / "ml-1m.movies.parquet", role="item")
    assert table.left_out == ("title: all 3,883 categories occur once",)
    assert len(table.names) == 18
