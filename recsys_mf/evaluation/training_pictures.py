"""Pictures of how a model was trained: errors per step, per member and per rank, and the traces of a sampler.

Each function returns None if the run has nothing to show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_mf.drawing import Picture
from recsys_mf.drawing.style import DASHES, GRID, INK, MARKERS, MUTED, SERIES, add_legend, label_values
from recsys_mf.evaluation.diagnostics import F64, Diagnostics
from recsys_mf.evaluation.names import shown_name
from recsys_mf.evaluation.report import Row
from recsys_mf.layout import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RMSE = "validation RMSE"
_MOST_LINES = 30  # of the table below a picture
_HEADROOM = 4.0  # height of a picture of errors, in ranges of the later steps: earlier steps may be cut off above
_WORST_FILL = 1.35  # error relative to the best beyond which a fill of the truncated SVD is left out of the picture
_MOST_POINTS = 600  # of a line; a longer one keeps the least and the largest of each part
_FLAT = 1e-12


def draw_curves(diagnostics: Diagnostics, row: Row) -> Picture | None:
    """Errors per epoch or sweep: on validation rows, and on training rows if they are known."""
    steps = [step for step in diagnostics.histories[row.label] if step["stage"] in ("single", "member", "update")]
    if len(steps) < 2 or row.solver == "svd":  # whose steps are ranks
        return None
    lines = _curves_of(steps)
    unit = "sweep" if diagnostics.traces else "epoch"
    finite = [line for _, line in lines.values()]
    low, high, is_cut = _span_of(finite)

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        for number, (name, (x, y)) in enumerate(lines.items()):
            axes.plot(x, y, linestyle=DASHES[number % len(DASHES)], color=SERIES[number % len(SERIES)], label=name)
        if row.epochs <= max(x.max() for x, _ in lines.values()):
            axes.axvline(row.epochs, color=MUTED, linewidth=1, linestyle=":")
            axes.annotate(f"final fit: {row.epochs}", (row.epochs, high), xytext=(-3, -3), textcoords="offset points",
                          rotation=90, ha="right", va="top", color=MUTED, fontsize=8)  # fmt: skip
        axes.set_ylim(low, high)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        label_values(axes, unit, "RMSE")
        add_legend(axes)

    what = f"RMSE after each {unit}"
    if any(step["stage"] == "member" for step in steps):
        what += " of one member, which chose the epochs of all"
    if diagnostics.traces:
        what += ", of the mean of the samples so far"
    cut = " The first steps are above the picture." if is_cut else ""
    head = (unit, *lines)
    return Picture("curves", "Learning curves", f"{what}.{cut}", draw, _listed(lines, head))


def draw_members(diagnostics: Diagnostics, row: Row) -> Picture | None:
    """Validation error against the number of members of a committee."""
    steps = [step for step in diagnostics.histories[row.label] if step["stage"] == "committee"]
    if len(steps) < 2:
        return None
    x, y = (np.array([step[name] for step in steps], np.float64) for name in ("members", "valid_rmse"))

    def draw(axes: Axes) -> None:
        axes.plot(x, y, marker=MARKERS[0], color=SERIES[0])
        axes.set_xticks(x)
        label_values(axes, "members", _RMSE)

    caption = "Validation RMSE of the mean of this many members, by which their number is chosen."
    rows = tuple((f"{int(count)}", f"{error:.4f}") for count, error in zip(x, y, strict=True))
    return Picture("members", "Members of the committee", caption, draw, Table(("members", _RMSE), rows))


def draw_ranks(diagnostics: Diagnostics, rows: Sequence[Row]) -> Picture | None:
    """Validation error of the truncated SVD against its rank, with the trained model marked."""
    trained = rows[-1]
    lines = {row.label: _by_rank(diagnostics, row) for row in rows if row.solver == "svd"}
    lines = {label: line for label, line in lines.items() if len(line) > 1}
    if not lines:
        return None
    best = min(float(line[:, 1].min()) for line in lines.values())
    shown = {label: line for label, line in lines.items() if line[:, 1].min() <= _WORST_FILL * best}
    others = [rank for rank in (trained.rank,) if trained.valid_rmse is not None and rank > 0]
    ticks = sorted({*next(iter(lines.values()))[:, 0].astype(int).tolist(), *others})

    def draw(axes: Axes) -> None:
        for number, (label, line) in enumerate(shown.items(), start=1):
            axes.plot(*line.T, linestyle=DASHES[number], marker=MARKERS[number], color=SERIES[number],
                      label=shown_name(label, None))  # fmt: skip
        if trained.valid_rmse is not None and trained is not rows[0] and trained.label not in shown:
            axes.plot([max(trained.rank, ticks[0])], [trained.valid_rmse], "*", markersize=13, color=SERIES[0],
                      label=trained.label)  # fmt: skip
            axes.axhline(trained.valid_rmse, color=SERIES[0], linewidth=0.9)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        label_values(axes, "rank", _RMSE)
        add_legend(axes)

    left_out = [f"{shown_name(label, None)} ({line[:, 1].min():.2f} at best)" for label, line in lines.items()
                if label not in shown]  # fmt: skip
    above = f" Above the picture: {', '.join(left_out)}." if left_out else ""
    ours = "" if trained.valid_rmse is None else f" {trained.label}: {trained.valid_rmse:.4f} at rank {trained.rank}."
    caption = f"Validation RMSE of the truncated SVD at every rank that was tried, by how it fills gaps.{ours}{above}"
    table = Table(("rank", *(shown_name(label, None) for label in lines)), tuple(_list_by_rank(lines)))
    return Picture("svd_ranks", "Error against rank of the truncated SVD", caption, draw, table)


def draw_traces(diagnostics: Diagnostics, row: Row) -> Picture | None:
    """The scalars of a sampler over its sweeps, a line per chain, each scalar in a lane of its own."""
    traces = {name: np.array(chains, np.float64) for name, chains in diagnostics.traces.items()}
    if not traces:
        return None
    names, burn_in = list(traces), diagnostics.burn_in

    def draw(axes: Axes) -> None:
        for lane, name in enumerate(names):
            lines = _standardise(traces[name], burn_in)
            for chain, line in enumerate(lines):
                places = thin(line)
                y = np.clip(line[places], -0.48, 0.48) - lane
                axes.plot(places + 1, y, color=SERIES[chain % len(SERIES)], linewidth=0.9,
                          label=f"chain {chain + 1}" if lane == 0 else None)  # fmt: skip
            axes.axhline(-lane - 0.5, color=GRID, linewidth=0.8)
        if burn_in:
            axes.axvspan(0, burn_in, color=GRID, alpha=0.6, linewidth=0)
        axes.set_yticks(-np.arange(len(names)), names)
        axes.tick_params("y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.set_ylim(-len(names) + 0.5, 0.5)
        axes.set_xlabel("sweep")
        if len(next(iter(traces.values()))) > 1:
            add_legend(axes)

    rows = (
        (name, *_judged(row, name), f"{kept.mean():.4g}", f"{kept.std():.3g}")
        for name, kept in ((name, lines[:, burn_in:]) for name, lines in traces.items())
    )
    table = Table(("quantity", "effective sample size", "split R̂", "mean", "deviation"), tuple(rows))
    shade = f" Shaded: the {burn_in:,} sweeps of burn-in." if burn_in else ""
    caption = (
        "Each scalar that the sampler monitors, in a lane of its own, scaled to its range after burn-in. Lines that "
        f"wander or that differ from chain to chain have not converged.{shade}"
    )
    return Picture("traces", "Traces of the sampler", caption, draw, table, (4.8, 1.2 + 0.55 * len(names)))


def _judged(row: Row, name: str) -> tuple[str, str]:
    """Effective sample size and split R̂ of a scalar; empty if there were too few sweeps."""
    found = [summary for summary in row.convergence if summary.name == name]
    return (f"{found[0].ess:,.0f}", f"{found[0].r_hat:.3f}") if found else ("", "")


def thin(line: F64, most: int = _MOST_POINTS) -> Any:
    """Places, in order, of at most `most` entries of line [n] that look like all of them when drawn: the smallest and
    the largest of each of most / 2 parts; if there are no more than `most`, the places of all finite entries."""
    n = len(line)
    finite = np.flatnonzero(np.isfinite(line))
    if n <= most:
        return finite
    parts = [part for part in np.array_split(finite, most // 2) if len(part)]
    ends = [part[pick] for part in parts for pick in (line[part].argmin(), line[part].argmax())]
    return np.unique(ends)


def _curves_of(steps: Sequence[Mapping[str, Any]]) -> dict[str, tuple[F64, F64]]:
    """Name of a line -> its steps and errors, without errors that are not known."""
    lines: dict[str, tuple[F64, F64]] = {}
    strengths = list(dict.fromkeys(step.get("regularisation") for step in steps))
    for strength in strengths:
        of = [step for step in steps if step.get("regularisation") == strength]
        for name, key in (("validation", "valid_rmse"), ("training", "train_rmse")):
            known = [(step["epoch"], step[key]) for step in of if step.get(key) is not None]
            if known:
                label = name if len(strengths) == 1 else f"{name}, λ {strength:g}"
                x, y = np.array(known, np.float64).T
                lines[label] = x, y
    return lines


def _span_of(lines: Sequence[F64]) -> tuple[float, float, bool]:
    """The lower and upper end of the errors that are drawn, and whether some are above."""
    every = np.concatenate(lines)
    later = np.concatenate([line[len(line) // 10 :] for line in lines])
    low, high = float(every.min()), float(every.max())
    top = min(high, low + _HEADROOM * max(float(np.quantile(later, 0.75)) - low, _FLAT))
    margin = 0.05 * (top - low) or 0.01
    return low - margin, top + margin, top < high


def _listed(lines: Mapping[str, tuple[F64, F64]], head: tuple[str, ...]) -> Table:
    """The lines as a table: all steps, or evenly chosen ones if there are many."""
    steps = np.unique(np.concatenate([x for x, _ in lines.values()]))
    chosen = steps[np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _MOST_LINES)).round().astype(int))]
    values = [dict(zip(x, y, strict=True)) for x, y in lines.values()]
    rows = (
        (f"{step:.0f}", *(f"{of[step]:.4f}" if step in of else "" for of in values)) for step in chosen.tolist()
    )  # fmt: skip
    return Table(head, tuple(rows))


def _by_rank(diagnostics: Diagnostics, row: Row) -> F64:
    """The ranks that were tried for a truncated SVD and their validation errors, float64[k, 2]."""
    asked = diagnostics.record.get("baselines", {}).get(row.label, diagnostics.record)
    ranks, steps = asked["settings"]["ranks"], diagnostics.histories[row.label]
    return np.array([(ranks[step["epoch"] - 1], step["valid_rmse"]) for step in steps], np.float64).reshape(-1, 2)


def _list_by_rank(lines: Mapping[str, F64]) -> list[tuple[str, ...]]:
    values = [{int(rank): error for rank, error in line} for line in lines.values()]
    ranks = sorted({rank for of in values for rank in of})
    return [(str(rank), *(f"{of[rank]:.4f}" if rank in of else "" for of in values)) for rank in ranks]


def _standardise(lines: F64, burn_in: int) -> F64:
    """Lines [chains, sweeps] with the mean 0 after burn-in, scaled so that nearly all of them lies within ±1/2."""
    kept = lines[:, burn_in:] if lines.shape[1] > burn_in else lines
    kept = kept[np.isfinite(kept)]
    if not len(kept):
        return lines
    reach = float(np.abs(kept - kept.mean()).max())
    scaled: F64 = 0.45 * (lines - kept.mean()) / max(reach, _FLAT * max(abs(float(kept.mean())), 1.0))
    return scaled
