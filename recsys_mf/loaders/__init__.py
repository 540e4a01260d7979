"""Loaders: rating tables on disk or in memory become Ratings, tables of users or items become Features.

A new format is a file and a line in LOADERS.
"""

from recsys_mf.loaders.describe import describe
from recsys_mf.loaders.features import features_from_frame, read_features
from recsys_mf.loaders.frames import from_frame
from recsys_mf.loaders.matrices import from_matrix
from recsys_mf.loaders.opening import LOADERS, open_source
from recsys_mf.loaders.reading import read_ratings

__all__ = [
    "LOADERS",
    "describe",
    "features_from_frame",
    "from_frame",
    "from_matrix",
    "open_source",
    "read_features",
    "read_ratings",
]
