"""Reports as text for the terminal, as Markdown, and as JSON.

Text and Markdown show the same tables: one of every model, one of the trained model's error by segment.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys_mf import strict_json
from recsys_mf.errors import printable
from recsys_mf.evaluation.folds import FoldReport, FoldRow, Spread
from recsys_mf.evaluation.metrics import Estimate
from recsys_mf.evaluation.report import HeldOut, Report, Row, Segment
from recsys_mf.memory import in_words
from recsys_mf.models.fit import Details


@dataclass(frozen=True)
class _Table:
    """Columns of texts; the first is flush left, the others flush right."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def to_json(report: Report | FoldReport) -> str:
    """`to_mapping` as JSON; null for a figure that is not finite."""
    return strict_json.to_text(report.to_mapping())


def to_text(report: Report | FoldReport) -> str:
    """Tables for the terminal, at most 100 columns wide but for wide rating scales."""
    return _document(report, _plain, str, lambda text: textwrap.fill(f"WARNING: {text}", 100))


def to_markdown(report: Report | FoldReport) -> str:
    """Tables for GitHub and notebooks."""
    return _document(report, _piped, _lines, lambda text: f"> **Warning:** {text}")


def _document(
    report: Report | FoldReport, table: Callable[[_Table], str], prose: Callable[[str], str],
    warn: Callable[[str], str],
) -> str:  # fmt: skip
    if isinstance(report, FoldReport):
        parts = [prose(_fold_heading(report)), table(_fold_table(report)), prose(_fold_legend(report))]
    elif report.held_out is None:
        legend = prose(_validation_legend(report))
        parts = [prose(_heading(report)), table(_validation_table(report)), legend]
    else:
        tables = table(_held_out_table(report)), table(_segment_table(report))
        parts = [prose(_heading(report)), tables[0], prose(_held_out_legend(report)), tables[1]]
    text = "\n\n".join([*(warn(printable(warning)) for warning in report.warnings), *parts])
    return "\n".join(map(printable, text.split("\n")))


def _lines(text: str) -> str:
    """Lines that stay lines in Markdown, and a mark that makes no list."""
    return text.replace("*", "\\*").replace("\n", "\\\n")


def _heading(report: Report) -> str:
    """What was tested, on which rows, and where it ran."""
    seed = "" if report.split_seed is None else f", seed {report.split_seed}"
    low, high = report.rating_range
    peak = max(row.peak_memory_bytes for row in report.rows)
    if report.held_out is None:
        what = f"Validation error, nothing was held out ({report.split})"
        pairs = ""
    else:
        what = f"{_of_what(report.held_out)}: {report.split}{seed}"
        pairs = f" · {report.held_out.n_pairs:,} test pairs"
    lines = [
        printable(what if report.data is None else f"{what} · {report.data}"),
        f"{report.train_ratings:,} training ratings{pairs} · scale {low:g} to {high:g}",
        f"{report.device}, {report.threads} threads, training seed {report.seed} · peak memory {in_words(peak)}",
    ]
    if report.continued is not None:
        lines.append(_continued(report.continued))
    unusual = [
        f"{name} {row.settings[name]}"
        for row in report.rows
        for name, usual in _USUAL
        if row.settings.get(name, usual) != usual
    ]
    if unusual:
        lines.append(f"{report.rows[-1].label}: {', '.join(unusual)}")
    if report.held_out is not None:
        part = report.held_out
        lines.append(
            f"fallback share {part.fallback_share:.2%}: {part.unknown_user_pairs:,} pairs of unknown users, "
            f"{part.unknown_item_pairs:,} of unknown items, {part.unknown_both_pairs:,} of both"
        )
    return "\n".join(lines)


def _of_what(part: HeldOut) -> str:
    """The error that is reported; held-out only where no pair was trained on."""
    if part.trained_pairs is None:
        return "Error (the run does not tell whether it was trained on these pairs)"
    if not part.trained_pairs:
        return "Held-out error"
    if part.trained_pairs == part.n_pairs:
        return "Error on rows the model was trained on"
    return f"Error on pairs of which {part.trained_pairs:,} were trained on"


