"""Plot: curves of error against seconds as an SVG file, in an environment with matplotlib.

Run as plot.py CURVES RESULT. CURVES is a JSON file: label -> [[seconds, RMSE], …]. Our curves come first and are drawn
with thicker lines.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

if __name__ == "__main__":
    matplotlib.rcParams["svg.hashsalt"] = "curves"  # the same file from the same figures
    curves = json.loads(Path(sys.argv[1]).read_text())
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for label, points in curves.items():
        ours = label.startswith("recsys-mf")
        x, y = zip(*points, strict=True)
        axes.plot(x, y, marker="o", markersize=3, label=label, linewidth=2.2 if ours else 1.2, zorder=3 if ours else 2)
    axes.set(xscale="log", xlabel="seconds of the fit, set-up included", ylabel="held-out RMSE")
    lowest = min(y for points in curves.values() for _, y in points)
    axes.set_ylim(lowest - 0.003, lowest + 0.075)
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.grid(visible=True, which="both", linewidth=0.3)
    figure.legend(frameon=False, loc="outside upper center", ncols=2)
    figure.savefig(sys.argv[2], metadata={"Date": None})
