"""Predictions of test rows: every row, as it was read, with the number that was scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys_mf.errors import ConfigError
from recsys_mf.evaluation.predictions import check_predictions, join_folds, predict_rows, write_predictions
from recsys_mf.ratings import Ratings
from recsys_mf.splits import fold_numbers, k_folds
from tests.trained import posterior_run, small_run, small_split, small_table


def test_a_table_of_many_batches_is_complete_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predicted = predict_rows(small_run(), small_table())
    write_predictions(predicted, tmp_path / "one.parquet", force=False)
    monkeypatch.setattr("recsys_mf.arrays.mapped._PART", 7)
    write_predictions(predicted, tmp_path / "many.parquet", force=False)
    one, many = (pd.read_parquet(tmp_path / name) for name in ("one.parquet", "many.parquet"))
    pd.testing.assert_frame_equal(one, many)
    assert one["user_id"].tolist() == small_table().to_frame()["user_id"].tolist()
    assert one["prediction"].tolist() == small_run().predict(one["user_id"], one["item_id"]).tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.parquet", "one.parquet"]


def test_unknown_ids_are_kept_and_marked(tmp_path: Path) -> None:
    rows = Ratings.from_ids(["u5", "nobody", "u5", "nobody"], ["ü100", "ü100", "no, such", "no, such"], [1, 2, 3, 4])
    write_predictions(predict_rows(small_run(strings=True), rows), tmp_path / "p.csv", force=False)
    written = pd.read_csv(tmp_path / "p.csv")
    assert written["user_id"].tolist() == ["u5", "nobody", "u5", "nobody"]
    assert written["item_id"].tolist() == ["ü100", "ü100", "no, such", "no, such"]
    assert written["known"].tolist() == ["both", "item", "user", "neither"]


def test_times_and_intervals_are_written_if_the_model_has_them(tmp_path: Path) -> None:
    test = small_split().test_as_read
    assert test is not None
    write_predictions(predict_rows(posterior_run(), test), tmp_path / "p.parquet", force=False)
    written = pd.read_parquet(tmp_path / "p.parquet")
    names = ["user_id", "item_id", "rating", "timestamp", "prediction", "lower", "upper", "known"]
    assert list(written) == names
    assert written["prediction"].dtype == np.float32
    plain = replace(small_run(), fit=small_run().baselines["bias"])
    write_predictions(predict_rows(plain, replace(test, times=None)), tmp_path / "q.parquet", force=False)
    assert list(pd.read_parquet(tmp_path / "q.parquet")) == ["user_id", "item_id", "rating", "prediction", "known"]


def test_folds_are_joined_in_the_order_of_the_table() -> None:
    table = small_table()
    folds = fold_numbers(len(table), 4, seed=1)
    parts = [predict_rows(small_run(), split.test_as_read) for split in k_folds(table, 4, seed=1) if split.test_as_read]
    joined = join_folds(table, folds, parts)
    whole = predict_rows(small_run(), table)
    assert joined.predictions.tolist() == whole.predictions.tolist()
    assert joined.known.tolist() == whole.known.tolist()
    assert joined.folds is not None
    assert joined.folds.tolist() == (folds + 1).tolist()


def test_without_held_out_rows_there_is_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--predictions: there are no test rows to predict"):
        check_predictions(tmp_path / "p.csv", force=False, held_out=False)
