"""The contents of a report: its heading, its tables and their legend, for every form that it is shown in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recsys_mf.errors import printable
from recsys_mf.evaluation.calibration import Calibration
from recsys_mf.evaluation.folds import FoldReport, FoldRow, Spread
from recsys_mf.evaluation.metrics import Estimate
from recsys_mf.evaluation.names import shown_name
from recsys_mf.evaluation.report import HeldOut, Report, Row, Segment
from recsys_mf.layout import Table, paragraphs
from recsys_mf.memory import in_words
from recsys_mf.models.fit import Details

_DIFFERENCE, _RUNS = "difference from the baseline", "runs × epochs"
_SECONDS, _SPEED = "fit seconds", "million ratings per second"

_SVD = (
    "SVD: the truncated SVD, at the rank shown, of the dense rating matrix with its missing entries filled with zero, "
    "the mean rating, the mean rating of the item, or the prediction of the bias model (which is subtracted before the "
    "decomposition and added after it)."
)
_ROUTES = {
    "operator": "by products with the sparse part, without forming the dense matrix",
    "dense": "from the dense matrix",
}


@dataclass(frozen=True)
class Said:
    """Lines above the table of all models, the table, lines below it, and a table of the model by segments if any."""

    heading: str
    models: Table
    legend: str
    segments: Table | None


def describe(report: Report | FoldReport) -> Said:
    """The contents of a report, except its warnings and its ranking."""
    if isinstance(report, FoldReport):
        return Said(_fold_heading(report), _fold_table(report), _fold_legend(report), None)
    if report.held_out is None:
        return Said(_heading(report), _validation_table(report), _validation_legend(report), None)
    return Said(_heading(report), _held_out_table(report), _held_out_legend(report), _segment_table(report))


def _heading(report: Report) -> str:
    """What was tested, on which rows, and where it ran."""
    seed = "" if report.split_seed is None else f", seed {report.split_seed}"
    low, high = report.rating_range
    trained = f"{report.train_ratings:,} training ratings{_weighted(report.weighted)}"
    peak = max(row.peak_memory_bytes for row in report.rows)
    if report.held_out is None:
        what = f"Validation error (no test ratings: {report.split})"
        pairs = ""
    else:
        what = f"{_of_what(report.held_out)}: {report.split}{seed}"
        pairs = f" · {report.held_out.n_pairs:,} test pairs{_weighted(report.held_out.weighted)}"
    lines = [
        printable(what if report.data is None else f"{what} · {report.data}"),
        f"{trained}{pairs} · ratings from {low:g} to {high:g}",
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
            f"fallback predictions for {part.fallback_share:.2%} of the pairs: user unknown in "
            f"{part.unknown_user_pairs:,}, item in {part.unknown_item_pairs:,}, both in {part.unknown_both_pairs:,}"
        )
    return "\n".join(lines)


def _weighted(weighted: bool) -> str:
    return ", weighted" if weighted else ""


def _of_what(part: HeldOut) -> str:
    """The kind of error that is reported; held-out only if no pair was trained on."""
    if part.trained_pairs is None:
        return "Error (the run does not say whether it was trained on these pairs)"
    if not part.trained_pairs:
        return "Held-out error"
    if part.trained_pairs == part.n_pairs:
        return "Error on rows the model was trained on"
    return f"Error on pairs, {part.trained_pairs:,} of which the model was trained on"


def _held_out_table(report: Report) -> Table:
    head = ("model", "rank", "RMSE", _DIFFERENCE, "MAE", "train RMSE", _RUNS, _SECONDS, _SPEED)
    return Table(head, tuple(_held_out_row(row, report) for row in report.rows))


def _held_out_row(row: Row, report: Report) -> tuple[str, ...]:
    difference = row.differences.get("rmse")
    return (
        shown_name(row.label, report.best),
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
    """What a run kept from the run that it continues, and what was added and changed."""
    changed = facts["changed"]["ratings"]
    of = (
        f"{facts['kept'][what]:,} {what} kept, {facts['added'][what]:,} added" for what in ("ratings", "users", "items")
    )
    return f"continued: {'; '.join(of)}; {changed:,} ratings changed; {facts['how']}"


def _held_out_legend(report: Report) -> str:
    trained = report.rows[-1]
    if trained.valid_rmse is not None:
        chosen = "Ranks and epochs were chosen on validation rows cut from the training ratings."
    elif any(row.valid_rmse is not None for row in report.rows):
        chosen = (
            "The ranks of the baselines were chosen on validation rows cut from the training ratings; "
            f"no setting of {trained.label} was."
        )
    else:
        chosen = "No validation rows were cut: ranks and epochs are those of the settings."
    return paragraphs(
        "* lowest RMSE. ±: half-width of the 95 % confidence interval; for differences from a paired bootstrap. "
        f"{chosen} Speed counts every visit to a rating.",
        *_epochs_note(report),
        *_weights_note(report),
        *_svd_note(report.rows),
        *_sampled(trained),
        f"Below: RMSE of {trained.label} and of the baseline by the number of training ratings.",
    )


def _epochs_note(report: Report) -> Iterator[str]:
    """What validation made of the epochs that were asked for, if the table does not show it."""
    trained, asked = report.rows[-1], report.asked_epochs
    epochs = Details.of(trained.settings).epochs
    if epochs == 0 and asked:
        why = "on the validation rows they had a lower error than any factors, so all factors are zero"
        yield f"{trained.label} is the damped biases alone: {why}."
    elif epochs == 0:
        yield f"{trained.label} is the damped biases alone, as epochs=0 asks: all factors are zero."
    elif trained.members > 1 and asked is not None and epochs is not None and epochs > asked:
        why = "the mean of several runs is best if each makes more than is best for one"
        yield f"{trained.label}: the {asked} epochs of the settings are the most of a single run; {why}."


def _weights_note(report: Report) -> Iterator[str]:
    """Which errors are weighted; nothing if none is."""
    weighted = {"test": report.held_out is not None and report.held_out.weighted, "training": report.weighted}
    names = [name for name, has_weights in weighted.items() if has_weights]
    if names:
        yield f"Errors on {' and '.join(names)} ratings are weighted: RMSE √(Σ w e² / Σ w), MAE Σ w |e| / Σ w."


def _svd_note(rows: Iterable[Row | FoldRow]) -> Iterator[str]:
    """What the rows of the truncated SVD are and how they were computed; nothing if there are none."""
    routes = {
        row.route if isinstance(row, FoldRow) else Details.of(row.settings).route for row in rows if row.solver == "svd"
    }
    if routes:
        how = " or ".join(words for route, words in _ROUTES.items() if route in routes)
        yield f"{_SVD}{f' Computed {how}.' if how else ''}"


def _sampled(row: Row) -> Iterator[str]:
    """How many ratings the intervals of a model contain, and how well the chains of a sampler agree."""
    if row.coverage is not None:
        part = row.coverage
        exact = "" if part.covered == part.pit else f" (whole rating levels; cut exactly: {part.pit:.1%})"
        yield f"{part.probability:.0%} intervals of {row.label} contain {part.covered:.1%} of the test ratings{exact}."
    if row.calibration is not None:
        yield _calibrated(row.calibration)
    if row.convergence:
        least = min(row.convergence, key=lambda summary: summary.ess)
        most = max(row.convergence, key=lambda summary: summary.r_hat)
        yield (
            f"Of {len(row.convergence)} monitored scalars, the effective sample size is at least {least.ess:,.0f} "
            f"({least.name}) and split R̂ is at most {most.r_hat:.3f} ({most.name})."
        )


def _calibrated(found: Calibration) -> str:
    """How wide the intervals are, and how well the distributions fit."""
    scores = f"CRPS {found.crps:.4f}" + ("" if found.log_score is None else f", log score {found.log_score:.4f}")
    said = f"Their mean width is {found.width:.3f}; {scores} (lower is better)."
    if found.thirds:
        parts = ", ".join(f"{third.pit:.1%} (width {third.width:.3f})" for third in found.thirds)
        said += f" Cut exactly, within thirds of the users from the least noise to the most: {parts}."
    return said


def _segment_table(report: Report) -> Table:
    trained = report.rows[-1]
    head = ("training ratings", "pairs", f"RMSE of {trained.label}", "RMSE of the baseline")
    rows = (
        (
            _segment(segment),
            f"{segment.n_pairs:,}",
            f"{segment.rmse:.4f}",
            f"{segment.baseline_rmse:.4f}",
        )
        for segment in trained.segments
    )
    return Table(head, tuple(rows))


def _segment(segment: Segment) -> str:
    if segment.side == "pair":
        return "pairs trained on" if segment.training_ratings == "1" else "pairs not trained on"
    return f"{segment.side}s with {segment.training_ratings}"


def _validation_legend(report: Report) -> str:
    trained = report.rows[-1]
    if all(row.valid_rmse is None for row in report.rows):
        return paragraphs(
            "No ratings were held out and no validation rows were cut, so there is no error on new ratings to report.",
            *_svd_note(report.rows),
        )
    if trained.valid_rmse is None:
        return paragraphs(
            "The ranks of the baselines were chosen on the validation rows, which were cut from the training ratings. "
            f"No setting of {trained.label} was chosen on them, so it has no validation error to compare. "
            "All models were then fitted on all rows.",
            *_svd_note(report.rows),
        )
    return paragraphs(
        *_weights_note(report),
        "* lowest validation RMSE. The ranks and epochs were chosen on the same validation rows, which were cut from "
        "the training ratings, so expect a slightly higher error on new ratings. "
        "All models were then fitted on all rows.",
        *_epochs_note(report),
        *_svd_note(report.rows),
    )


def _validation_table(report: Report) -> Table:
    head = ("model", "rank", "validation RMSE", "train RMSE", _RUNS, _SECONDS, _SPEED)
    rows = (
        (
            shown_name(row.label, report.best),
            str(row.rank),
            "none" if row.valid_rmse is None else f"{row.valid_rmse:.4f}",
            f"{row.train_rmse:.4f}",
            _epochs(row),
            f"{row.fit_seconds:.2f}",
            _rate(row),
        )
        for row in report.rows
    )
    return Table(head, tuple(rows))


_USUAL = (("schedule", "conflict-free"), ("precision", "float32"))  # the heading names settings that differ from these


def _fold_heading(report: FoldReport) -> str:
    low, high = report.rating_range
    what = f"Held-out error over {len(report.splits)} folds, seed {report.split_seed}"
    pairs = f"{sum(report.n_pairs):,} test pairs in all folds{_weighted(report.weighted)}"
    shares = ", ".join(f"{share:.2%}" for share in report.fallback_shares)
    return "\n".join(
        [
            what if report.data is None else f"{what} · {printable(report.data)}",
            f"{pairs} · ratings from {low:g} to {high:g}",
            f"{report.device}, {report.threads} threads, training seed {report.seed}",
            f"fallback predictions per fold: {shares} of the pairs",
        ]
    )


def _fold_table(report: FoldReport) -> Table:
    head = ("model", "rank", "RMSE", _DIFFERENCE, "MAE", _SECONDS)
    return Table(head, tuple(_fold_row(row, report.best) for row in report.rows))


def _fold_row(row: FoldRow, best: str) -> tuple[str, ...]:
    ranks = sorted(set(row.ranks))
    difference = row.differences.get("rmse")
    return (
        shown_name(row.label, best),
        str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]}-{ranks[-1]}",
        _spread(row.scores["rmse"]),
        "baseline" if difference is None else _spread(difference, sign="+"),
        _spread(row.scores["mae"]),
        f"{row.fit_seconds.mean:.2f}",
    )


def _fold_legend(report: FoldReport) -> str:
    return paragraphs(
        "Mean ± standard deviation over the folds. * lowest RMSE. The saved model is fitted on all rows.",
        *_svd_note(report.rows),
    )


def _epochs(row: Row) -> str:
    """The runs that the model is the mean of, and the epochs of each."""
    return f"{row.members} × {row.epochs}"


def _rate(row: Row) -> str:
    return f"{row.ratings_per_second / 1e6:.1f}"


def _with_reach(estimate: Estimate, sign: str = "") -> str:
    return f"{estimate.value:{sign}.4f} ±{(estimate.high - estimate.low) / 2:.4f}"


def _spread(spread: Spread, sign: str = "") -> str:
    return f"{spread.mean:{sign}.4f} ± {spread.standard_deviation:.4f}"
