"""Tables of JSON objects: pairs to predict, invalid values, and the line that an error names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys_mf.errors import DataError
from recsys_mf.loaders import json_lines, read_ratings
from recsys_mf.streaming import Wanted, predict_file
from tests.trained import small_run

GOOD = {"user_id": 1, "item_id": 2, "rating": 3}
USERS, ITEMS = [5, 5, 777, 8], [100, 102, 100, 104]


def written(path: Path, objects: Sequence[Any], *, between: str = "\n") -> Path:
    path.write_text(between.join(map(json.dumps, objects)))
    return path


@pytest.mark.parametrize("as_array", [False, True])
def test_pairs_in_json_are_predicted_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_array: bool
) -> None:
    monkeypatch.setattr(json_lines, "_ROWS", 3)
    pairs = [{"user_id": user, "item_id": item} for user, item in zip(USERS, ITEMS, strict=True)]
    path = written(tmp_path / "pairs.json", [pairs] if as_array else pairs)
    counts = predict_file(small_run(), path, tmp_path / "out.parquet", wanted=Wanted(device="cpu"))
    assert counts == {"neither": 0, "user": 0, "item": 1, "both": 3}
    found = pq.read_table(tmp_path / "out.parquet")
    assert found["user_id"].to_pylist() == USERS
    np.testing.assert_array_equal(found["prediction"].to_numpy(), small_run().predict(USERS, ITEMS))


def test_a_pair_of_another_type_than_the_ones_before_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "pairs.jsonl", [{"user_id": 5, "item_id": 100}] * 30_000 + [{"user_id": "x"}])
    with pytest.raises(
        DataError, match=r"pairs.jsonl: a value has another type than those before \(saw .*use one type"
    ):
        predict_file(small_run(), path, tmp_path / "out.csv", wanted=Wanted(device="cpu"))
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (GOOD | {"user_id": 2**70}, "t.jsonl, column user_id: integers beyond 64 bits; write them as strings"),
        (
            GOOD | {"user_id": "x"},
            r"t.jsonl, column user_id, line 2: not of type int like the values before \(saw 'x'\); use one type",
        ),
        (
            GOOD | {"rating": True},
            r"t.jsonl, column rating, line 2: not of type int like the values before \(saw True\)",
        ),
        (GOOD | {"item_id": None}, r"t.jsonl, column item_id, row 1 \(line 2\): null id"),
        ([1], r"t.jsonl, line 2: not a JSON object \(saw \[1\]\); write one per line: {"),
        (7, r"t.jsonl, line 2: not a JSON object \(saw 7\)"),
    ],
)
def test_an_object_that_is_not_a_rating_is_named_by_its_line(tmp_path: Path, second: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_ratings(written(tmp_path / "t.jsonl", [GOOD, second]))


def test_empty_lines_count_as_lines_and_not_as_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl", [GOOD, GOOD | {"item_id": None}], between="\n\n")
    with pytest.raises(DataError, match=r"column item_id, row 1 \(line 3\): null id"):
        read_ratings(path)


def test_objects_that_are_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(GOOD) + '\n{"a":' + "[" * 200_000)
    with pytest.raises(DataError, match=r"t.jsonl: the JSON is nested too deeply; write one flat object per line"):
        read_ratings(path)


def test_the_largest_ids_of_64_bits_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl", [GOOD, GOOD | {"item_id": 2**63 - 1}])
    assert read_ratings(path).item_vocabulary.entries.to_pylist() == [2, 2**63 - 1]


@pytest.mark.parametrize("other", ["x", True])
def test_parts_of_other_types_are_refused(tmp_path: Path, other: Any) -> None:
    (tmp_path / "parts").mkdir()
    written(tmp_path / "parts" / "a.jsonl", [GOOD])
    written(tmp_path / "parts" / "b.jsonl", [GOOD | {"user_id": other}])
    with pytest.raises(
        DataError, match=r"parts, column user_id: the parts hold values of different types \(saw .*int64"
    ):
        read_ratings(tmp_path / "parts")
