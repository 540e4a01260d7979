"""The page of a report: verdict, tables, pictures, the items with the least and the largest error, the record."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from recsys_mf.drawing import Page, PageTable, Picture, Section, lay_out
from recsys_mf.evaluation.diagnostics import Items, OnTest
from recsys_mf.evaluation.error_pictures import (
    draw_by_rating,
    draw_calibration,
    draw_models,
    draw_reliability,
    draw_residuals,
    draw_segments,
)
from recsys_mf.evaluation.folds import FoldReport
from recsys_mf.evaluation.names import shown_name
from recsys_mf.evaluation.ranking_section import ranking_section
from recsys_mf.evaluation.report import Report
from recsys_mf.evaluation.sections import describe
from recsys_mf.evaluation.training_pictures import draw_curves, draw_members, draw_ranks, draw_traces
from recsys_mf.layout import Table
from recsys_mf.memory import in_words


@lay_out.register
def lay_out_report(report: Report) -> Page:
    """The page of a report."""
    data = "" if report.data is None else f" on {report.data}"
    sections = [
        _errors(report),
        *_by_part(report),
        *lay_out_ranking(report),
        *_probabilities(report),
        *lay_out_training(report),
    ]
    return Page(
        title=f"{report.rows[-1].label}{data}",
        verdict=describe_verdict(report),
        sections=(*sections, *_items(report)),
        warnings=report.warnings,
        record=list_record(report),
    )


def describe_verdict(report: Report) -> str:
    """The result in a sentence or two: the error of the trained model, and how far it is from the baseline."""
    trained = report.rows[-1]
    if report.held_out is None:
        if trained.valid_rmse is None:
            return f"{trained.label} was trained on all ratings. Nothing was held out, so there is no error to report."
        return (
            f"{trained.label} has an RMSE of {trained.valid_rmse:.4f} on validation rows, which also chose its "
            "settings. No test rows were held out: expect a slightly higher error on new ratings."
        )
    rmse = trained.scores["rmse"]
    kind = {
        "held-out": "held-out ratings", "trained": "ratings that it was trained on",
        "partly trained": "ratings, some of which it was trained on",
        "unknown": "ratings that it may have been trained on",
    }[report.kind]  # fmt: skip
    first = (
        f"{trained.label} predicts {report.held_out.n_pairs:,} {kind} with an RMSE of {rmse.value:.4f} "
        f"(95 % interval {rmse.low:.4f} to {rmse.high:.4f})"
    )
    difference = trained.differences.get("rmse")
    if difference is None:
        return f"{first}."
    name = next(shown_name(row.label, None) for row in report.rows if row.label == report.baseline)
    base = rmse.value - difference.value
    interval = f"{difference.low:+.4f} to {difference.high:+.4f}"
    if difference.low <= 0 <= difference.high:
        return f"{first}. It is not clear whether that is better than {name} ({base:.4f}; difference {interval})."
    better = "better" if difference.value < 0 else "worse"
    return f"{first}, {abs(difference.value) / base:.1%} {better} than {name} ({base:.4f}; difference {interval})."


def list_record(report: Report) -> dict[str, str]:
    """The facts needed to repeat a run, name -> value in words; empty if the report was read from a file."""
    if report.diagnostics is None:
        return {}
    found = {
        "settings": _pairs(report.rows[-1].settings),
        "peak memory": in_words(max(row.peak_memory_bytes for row in report.rows)),
        "device": f"{report.device}, {report.threads} threads",
    }
    return {**list_provenance(report.diagnostics.record), **found}


def list_provenance(record: Mapping[str, Any]) -> dict[str, str]:
    """How a run was made, from its record, name -> value in words."""
    seed = "" if record["split_seed"] is None else f", seed {record['split_seed']}"
    files = (
        f"{role}: {file['path']}, fingerprint {file['fingerprint']}" for role, file in record.get("files", {}).items()
    )
    found = {
        "trained by": record.get("command") and _command(record["command"]),
        "in folder": record.get("folder"),
        "files": "; ".join(files),
        "split": f"{record['split']}{seed}",
        "solver": record["solver"],
        "settings": _pairs(record["settings"]),
        "training seed": record["seed"],
        "training ratings": f"{record['train_ratings']:,}, fingerprint {record['train_fingerprint']}",
        "test ratings": record.get("test_fingerprint") and f"fingerprint {record['test_fingerprint']}",
        "device": f"{record['device']}, {record['threads']} threads",
        "machine": f"{record['processor']}, {record['platform']}",
        "software": f"Python {record['python']}, {_pairs(record['libraries'], ' ')}",
    }
    return {name: str(value) for name, value in found.items() if value is not None and value != ""}


def _command(command: Any) -> str:
    return command if isinstance(command, str) else shlex.join(map(str, command))


def _pairs(mapping: Mapping[str, Any], between: str = "=") -> str:
    """As NAME=VALUE, …"""
    return ", ".join(
        f"{name}{between}{value if isinstance(value, str) else json.dumps(value)}" for name, value in mapping.items()
    )


def _errors(report: Report) -> Section:
    said = describe(report)
    labels = [row.label for row in report.rows]
    best = None if report.best is None else labels.index(report.best)
    title = "Errors" if report.held_out is not None else "Validation errors"
    return Section(
        title,
        paragraphs=tuple(said.heading.split("\n")),
        tables=(PageTable("", said.models, best),),
        pictures=present(draw_models(report), lay_out_ranks(report)),
        notes=tuple(_sentences(said.legend)),
    )


def lay_out_ranks(report: Report) -> Picture | None:
    """Error against the rank of the truncated SVD, if it is known."""
    return None if report.diagnostics is None else draw_ranks(report.diagnostics, report.rows)


def _sentences(legend: str) -> Iterator[str]:
    """A legend that is wrapped for a terminal, as one paragraph without its last line about the table below."""
    text = " ".join(legend.split())
    yield text.partition(" Below: RMSE of ")[0]


def _by_part(report: Report) -> Iterator[Section]:
    on_test = None if report.diagnostics is None else report.diagnostics.on_test
    if on_test is None:
        return
    pictures = (
        draw_by_rating(on_test), draw_residuals(on_test), draw_segments(report, "user"), draw_segments(report, "item"),
    )  # fmt: skip
    yield Section("Where the errors are", pictures=present(*pictures))


def lay_out_ranking(report: Report | FoldReport) -> Iterator[Section]:
    """The figures of recommendation lists, if there are any."""
    parts: list[Table] = []

    def keep(table: Table) -> str:
        parts.append(table)
        return ""

    said = ranking_section(report, keep, str)
    if said:
        yield Section(
            "Ranking",
            paragraphs=tuple(said[0].split("\n")),
            tables=(PageTable("", parts[0]),),
            notes=(" ".join(said[-1].split()),),
        )


def _probabilities(report: Report) -> Iterator[Section]:
    on_test = None if report.diagnostics is None else report.diagnostics.on_test
    pictures = () if on_test is None else present(draw_calibration(on_test), draw_reliability(on_test))
    if pictures:
        yield Section("How sure the model is", pictures=pictures)


def lay_out_training(report: Report | None) -> Iterator[Section]:
    """How the model of a report was trained; nothing if that is not known."""
    diagnostics = None if report is None else report.diagnostics
    if report is None or diagnostics is None:
        return
    trained = report.rows[-1]
    pictures = present(
        draw_curves(diagnostics, trained), draw_members(diagnostics, trained), draw_traces(diagnostics, trained)
    )
    if pictures:
        yield Section("Training", pictures=pictures)


def _items(report: Report) -> Iterator[Section]:
    on_test: OnTest | None = None if report.diagnostics is None else report.diagnostics.on_test
    if on_test is None or on_test.items is None:
        return
    items = on_test.items
    k = len(items.items) // 2
    text = f"Of {items.n_items:,} items with at least {items.fewest} test ratings, by the RMSE of their predictions."
    tables = (
        PageTable("Least error", _item_table(items, range(k))),
        PageTable("Largest error", _item_table(items, range(2 * k - 1, k - 1, -1))),
    )
    yield Section("Best and worst predicted items", paragraphs=(text,), tables=tables)


def _item_table(items: Items, places: range) -> Table:
    ids = items.vocabulary.ids(items.items).to_pylist()
    titles = None if items.titles is None else ["" if title is None else title for title in items.titles]
    rows = (
        (
            str(ids[place]),
            *([] if titles is None else [titles[place]]),
            f"{items.counts[place]:,}",
            f"{items.means[place]:.2f}",
            f"{items.predicted[place]:.2f}",
            f"{items.errors[place]:.3f}",
        )
        for place in places
    )
    head = ("item", *([] if titles is None else ["title"]), "test ratings", "mean rating", "mean predicted", "RMSE")
    return Table(head, tuple(rows))


def present(*pictures: Picture | None) -> tuple[Picture, ...]:
    return tuple(picture for picture in pictures if picture is not None)
