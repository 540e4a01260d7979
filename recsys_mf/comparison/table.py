"""Comparison: candidates with their errors, their differences from the best, their seconds and their memory."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.comparison.differences import (
    LEVEL,
    Difference,
    bootstrap_difference,
    correct_by_holm,
    corrected_resampled_difference,
)
from recsys_mf.comparison.tested import Facts, Tested
from recsys_mf.drawing import Drawable
from recsys_mf.evaluation.metrics import METRICS, PairedBootstrap, Scored

BOOTSTRAP = "paired bootstrap"
T_TEST = "corrected resampled t-test"


@dataclass(frozen=True)
class Row:
    """One candidate.

    rmse, mae : means over the splits, of rmses and maes
    difference : its RMSE minus that of the best; None for the best itself
    adjusted_p : its p-value after Holm's correction for all pairs of candidates
    is_worse : whether the interval excludes 0 and adjusted_p is at most 5 %
    is_on_front : whether no other candidate is at least as good in both error and fit seconds
    fit_seconds, seconds : means over the splits, as in `Facts`; memory : the largest; None if not known
    ranks, settings : of every split
    """

    name: str
    solver: str
    rmse: float
    mae: float
    difference: Difference | None
    adjusted_p: float | None
    is_worse: bool
    is_on_front: bool
    fit_seconds: float
    seconds: float | None
    memory: int | None
    ranks: tuple[int, ...]
    rmses: tuple[float, ...]
    maes: tuple[float, ...]
    settings: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Setup:
    """What candidates were compared on, in words and numbers.

    splits : the rule of every split in words; train_ratings, test_ratings : its numbers of rows; for existing runs,
        train_ratings has those of each run
    folds, seeds : as in `Plan`, None for existing runs
    seed : of the first training, None for existing runs
    weighted : whether errors are √(Σ w e² / Σ w) and Σ w |e| / Σ w, with the weights w of the test ratings
    bootstrap_seed : of the paired intervals on a single split
    fingerprint : of the table that was split; None for existing runs
    """

    data: str | None
    splits: tuple[str, ...]
    train_ratings: tuple[int, ...]
    test_ratings: tuple[int, ...]
    folds: int | None
    seeds: int | None
    seed: int | None
    device: str
    threads: int | None
    weighted: bool
    bootstrap_seed: int = 0
    fingerprint: str | None = None

    @property
    def test_share(self) -> float:
        """n_test / n_train over all splits."""
        return sum(self.test_ratings) / sum(self.train_ratings)


@dataclass(frozen=True)
class Comparison(Drawable):
    """Rows by ascending RMSE; method is how differences were judged, n_pairs how many pairs of candidates there are.

    `plot("differences")` draws a picture (`pictures` has their names), `save_html` and `save_plots` write all of them.
    """

    rows: tuple[Row, ...]
    method: str
    n_pairs: int
    setup: Setup

    @property
    def best(self) -> Row:
        """The row of lowest RMSE."""
        return self.rows[0]

    @property
    def undecided(self) -> tuple[Row, ...]:
        """The rows that are not clearly worse than the best."""
        return tuple(row for row in self.rows[1:] if not row.is_worse)

    def to_mapping(self) -> dict[str, Any]:
        """The comparison as plain values, with `kind` and the name of the best."""
        return {"kind": "comparison", "best": self.best.name, **dataclasses.asdict(self)}


@dataclass(frozen=True, eq=False)
class _Cell:
    """A candidate on a split; scored : None if there are several splits."""

    facts: Facts
    rmse: float
    mae: float
    scored: Scored | None


class Cells:
    """Collects tested fits, and keeps only what the table needs of their errors.

    n_splits : number of splits; if there is only one, all errors are resampled
    """

    def __init__(self, n_splits: int, bootstrap_seed: int = 0) -> None:
        self._seed = bootstrap_seed if n_splits == 1 else None
        self._bootstrap: PairedBootstrap | None = None
        self._cells: dict[str, list[_Cell]] = {}

    def add(self, name: str, tested: Tested, weights: NDArray[np.float32] | None) -> None:
        """Add the fit of a candidate on its next split; weights : of its test rows."""
        errors, w = tested.errors.astype(np.float64), None if weights is None else weights.astype(np.float64)
        if self._bootstrap is None and self._seed is not None:
            self._bootstrap = PairedBootstrap(len(errors), np.random.default_rng(self._seed), w)
        scored = None if self._bootstrap is None else self._bootstrap.score(METRICS["rmse"], errors)
        rmse, mae = (float(metric.of_mean(np.average(metric.loss(errors), weights=w))) for metric in METRICS.values())
        self._cells.setdefault(name, []).append(_Cell(tested.facts, rmse, mae, scored))

    def compare(self, setup: Setup) -> Comparison:
        """The table of all fits that were added."""
        names = sorted(self._cells, key=lambda name: np.mean([cell.rmse for cell in self._cells[name]]))
        pairs = list(itertools.combinations(names, 2))
        found = {(one, other): self._difference(other, one, setup) for one, other in pairs}
        adjusted = dict(zip(pairs, correct_by_holm([difference.p for difference in found.values()]), strict=True))
        means = {name: (_mean(self._cells[name], "rmse"), _mean_fit_seconds(self._cells[name])) for name in names}
        front = find_front(means)
        rows = (
            _row(name, self._cells[name], found.get((names[0], name)), adjusted.get((names[0], name)), name in front)
            for name in names
        )
        return Comparison(tuple(rows), T_TEST if self._bootstrap is None else BOOTSTRAP, len(pairs), setup)

    def _difference(self, name: str, other: str, setup: Setup) -> Difference:
        cells = list(zip(self._cells[name], self._cells[other], strict=True))
        if len(cells) == 1:
            one, two = cells[0][0].scored, cells[0][1].scored
            assert one is not None
            assert two is not None
            return bootstrap_difference(one, two)
        return corrected_resampled_difference([one.rmse - two.rmse for one, two in cells], setup.test_share)


def find_front(costs: Mapping[str, tuple[float, float]]) -> set[str]:
    """The Pareto front: names of those that no other beats in one of two costs without losing in the other."""
    return {
        name
        for name, (error, seconds) in costs.items()
        if not any(e <= error and s <= seconds and (e, s) != (error, seconds) for e, s in costs.values())
    }


def _row(
    name: str, cells: Sequence[_Cell], difference: Difference | None, adjusted_p: float | None, is_on_front: bool
) -> Row:
    totals = [cell.facts.seconds for cell in cells]
    sizes = [cell.facts.memory for cell in cells]
    return Row(
        name=name,
        solver=cells[0].facts.solver,
        rmse=_mean(cells, "rmse"),
        mae=_mean(cells, "mae"),
        difference=difference,
        adjusted_p=adjusted_p,
        is_worse=difference is not None and difference.low > 0 and (adjusted_p or 0.0) <= LEVEL,
        is_on_front=is_on_front,
        fit_seconds=_mean_fit_seconds(cells),
        seconds=float(np.mean(known)) if len(known := _known(totals)) == len(cells) else None,
        memory=int(max(size)) if len(size := _known(sizes)) == len(cells) else None,
        ranks=tuple(cell.facts.rank for cell in cells),
        rmses=tuple(cell.rmse for cell in cells),
        maes=tuple(cell.mae for cell in cells),
        settings=tuple(cell.facts.settings for cell in cells),
    )


def _mean(cells: Sequence[_Cell], name: str) -> float:
    return float(np.mean([getattr(cell, name) for cell in cells]))


def _mean_fit_seconds(cells: Sequence[_Cell]) -> float:
    return float(np.mean([cell.facts.fit_seconds for cell in cells]))


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
