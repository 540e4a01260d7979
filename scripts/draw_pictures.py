#!/usr/bin/env python
"""Draws the pictures of the documentation site into docs/pictures, each for light and for dark pages.

curves      the learning curves of the quick start, as `report.plot` draws them
exercise    the loss of gradient descent and of the truncated SVD, with all entries and with a mask
front       error against fit seconds of every system on MovieLens 1M, from the table in BENCHMARKS.md

The same versions draw the same files.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from recsys_mf import evaluate, hold_out, read_ratings, train
from recsys_mf.dense import reconstruction_loss, sgd_factorise, sgd_factorise_masked, truncated_svd
from recsys_mf.drawing.style import DARK, INK, MUTED, SERIES, styled
from recsys_mf.loaders.catalog import sample

ROOT = Path(__file__).parents[1]


def draw_curves(figure: Figure) -> None:
    """Errors of `als` on the sample, epoch after epoch."""
    split = hold_out(read_ratings(sample()), 0.1, seed=0)
    assert split.test is not None
    report = evaluate(train(split, "als", rank=16), split.test)
    report.plot("curves", figure.subplots())


def draw_exercise(figure: Figure) -> None:
    """The loss after 1, 2, 4, … epochs: of the matrix of the exercise, and of a matrix with a mask."""
    left, right = figure.subplots(1, 2)
    A = torch.tensor([[0.3374, 0.6005, 0.1735], [3.3359, 0.0492, 1.8374], [2.9407, 0.5301, 2.2620]])
    counts = [int(count) for count in np.unique(np.geomspace(1, 20000, 60).round())]
    losses = [reconstruction_loss(*sgd_factorise(A, 2, num_epochs=count), A) for count in counts]
    U, s, V = truncated_svd(A, 2)
    left.loglog(counts, losses, color=SERIES[0], label="gradient descent")
    left.axhline(reconstruction_loss(U * s, V, A), color=MUTED, linestyle=":", label="truncated SVD")
    left.set(title="all entries, 3 × 3, rank 2", xlabel="epochs", ylabel="summed squared error")

    B, M = planted_matrix()
    counts = [int(count) for count in np.unique(np.geomspace(1, 5000, 50).round())]
    found = [sgd_factorise_masked(B, M, 3, num_epochs=count) for count in counts]
    for mask, label, style in ((M, "observed entries", "--"), (1 - M, "hidden entries", "-")):
        errors = [rms(B, U @ V.T, mask) for U, V in found]
        right.loglog(counts, errors, style, color=SERIES[style == "--"], label=label)
    U, s, V = truncated_svd(B * M, 3)
    zeros = rms(B, (U * s) @ V.T, 1 - M)
    right.axhline(zeros, color=MUTED, linestyle=":", label="hidden entries, SVD filled with 0")
    right.set(title="a third hidden, 40 × 30, rank 3", xlabel="epochs", ylabel="root mean squared error")
    for axes in (left, right):
        axes.legend(frameon=False, loc="upper right")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FormatStrFormatter("%g"))


def planted_matrix() -> tuple[torch.Tensor, torch.Tensor]:
    """The matrix of the page on the exercise, of rank 3 with a little noise, and its mask."""
    rng = np.random.default_rng(0)
    B = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 30)) + 0.1 * rng.standard_normal((40, 30))
    M = rng.random(B.shape) > 1 / 3
    return torch.from_numpy(B.astype(np.float32)), torch.from_numpy(M.astype(np.float32))


def rms(A: torch.Tensor, B: torch.Tensor, mask: torch.Tensor) -> float:
    """Root mean squared difference over the entries of a mask."""
    return float((((A - B) ** 2 * mask).sum() / mask.sum()).sqrt())


def draw_systems(figure: Figure) -> None:
    """Every system of the table of MovieLens 1M by its fit seconds and its error."""
    text = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    table = text.partition("<!-- accuracy-ml-1m:begin -->")[2].partition("<!-- accuracy-ml-1m:end -->")[0]
    rows = re.findall(r"^\| (\*\*)?(.+?)(?:\*\*)? \| (\d\.\d+) \| \d\.\d+ \| ([\d.]+) \|", table, re.MULTILINE)
    axes = figure.subplots()
    for ours, name, rmse, seconds in rows:
        if name in _LEFT_OUT:
            continue
        point = float(seconds), float(rmse)
        axes.plot(*point, "o", color=SERIES[0] if ours else MUTED, markersize=9 if ours else 6, zorder=3)
        side, high = _PLACES.get(name, ("right", 0))
        axes.annotate(
            _SHORT.get(name, name), point, xytext=(9 if side == "right" else -9, high),
            textcoords="offset points", va="center", ha="left" if side == "right" else "right",
            color=SERIES[0] if ours else INK, fontweight="bold" if ours else "normal",
        )  # fmt: skip
    axes.set(xscale="log", xlabel="seconds of the fit on two cores", ylabel="held-out RMSE, lower is better")
    axes.set_xlim(0.12, 2500)
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))


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


DRAWN = {
    "curves": ((6.4, 3.4), draw_curves),
    "exercise": ((8.4, 3.6), draw_exercise),
    "front": ((7, 4.3), draw_systems),
}


if __name__ == "__main__":
    for name, (size, draw) in DRAWN.items():
        target = io.StringIO()
        with styled(name):
            figure = Figure(figsize=size, layout="constrained")
            draw(figure)
            figure.savefig(target, format="svg", metadata={"Date": None}, transparent=True)
        light = target.getvalue()
        dark = re.sub("|".join(DARK), lambda colour: DARK[colour[0]], light)
        for shade, text in (("light", light), ("dark", dark)):
            (ROOT / "docs" / "pictures" / f"{name}-{shade}.svg").write_text(text, encoding="utf-8")
