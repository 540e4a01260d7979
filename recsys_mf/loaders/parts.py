"""Parts: the bytes that make up a table on disk, decompressed as they are read."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import weakref
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from recsys_mf import temporary
from recsys_mf.errors import DataError, ResourceError
from recsys_mf.loaders.words import clipped, listed

HEAD = 1 << 18
"""Bytes from the start of a part that are read to find its format and dialect."""

STDIN = "-"
"""The path that means standard input."""

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"\x04\x22\x4d\x18": "lz4",
}  # by first bytes
_ZIP = b"PK\x03\x04"
_ABOUT, _TEXTS = ("readme", "licen", "copying", "changelog"), ("", ".txt", ".md", ".rst")  # files next to tables
_PAGES = (".md", ".pdf", ".html")
_COPY = 1 << 22  # bytes copied at a time


@dataclass(frozen=True)
class Part:
    """A file, or the one table in a zip archive.

    path : of its bytes
    where : its name, for messages
    packing : how they are compressed: gzip, bz2, zstd, xz, lz4, zip; None if they are not
    member : of a zip archive
    """

    path: str
    where: str
    packing: str | None = None
    member: str | None = None

    def open(self) -> Any:
        """A binary file of the decompressed bytes. Raises OSError or the like if they are damaged."""
        import pyarrow as pa

        if self.packing is None:
            return pa.OSFile(self.path)
        if self.packing == "zip":
            return pa.PythonFile(zipfile.ZipFile(self.path).open(self.member or ""), "r")
        if self.packing == "xz":
            import lzma

            return pa.PythonFile(lzma.open(self.path), "r")
        return pa.CompressedInputStream(pa.OSFile(self.path), self.packing)

    def head(self) -> bytes:
        """The first decompressed bytes, at most HEAD. Raises DataError if the file cannot be read."""
        with reading(self.where), self.open() as file:
            pieces: list[bytes] = []
            while (size := sum(map(len, pieces))) < HEAD and (piece := file.read(HEAD - size)):
                pieces.append(piece)
        return b"".join(pieces)


def part_at(path: str, where: str) -> Part:
    """The part in a regular file. Raises DataError for an archive that does not hold one table."""
    with reading(where), open(path, "rb") as file:
        magic = file.read(8)
    if magic.startswith(_ZIP):
        return Part(path, where, "zip", _only_table(path, where))
    return Part(path, where, next((name for first, name in _PACKED.items() if magic.startswith(first)), None))


class reading:  # noqa: N801 (reads as a statement)
    """Turns errors of the system and of decompression about a file that cannot be read into a DataError."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import lzma
        import zlib

        if isinstance(error, OSError | EOFError | lzma.LZMAError | zlib.error | zipfile.BadZipFile):
            what = "cannot be read"
            seen = getattr(error, "strerror", None) or clipped(str(error))
            if isinstance(error, PermissionError):
                raise DataError(what, where=self._where, seen=seen, fix="ask for permission to read it") from None
            fix = "it is truncated or damaged: write or download it again"
            raise DataError(what, where=self._where, seen=seen, fix=fix) from None
        if isinstance(error, RuntimeError | NotImplementedError) and "zip" in str(error).lower() + self._where.lower():
            raise DataError(
                "cannot be unpacked", where=self._where, seen=clipped(str(error)), fix="unpack it yourself first"
            ) from None


def spooled(where: str) -> tuple[str, Callable[[object], None]]:
    """A regular file with all bytes of a pipe, a device or standard input, read in bounded memory.

    Returns its path, and a function that is called with the object whose end shall remove the file. Raises
    ResourceError if the temporary folder has no room.
    """
    copy = tempfile.NamedTemporaryFile(prefix="recsys_mf-", dir=temporary.folder(), delete=False)  # noqa: SIM115 (removed with its reader)
    remove = _Remover(copy.name)
    try:
        with copy, reading(where), _standard_input(where) as source:
            while block := source.read(_COPY):
                try:
                    copy.write(block)
                except OSError as error:
                    fix = "set TMPDIR to a folder with more room, or give a file"
                    raise ResourceError(
                        f"no room for a copy in {temporary.folder()}: {error.strerror}", where=where, fix=fix
                    ) from None
    except BaseException:
        remove()
        raise
    return copy.name, lambda owner: _tie(owner, remove)


def _tie(owner: object, remove: Callable[[], None]) -> None:
    weakref.finalize(owner, remove)


class _Remover:
    """Removes a file, but only in the process that made it: a fork must not."""

    def __init__(self, path: str) -> None:
        self._path, self._process = path, os.getpid()

    def __call__(self) -> None:
        if os.getpid() == self._process:
            Path(self._path).unlink(missing_ok=True)


def _standard_input(where: str) -> IO[bytes]:
    if where == STDIN and sys.stdin is None:
        raise DataError("standard input is closed", where=where, fix="pipe a table into the command, or name a file")
    return os.fdopen(os.dup(sys.stdin.fileno()), "rb") if where == STDIN else open(where, "rb")


def is_pipe(where: str) -> bool:
    """Whether a path is standard input, a pipe or a device: something that can be read only once."""
    return where == STDIN or not (stat.S_ISREG(mode := os.stat(where).st_mode) or stat.S_ISDIR(mode))


def _only_table(path: str, where: str) -> str:
    with reading(where):
        archive = zipfile.ZipFile(path)
    with archive:
        names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    _refuse_foreign(names, where)
    tables = [name for name in names if not is_companion(name)]
    if len(tables) == 1:
        return tables[0]
    if not tables:
        raise DataError("the zip archive holds no table", where=where, seen=listed(names), fix="give the table itself")
    first = next((name for name in tables if "rating" in name.lower()), tables[0])
    raise DataError(
        f"the zip archive holds {len(tables)} files",
        where=where,
        seen=listed(tables),
        fix=f"unpack the table you want, e.g. unzip {Path(where).name} {first}, and give that file",
    )


def is_companion(name: str) -> bool:
    """Whether a file in an archive or a folder belongs to its tables without being one, such as a README."""
    path = PurePosixPath(name.lower())
    is_about = path.name.startswith(_ABOUT) and path.suffix in _TEXTS
    return is_about or path.suffix in _PAGES or any(part.startswith(("__macosx", ".", "_")) for part in path.parts)


_INSIDE = {
    "xl/": ("an Excel workbook", "save the sheet as CSV, or read it with pandas.read_excel and give it to from_frame"),
    "word/": ("a Word document", "save its table as CSV"),
    "content.xml": ("an OpenDocument file", "save the sheet as CSV"),
    "data.pkl": ("a PyTorch file", "load it with torch.load and give the matrix to from_matrix"),
}


def _refuse_foreign(names: list[str], where: str) -> None:
    """Refuse formats that are zip archives themselves."""
    for name in names:
        found = next((what for start, what in _INSIDE.items() if name.startswith(start) or name.endswith(start)), None)
        if found is not None:
            raise DataError(f"{found[0]}, not a table of text or Parquet", where=where, fix=found[1])
    if names and all(name.endswith(".npy") for name in names):
        fix = "load it with numpy.load and give the matrix to from_matrix"
        raise DataError("a NumPy archive, not a table of text or Parquet", where=where, fix=fix)
