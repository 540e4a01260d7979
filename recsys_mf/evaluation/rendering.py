"""Reports as text for the terminal, as Markdown, and as JSON.

Text and Markdown show the same tables: the errors of every model, the trained model's error by segment and, if items
were ranked, the figures of the lists of every model.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from recsys_mf import strict_json
from recsys_mf.errors import printable
from recsys_mf.evaluation.folds import FoldReport
from recsys_mf.evaluation.ranking_section import ranking_section
from recsys_mf.evaluation.report import Report
from recsys_mf.evaluation.sections import describe
from recsys_mf.layout import WIDTH, Table, piped, plain


def to_json(report: Report | FoldReport) -> str:
    """`to_mapping` as JSON, with null for a figure that is not finite."""
    return strict_json.to_text(report.to_mapping())


def to_text(report: Report | FoldReport) -> str:
    """Tables for the terminal, at most 100 characters wide unless the rating scale is wide."""
    return _document(report, plain, str, lambda text: textwrap.fill(f"WARNING: {text}", WIDTH))


def to_markdown(report: Report | FoldReport) -> str:
    """Tables for GitHub and notebooks."""
    return _document(report, piped, _lines, lambda text: f"> **Warning:** {text}")


def _document(
    report: Report | FoldReport, table: Callable[[Table], str], prose: Callable[[str], str],
    warn: Callable[[str], str],
) -> str:  # fmt: skip
    said = describe(report)
    parts = [prose(said.heading), table(said.models), prose(said.legend)]
    if said.segments is not None:
        parts.append(table(said.segments))
    parts += ranking_section(report, table, prose)
    text = "\n\n".join([*(warn(printable(warning)) for warning in report.warnings), *parts])
    return "\n".join(map(printable, text.split("\n")))


def _lines(text: str) -> str:
    """The text with its line breaks kept in Markdown, and with a mark that does not start a list."""
    return text.replace("*", "\\*").replace("\n", "\\\n")
