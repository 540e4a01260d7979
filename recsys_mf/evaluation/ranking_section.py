"""The section of a report on recommendation lists: what was ranked, a table of the models, and its legend."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from recsys_mf.evaluation.folds import FoldReport, Spread
from recsys_mf.evaluation.metrics import Z
from recsys_mf.evaluation.names import shown_name
from recsys_mf.evaluation.ranking import FIGURES, Figure
from recsys_mf.evaluation.report import Ranking, Report
from recsys_mf.layout import Table, paragraphs

_FIGURES = (*FIGURES, "coverage", "novelty")
_HEADS = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR"}
"""Heads of columns that are not the name of the figure."""

_PROTOCOL = (
    "Every item with a training rating can be in a list, except those that the user rated in training; the order is "
    "that of the predicted ratings before they are clipped. MAP is divided by the number of relevant items. Coverage: "
    "share of the items that are in any list. Novelty: mean of -log2 of the share of users who rated an item, over the "
    "lists."
)


def ranking_section(
    report: Report | FoldReport, table: Callable[[Table], str], prose: Callable[[str], str]
) -> tuple[str, ...]:
    """Heading, table and legend; nothing if the report has no ranking."""
    if not report.ranking:
        return ()
    if isinstance(report, FoldReport):
        heading, reach = _fold_heading(report.ranking), "Mean ± standard deviation over the folds."
        values = {row.label: {name: of.mean for name, of in row.ranking.items()} for row in report.rows}
        in_full = {row.label: _spread(row.ranking[_FIGURES[0]]) for row in report.rows}
    else:
        heading, reach = (
            _heading(report.ranking),
            "±: half-width of the 95 % confidence interval of the mean over users.",
        )
        if report.held_out is not None and report.held_out.trained_pairs:
            reach += " Test ratings that the model was trained on are left out."
        values = {row.label: {name: of.value for name, of in row.ranking.items()} for row in report.rows}
        in_full = {row.label: _with_reach(row.ranking[_FIGURES[0]]) for row in report.rows}
    return (
        prose(heading), table(_table(values, in_full)), prose(paragraphs(f"* highest NDCG. {reach} {_PROTOCOL}")),
    )  # fmt: skip


def _title(ranking: Ranking) -> str:
    return f"Ranking: top {ranking.count:,} of all items, relevant = rating of at least {ranking.relevant:g}"


def _heading(ranking: Ranking) -> str:
    lines = (
        _title(ranking),
        f"{ranking.n_users:,} users with a relevant test rating; without a training rating: {ranking.unknown_users:,}",
        f"{ranking.n_relevant:,} relevant test ratings; of items without a training rating, which are misses: "
        f"{ranking.unknown_items:,}",
    )
    return "\n".join(lines)


def _fold_heading(rankings: tuple[Ranking, ...]) -> str:
    users = ", ".join(f"{ranking.n_users:,}" for ranking in rankings)
    return f"{_title(rankings[0])}\n{paragraphs(f'users with a relevant test rating per fold: {users}')}"


def _table(values: Mapping[str, Mapping[str, float]], in_full: Mapping[str, str]) -> Table:
    """A row per model.

    values : label -> figure -> value; a novelty is missing if all lists are empty
    in_full : label -> the first figure with its reach
    """
    first, *others = _FIGURES
    best = max(values, key=lambda label: values[label][first])
    rows = (
        (shown_name(label, best), in_full[label], *(_shown(name, figures.get(name)) for name in others))
        for label, figures in values.items()
    )
    return Table(("model", *(_HEADS.get(name, name.replace("_", " ")) for name in _FIGURES)), tuple(rows))


def _shown(name: str, value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}" if name == "novelty" else f"{value:.4f}"


def _with_reach(figure: Figure) -> str:
    reach = "" if figure.standard_error is None else f" ±{Z * figure.standard_error:.4f}"
    return f"{figure.value:.4f}{reach}"


def _spread(spread: Spread) -> str:
    return f"{spread.mean:.4f} ± {spread.standard_deviation:.4f}"
