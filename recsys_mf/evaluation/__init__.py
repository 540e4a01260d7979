"""Evaluation: held-out errors with intervals, next to the truncated SVD, as tables for people and machines."""

from recsys_mf.evaluation.fold_page import lay_out_folds as lay_out_folds  # registers the pages
from recsys_mf.evaluation.folds import FoldReport, summarise_folds
from recsys_mf.evaluation.full_ranking import Top
from recsys_mf.evaluation.metrics import METRICS
from recsys_mf.evaluation.page import lay_out_report as lay_out_report
from recsys_mf.evaluation.rendering import to_json, to_markdown, to_text
from recsys_mf.evaluation.report import Report, Row
from recsys_mf.evaluation.scoring import evaluate, validation_report

__all__ = [
    "METRICS",
    "FoldReport",
    "Report",
    "Row",
    "Top",
    "evaluate",
    "summarise_folds",
    "to_json",
    "to_markdown",
    "to_text",
    "validation_report",
]
