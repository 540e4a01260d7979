"""If nearly all pairs are unknown, evaluation and prediction give a warning that says what differs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mf import evaluate, hold_out, train
from recsys_mf.errors import DataError, IdMismatchWarning
from recsys_mf.loaders import from_frame, read_ratings
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.solvers import Mean
from recsys_mf.splits import Split, given
from recsys_mf.streaming import Wanted, predict_file
from recsys_mf.vocabulary import Vocabulary

N = 40


def trained(ids: list[str]) -> Run:
    table = Ratings.from_ids(ids, [f"i{n}" for n in range(N)], np.arange(N) % 5)
    return train(hold_out(table, 0), Mean(), validation=0, device="cpu")


UUIDS = [f"{n:08x}-0000-4000-8000-abcdefabcdef" for n in range(N)]
SPELT: dict[str, tuple[list[str], list[str], str]] = {
    "blanks": ([f"u{n}" for n in range(N)], [f" u{n} " for n in range(N)], r"spaces around them \(' u\d+ ' here"),
    "quotes": ([f"u{n}" for n in range(N)], [f'"u{n}"' for n in range(N)], "quotes around them"),
    "case": (UUIDS, [u.upper() for u in UUIDS], "upper and lower case"),
    "zeros": ([f"{n + 1:05}" for n in range(N)], [f"{n + 1}" for n in range(N)], "leading zeros"),
    "fraction": ([f"{n + 1}" for n in range(N)], [f"{n + 1}.0" for n in range(N)], "a decimal part of zeros"),
    "hyphens": (UUIDS, [u.replace("-", "") for u in UUIDS], "hyphens and braces"),
    "several": (UUIDS, [f" {{{u.upper()}}}" for u in UUIDS], "spaces, quotes, case, zeros or hyphens"),
    "nothing alike": (
        UUIDS,
        [f"x{n}" for n in range(N)],
        "this table has user id 'x0'.*check that both write ids in the same way",
    ),
}


@pytest.mark.parametrize("name", SPELT)
def test_prediction_and_evaluation_say_how_unknown_ids_differ(tmp_path: Path, name: str) -> None:
    known, asked, message = SPELT[name]
    run = trained(known)
    columns: dict[str, Any] = {"user": asked, "item": [f"i{n}" for n in range(N)], "rating": [1.0] * N}
    pq.write_table(pa.table(columns), tmp_path / "pairs.parquet")
    with pytest.warns(IdMismatchWarning, match=message) as said:
        predict_file(run, tmp_path / "pairs.parquet", tmp_path / "out.parquet", wanted=Wanted(device="cpu"))
    assert len(str(said[0].message)) <= 400
    test = read_ratings(tmp_path / "pairs.parquet", like=run)
    with pytest.warns(IdMismatchWarning, match=message.replace("this table", "the test table")):
        evaluate(run, test, device="cpu")


def test_ids_are_read_as_the_type_of_those_of_the_run() -> None:
    run = trained([str(n) for n in range(N)])
    frame = {"user": list(range(N)), "item": [f"i{n}" for n in range(N)], "rating": [1.0] * N}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = from_frame(frame, like=run)
    assert table.reindexed(run.user_vocabulary, run.item_vocabulary).users.min() == 0


def test_the_largest_integers_are_known_to_the_vocabulary_that_holds_them() -> None:
    for ids in ([2**63 - 3, 2**63 - 1, 2**63 - 2], [-(2**63), 2 - 2**63, 1 - 2**63]):
        vocabulary, indices = Vocabulary.encode(ids)
        assert indices.min() == 0
        assert vocabulary.indices(ids).tolist() == indices.tolist()
        assert vocabulary.indices([0, ids[0] // 2, -(2**63), 2**63 - 1]).tolist()[:2] == [-1, -1]


@pytest.mark.parametrize("take", ["by_user", "by_item", "without_duplicates", "hold_out", "train", "given"])
def test_unknown_ids_never_enter_training(take: str) -> None:
    known = Ratings.from_ids([1, 2, 3], [1, 2, 3], [1, 2, 3])
    test = given(known, Ratings.from_ids([1, 2, 9], [2, 3, 1], [1, 2, 3])).test
    assert test is not None
    takes: dict[str, Any] = {
        "by_user": test.by_user,
        "by_item": test.by_item,
        "without_duplicates": lambda: test.without_duplicates("last"),
        "hold_out": lambda: hold_out(test, 0),
        "train": lambda: train(Split(test, None, None, "", None), Mean()),
        "given": lambda: given(test, known),
    }
    with pytest.raises(DataError, match=r"1 unknown users, the first in row 2\); give the table as it was read"):
        takes[take]()
