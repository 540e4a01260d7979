"""Predictions for a file of pairs: the same rows in the same order in any format, with the column of known ids."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mf.errors import ConfigError, DataError
from recsys_mf.loaders import parquet
from recsys_mf.models import Factorization
from recsys_mf.streaming import Wanted, predict_file
from tests.trained import posterior_run, small_run

USERS, ITEMS = [5, 8, 5, 777, 777], [100, 102, 999, 100, 999]  # 777 and 999 are unknown
KNOWN = ["both", "both", "user", "item", "neither"]


def write(path: Path, table: dict[str, list[Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table(table), path)
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([table, *zip(*table.values(), strict=True)])
    return path


def pairs_file(path: Path) -> Path:
    table: dict[str, list[Any]] = {"note": ["plain", "a, b", 'say "x"', "", "ü"], "user_id": USERS, "item_id": ITEMS}
    return write(path, table)


def read(path: Path) -> dict[str, list[Any]]:
    if path.suffix == ".parquet":
        table: dict[str, list[Any]] = pq.read_table(path).to_pydict()
        return table
    with path.open(newline="") as file:
        names, *rows = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


@pytest.mark.parametrize("source", ["pairs.parquet", "pairs.csv"])
@pytest.mark.parametrize("output", ["out.parquet", "out.csv", "out.tsv"])
def test_rows_are_written_in_order_with_prediction_and_known(tmp_path: Path, source: str, output: str) -> None:
    counts = predict_file(small_run(), pairs_file(tmp_path / source), tmp_path / output, wanted=Wanted(device="cpu"))
    table = read(tmp_path / output)
    assert list(table) == ["note", "user_id", "item_id", "prediction", "known"]
    assert [note or "" for note in table["note"]] == ["plain", "a, b", 'say "x"', "", "ü"]
    assert [int(user) for user in table["user_id"]] == USERS
    assert table["known"] == KNOWN
    assert counts == {"neither": 1, "user": 1, "item": 1, "both": 2}
    expected = small_run().predict(USERS, ITEMS)
    assert np.array(table["prediction"], np.float32).tobytes() == expected.tobytes()


def test_unknown_ids_get_the_fallback() -> None:
    model = small_run().model
    users, items = small_run().user_vocabulary.indices([5]), small_run().item_vocabulary.indices([100])
    assert isinstance(model, Factorization)
    expected = [model.mean + model.user_bias[users[0]], model.mean + model.item_bias[items[0]], model.mean]
    low, high = model.rating_range
    found = small_run().predict([5, 777, 777], [999, 100, 999])
    np.testing.assert_allclose(found, np.clip(expected, low, high), rtol=1e-6)


def test_the_size_of_batches_makes_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    table = pa.table({"user": rng.integers(0, 130, 5000), "item": rng.integers(98, 165, 5000)})
    pq.write_table(table, tmp_path / "pairs.parquet", row_group_size=999)
    seen: list[int] = []
    monkeypatch.setattr(parquet, "_BATCH", 512)
    predict_file(
        small_run(),
        tmp_path / "pairs.parquet",
        tmp_path / "out.parquet",
        watch=seen.append,
        wanted=Wanted(device="cpu"),
    )
    assert len(seen) > 5
    assert sum(seen) == 5000
    expected = small_run().predict(table["user"], table["item"])
    assert pq.read_table(tmp_path / "out.parquet")["prediction"].to_numpy().tobytes() == expected.tobytes()


def test_string_ids_in_text_need_no_hint(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("user,item\nu5,ü100\nu5,7\n", encoding="utf-8")
    predict_file(small_run(strings=True), tmp_path / "pairs.csv", tmp_path / "out.csv")
    assert read(tmp_path / "out.csv")["known"] == ["both", "user"]


def test_nothing_is_overwritten_unless_forced_or_left_half_written(tmp_path: Path) -> None:
    pairs, output = pairs_file(tmp_path / "pairs.csv"), tmp_path / "out.csv"
    output.write_text("precious")
    with pytest.raises(ConfigError, match=r"out.csv: the file exists; give another name, or --force"):
        predict_file(small_run(), pairs, output)
    bad = tmp_path / "bad.csv"
    bad.write_text("user,item\n5,100\n,100\n")
    with pytest.raises(DataError, match=r"bad.csv, column user, row 1 \(line 3\): null id"):
        predict_file(small_run(), bad, output, force=True)
    assert output.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "out.csv", "pairs.csv"]
    predict_file(small_run(), pairs, output, force=True)
    assert read(output)["known"] == KNOWN


def test_faults_of_a_file_of_pairs_are_named(tmp_path: Path) -> None:
    pairs = pairs_file(tmp_path / "pairs.csv")

    def failing(text: str, **keywords: Any) -> Any:
        (tmp_path / "bad.csv").write_text(text)
        return predict_file(small_run(), tmp_path / "bad.csv", tmp_path / "out.csv", **keywords)

    with pytest.raises(
        ConfigError, match=r"out.xlsx: unknown file type for the output; end the name in .parquet, .csv or .tsv"
    ):
        predict_file(small_run(), pairs, tmp_path / "out.xlsx")
    with pytest.raises(ConfigError, match=r"missing: no such folder; create it first"):
        predict_file(small_run(), pairs, tmp_path / "missing" / "out.csv")
    with pytest.raises(DataError, match=r"bad.csv: the table already has a column 'known'; rename it"):
        failing("user,item,known\n1,2,3\n")
    with pytest.raises(DataError, match=r"bad.csv: no pairs in the table"):
        failing("user,item\n")
    with pytest.raises(DataError, match=r"bad.csv: no column is recognised as the item ids"):
        failing("user,film\n1,2\n")
    with pytest.raises(DataError, match=r"column user, row 1 \(line 3\): id is not an integer \(saw 'x'\)"):
        failing("user,item\n1,2\nx,2\n")
    pq.write_table(pa.table({"user": ["5"], "item": [100]}), tmp_path / "bad.parquet")
    with pytest.raises(
        DataError, match=r"user ids: the ids are strings, but the model was trained on integer ids \(saw '5'\)"
    ):
        predict_file(small_run(), tmp_path / "bad.parquet", tmp_path / "out.csv")


def timed_pairs(path: Path, times: list[Any]) -> Path:
    table = {"user_id": [5, 8, 5], "item_id": [100, 102, 999], "timestamp": times}
    return write(path, table)


@pytest.mark.parametrize("source", ["pairs.parquet", "pairs.csv"])
def test_a_model_with_time_takes_the_time_column(tmp_path: Path, source: str) -> None:
    times = [10, 90_000, 10]
    predict_file(
        posterior_run(), timed_pairs(tmp_path / source, times), tmp_path / "out.parquet", wanted=Wanted(device="cpu")
    )
    expected = posterior_run().predict([5, 8, 5], [100, 102, 999], times)
    without = posterior_run().predict([5, 8, 5], [100, 102, 999])
    assert np.array(read(tmp_path / "out.parquet")["prediction"], np.float32).tobytes() == expected.tobytes()
    assert (expected != without).any()


def test_a_time_column_can_be_left_out(tmp_path: Path) -> None:
    pairs = timed_pairs(tmp_path / "pairs.parquet", [10, 90_000, 10])
    predict_file(posterior_run(), pairs, tmp_path / "out.parquet", time_column="none", wanted=Wanted(device="cpu"))
    without = posterior_run().predict([5, 8, 5], [100, 102, 999])
    assert np.array(read(tmp_path / "out.parquet")["prediction"], np.float32).tobytes() == without.tobytes()


def test_a_time_that_is_not_a_number_is_named(tmp_path: Path) -> None:
    pairs = timed_pairs(tmp_path / "pairs.csv", ["10", "20", "soon"])
    with pytest.raises(
        DataError, match=r"pairs.csv, column timestamp, row 2.*: text is not a time \(saw 'soon'\); give seconds since"
    ):
        predict_file(posterior_run(), pairs, tmp_path / "out.parquet")


def test_interval_adds_bounds_around_the_prediction(tmp_path: Path) -> None:
    pairs = timed_pairs(tmp_path / "pairs.csv", [10, 90_000, 10])
    wide, narrow = tmp_path / "wide.parquet", tmp_path / "narrow.parquet"
    predict_file(posterior_run(), pairs, wide, wanted=Wanted(interval=0.9))
    predict_file(posterior_run(), pairs, narrow, wanted=Wanted(interval=0.3))
    outer, inner = read(wide), read(narrow)
    assert list(outer) == ["user_id", "item_id", "timestamp", "prediction", "lower", "upper", "known"]
    assert outer["prediction"] == inner["prediction"]
    rows = zip(outer["lower"], inner["lower"], inner["prediction"], inner["upper"], outer["upper"], strict=True)
    assert all(low <= near <= middle <= far <= high for low, near, middle, far, high in rows)
    assert outer["upper"][0] - outer["lower"][0] > inner["upper"][0] - inner["lower"][0]


def test_interval_of_a_model_without_one_is_refused(tmp_path: Path) -> None:
    pairs = timed_pairs(tmp_path / "pairs.parquet", [10, 20, 30])
    message = r"^--interval: the model has no intervals \(saw sgd\); train with --solver gibbs, or several runs"
    with pytest.raises(ConfigError, match=message):
        predict_file(small_run(), pairs, tmp_path / "out.parquet", wanted=Wanted(interval=0.9))
    assert not (tmp_path / "out.parquet").exists()


def test_a_column_with_the_name_of_an_added_one_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": [5], "item_id": [100], "lower": [1.0]}), tmp_path / "pairs.parquet")
    predict_file(posterior_run(), tmp_path / "pairs.parquet", tmp_path / "out.parquet")
    with pytest.raises(DataError, match=r"the table already has a column 'lower'"):
        predict_file(
            posterior_run(), tmp_path / "pairs.parquet", tmp_path / "other.parquet", wanted=Wanted(interval=0.5)
        )


def test_distribution_adds_the_probability_of_every_rating(tmp_path: Path) -> None:
    pairs, out = timed_pairs(tmp_path / "pairs.csv", [10, 90_000, 10]), tmp_path / "out.parquet"
    predict_file(posterior_run("ordinal"), pairs, out, wanted=Wanted(interval=0.8, distribution=True))
    columns = read(out)
    names = [f"p_{level}" for level in range(6)]
    assert list(columns) == ["user_id", "item_id", "timestamp", "prediction", "lower", "upper", *names, "known"]
    probabilities = np.array([columns[name] for name in names])
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(np.arange(6) @ probabilities, columns["prediction"], atol=1e-5)
    assert all(
        low in range(6) and high in range(6) for low, high in zip(columns["lower"], columns["upper"], strict=True)
    )


def test_distribution_of_a_model_without_one_is_refused(tmp_path: Path) -> None:
    pairs = timed_pairs(tmp_path / "pairs.parquet", [10, 20, 30])
    message = (
        r"^--distribution: the model has no probabilities of ratings \(saw gibbs, likelihood gaussian\); train with"
    )
    with pytest.raises(ConfigError, match=message):
        predict_file(posterior_run(), pairs, tmp_path / "out.parquet", wanted=Wanted(distribution=True))
    assert not (tmp_path / "out.parquet").exists()
