"""The page of a completion: what was filled and how well, the methods, the columns, the calibration of deviations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys_mf.completion.filling import ColumnError, Completion, Tried
from recsys_mf.drawing import Page, PageTable, Picture, Section, lay_out
from recsys_mf.drawing.style import MUTED, SERIES, add_legend, label_values
from recsys_mf.errors import printable
from recsys_mf.layout import Table
from recsys_mf.training.provenance import describe_software

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_COLUMNS = 25  # that a picture or a table shows: those with the largest error
_LONGEST = 24  # characters of a name in a picture
_PROBABILITIES = np.arange(0.05, 1, 0.05)


@lay_out.register
def lay_out_completion(completion: Completion) -> Page:
    """The page of a completion."""
    rows, columns = completion.filled.shape
    missing = sum(column.missing for column in completion.column_errors)
    title = f"A matrix of {rows:,} rows and {columns:,} columns, completed"
    if completion.error is None:
        return Page(title, "Nothing was missing.", ())
    error = (
        "an unknown error, because too few entries of columns with different values could be held out."
        if np.isnan(completion.error)
        else f"an error of {completion.error:.4f} standard deviations of their columns on entries that were held out."
    )
    verdict = (
        f"{missing:,} of {rows * columns:,} entries ({missing / (rows * columns):.1%}) were filled by the method "
        f"{completion.method}, with {error}"
    )
    tried = Section(
        "Methods",
        paragraphs=(
            "The method, and whether columns are straightened and rows have neighbours, is chosen by this error.",
        ),
        tables=(PageTable("", _list_tried(completion), 0),),
        pictures=(draw_methods(completion), *_calibration(completion)),
    )
    filled = _worst(completion)
    most = f"The {len(filled)} filled columns with the largest error." if len(filled) == _MOST_COLUMNS else ""
    per_column = Section("Columns", paragraphs=(most,) if most else (), pictures=(draw_columns(filled),))
    return Page(title, verdict, (tried, per_column), (), {"software": describe_software()})


def draw_methods(completion: Completion) -> Picture:
    """Held-out error of every method that was tried."""
    tried = completion.tried

    def draw(axes: Axes) -> None:
        for index, how in enumerate(tried):
            axes.plot([how.error], [-index], "o" if index else "*", color=MUTED if index else SERIES[0],
                      markersize=5 if index else 11)  # fmt: skip
        axes.set_yticks(-np.arange(len(tried)), [_name(how) for how in tried])
        axes.set_ylim(-len(tried) + 0.4, 0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("error on held-out entries, standard deviations")

    size = (4.8, 1.0 + 0.33 * len(tried))
    caption = "Root mean square error on observed entries that were held out. Star: the method that filled the matrix."
    return Picture("methods", "Errors of the methods", caption, draw, _list_tried(completion), size)


def draw_columns(columns: tuple[ColumnError, ...]) -> Picture:
    """Error per column."""

    def draw(axes: Axes) -> None:
        errors = [column.standardised for column in columns]
        axes.barh(-np.arange(len(columns)), errors, 0.65, color=SERIES[0], alpha=0.75)
        axes.axvline(1, color=MUTED, linewidth=1, linestyle=":", label="error of the column mean")
        axes.set_yticks(-np.arange(len(columns)), [printable(column.name, _LONGEST) for column in columns])
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("error of filled entries, standard deviations")
        add_legend(axes)

    caption = "The expected error of the filled entries of a column, relative to filling them with the column's mean."
    size = (4.8, 1.2 + 0.24 * len(columns))
    return Picture("columns", "Errors of the columns", caption, draw, _list_columns(columns), size)


def draw_calibration(ratios: NDArray[np.float64]) -> Picture:
    """Share of held-out entries inside intervals by their deviations.

    ratios : errors of held-out entries divided by their deviations
    """
    from scipy.special import ndtri

    shares = [float((np.abs(ratios) <= ndtri((1 + p) / 2)).mean()) for p in _PROBABILITIES]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color=MUTED, linewidth=1.2, label="perfect")
        axes.plot(_PROBABILITIES, shares, "-o", color=SERIES[0], label="measured")
        ticks = np.arange(0, 1.01, 0.2)
        axes.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
        axes.set_yticks(ticks, [f"{tick:.0%}" for tick in ticks])
        label_values(axes, "probability of the interval", "share of held-out entries inside")
        add_legend(axes)

    rows = tuple((f"{p:.0%}", f"{share:.1%}") for p, share in zip(_PROBABILITIES, shares, strict=True))
    caption = (
        "Whether the deviations of filled entries are right: shares of held-out entries inside normal intervals by "
        "their deviations. Above the line intervals are too wide, below it too narrow."
    )
    table = Table(("probability", "share inside"), rows)
    return Picture("calibration", "Calibration of deviations", caption, draw, table)


def _calibration(completion: Completion) -> tuple[Picture, ...]:
    ratios = completion.held_out_ratios
    return () if ratios is None or not len(ratios) else (draw_calibration(ratios),)


def _name(how: Tried) -> str:
    rank = "" if how.rank is None else f" {how.rank}"
    added = f"{', straightened' if how.straightened else ''}{', near rows' if how.neighbour_share else ''}"
    return f"{how.method}{rank}{added}"


def _list_tried(completion: Completion) -> Table:
    rows = tuple(
        (how.method, "" if how.rank is None else str(how.rank), "yes" if how.straightened else "no",
         f"{how.neighbour_share:.0%}", _number(how.error, ".4f"))
        for how in completion.tried
    )  # fmt: skip
    return Table(("method", "factors", "columns straightened", "share of near rows", "held-out error"), rows)


def _worst(completion: Completion) -> tuple[ColumnError, ...]:
    filled = (column for column in completion.column_errors if column.missing)
    return tuple(sorted(filled, key=lambda column: (np.isnan(column.error), -column.standardised))[:_MOST_COLUMNS])


def _list_columns(columns: tuple[ColumnError, ...]) -> Table:
    rows = tuple(
        (column.name, f"{column.missing:,}", _number(column.error, ".4g"), _number(column.standardised, ".4f"))
        for column in columns
    )
    return Table(("column", "missing", "error", "in standard deviations"), rows)


def _number(value: float, form: str) -> str:
    return "unknown" if np.isnan(value) else format(value, form)
