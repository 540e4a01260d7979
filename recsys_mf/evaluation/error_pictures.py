"""Pictures of the errors on test rows: by rating, by size, by activity; and how well probabilities are calibrated.

Each function returns None if the report has nothing to show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_mf.drawing import Picture
from recsys_mf.drawing.style import DASHES, MARKERS, MUTED, SERIES, add_legend, label_values
from recsys_mf.evaluation.diagnostics import PROBABILITIES, QUANTILES, OnTest
from recsys_mf.evaluation.names import shown_name
from recsys_mf.evaluation.report import Report, Row
from recsys_mf.layout import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TICKS = 10  # ratings that are named below the picture


def draw_by_rating(on_test: OnTest) -> Picture:
    """Predictions against the rating that was given."""
    bins = on_test.by_rating
    ratings = np.array([part.rating for part in bins])
    quantiles = np.array([part.quantiles for part in bins])

    def draw(axes: Axes) -> None:
        ends = [ratings.min(), ratings.max()]
        axes.plot(ends, ends, ":", color=MUTED, linewidth=1.2, label="as rated")
        axes.vlines(ratings, quantiles[:, 0], quantiles[:, 4], color=SERIES[0], linewidth=1.2, label="90 % of rows")
        axes.vlines(ratings, quantiles[:, 1], quantiles[:, 3], color=SERIES[0], linewidth=5, alpha=0.55,
                    label="50 % of rows")  # fmt: skip
        axes.plot(ratings, quantiles[:, 2], "o", color=SERIES[0], label="median")
        label_values(axes, "rating given", "rating predicted")
        if len(bins) <= _TICKS:
            axes.set_xticks(ratings, [part.label for part in bins])
        add_legend(axes)

    rows = tuple(
        (part.label, f"{part.n_pairs:,}", f"{part.mean:.3f}", *(f"{value:.3f}" for value in part.quantiles))
        for part in bins
    )
    head = ("rating given", "test rows", "mean predicted", *(f"{q:.0%} quantile" for q in QUANTILES))
    caption = (
        "What was predicted for rows of each rating. Predictions are means, so they are drawn towards the middle: low "
        "ratings are predicted too high and high ones too low, most of all if the model knows little."
    )
    return Picture("by_rating", "Predicted against actual rating", caption, draw, Table(head, rows))


def draw_residuals(on_test: OnTest) -> Picture:
    """Histogram of predicted minus actual ratings."""
    edges, counts = on_test.residual_edges, on_test.residual_counts
    shares = counts / max(counts.sum(), 1)
    middles = (edges[1:] + edges[:-1]) / 2
    mean = float(shares @ middles)

    def draw(axes: Axes) -> None:
        axes.stairs(100 * shares, edges, fill=True, color=SERIES[0], alpha=0.55)
        axes.axvline(0, color=MUTED, linewidth=1, linestyle=":")
        axes.axvline(mean, color=SERIES[1], linewidth=1.5, label=f"mean {mean:+.3f}")
        label_values(axes, "predicted minus actual rating", "% of test rows")
        add_legend(axes)

    wide = np.add.reduceat(counts, np.arange(0, len(counts), 4))
    rows = tuple(
        (f"{low:+.2f} to {high:+.2f}", f"{count:,}", f"{count / max(counts.sum(), 1):.1%}")
        for low, high, count in zip(edges[:-1:4], edges[4::4], wide, strict=True)
    )
    caption = "The errors of predictions. The outermost bars hold all rows with larger errors."
    table = Table(("predicted minus actual", "test rows", "share"), rows)
    return Picture("residuals", "Residuals", caption, draw, table)


def draw_calibration(on_test: OnTest) -> Picture | None:
    """Share of ratings inside intervals against their probability."""
    covered = on_test.coverage
    if covered is None:
        return None

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color=MUTED, linewidth=1.2, label="perfect")
        axes.plot(PROBABILITIES, covered, "-o", color=SERIES[0], label="measured")
        _label_shares(axes)
        label_values(axes, "probability of the interval", "share of ratings inside")
        add_legend(axes)

    rows = tuple((f"{p:.0%}", f"{share:.1%}") for p, share in zip(PROBABILITIES, covered, strict=True))
    caption = (
        "Above the line intervals are too wide, below it too narrow. For ratings of few levels the intervals are cut "
        "within a level (randomised probability integral transform)."
    )
    table = Table(("probability", "share inside"), rows)
    return Picture("calibration", "Calibration of intervals", caption, draw, table)


def draw_reliability(on_test: OnTest) -> Picture | None:
    """How often ratings were given, by the probability that the model had predicted."""
    found = on_test.reliability
    if found is None:
        return None

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color=MUTED, linewidth=1.2, label="perfect")
        axes.plot(found.predicted, found.observed, "-", color=SERIES[0], linewidth=1)
        areas = 8 + 60 * found.counts / found.counts.max()
        axes.scatter(found.predicted, found.observed, areas, color=SERIES[0], label="measured (area: rows)", zorder=3)
        _label_shares(axes)
        label_values(axes, "probability of a rating", "how often it was given")
        add_legend(axes)

    figures = zip(found.predicted, found.observed, found.counts.tolist(), strict=True)
    rows = tuple((f"{p:.1%}", f"{share:.1%}", f"{count:,}") for p, share, count in figures)
    head = ("probability", "how often given", "ratings and rows")
    caption = "How often ratings were given, by the probability that the model had predicted for them."
    return Picture("reliability", "Reliability of star probabilities", caption, draw, Table(head, rows))


def draw_segments(report: Report, side: str) -> Picture | None:
    """Error by how many training ratings the user (or item) has, ours and the baseline's."""
    trained = report.rows[-1]
    parts = [segment for segment in trained.segments if segment.side == side]
    if len(parts) < 2:
        return None
    baseline = shown_name(report.baseline, None)
    places = np.arange(len(parts))

    def draw(axes: Axes) -> None:
        for number, (label, errors) in enumerate(
            {trained.label: [p.rmse for p in parts], baseline: [p.baseline_rmse for p in parts]}.items()
        ):
            axes.plot(
                places, errors, linestyle=DASHES[number], marker=MARKERS[number], color=SERIES[number], label=label
            )
        axes.set_xticks(places, [f"{part.training_ratings}\n({_short(part.n_pairs)})" for part in parts])
        label_values(axes, f"training ratings of the {side} (test rows)", "RMSE")
        add_legend(axes)

    rows = tuple(
        (part.training_ratings, f"{part.n_pairs:,}", f"{part.rmse:.4f}", f"{part.baseline_rmse:.4f}") for part in parts
    )
    table = Table(("training ratings", "test rows", f"RMSE of {trained.label}", f"RMSE of {baseline}"), rows)
    name, title = {
        "user": ("activity", "Error by activity of users"),
        "item": ("popularity", "Error by popularity of items"),
    }[side]
    caption = f"RMSE on test rows by the number of training ratings of their {side}; 0 is an unknown {side}."
    return Picture(name, title, caption, draw, table)


