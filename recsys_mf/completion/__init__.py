"""Completion: the missing entries of a matrix of numbers, each with a standard deviation.

`complete` does all of it; `choice` decides between the models (`gaussian`, `factor_analysis`, `soft_impute`) by entries
that are held out, `columns` gives all columns the same units, `neighbours` adds relations that are not linear.
"""

from recsys_mf.completion.choice import METHODS
from recsys_mf.completion.filling import ColumnError, Completion, Tried, complete
from recsys_mf.completion.page import lay_out_completion as lay_out_completion  # registers the page

__all__ = ["METHODS", "ColumnError", "Completion", "Tried", "complete"]
