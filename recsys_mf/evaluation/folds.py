"""FoldReport: the reports of several folds as means and standard deviations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recsys_mf.drawing import Drawable
from recsys_mf.errors import ConfigError
from recsys_mf.evaluation.metrics import METRICS
from recsys_mf.evaluation.report import Ranking, Report
from recsys_mf.models.fit import Details


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1 in the denominator) over folds, and the value of every fold."""

    mean: float
    standard_deviation: float
    folds: tuple[float, ...]


@dataclass(frozen=True)
class FoldRow:
    """One model over the folds.

    ranks : rank of every fold's model
    route : how a truncated SVD was computed, None for other solvers
    scores : metric -> spread of the held-out error
    differences : metric -> spread of the error minus that of the baseline row in the same fold; empty in the
        baseline row
    ranking : figure -> spread, in the order of a `Row`; empty without a ranking
    """

    label: str
    solver: str
    ranks: tuple[int, ...]
    route: str | None
    fit_seconds: Spread
    scores: Mapping[str, Spread]
    differences: Mapping[str, Spread]
    ranking: Mapping[str, Spread] = field(default_factory=dict)


@dataclass(frozen=True)
class FoldReport(Drawable):
    """What `summarise_folds` returns: rows as in the reports; per fold the split, the number of test pairs, the share
    of fallbacks and, if items were ranked, the facts of the ranking; and whether errors are weighted.

    final : the report of the run on all ratings, for the page; not part of `to_mapping`
    """

    rows: tuple[FoldRow, ...]
    baseline: str
    splits: tuple[str, ...]
    n_pairs: tuple[int, ...]
    fallback_shares: tuple[float, ...]
    warnings: tuple[str, ...]
    data: str | None
    split_seed: int | None
    seed: int
    device: str
    threads: int
    rating_range: tuple[float, float]
    ranking: tuple[Ranking, ...] = ()
    weighted: bool = False
    final: Report | None = field(default=None, compare=False, repr=False)

    @property
    def best(self) -> str:
        """Label of the row of lowest mean RMSE."""
        return min(self.rows, key=lambda row: row.scores["rmse"].mean).label

    def to_mapping(self) -> dict[str, Any]:
        """The report as plain values, with `kind` and `best`."""
        plain = dataclasses.asdict(dataclasses.replace(self, final=None))
        del plain["final"]
        return {"kind": "folds", "best": self.best, **plain}


def summarise_folds(reports: Sequence[Report]) -> FoldReport:
    """Means and standard deviations over the held-out reports of the folds of one table.

    The spread of a difference is that of the differences per fold, so effects that the folds share cancel.
    Raises ConfigError for fewer than two reports, and for reports with different rows, data or training.
    """
    if len(reports) < 2:
        raise ConfigError("a spread needs at least two folds", seen=len(reports), fix="give 2 or more reports")
    first = reports[0]
    _require_alike(reports)
    held_out = [report.held_out for report in reports if report.held_out is not None]
    return FoldReport(
        rows=tuple(_fold_row(reports, index) for index in range(len(first.rows))),
        baseline=first.baseline,
        splits=tuple(report.split for report in reports),
        n_pairs=tuple(part.n_pairs for part in held_out),
        fallback_shares=tuple(part.fallback_share for part in held_out),
        warnings=tuple(f"{report.split}: {text}" for report in reports for text in report.warnings),
        data=first.data,
        split_seed=first.split_seed,
        seed=first.seed,
        device=first.device,
        threads=first.threads,
        rating_range=(min(r.rating_range[0] for r in reports), max(r.rating_range[1] for r in reports)),
        ranking=tuple(report.ranking for report in reports if report.ranking is not None),
        weighted=any(part.weighted for part in held_out),
    )


def _require_alike(reports: Sequence[Report]) -> None:
    for number, report in enumerate(reports, start=1):
        for name, value, right in (
            ("kind", report.kind, "held-out"),
            ("rows", [row.label for row in report.rows], [row.label for row in reports[0].rows]),
            ("baseline", report.baseline, reports[0].baseline),
            ("data", report.data, reports[0].data),
            ("seed", report.seed, reports[0].seed),
            ("device", report.device, reports[0].device),
            ("ranking", _ranked(report), _ranked(reports[0])),
        ):
            if value != right:
                raise ConfigError(
                    "reports of different kinds cannot be summarised",
                    where=f"report {number}, {name}",
                    seen=value,
                    fix=f"give reports with {right}",
                )


def _ranked(report: Report) -> str:
    """What was ranked, in words."""
    return "no ranking" if report.ranking is None else f"top {report.ranking.count} from {report.ranking.relevant:g}"


def _fold_row(reports: Sequence[Report], index: int) -> FoldRow:
    rows = [report.rows[index] for report in reports]
    return FoldRow(
        label=rows[0].label,
        solver=rows[0].solver,
        ranks=tuple(row.rank for row in rows),
        route=Details.of(rows[0].settings).route,
        fit_seconds=_spread([row.fit_seconds for row in rows]),
        scores={name: _spread([row.scores[name].value for row in rows]) for name in METRICS},
        differences={
            name: _spread([row.differences[name].value for row in rows]) for name in METRICS if rows[0].differences
        },
        ranking={
            name: _spread([row.ranking[name].value for row in rows])
            for name in rows[0].ranking
            if all(name in row.ranking for row in rows)
        },
    )


def _spread(values: list[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)), tuple(values))
