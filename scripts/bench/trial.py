"""Trial: one system on one split, in its own process. Tables are read from files, figures are written as JSON.

Imported by the adapters `ours` and `peers`, which run in different environments, so it needs only NumPy and Arrow.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Pairs:
    """Rows of a table: dense ids int32[b], seconds int64[b] or None.

    An id that is not in train is equal to or above the number of ids in train.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None


@dataclass(frozen=True)
class Train(Pairs):
    """Training rows: ids 0 to n_users - 1 and 0 to n_items - 1, each with at least one rating.

    values : ratings float32[n]
    """

    values: np.ndarray
    n_users: int
    n_items: int

    @property
    def rating_range(self) -> tuple[float, float]:
        """The lowest and the highest training rating."""
        return float(self.values.min()), float(self.values.max())

    def known(self, pairs: Pairs) -> np.ndarray:
        """Which pairs have both ids in train, bool[b]."""
        return (pairs.users < self.n_users) & (pairs.items < self.n_items)


Predict = Callable[[], np.ndarray]
Fit = Callable[[], Predict]
"""Fits, and returns a function that predicts the test pairs; both are timed."""


@dataclass(frozen=True)
class Figures:
    """The results of one trial.

    rmse, mae : of predictions clipped to the range of the training ratings
    n_train, n_test : rows
    unknown_share : share of test pairs with an id that is not in train
    filled_share : share of test pairs that got the training mean, because the system gave no finite number
    fit_seconds : of the fit alone, on tables that are in memory in the system's own form
    predict_seconds : for all test pairs
    settings : as run, including what the system chose by itself
    """

    rmse: float
    mae: float
    n_train: int
    n_test: int
    unknown_share: float
    filled_share: float
    fit_seconds: float
    predict_seconds: float
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_train(folder: Path) -> Train:
    """The training rows in a folder that `tables` wrote."""
    columns = _columns(folder / "train.parquet")
    users, items = columns["user_id"], columns["item_id"]
    n_users, n_items = int(users.max()) + 1, int(items.max()) + 1
    return Train(users, items, columns.get("timestamp"), columns["rating"], n_users, n_items)


def read_test(folder: Path) -> tuple[Pairs, np.ndarray]:
    """The test pairs in a folder that `tables` wrote, and their ratings float32[b]."""
    columns = _columns(folder / "test.parquet")
    return Pairs(columns["user_id"], columns["item_id"], columns.get("timestamp")), columns["rating"]


def timed(fit: Fit) -> tuple[np.ndarray, float, float]:
    """The predictions, the seconds of the fit and those of the predictions."""
    began = time.perf_counter()
    predict = fit()
    fitted = time.perf_counter()
    predictions = np.asarray(predict(), np.float64)
    return predictions, fitted - began, time.perf_counter() - fitted


def scored(
    predictions: np.ndarray, train: Train, pairs: Pairs, ratings: np.ndarray, *,
    fit_seconds: float, predict_seconds: float, settings: Mapping[str, Any],
) -> Figures:  # fmt: skip
    """The errors of predictions float64[b] for the test pairs; every pair counts."""
    finite = np.isfinite(predictions)
    filled = np.where(finite, predictions, train.values.mean(dtype=np.float64))
    errors = np.clip(filled, *train.rating_range) - ratings
    return Figures(
        rmse=float(np.sqrt(np.mean(errors**2))),
        mae=float(np.mean(np.abs(errors))),
        n_train=len(train.values),
        n_test=len(ratings),
        unknown_share=float(1 - train.known(pairs).mean()),
        filled_share=float(1 - finite.mean()),
        fit_seconds=fit_seconds,
        predict_seconds=predict_seconds,
        settings=settings,
    )


class Clock:
    """Points (seconds, RMSE) of one fit of length after length; the seconds in which errors are measured do not count.

    rows, pairs, ratings : the training rows, the test pairs and their ratings
    """

    def __init__(self, rows: Train, pairs: Pairs, ratings: np.ndarray) -> None:
        self._truth = rows, pairs, ratings
        self._sum, self._number = np.zeros(len(ratings)), 0
        self.points: list[tuple[float, float]] = []
        self.start()

    def start(self) -> None:
        """Begin to count."""
        self._began = time.perf_counter()

    def add(self, predict: Predict) -> None:
        """Take a point by the predictions of the test pairs."""
        now = time.perf_counter()
        predictions = np.asarray(predict(), np.float64)
        figures = scored(predictions, *self._truth, fit_seconds=0.0, predict_seconds=0.0, settings={})
        self.points.append((now - self._began, figures.rmse))
        self._began += time.perf_counter() - now

    def add_draw(self, predict: Predict, number: int, *, first: int) -> None:
        """Take a point by the mean over the draws from the first on; before it, by the draw itself.

        predict : gives what the draw of this number predicts
        """

        def mean() -> np.ndarray:
            draw = np.asarray(predict(), np.float64)
            if number < first:
                return draw
            self._sum += draw
            self._number += 1
            return self._sum / self._number

        self.add(mean)


def write(figures: Figures, path: Path) -> None:
    """Write the figures as JSON to a file, since some peers print to standard output."""
    path.write_text(json.dumps(asdict(figures)))


def _columns(path: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(path)
    return {name: table.column(name).to_numpy().copy() for name in table.column_names}  # the originals are read-only
