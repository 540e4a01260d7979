"""Plot: curves of error against seconds as an SVG file, in an environment with matplotlib.

Run as plot.py CURVES RESULT. CURVES is a JSON file: title, and curves: label -> [[seconds, RMSE], …]. Our curves come
first, and are drawn with thick lines; every curve has its lowest error so far.
"""

from __future__ import annotations

import json
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

OURS = ("#f29900", "#e8710a", "#c5221f", "#7cb342", "#9334e6", "#1a73e8", "#12b5cb", "#174ea6")

if __name__ == "__main__":
    matplotlib.rcParams["svg.hashsalt"] = "curves"  # the same file from the same figures
    given = json.loads(Path(sys.argv[1]).read_text())
    curves = given["curves"]
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axes = figure.subplots()
    colours, greys = iter(OURS), iter((style, tone) for style in ("-", "--", ":") for tone in ("0.25", "0.45", "0.65"))
    look: dict[str, Any]
    for label, points in curves.items():
        x, y = zip(*points, strict=True)
        lowest_so_far = list(accumulate(y, min))
        if label.startswith("recsys-mf"):
            look = {"color": next(colours), "linewidth": 2.4, "zorder": 3}
        else:
            style, tone = next(greys)
            look = {"color": tone, "linestyle": style, "linewidth": 1.3, "zorder": 2}
        axes.plot(x, lowest_so_far, label=label, **look)
        axes.plot(x[-1], lowest_so_far[-1], marker="o", markersize=4, color=look["color"], zorder=look["zorder"])
    lowest = min(y for points in curves.values() for _, y in points)
    axes.set(xscale="log", xlabel="seconds of the fit, set-up included", ylabel="held-out RMSE, the lowest so far")
    axes.set_title(given["title"], fontsize=11)
    axes.set_ylim(lowest - 0.004, lowest + 0.1)
    axes.set_xlim(left=0.01)
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.grid(visible=True, which="major", linewidth=0.3)
    figure.legend(frameon=False, loc="outside lower center", ncols=2, fontsize=9)
    figure.savefig(sys.argv[2], metadata={"Date": None})
