"""How pictures look: a few colours, a thin grid, no frame; the same on a page, in a file and in a notebook.

A page replaces each colour by a variable of its style sheet, so that pictures are dark in a dark browser.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#dde2e8", "#ffffff"
SERIES = ("#0b6bcb", "#c2410c", "#0f7b57", "#8b3fb8", "#8a6100", "#0e7490")
"""Colours of lines, in turn; each has a contrast of at least 4.5 to the paper. Lines also differ in marker or dash."""

MARKERS, DASHES = ("o", "s", "^", "D", "v", "P"), ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))

DARK = {
    INK: "#e6edf3", MUTED: "#9aa5b1", GRID: "#30363d", PAPER: "#0d1117",
    **dict(zip(SERIES, ("#58a6ff", "#ff8f5c", "#3fb98a", "#c792ea", "#d8a740", "#39c5cf"), strict=True)),
}  # fmt: skip
"""The colour on a dark page for each colour of a light page."""

VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, start=1)
}
"""The variable of the style sheet for each colour."""

_SETTINGS: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": PAPER,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.fontsize": 8.5,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud, and files are small
    "text.color": INK,
    "text.parse_math": False,  # names may have dollar signs
    "xtick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.color": MUTED,
    "ytick.labelsize": 8.5,
}


@contextlib.contextmanager
def styled(salt: str = "") -> Iterator[None]:
    """The style, for what is drawn inside.

    salt : for the ids in an SVG, so that they are the same in every run
    """
    import matplotlib

    settings: Any = {**_SETTINGS, "svg.hashsalt": salt or "recsys_mf"}
    with matplotlib.rc_context(settings):
        yield


def label_values(axes: Axes, x: str, y: str) -> None:
    """Name both axes."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def scale_seconds(axes: Axes) -> None:
    """A logarithmic x axis with plain numbers: 0.1, 0.2, 0.5, 1, 2, 5, 10."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def add_legend(axes: Axes) -> None:
    """The legend above the plot, where it hides nothing."""
    count = len(axes.get_legend_handles_labels()[1])
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=count if count < 3 else 2, frameon=False, borderaxespad=0.3
    )