def _held_out_table(report: Report) -> _Table:
    head = ("model", "rank", "RMSE", f"− {report.baseline}", "MAE", "train", "epochs", "fit s", "M/s")
    return _Table(head, tuple(_held_out_row(row, report) for row in report.rows))


def _held_out_row(row: Row, report: Report) -> tuple[str, ...]:
    difference = row.differences.get("rmse")
    return (
        _label(row.label, Details.of(row.settings).route, report.best),
        str(row.rank),
        _with_reach(row.scores["rmse"]),
        "baseline" if difference is None else _with_reach(difference, sign="+"),
        f"{row.scores['mae'].value:.4f}",
        f"{row.train_rmse:.4f}",
        _epochs(row),
        f"{row.fit_seconds:.2f}",
        _rate(row),
    )


def _continued(facts: Mapping[str, Any]) -> str:
    """What a run took over from the one that it continues."""
    changed = facts["changed"]["ratings"]
    of = (
        f"{facts['kept'][what]:,} {what} kept, {facts['added'][what]:,} added" for what in ("ratings", "users", "items")
    )
    return f"continued: {'; '.join(of)}; {changed:,} ratings changed; {facts['how']}"


def _held_out_legend(report: Report) -> str:
    trained = report.rows[-1]
    if trained.valid_rmse is not None:
        chosen = "Ranks and epochs were chosen on validation rows cut\nfrom train."
    elif any(row.valid_rmse is not None for row in report.rows):
        chosen = f"Ranks of the baselines were chosen on validation\nrows cut from train, nothing of {trained.label}."
    else:
        chosen = "No validation rows were cut: ranks and epochs\nare those of the settings."
    return (
        "* lowest. ±: half the 95 % interval, of differences by paired bootstrap. train: RMSE on train.\n"
        f"M/s: million ratings visited per second. {chosen} "
        f"Below: RMSE of {trained.label} by the number of training ratings.{_sampled(trained)}"
    )


def _sampled(row: Row) -> str:
    """How well the intervals of a sampled model cover, and what its chains are worth; one line each, or nothing."""
    lines = []
    if row.coverage is not None:
        part = row.coverage
        exact = "" if part.covered == part.pit else f" (whole levels; cut exactly, {part.pit:.1%})"
        lines.append(
            f"{part.probability:.0%} intervals of {row.label} hold {part.covered:.1%} of the test ratings{exact}."
        )
    if row.convergence:
        least = min(row.convergence, key=lambda summary: summary.ess)
        most = max(row.convergence, key=lambda summary: summary.r_hat)
        lines.append(
            f"Of {len(row.convergence)} monitored scalars: effective sample size at least {least.ess:,.0f} "
            f"({least.name}), split R̂ at most {most.r_hat:.3f} ({most.name})."
        )
    return "".join(f"\n{line}" for line in lines)


def _segment_table(report: Report) -> _Table:
    trained = report.rows[-1]
    head = ("training ratings", "pairs", f"RMSE {trained.label}", f"RMSE {report.baseline}")
    rows = (
        (
            _segment(segment),
            f"{segment.n_pairs:,}",
            f"{segment.rmse:.4f}",
            f"{segment.baseline_rmse:.4f}",
        )
        for segment in trained.segments
    )
    return _Table(head, tuple(rows))


def _segment(segment: Segment) -> str:
    if segment.side == "pair":
        return "pairs trained on" if segment.training_ratings == "1" else "pairs not trained on"
    return f"{segment.side}s with {segment.training_ratings}"


