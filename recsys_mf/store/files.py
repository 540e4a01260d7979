"""The files of a run: each is opened once, so the bytes that are checked are the bytes that are parsed."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from numpy.typing import NDArray

from recsys_mf.errors import ArtifactError, RecsysError, ResourceError
from recsys_mf.store.tensors import read_tensors

_Bytes = TypeVar("_Bytes", bytes, bytes | mmap.mmap)
AGAIN = "train the run again"


class Files:
    """The files of a run directory, each opened once and compared with its entry in run.json.

    mapped : tensors are mapped into memory
    """

    def __init__(self, directory: Path, parts: Mapping[str, Mapping[str, Any]], *, mapped: bool) -> None:
        self.directory, self._parts, self._mapped = directory, parts, mapped

    def read(self, name: str) -> bytes:
        """The bytes of a part."""
        return self._checked(name, read_bytes)

    def tensors(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays of a safetensors part."""
        return read_tensors(self._checked(name, _mapped) if self._mapped else self.read(name))

    def _checked(self, name: str, take: Callable[..., _Bytes]) -> _Bytes:
        path, part = self.directory / name, self._parts[name]
        with reading(path):
            data = take(path, size=part.get("bytes"))
        found = hashlib.sha256(data).hexdigest()
        if found != part["sha256"]:
            fix = f"run.json has {short(part['sha256'], 12)}…: restore it or {AGAIN}"
            seen = f"SHA-256 {found[:12]}…"
            raise ArtifactError("changed since the run was written", where=str(path), seen=seen, fix=fix)
        return data


def read_bytes(path: Path, *, size: int | None = None, most: int | None = None) -> bytes:
    """The bytes of a regular file. Raises ArtifactError if its size is not the known one, or is above `most`."""
    with _opened(path, size=size, most=most) as (file, found):
        return file.read(found)


def _mapped(path: Path, *, size: int | None = None) -> bytes | mmap.mmap:
    """The bytes of a regular file, mapped into memory: processes that map it share them."""
    with _opened(path, size=size) as (file, found):
        return mmap.mmap(file.fileno(), found, access=mmap.ACCESS_READ) if found else b""


@contextlib.contextmanager
def _opened(path: Path, *, size: int | None = None, most: int | None = None) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file and its size. Raises ArtifactError if that is not the known one, or is above `most`."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise ArtifactError("a file of the run is missing", where=str(path), fix=f"restore it or {AGAIN}") from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise ArtifactError("not a regular file", where=str(path), fix=f"restore it or {AGAIN}")
    with open(handle, "rb") as file:
        if (size is not None and found.st_size != size) or (most is not None and found.st_size > most):
            seen = f"{found.st_size:,} bytes"
            fix = f"run.json has {size:,}: restore it or {AGAIN}" if size is not None else AGAIN
            raise ArtifactError("changed since the run was written", where=str(path), seen=seen, fix=fix)
        yield file, found.st_size


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns any error with a file of a run into an ArtifactError that names the file."""
    try:
        yield
    except (ArtifactError, ResourceError):
        raise
    except MemoryError:
        raise ResourceError("the run does not fit in memory", where=str(path), fix="free some memory") from None
    except OSError as error:
        seen = error.strerror or short(error, 80)
        raise ArtifactError("cannot be read", where=str(path), seen=seen, fix=f"restore it or {AGAIN}") from error
    except RecsysError as error:
        where = f"{path}, {error.where}" if error.where else str(path)
        raise ArtifactError(error.what, where=where, seen=error.seen, fix=AGAIN) from error
    except Exception as error:  # an untrusted file can make a library raise anything
        seen = short(f"{type(error).__name__}: {error}", 80)
        raise ArtifactError("damaged", where=str(path), seen=seen, fix=AGAIN) from error


def short(value: object, most: int = 40) -> str:
    """A value for a message, in a few printable characters."""
    text = value if isinstance(value, str) else repr(value)
    return "".join(char if char.isprintable() else "?" for char in text[:most])
