"""From a path to a source: what the path holds, and which format reads it, decided by its first bytes."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from recsys_mf.arguments import is_path
from recsys_mf.errors import ConfigError, DataError, system_errors
from recsys_mf.loaders.charset import checked_encoding
from recsys_mf.loaders.foreign import refuse_foreign_bytes
from recsys_mf.loaders.json_lines import JsonSource
from recsys_mf.loaders.parquet import ParquetSource
from recsys_mf.loaders.parts import STDIN, Part, is_companion, is_pipe, part_at, spooled
from recsys_mf.loaders.source import FileSource
from recsys_mf.loaders.text import TextSource
from recsys_mf.loaders.words import clipped
from recsys_mf.storage import Address, place
from recsys_mf.storage.reading import copied

LOADERS: dict[str, type[FileSource]] = {"parquet": ParquetSource, "json": JsonSource, "text": TextSource}
"""Every format of a table on disk."""

_PARQUET = b"PAR1"
_WORDS = {"parquet": "Parquet", "json": "JSON", "text": "text"}


def open_source(path: str | Path, encoding: str | None = None) -> FileSource:
    """The source at a path, by what the file holds.

    path : a file, compressed (gzip, bzip2, Zstandard, xz, LZ4, a zip archive with one table) or not; a folder of part
        files or a glob, all of one format, in which hidden files and those that start with `_` are left out; a pipe;
        "-" for standard input; or an address of one of these, which is first copied to a temporary folder (`storage`)
    encoding : of text and JSON, as Python calls it; by default detected (see `charset`)
    Raises DataError if there is no table, with advice; ConfigError for a value that is not a path, for an unknown
    encoding, and for an encoding of a Parquet file.
    """
    if not (is_path(path) or isinstance(path, Address)):
        fix = "give a path; for tables in memory use from_frame or features_from_frame, for a matrix from_matrix"
        raise ConfigError("not a path", where="path", seen=type(path).__name__, fix=fix)
    there = place(path) if path != STDIN else path
    if isinstance(there, Address):
        return _of_address(there, checked_encoding(encoding))
    where = os.fspath(path)
    encoding = checked_encoding(encoding)
    if where == STDIN or (not (is_folder := _is_folder(where)) and not _is_glob(where) and is_pipe(where)):
        return _of_pipe(where, encoding)
    if not is_folder and not _is_glob(where):
        return _of_file(where, where, encoding)
    files = _files_in(where) if is_folder else sorted(name for name in glob.glob(where) if _is_visible(Path(name).name))
    return _of_parts(where, [name for name in files if os.path.isfile(name) and os.path.getsize(name)], encoding)


def _is_folder(where: str) -> bool:
    """Whether a path is a folder. Raises DataError if nothing exists there."""
    if not where:
        raise DataError(
            "the path is empty", where="path", seen="''", fix="give a file, a folder of part files or a glob"
        )
    if _is_glob(where):
        return False
    try:
        return stat.S_ISDIR(os.stat(where).st_mode)
    except FileNotFoundError:
        if os.path.islink(where):
            fix = "repair the link"
            raise DataError(
                "the link points to a file that does not exist", where=where, seen=os.readlink(where), fix=fix
            ) from None
        raise DataError("no such file", where=where, fix="give a file, a folder of part files or a glob") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            "cannot be opened", where=clipped(where, 100), seen=reason, fix="give a file that can be opened"
        ) from None


def _is_glob(where: str) -> bool:
    """Whether a path is not a file but a pattern that matches files."""
    return glob.has_magic(where) and not os.path.lexists(where) and bool(glob.glob(where))


def _is_visible(name: str) -> bool:
    return not name.startswith((".", "_")) and not name.endswith(".crc")


def _files_in(folder: str) -> list[str]:
    """The files of a folder and of those in it, in the order of their paths; without READMEs and the like."""
    found: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if _is_visible(name)]
        found += [os.path.join(parent, name) for name in files if _is_visible(name) and not is_companion(name)]
    return sorted(found)


def _of_pipe(where: str, encoding: str | None) -> FileSource:
    path, tie = spooled(where)
    try:
        source = _of_file(path, where, encoding)
    except BaseException:
        os.unlink(path)
        raise
    tie(source)
    return source


def _of_address(address: Address, encoding: str | None) -> FileSource:
    fix = "give a file that can be read"
    with system_errors(DataError, "cannot be read", where=address, fix=fix):
        copy = copied(address)
    where = str(address)
    try:
        if not copy.is_folder:
            source = _of_file(str(copy.path), where, encoding)
        else:
            files = [name for name in _files_in(str(copy.path)) if os.path.getsize(name)]
            source = _of_parts(str(copy.path), files, encoding, where.rstrip("/"))
    except BaseException:
        copy.remove()
        raise
    copy.tie(source)
    return source


def _of_file(path: str, where: str, encoding: str | None) -> FileSource:
    part = part_at(path, where)
    kind = _kind(part)
    if kind == "parquet":
        return _parquet(path, where, encoding)
    return _made(kind, where, [part], encoding)


def _of_parts(path: str, files: Sequence[str], encoding: str | None, named: str | None = None) -> FileSource:
    """named : what messages call the path, if it is a copy"""
    where = path if named is None else named
    if not files:
        raise DataError("no table in the folder", where=where, fix="give a folder with Parquet, CSV or JSON files")
    parts = [part_at(name, name if named is None else name.replace(path, named, 1)) for name in files]
    kinds = [_kind(part) for part in parts]
    other = next((number for number, kind in enumerate(kinds) if kind != kinds[0]), None)
    if other is not None:
        names = (clipped(Path(files[place]).name) for place in (0, other))
        seen = ", ".join(f"{name}: {_WORDS[kinds[place]]}" for name, place in zip(names, (0, other), strict=True))
        suffixes = Counter(Path(name).suffix for name in files)
        fix = f"give files of one format, e.g. '{where.rstrip('/')}/*{suffixes.most_common(1)[0][0]}'"
        raise DataError("the files have different formats", where=where, seen=seen, fix=fix)
    return _parquet(path, where, encoding) if kinds[0] == "parquet" else _made(kinds[0], where, parts, encoding)


def _made(kind: str, where: str, parts: list[Part], encoding: str | None) -> FileSource:
    return JsonSource(where, parts, encoding) if kind == "json" else TextSource(where, parts, encoding)


def _parquet(path: str, where: str, encoding: str | None) -> FileSource:
    if encoding is not None:
        raise ConfigError("a Parquet file takes no encoding", where="encoding", seen=encoding, fix="leave it out")
    return ParquetSource(path, where)


def _kind(part: Part) -> str:
    """The format of a part: parquet, json or text. Raises DataError for another format."""
    head = part.head()
    if head.startswith(_PARQUET):
        if part.packing is not None:
            what = f"a Parquet file compressed with {part.packing}"
            raise DataError(what, where=part.where, fix="decompress it first")
        return "parquet"
    if Path(part.where).suffix in (".parquet", ".pq") and part.packing is None:
        seen, fix = f"first bytes {head[:4]!r}", f"a Parquet file starts with {_PARQUET!r}"
        raise DataError("not a Parquet file", where=part.where, seen=seen, fix=fix)
    refuse_foreign_bytes(head, part.where, is_packed=part.packing is not None)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return "json" if re.match(rb'\{\s*["}]|\[\s*[\[{]', start) else "text"
