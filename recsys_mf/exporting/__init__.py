"""Exporting: the factors of a run as files that other programs read: databases, vector indices, NumPy.

`export` is the whole; `scores` says what inner product is exported of a model, `agreement` how well it ranks like the
model, `formats` how rows become files.
"""

from recsys_mf.exporting.formats import FORMATS
from recsys_mf.exporting.writing import check_export, export

__all__ = ["FORMATS", "check_export", "export"]
