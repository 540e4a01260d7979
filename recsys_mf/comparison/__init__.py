"""Comparison: which of several models is best on the same held-out rows, and which others are significantly worse."""

from recsys_mf.comparison.candidates import Candidate, as_candidates, grid
from recsys_mf.comparison.comparing import compare, compare_by_plan
from recsys_mf.comparison.page import lay_out_comparison as lay_out_comparison  # registers the page
from recsys_mf.comparison.plan import Plan
from recsys_mf.comparison.running import ComparisonStatus
from recsys_mf.comparison.runs import compare_runs
from recsys_mf.comparison.table import Comparison

__all__ = [
    "Candidate",
    "Comparison",
    "ComparisonStatus",
    "Plan",
    "as_candidates",
    "compare",
    "compare_by_plan",
    "compare_runs",
    "grid",
]