def _validation_legend(report: Report) -> str:
    trained = report.rows[-1]
    if all(row.valid_rmse is None for row in report.rows):
        return "Nothing was held out and no validation rows were cut: there is no error on new ratings to report."
    if trained.valid_rmse is None:
        return (
            f"The validation rows, cut from train, chose the ranks of the baselines. Nothing of {trained.label} was\n"
            "chosen on them: it has no validation error to compare. All models were fitted on all rows."
        )
    return (
        "* lowest. The validation rows, cut from train, also chose the ranks and epochs: the error on rows\n"
        "that nothing was chosen on would be a little higher. The model was then fitted on all rows."
    )


def _validation_table(report: Report) -> _Table:
    head = ("model", "rank", "validation RMSE", "train RMSE", "epochs", "fit s", "M ratings/s")
    rows = (
        (
            _label(row.label, Details.of(row.settings).route, report.best),
            str(row.rank),
            "none" if row.valid_rmse is None else f"{row.valid_rmse:.4f}",
            f"{row.train_rmse:.4f}",
            _epochs(row),
            f"{row.fit_seconds:.2f}",
            _rate(row),
        )
        for row in report.rows
    )
    return _Table(head, tuple(rows))


_USUAL = (("schedule", "conflict-free"), ("precision", "float32"))  # settings that are said where they are others


def _fold_heading(report: FoldReport) -> str:
    low, high = report.rating_range
    what = f"Held-out error over {len(report.splits)} folds, seed {report.split_seed}"
    shares = ", ".join(f"{share:.2%}" for share in report.fallback_shares)
    return "\n".join(
        [
            what if report.data is None else f"{what} · {printable(report.data)}",
            f"{sum(report.n_pairs):,} test pairs in all · scale {low:g} to {high:g}",
            f"{report.device}, {report.threads} threads, training seed {report.seed} · fallback share by fold {shares}",
        ]
    )


def _fold_table(report: FoldReport) -> _Table:
    head = ("model", "rank", "RMSE", f"− {report.baseline}", "MAE", "fit s")
    return _Table(head, tuple(_fold_row(row, report.best) for row in report.rows))


def _fold_row(row: FoldRow, best: str) -> tuple[str, ...]:
    ranks = sorted(set(row.ranks))
    difference = row.differences.get("rmse")
    return (
        _label(row.label, row.route, best),
        str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]}-{ranks[-1]}",
        _spread(row.scores["rmse"]),
        "baseline" if difference is None else _spread(difference, sign="+"),
        _spread(row.scores["mae"]),
        f"{row.fit_seconds.mean:.2f}",
    )


def _fold_legend(report: FoldReport) -> str:
    return "mean ± standard deviation over folds. * lowest. The saved model is fitted on all rows."


def _label(label: str, route: str | None, best: str | None) -> str:
    """The model, how its decomposition was computed, and a mark for the best."""
    return " ".join([label, *([route] if route else []), *(["*"] if label == best else [])])


def _epochs(row: Row) -> str:
    """Epochs of the fit, for a committee those of every member."""
    return str(row.epochs) if row.members == 1 else f"{row.members}×{row.epochs}"


def _rate(row: Row) -> str:
    return f"{row.ratings_per_second / 1e6:.1f}"


def _with_reach(estimate: Estimate, sign: str = "") -> str:
    return f"{estimate.value:{sign}.4f} ±{(estimate.high - estimate.low) / 2:.4f}"


def _spread(spread: Spread, sign: str = "") -> str:
    return f"{spread.mean:{sign}.4f} ± {spread.standard_deviation:.4f}"


def _plain(table: _Table) -> str:
    lines = [table.head, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    head, *body = (_aligned(line, widths) for line in lines)
    return "\n".join([head, rule, *body])


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (f"{text:>{width}}" for text, width in zip(line, widths, strict=True))
    return "  ".join([f"{line[0]:<{len(first)}}", *others]).rstrip()


def _piped(table: _Table) -> str:
    marks = [":---", *["---:"] * (len(table.head) - 1)]
    lines: Iterable[Sequence[str]] = [table.head, marks, *table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
