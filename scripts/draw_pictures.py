#!/usr/bin/env python
"""Draws the pictures of the documentation site into docs/pictures, each for light and for dark pages.

curves      train and validation error of `sgd` per epoch on the sample
exercise    the loss of gradient descent beside that of the truncated SVD, with all entries and with a mask
front       error against fit seconds of every system on MovieLens 1M, from the table in BENCHMARKS.md

Needs matplotlib (in the extra `docs`). The same versions draw the same files.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from recsys_mf import SOLVERS, hold_out, read_ratings, train
from recsys_mf.dense import reconstruction_loss, sgd_factorise, sgd_factorise_masked, truncated_svd
from recsys_mf.loaders.catalog import sample

ROOT = Path(__file__).parents[1]


class Palette(NamedTuple):
    """Colours on light or dark pages, apart for colour-blind readers too."""

    ink: str
    faint: str
    first: str
    second: str
    third: str


PALETTES = {
    "light": Palette("#24292f", "#c9ced4", "#0b5fa5", "#b3480f", "#6e7781"),
    "dark": Palette("#d7dce2", "#454c55", "#79b8ff", "#ffa657", "#9aa4af"),
}


def learning_curves() -> Callable[[Figure, Palette], None]:
    """Errors of a single run of `sgd` at rank 64 per epoch, and of the truncated SVD on the same rows."""
    split = hold_out(read_ratings(sample()), 0.1, seed=0)
    seen: list[Any] = []
    run = train(split, SOLVERS["sgd"](rank=64, members=1, epochs=40), watch=seen.append)
    epochs = [step for step in seen if step.label == "sgd" and step.stage == "validate"]
    svd = run.baselines["svd bias"].valid_rmse
    assert svd is not None

    def draw(figure: Figure, palette: Palette) -> None:
        axes = figure.subplots()
        numbers = [step.epoch for step in epochs]
        for name, style, colour in (("train", "--", palette.second), ("valid", "-", palette.first)):
            label = {"train": "training ratings", "valid": "validation ratings"}[name]
            axes.plot(numbers, [getattr(step, f"{name}_rmse") for step in epochs], style, color=colour, label=label)
        axes.axhline(svd, color=palette.third, linewidth=1.2, linestyle=":", label="truncated SVD, validation ratings")
        axes.set(xlabel="epoch", ylabel="RMSE")
        axes.legend(frameon=False, labelcolor=palette.ink)

    return draw


def exercise_curves() -> Callable[[Figure, Palette], None]:
    """The loss after 1, 2, 4, … epochs: of the matrix of the exercise, and of a matrix with a mask."""
    A = torch.tensor([[0.3374, 0.6005, 0.1735], [3.3359, 0.0492, 1.8374], [2.9407, 0.5301, 2.2620]])
    counts = [int(count) for count in np.unique(np.geomspace(1, 20000, 60).round())]
    full = [reconstruction_loss(*sgd_factorise(A, 2, num_epochs=count), A) for count in counts]
    U, s, V = truncated_svd(A, 2)
    least = reconstruction_loss(U * s, V, A)

    B, M = planted_matrix()
    passes = [int(count) for count in np.unique(np.geomspace(1, 5000, 50).round())]
    found = [sgd_factorise_masked(B, M, 3, num_epochs=count) for count in passes]
    errors = [[rms(B, U @ V.T, mask) for U, V in found] for mask in (M, 1 - M)]
    U, s, V = truncated_svd(B * M, 3)
    zeros = rms(B, (U * s) @ V.T, 1 - M)

    def draw(figure: Figure, palette: Palette) -> None:
        left, right = figure.subplots(1, 2)
        left.loglog(counts, full, color=palette.first, label="gradient descent")
        left.axhline(least, color=palette.third, linestyle=":", label="truncated SVD")
        left.set(title="all entries, 3 × 3, rank 2", xlabel="epochs", ylabel="summed squared error")
        right.loglog(passes, errors[0], "--", color=palette.second, label="observed entries")
        right.loglog(passes, errors[1], color=palette.first, label="hidden entries")
        right.axhline(zeros, color=palette.third, linestyle=":", label="hidden entries, SVD filled with 0")
        right.set(title="a third hidden, 40 × 30, rank 3", xlabel="epochs", ylabel="root mean squared error")
        for axes in (left, right):
            axes.title.set_color(palette.ink)
            axes.legend(frameon=False, labelcolor=palette.ink, fontsize=8)

    return draw


def planted_matrix() -> tuple[torch.Tensor, torch.Tensor]:
    """The matrix of the page on the exercise, of rank 3 with a little noise, and its mask."""
    rng = np.random.default_rng(0)
    B = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 30)) + 0.1 * rng.standard_normal((40, 30))
    M = rng.random(B.shape) > 1 / 3
    return torch.from_numpy(B.astype(np.float32)), torch.from_numpy(M.astype(np.float32))


def rms(A: torch.Tensor, B: torch.Tensor, mask: torch.Tensor) -> float:
    """Root mean squared difference over the entries of a mask."""
    return float((((A - B) ** 2 * mask).sum() / mask.sum()).sqrt())


def systems() -> Callable[[Figure, Palette], None]:
    """Every system of the table of MovieLens 1M by its fit seconds and its error."""
    text = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    table = text.partition("<!-- accuracy-ml-1m:begin -->")[2].partition("<!-- accuracy-ml-1m:end -->")[0]
    rows = re.findall(r"^\| (\*\*)?(.+?)(?:\*\*)? \| (\d\.\d+) \| \d\.\d+ \| ([\d.]+) \|", table, re.MULTILINE)
    shown = [(bool(ours), name, float(rmse), float(fit)) for ours, name, rmse, fit in rows]
    shown = [row for row in shown if row[1] not in _LEFT_OUT]

    def draw(figure: Figure, palette: Palette) -> None:
        axes = figure.subplots()
        for ours, name, rmse, seconds in shown:
            colour = palette.first if ours else palette.third
            axes.plot(seconds, rmse, "o", color=colour, markersize=9 if ours else 6, zorder=3)
            side, high = _PLACES.get(name, ("right", 0))
            axes.annotate(
                _SHORT.get(name, name), (seconds, rmse), xytext=(9 if side == "right" else -9, high),
                textcoords="offset points", va="center", ha="left" if side == "right" else "right",
                color=colour if ours else palette.ink, fontsize=9, fontweight="bold" if ours else "normal",
            )  # fmt: skip
        axes.set(xscale="log", xlabel="seconds of the fit on two cores", ylabel="held-out RMSE, lower is better")
        axes.set_xlim(0.12, 2500)
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))

    return draw


_LEFT_OUT = ("mean", "bias", "gibbs --compress 64", "gibbs -p likelihood=gaussian")
_SHORT = {
    "gibbs -p links=none": "gibbs, no links",
    "myfm, ordered probit, who-rated-what sets and day": "myfm, probit",
    "myfm, Gibbs, who-rated-what sets and day": "myfm, who-rated-what",
    "scikit-surprise SVD": "Surprise SVD",
    "scikit-surprise SVD++": "Surprise SVD++",
}
_PLACES = {
    "als": ("left", 6),
    "sgd": ("left", 0),
    "gibbs": ("left", 0),
    "gibbs -p links=none": ("left", 0),
    "LIBMF": ("right", -9),
    "cornac MF": ("right", -3),
    "cmfrec CMF": ("right", 7),
    "smurff BPMF": ("right", -9),
    "myfm, Gibbs": ("right", 4),
    "myfm, Gibbs, who-rated-what sets and day": ("left", 7),
    "myfm, ordered probit, who-rated-what sets and day": ("left", -10),
}


def style(axes: Axes, palette: Palette) -> None:
    """Ink and grid of a palette."""
    axes.set_facecolor("none")
    axes.grid(visible=True, color=palette.faint, linewidth=0.5)
    axes.tick_params(colors=palette.ink, which="both")
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_color(palette.ink)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(palette.faint)


def save(name: str, size: tuple[float, float], draw: Callable[[Figure, Palette], None]) -> None:
    """The picture on light and on dark pages."""
    for shade, palette in PALETTES.items():
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        draw(figure, palette)
        for axes in figure.axes:
            style(axes, palette)
        figure.savefig(ROOT / "docs" / "pictures" / f"{name}-{shade}.svg", metadata={"Date": None})


if __name__ == "__main__":
    matplotlib.rcParams["svg.hashsalt"] = "pictures"  # the same file from the same figures
    save("curves", (7, 3.6), learning_curves())
    save("exercise", (9, 3.6), exercise_curves())
    save("front", (8, 4.6), systems())
