"""Pictures of a comparison: differences from the best, error against seconds, errors per split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_mf.comparison.table import Comparison, Row
from recsys_mf.drawing import Picture
from recsys_mf.drawing.style import DASHES, INK, MARKERS, MUTED, SERIES, add_legend, label_values, scale_seconds
from recsys_mf.errors import printable
from recsys_mf.layout import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LONGEST = 28  # characters of a name in a picture
_MOST_LINES = 6  # candidates whose errors per split are drawn: the best


def draw_differences(comparison: Comparison) -> Picture:
    """Differences of RMSE from the best, with their 95 % intervals."""
    rows = comparison.rows

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=1, linestyle=":")
        for index, row in enumerate(rows):
            colour = MUTED if row.is_worse else SERIES[0]
            if row.difference is None:
                axes.plot([0], [-index], "*", color=SERIES[0], markersize=11)
                continue
            d = row.difference
            axes.errorbar([d.value], [-index], xerr=[[d.value - d.low], [d.high - d.value]], color=colour, capsize=3,
                          fmt="x" if row.is_worse else "o")  # fmt: skip
        axes.set_yticks(-np.arange(len(rows)), [printable(row.name, _LONGEST) for row in rows])
        axes.set_ylim(-len(rows) + 0.4, 0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("RMSE minus that of the best")

    cells = tuple(
        (row.name, *(("", "", "") if row.difference is None else
         tuple(f"{value:+.4f}" for value in (row.difference.value, row.difference.low, row.difference.high))),
         "best" if row is comparison.best else "worse" if row.is_worse else "unclear")
        for row in rows
    )  # fmt: skip
    table = Table(("candidate", "difference", "low", "high", "verdict"), cells)
    caption = (
        f"Differences from the best with 95 % intervals ({comparison.method}). Star: the best; circle: not clearly "
        "worse; grey cross: worse, also after the correction for many comparisons."
    )
    height = 1.0 + 0.33 * len(rows)
    return Picture("differences", "Differences from the best", caption, draw, table, (4.8, height))


def draw_front(comparison: Comparison) -> Picture:
    """Error against the seconds of a fit, with the Pareto front."""
    rows = [row for row in comparison.rows if row.fit_seconds > 0]
    front = sorted((row for row in rows if row.is_on_front), key=lambda row: row.fit_seconds)

    def draw(axes: Axes) -> None:
        axes.plot([row.fit_seconds for row in front], [row.rmse for row in front], "--", color=SERIES[0], linewidth=1,
                  label="Pareto front")  # fmt: skip
        for is_on, marker, colour, label in ((True, "o", SERIES[0], "on the front"), (False, "x", MUTED, "not on it")):
            of = [row for row in rows if row.is_on_front is is_on]
            if of:
                axes.plot([r.fit_seconds for r in of], [r.rmse for r in of], marker, color=colour, label=label)
        for index, row in enumerate(comparison.rows, start=1):
            if row.fit_seconds > 0:
                axes.annotate(str(index), (row.fit_seconds, row.rmse), xytext=(4, 3), fontsize=8.5,
                              textcoords="offset points", color=INK if row.is_on_front else MUTED)  # fmt: skip
        scale_seconds(axes)
        axes.margins(x=0.18, y=0.12)
        label_values(axes, "seconds of the final fit", "RMSE")
        add_legend(axes)

    cells = tuple((r.name, f"{r.fit_seconds:.2f}", f"{r.rmse:.4f}", "yes" if r.is_on_front else "no") for r in rows)
    caption = (
        "Down and to the left is better: one on the front has no other that is at least as good in both. "
        "A number is the place of a candidate in the table above."
    )
    table = Table(("candidate", "fit seconds", "RMSE", "on the front"), cells)
    return Picture("front", "Error against seconds", caption, draw, table)


def draw_splits(comparison: Comparison) -> Picture | None:
    """Errors of the best candidates on every split; None for a single split."""
    count = len(comparison.setup.splits)
    if count < 2:
        return None
    rows, places = comparison.rows[:_MOST_LINES], np.arange(1, count + 1)

    def draw(axes: Axes) -> None:
        for number, row in enumerate(rows):
            axes.plot(places, row.rmses, linestyle=DASHES[number], marker=MARKERS[number], color=SERIES[number],
                      label=printable(row.name, _LONGEST))  # fmt: skip
        axes.set_xticks(places)
        label_values(axes, "split", "RMSE")
        add_legend(axes)

    head = ("split", *(row.name for row in comparison.rows))
    cells = tuple(
        (str(index), *(f"{row.rmses[index - 1]:.4f}" for row in comparison.rows)) for index in places.tolist()
    )
    caption = "RMSE on every split. Lines that move together differ by less than each of them varies."
    return Picture("splits", "Errors per split", caption, draw, Table(head, cells))


def name_settings(row: Row) -> str:
    """The settings of a candidate on its first split, as NAME=VALUE, …"""
    return ", ".join(f"{name}={value}" for name, value in row.settings[0].items())
