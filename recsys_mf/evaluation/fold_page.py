"""The page of a report over folds: the verdict, the table, errors per fold, and how the final run was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_mf.drawing import Page, PageTable, Picture, Section, lay_out
from recsys_mf.drawing.style import DASHES, MARKERS, SERIES, add_legend, label_values
from recsys_mf.evaluation.folds import FoldReport
from recsys_mf.evaluation.names import shown_name
from recsys_mf.evaluation.page import lay_out_ranking, lay_out_ranks, lay_out_training, list_record, present
from recsys_mf.evaluation.sections import describe
from recsys_mf.layout import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LINES = 5  # models whose errors are drawn: the best ones


@lay_out.register
def lay_out_folds(report: FoldReport) -> Page:
    """The page of a report over folds."""
    data = "" if report.data is None else f" on {report.data}"
    said = describe(report)
    labels = [row.label for row in report.rows]
    errors = Section(
        "Errors",
        paragraphs=tuple(said.heading.split("\n")),
        tables=(PageTable("", said.models, labels.index(report.best)),),
        pictures=present(draw_folds(report), None if report.final is None else lay_out_ranks(report.final)),
        notes=(" ".join(said.legend.split()),),
    )
    trained = report.rows[-1]
    return Page(
        title=f"{trained.label}{data}, {len(report.splits)} folds",
        verdict=_describe_verdict(report),
        sections=(errors, *lay_out_ranking(report), *lay_out_training(report.final)),
        warnings=report.warnings,
        record={} if report.final is None else list_record(report.final),
    )


def _describe_verdict(report: FoldReport) -> str:
    trained, base = report.rows[-1], next(row for row in report.rows if row.label == report.baseline)
    rmse = trained.scores["rmse"]
    first = (
        f"{trained.label} has a held-out RMSE of {rmse.mean:.4f} over {len(report.splits)} folds "
        f"(standard deviation {rmse.standard_deviation:.4f})"
    )
    difference = trained.differences.get("rmse")
    if difference is None:
        return f"{first}."
    better = sum(value < 0 for value in difference.folds)
    mean = base.scores["rmse"].mean
    return (
        f"{first}, {difference.mean:+.4f} from {shown_name(base.label, None)} ({mean:.4f}); it is better in {better} "
        f"of {len(difference.folds)} folds."
    )


def draw_folds(report: FoldReport) -> Picture:
    """Errors of the best models in every fold."""
    rows = sorted(report.rows, key=lambda row: row.scores["rmse"].mean)[:_MOST_LINES]
    folds = np.arange(1, len(report.splits) + 1)

    def draw(axes: Axes) -> None:
        for number, row in enumerate(rows):
            look = {"linestyle": DASHES[number], "marker": MARKERS[number], "color": SERIES[number]}
            axes.plot(folds, row.scores["rmse"].folds, label=shown_name(row.label, None), **look)  # type: ignore[arg-type]
        axes.set_xticks(folds)
        label_values(axes, "fold", "RMSE")
        add_legend(axes)

    head = ("fold", *(shown_name(row.label, None) for row in report.rows))
    columns = [row.scores["rmse"].folds for row in report.rows]
    cells = tuple((str(fold), *(f"{column[fold - 1]:.4f}" for column in columns)) for fold in folds.tolist())
    caption = "RMSE of every fold. Lines that move together differ by less than each of them varies."
    return Picture("folds", "Errors per fold", caption, draw, Table(head, cells))
