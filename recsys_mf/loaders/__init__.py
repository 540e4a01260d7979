"""Loaders: rating tables on disk or in memory become Ratings. A new format is a file and a line in LOADERS."""

from recsys_mf.loaders.describe import describe
from recsys_mf.loaders.frames import from_frame, from_matrix
from recsys_mf.loaders.reading import LOADERS, open_source, read_ratings

__all__ = [
    "LOADERS",
    "describe",
    "from_frame",
    "from_matrix",
    "open_source",
    "read_ratings",
]
