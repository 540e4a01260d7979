"""Temporary files: in the folder that TMPDIR names, else the system's. If TMPDIR cannot be used, that is an error."""

from __future__ import annotations

import os
import tempfile

from recsys_mf.errors import ResourceError


def folder() -> str:
    """The folder for temporary files. Raises ResourceError if TMPDIR names one in which no file can be made."""
    found, named = tempfile.gettempdir(), os.environ.get("TMPDIR")
    if named and os.path.realpath(found) != os.path.realpath(named):  # Python takes the next one on its list
        try:
            tempfile.TemporaryFile(dir=named).close()
        except OSError as error:
            fix = "set TMPDIR to a folder that can be written, or unset it"
            seen = f"{named}: {error.strerror}"
            raise ResourceError("temporary files cannot be made", where="TMPDIR", seen=seen, fix=fix) from None
    return found
