"""Ids of a text table beside a run with integers: every reader takes the same ones, and refuses the same ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys_mf.errors import DataError, ReadingNotice
from recsys_mf.loaders import read_ratings
from recsys_mf.loaders.id_lists import read_ids
from recsys_mf.loaders.names import read_names
from recsys_mf.loaders.pairs import read_pairs
from recsys_mf.run import Run
from recsys_mf.streaming import predict_file
from tests.trained import small_run


def _predicted(path: Path, run: Run) -> Any:
    output = path.parent / "out.csv"
    predict_file(run, path, output, force=True)
    frame = pd.read_csv(output)
    return run.item_vocabulary.indices(frame["item_id"].astype(int))


def _rated(path: Path, run: Run) -> Any:
    table = read_ratings(path, like=run)
    return table.reindexed(run.user_vocabulary, run.item_vocabulary).items


def _named(path: Path, run: Run) -> Any:
    return np.flatnonzero(read_names(path, "item", run.item_vocabulary).is_valid().to_numpy(zero_copy_only=False))


READERS: dict[str, Callable[[Path, Run], Any]] = {
    "ratings": _rated,
    "pairs": lambda path, run: read_pairs(path, run)[1],
    "predict": _predicted,
    "names": _named,
    "ids": lambda path, run: run.item_vocabulary.indices(
        read_ids(str(path), "item", run.item_vocabulary, where="--items")
    ),
}


def written(path: Path, ids: list[str]) -> Path:
    rows = "".join(f"5,{item},3,film\n" for item in ids)
    path.write_text("user_id,item_id,rating,title\n" + rows)
    return path


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ("0104", "id with leading zeros or a plus sign; the training ids are integers"),
        ("+104", "id with leading zeros or a plus sign; the training ids are integers"),
        ("99999999999999999999999", "id beyond 64-bit integers"),
        ("x", "id is not an integer"),
        ("104.5", "id is not a whole number"),
    ],
)
def test_what_is_no_id_of_the_run_is_refused_by_every_reader(
    reader: str, wrong: str, what: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "table.csv", ["100", wrong, "102"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError) as refused:
            READERS[reader](path, small_run())
    assert refused.value.what == what
    assert f"row 1 (line 3): {what} (saw " in str(refused.value)
    assert wrong in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("ids", [["100", "102.0", "104"], ["100.0", "102.0", "104.0"], ["1e2", "102", "104"]])
def test_whole_floats_are_taken_by_every_reader_with_a_notice(reader: str, ids: list[str], tmp_path: Path) -> None:
    path = written(tmp_path / "table.csv", ids)
    with pytest.warns(ReadingNotice, match="column item_id: whole numbers of type double are read as integer ids"):
        found = READERS[reader](path, small_run())
    np.testing.assert_array_equal(found, small_run().item_vocabulary.indices([100, 102, 104]))


def test_leading_zeros_are_integers_if_asked(tmp_path: Path) -> None:
    path = written(tmp_path / "table.csv", ["0100", "+102", "104"])
    with pytest.warns(ReadingNotice, match="whole numbers of type double are read as integer ids"):
        table = read_ratings(path, like=small_run(), ids="integer")
    assert table.item_vocabulary.entries.to_pylist() == [100, 102, 104]
    predict_file(small_run(), path, tmp_path / "out.csv", ids="integer")
    assert pd.read_csv(tmp_path / "out.csv")["known"].tolist() == ["both"] * 3


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (2**63, r"user ids, row 0: id beyond 64-bit integers \(saw 9223372036854775808\); give ids as in training"),
        ([10**30], r"id beyond 64-bit integers \(saw 1000000000000000000000000000000\)"),
        ([True], r"ids of type bool, but the training ids are integers \(saw True\); give integers"),
        ([float("inf")], r"an infinite id \(saw inf\)"),
        (["5"], r"the ids are strings, but the model was trained on integer ids \(saw '5'\)"),
    ],
)
def test_ids_in_memory_that_are_no_ids_of_the_run_are_called_what_they_are(ids: Any, message: str) -> None:
    run = small_run()
    for use in (lambda: run.predict(ids, 100), lambda: run.recommend(ids, 3), lambda: run.forget(ids)):
        with pytest.raises(DataError, match=message):
            use()