def draw_models(report: Report) -> Picture | None:
    """Errors of all models with their intervals."""
    rows = [row for row in report.rows if "rmse" in row.scores]
    if len(rows) < 2:
        return None
    best = min(row.scores["rmse"].value for row in rows)
    shown = [row for row in rows if row.scores["rmse"].value <= 1.6 * best]
    left_out = [f"{shown_name(row.label, None)} ({row.scores['rmse'].value:.2f})" for row in rows if row not in shown]

    def draw(axes: Axes) -> None:
        for index, row in enumerate(shown):
            estimate, is_trained = row.scores["rmse"], row is report.rows[-1]
            reach = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
            colour = SERIES[0] if is_trained else MUTED
            axes.errorbar([estimate.value], [-index], xerr=reach, fmt="*" if is_trained else "o", color=colour,
                          markersize=11 if is_trained else 5, capsize=3)  # fmt: skip
        axes.set_yticks(-np.arange(len(shown)), [_named(row, report) for row in shown])
        axes.set_ylim(-len(shown) + 0.4, 0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("RMSE")

    above = f" To the right of the picture: {', '.join(left_out)}." if left_out else ""
    table = Table(
        ("model", "RMSE", "low", "high"),
        tuple(
            (shown_name(row.label, None), *(f"{value:.4f}" for value in (e.value, e.low, e.high)))
            for row, e in ((row, row.scores["rmse"]) for row in rows)
        ),
    )
    caption = f"RMSE on the test rows with its 95 % interval.{above}"
    return Picture("models", "Errors of all models", caption, draw, table, (4.8, 1.0 + 0.36 * len(shown)))


def _named(row: Row, report: Report) -> str:
    return shown_name(row.label, None) + (" (baseline)" if row.label == report.baseline else "")


def _label_shares(axes: Axes) -> None:
    """Ticks of both axes as percent, on a square from 0 to 1."""
    ticks = np.arange(0, 1.01, 0.2)
    for set_ticks in (axes.set_xticks, axes.set_yticks):
        set_ticks(ticks, [f"{tick:.0%}" for tick in ticks])
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


def _short(count: int) -> str:
    """A count in few letters: 950, 12 k, 3.4 M."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if count >= size:
            value = count / size
            return f"{value:.1f}{unit}" if value < 10 else f"{value:.0f}{unit}"
    return str(count)
