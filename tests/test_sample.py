"""The shipped sample is what its program makes, and has the properties that its data card states."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys_mf.loaders import read_ratings
from recsys_mf.loaders.catalog import sample
from recsys_mf.splits import hold_out

ROOT = Path(__file__).parents[1]


def made(path: Path, *options: str) -> str:
    script = ROOT / "scripts" / "make_sample.py"
    command = [sys.executable, "-B", str(script), "-o", str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("sample") / "sample.parquet"
    return path, made(path)


@pytest.mark.slow
def test_the_sample_is_made_again_row_for_row(again: tuple[Path, str]) -> None:
    assert pq.read_table(again[0]).equals(pq.read_table(sample()))


def test_another_seed_makes_another_table(tmp_path: Path) -> None:
    made(tmp_path / "other.parquet", "--seed", "1")
    assert not pq.read_table(tmp_path / "other.parquet").equals(pq.read_table(sample()))


def test_the_card_states_the_best_reachable_error(again: tuple[Path, str]) -> None:
    printed = re.search(r"best reachable RMSE on the held-out ratings: ([\d.]+)", again[1])
    assert printed is not None
    assert f"**{printed[1]}**" in (sample().parent / "README.md").read_text(encoding="utf-8")


def test_the_sample_has_a_long_tail_and_no_duplicate_pair() -> None:
    ratings = read_ratings(sample())  # refuses duplicates
    assert (len(ratings), ratings.n_users, ratings.n_items, ratings.rating_range) == (100_000, 1000, 1700, (1.0, 5.0))
    assert ratings.user_counts.min() >= 20
    popularity = np.sort(ratings.item_counts)[::-1]
    assert popularity[: len(popularity) // 10].sum() > 0.35 * len(ratings)  # over a third of the ratings
    assert popularity[len(popularity) // 2 :].sum() < 0.15 * len(ratings)
    assert popularity[-1] <= 2
    test = hold_out(ratings, 0.1, seed=0).test
    assert test is not None
    assert len(test) == 10_176
