"""Every format gives the same Ratings, and every fault is named with file, column, row and value."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_mf.errors import ConfigError, DataError
from recsys_mf.loaders import LOADERS, describe, from_frame, from_matrix, open_source, read_ratings
from recsys_mf.ratings import Ratings

USERS, ITEMS, VALUES, TIMES = [10, 10, 7, 3], [5, 2, 5, 9], [4.0, 0.0, 3.5, 1.0], [100, 200, 300, 400]


def written(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def text(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def rows(table: Ratings) -> list[tuple[Any, ...]]:
    users, items = table.user_vocabulary.ids(table.users), table.item_vocabulary.ids(table.items)
    times = [None] * len(table) if table.times is None else table.times.tolist()
    return list(zip(users.to_pylist(), items.to_pylist(), table.values.tolist(), times, strict=True))


NAMES = ("user_id", "item_id", "rating", "timestamp")
ROWS = list(zip(USERS, ITEMS, VALUES, TIMES, strict=True))


def _as(path: Path, delimiter: str, header: str | None) -> Path:
    body = [delimiter.join(map(str, row)) for row in ROWS]
    return text(path, *([header] if header else []), *body)


FORMATS = {
    "parquet": lambda d: written(d / "a.parquet", user_id=USERS, item_id=ITEMS, rating=VALUES, timestamp=TIMES),
    "ratings.csv": lambda d: _as(d / "ratings.csv", ",", "userId,movieId,rating,timestamp"),
    "tsv": lambda d: _as(d / "a.tsv", "\t", "user\titem\tvalue\ttime"),
    "semicolons": lambda d: _as(d / "a.csv", ";", "User_ID;Movie;Score;Date"),
    "u.data": lambda d: _as(d / "u.data", "\t", None),
    "ratings.dat": lambda d: _as(d / "ratings.dat", "::", None),
    "JSON lines": lambda d: text(d / "a.jsonl", *(json.dumps(dict(zip(NAMES, row, strict=True))) for row in ROWS)),
    "byte order mark": lambda d: _as(d / "a.csv", ",", "\ufeffuser_id,item_id,rating,timestamp"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    assert rows(read_ratings(FORMATS[name](tmp_path))) == ROWS


def test_compressed_text_is_read(tmp_path: Path) -> None:
    plain = FORMATS["ratings.csv"](tmp_path)
    packed = tmp_path / "ratings.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert rows(read_ratings(packed)) == ROWS


@pytest.mark.parametrize("name", LOADERS)
def test_the_format_is_recognised_by_content_not_by_suffix(tmp_path: Path, name: str) -> None:
    made = {"parquet": FORMATS["parquet"], "json": FORMATS["JSON lines"], "text": FORMATS["ratings.csv"]}
    source = made[name](tmp_path)
    bare = source.rename(tmp_path / "table")
    assert isinstance(open_source(bare), LOADERS[name])
    assert rows(read_ratings(bare)) == ROWS


def test_folder_tree_and_glob_are_read_in_path_order(tmp_path: Path) -> None:
    for number, (year, part) in enumerate((("2020", "b"), ("2020", "a"), ("2021", "c"), ("2021", "d"))):
        folder = tmp_path / f"year={year}"
        folder.mkdir(exist_ok=True)
        user, item, value, _ = ROWS[number]
        written(folder / f"{part}.parquet", user=[user], item=[item], rating=[value])
    expected = [ROWS[n][:3] for n in (1, 0, 2, 3)]
    for path in (tmp_path, tmp_path / "*" / "*.parquet"):
        assert [row[:3] for row in rows(read_ratings(path))] == expected
    assert [row[:3] for row in rows(read_ratings(tmp_path / "year=2020"))] == expected[:2]
    partitioned = read_ratings(tmp_path, item_column="year", duplicates="mean")
    assert partitioned.item_vocabulary.entries.to_pylist() == [2020, 2021]


@pytest.mark.parametrize("width", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_ids_of_every_integer_width_are_read(tmp_path: Path, width: str) -> None:
    path = written(
        tmp_path / "a.parquet", user_id=np.array(USERS, width), item_id=np.array(ITEMS, width), rating=VALUES
    )
    assert [row[:3] for row in rows(read_ratings(path))] == [row[:3] for row in ROWS]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_string_ids_of_every_arrow_type_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    users = pa.array(["zoë", "a", "a", ""]).cast(kind)
    path = written(tmp_path / "a.parquet", user_id=users, item_id=ITEMS, rating=VALUES)
    assert [row[0] for row in rows(read_ratings(path))] == ["zoë", "a", "a", ""]


@pytest.mark.parametrize("kind", ["int8", "int64", "float16", "float64", "decimal"])
def test_ratings_of_every_numeric_type_are_read(tmp_path: Path, kind: str) -> None:
    values: Any = pa.array([1, 2, 0, -3])
    values = values.cast(pa.decimal128(30, 2)) if kind == "decimal" else np.array([1, 2, 0, -3], kind)
    path = written(tmp_path / "a.parquet", user_id=USERS, item_id=ITEMS, rating=values)
    assert read_ratings(path).values.tolist() == [1, 2, 0, -3]


def times_of(path: Path) -> list[int]:
    """The times as they are read."""
    times = read_ratings(path).times
    assert times is not None
    return [int(time) for time in times]


@pytest.mark.filterwarnings("ignore:.*fractions of a second:recsys_mf.errors.ReadingNotice")
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_datetimes_become_seconds_in_utc(tmp_path: Path, unit: str) -> None:
    moment = pd.to_datetime(["2020-01-01T00:00:00.9"] * 4)
    times = pa.array(moment).cast(pa.timestamp(unit), safe=False)
    path = written(tmp_path / "a.parquet", user_id=USERS, item_id=ITEMS, rating=VALUES, time=times)
    assert times_of(path) == [1577836800] * 4
    zoned = pa.array(moment.tz_localize("Europe/Berlin"))
    path = written(tmp_path / "b.parquet", user_id=USERS, item_id=ITEMS, rating=VALUES, time=zoned)
    assert times_of(path) == [1577836800 - 3600] * 4


@pytest.mark.filterwarnings("ignore:.*fractions of a second:recsys_mf.errors.ReadingNotice")
def test_dates_and_fractions_of_seconds_are_times(tmp_path: Path) -> None:
    lines = [f"{user},{item},{value},2020-01-02" for user, item, value, _ in ROWS]
    assert times_of(text(tmp_path / "a.csv", "user,item,rating,date", *lines)) == [1577923200] * 4
    path = written(tmp_path / "a.parquet", user_id=USERS, item_id=ITEMS, rating=VALUES, time=[1.5, -0.5, 2.0, 3.0])
    assert times_of(path) == [1, -1, 2, 3]


def test_columns_can_be_named_and_times_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", who=USERS, what=ITEMS, stars=VALUES, rating=[9] * 4, when=TIMES)
    named: dict[str, Any] = {"user_column": "who", "item_column": "what", "rating_column": "stars"}
    assert rows(read_ratings(path, **named, time_column="when")) == ROWS
    assert read_ratings(path, **named).times is None
    again = FORMATS["parquet"](tmp_path)
    assert read_ratings(again, time_column="none").times is None


def test_a_column_of_integers_and_text_is_text(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "user,item,rating", "1,2,3", "u2,2,1")
    assert read_ratings(path).user_vocabulary.entries.to_pylist() == ["1", "u2"]


def test_ids_can_be_read_as_strings_or_integers(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "user,item,rating", "007,2,3")
    assert read_ratings(path, ids="integer").user_vocabulary.entries.to_pylist() == [7]
    assert read_ratings(path, ids="string").user_vocabulary.entries.to_pylist() == ["007"]
    strings = written(tmp_path / "a.parquet", user_id=["10", "2"], item_id=["1", "1"], rating=[1, 2])
    assert read_ratings(strings, ids="integer").user_vocabulary.entries.to_pylist() == [2, 10]
    integers = written(tmp_path / "b.parquet", user_id=[10, 2], item_id=[1, 1], rating=[1, 2])
    assert read_ratings(integers, ids="string").user_vocabulary.entries.to_pylist() == ["10", "2"]


def test_frames_and_tables_are_read_like_files() -> None:
    frame = pd.DataFrame({"user_id": USERS, "movieId": ITEMS, "rating": VALUES, "timestamp": TIMES})
    assert rows(from_frame(frame)) == ROWS
    assert rows(from_frame(pa.Table.from_pandas(frame))) == ROWS
    assert rows(from_frame(frame.astype({"user_id": "category"}))) == ROWS


MATRIX = np.array([[1.0, np.nan, 0.0], [np.nan, np.nan, np.nan], [2.0, 3.0, np.nan]])


@pytest.mark.parametrize("of", [np.asarray, torch.tensor, pd.DataFrame])
def test_a_matrix_keeps_its_zeros_and_leaves_out_nan(of: Any) -> None:
    expected = [(0, 0, 1.0, None), (0, 2, 0.0, None), (2, 0, 2.0, None), (2, 1, 3.0, None)]
    assert rows(from_matrix(of(MATRIX))) == expected
    filled = of(np.nan_to_num(MATRIX, nan=99.0))
    assert rows(from_matrix(filled, of(~np.isnan(MATRIX)))) == expected


def test_the_index_and_columns_of_a_frame_are_ids() -> None:
    frame = pd.DataFrame(MATRIX, index=["x", "y", "z"], columns=["a", "b", "c"])
    assert rows(from_matrix(frame))[-1] == ("z", "b", 3.0, None)


@pytest.mark.parametrize(
    ("matrix", "mask", "message"),
    [
        (MATRIX[0], None, r"A: not a matrix of numbers \(saw float64 \(3,\)\)"),
        (np.array([["a"]]), None, "A: not a matrix of numbers"),
        (MATRIX, MATRIX, r"mask: the mask does not fit the matrix \(saw float64 \(3, 3\)\); give bool \(3, 3\)"),
        (MATRIX, np.ones((3, 3), bool), r"A\[0, 1\]: rating is not finite \(saw nan\)"),
        (MATRIX[1:2], None, "A: no ratings in the table"),
    ],
)
def test_faults_of_a_matrix_are_named(matrix: Any, mask: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_matrix(matrix, mask)


HEAD = "user,item,rating"
TEXT_FAULTS = {
    "null rating": ([HEAD, "1,2,3", "1,3,"], r"column rating, row 1 \(line 3\): null rating \(saw null, one of 1"),
    "null id": ([HEAD, ",2,3"], r"column user, row 0 \(line 2\): null id"),
    "null time": ([HEAD + ",time", "1,2,3,4", "1,3,3,"], r"column time, row 1 \(line 3\): null time"),
    "NaN": ([HEAD, "1,2,nan"], r"column rating, row 0 \(line 2\): rating is not finite \(saw nan\)"),
    "text": ([HEAD, "1,2,3", "1,3,good"], r"column rating, row 1 \(line 3\): rating is text.*saw 'good'"),
    "text time": ([HEAD + ",time", "1,2,3,noon"], r"column time, row 0 \(line 2\): text is not a time \(saw 'noon'\)"),
    "empty": ([HEAD], "no ratings in the table"),
    "no lines": ([], "no ratings in the table"),
    "short row": (
        [HEAD, "1,2,3", "1,2"],
        r"line 3: cannot be read as a text table: a line has 2 fields, but the table has 3",
    ),
    "no delimiter": (["hello"], r"no delimiter in the first line \(saw 'hello'\)"),
    "unknown names": (["a,b,c", "1,2,3"], r"no column is recognised as the user ids \(saw columns a, b, c\)"),
    "twice": (["user,user,rating", "1,2,3"], r"two columns of the same name \(saw 'user'\)"),
    "duplicates": (
        [HEAD, "1,2,3", "1,3,3", "1,2,4"],
        r"1 duplicate .* pairs \(saw user 1, item 2 in rows 0 and 2; 1 of 1 have",
    ),
    "float ids": ([HEAD, "1.5,2,3"], r"column user, row 0 \(line 2\): id is not a whole number \(saw 1.5\); store"),
}


@pytest.mark.parametrize("name", TEXT_FAULTS)
def test_faults_of_text_name_file_column_line_and_value(tmp_path: Path, name: str) -> None:
    lines, message = TEXT_FAULTS[name]
    path = text(tmp_path / "a.csv", *lines)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + message):
        read_ratings(path)


PARQUET_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "missing column": ({"thing": ITEMS}, r"no column is recognised as the item ids \(saw columns user_id, rating, t"),
    "null rating": ({"item_id": ITEMS, "rating": [1.0, None, 2.0, 3.0]}, "column rating, row 1: null rating"),
    "infinite": ({"item_id": ITEMS, "rating": [1.0, 2.0, np.inf, 3.0]}, r"row 2: rating is not finite \(saw inf\)"),
    "too large": ({"item_id": ITEMS, "rating": [1.0, 2.0, 1e39, 3.0]}, r"row 2: rating is not finite \(saw 1e\+39\)"),
    "text": ({"item_id": ITEMS, "rating": ["1", "2", "3", "x"]}, "row 3: rating is text.*saw 'x'"),
    "lists": ({"item_id": ITEMS, "rating": [[1]] * 4}, r"column rating: ratings are not numbers \(saw type list"),
    "null id": ({"item_id": [1, 2, None, 3]}, "column item_id, row 2: null id"),
    "list of ids": ({"item_id": [[1]] * 4}, r"column item_id: ids must be integers or text \(saw type list<.*--ids"),
    "infinite time": ({"item_id": ITEMS, "time": [1.0, np.nan, 1.0, 1.0]}, "column time, row 1: time is not finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", PARQUET_FAULTS)
def test_faults_of_parquet_name_file_column_row_and_value(tmp_path: Path, name: str) -> None:
    columns, message = PARQUET_FAULTS[name]
    path = written(tmp_path / "a.parquet", **{"user_id": USERS, "rating": VALUES, **columns})
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + message):
        read_ratings(path)


@pytest.mark.parametrize("kind", ["parquet", "ratings.csv", "JSON lines"])
def test_a_readme_beside_the_parts_is_not_a_part(tmp_path: Path, kind: str) -> None:
    path = FORMATS[kind](tmp_path)
    for name in ("README.md", "LICENSE", "readme.txt"):
        (tmp_path / name).write_text("about\nthe,table\n")
    assert rows(read_ratings(path.parent)) == ROWS


def test_a_fault_in_a_folder_names_the_part(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", user_id=[1, 2], item_id=[1, 2], rating=[1.0, 2.0])
    written(tmp_path / "b.parquet", user_id=[3, 4], item_id=[1, 2], rating=[1.0, None])
    with pytest.raises(DataError, match=r"column rating, .*b\.parquet, row 1: null rating"):
        read_ratings(tmp_path)


def test_damaged_foreign_and_missing_files_are_named(tmp_path: Path) -> None:
    whole = FORMATS["parquet"](tmp_path).read_bytes()
    truncated, foreign, noise = tmp_path / "t.parquet", tmp_path / "f.parquet", tmp_path / "noise"
    truncated.write_bytes(whole[: len(whole) // 2])
    foreign.write_text("user_id,item_id,rating\n1,2,3\n")
    noise.write_bytes(b"\xff\xfe\x00\x01" * 100)
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, message in (
        (truncated, "t.parquet: cannot be read as Parquet: truncated"),
        (foreign, r"f.parquet: not a Parquet file \(saw first bytes b'user'\)"),
        (noise, "noise: no delimiter in the first line"),
        (tmp_path / "nothing.csv", "nothing.csv: no such file"),
        (empty, "empty: no table in the folder"),
    ):
        with pytest.raises(DataError, match=message):
            read_ratings(path)


def test_wrong_names_suggest_the_nearest(tmp_path: Path) -> None:
    path = FORMATS["parquet"](tmp_path)
    with pytest.raises(DataError, match="no column 'user_di'; did you mean 'user_id'"):
        read_ratings(path, user_column="user_di")
    with pytest.raises(ConfigError, match=r"unknown kind of ids \(saw integr\); did you mean 'integer'"):
        read_ratings(path, ids="integr")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"column user_id, row 1 .*id is not an integer \(saw 'u'\)"):
        read_ratings(text(tmp_path / "a.csv", "user_id,item,rating", "1,1,1", "u,1,1"), ids="integer")
    with pytest.raises(DataError, match=r"frame: not a table \(saw list\)"):
        from_frame([1, 2])
    with pytest.raises(DataError, match="frame, column user: not a column of values of one type"):
        from_frame(pd.DataFrame({"user": ["a", 1], "item": [1, 1], "rating": [1, 2]}))


@pytest.mark.parametrize(
    ("role", "name", "others"),
    [
        ("time", "rating", "ratings and times"),
        ("item", "user", "users and items"),
        ("rating", "item", "items and ratings"),
    ],
)
def test_a_column_named_for_two_roles_is_an_error(tmp_path: Path, role: str, name: str, others: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("user,item,rating\n1,2,3\n")
    with pytest.raises(DataError, match=rf"one column cannot be two things \(saw '{name}' for {others}\)"):
        read_ratings(path, **cast(Any, {f"{role}_column": name}))


def test_a_description_counts_the_faults_that_reading_refuses(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.parquet",
        user_id=["a", "a", None, "b", "b", "c"],
        item_id=[1, 1, 1, 2, 3, 3],
        rating=[1.0, 2.0, 3.0, np.nan, None, 5.0],
        timestamp=[0, 60, 1, 1, 1, 86400],
    )
    facts = describe(path)
    assert (facts.rows, facts.usable_rows, facts.duplicates, facts.not_finite) == (6, 3, 1, 1)
    assert facts.nulls == {"user": 1, "item": 0, "rating": 1, "time": 0}
    assert (facts.users, facts.items, facts.user_ids, facts.item_ids) == (2, 2, "string", "integer")
    assert facts.density == 2 / 4
    assert facts.scale["lowest"] == 1
    assert facts.levels == 3
    assert facts.time_range == ("1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z")
    assert facts.user_degrees[100] == 2


def test_a_description_needs_numbers_and_a_usable_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"column rating, row 0: rating is text, not a number \(saw 'x'\)"):
        describe(written(tmp_path / "a.parquet", user_id=[1], item_id=[1], rating=["x"]))
    with pytest.raises(DataError, match=r"no usable ratings in the table \(saw 1 rows\)"):
        describe(written(tmp_path / "a.parquet", user_id=[1], item_id=[1], rating=[np.nan]))


def test_movielens_1m_has_its_published_counts(data_dir: Path) -> None:
    table = read_ratings(data_dir / "ml-1m.parquet")
    assert (len(table), table.n_users, table.n_items, table.rating_range) == (1_000_209, 6040, 3706, (1.0, 5.0))
