"""Columns: the long arrays of rating tables, in memory or, beyond a limit, in files.

A column in a file is a memory map of a temporary file without a name: it is read and written like any other array, the
system keeps as much of it in memory as it can, and the file is deleted together with the array. Results do not depend
on whether columns are in memory or in files.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf import memory, temporary
from recsys_mf.errors import ResourceError


@dataclass(frozen=True)
class _Limit:
    size: int  # bytes
    maps: weakref.WeakSet[mmap.mmap] = field(default_factory=weakref.WeakSet)  # those that are alive
    lock: threading.Lock = field(default_factory=threading.Lock)  # of maps, which two threads iterate over


_LIMIT: ContextVar[_Limit | None] = ContextVar("limit", default=None)
_SHARE = 32  # a column in memory takes at most this part of the limit: a table has several, and there are copies
_PART = 1 << 20  # entries
_LEAST = 1 << 16  # entries of a window, at least
_INTERVAL = 0.1  # seconds between two checks of the memory of the process


@contextmanager
def limited(size: int | None) -> Iterator[None]:
    """Inside, columns of more than a 32nd of `size` bytes are made in files; None for no limit.

    A pass over long columns brings them into memory page by page. So their pages are dropped (`rest`) as soon as the
    process holds more than `size` bytes, on systems that say how much it holds.
    """
    limit = None if size is None else _Limit(size)
    token, ended = _LIMIT.set(limit), threading.Event()
    if limit is not None and memory.resident() is not None:
        threading.Thread(target=_watch, args=(limit, ended), name="columns", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        _LIMIT.reset(token)


def _watch(limit: _Limit, ended: threading.Event) -> None:
    """Drop the pages of the columns if the process is too large and more than a quarter of the limit is in files."""
    while not ended.wait(_INTERVAL):
        now = memory.resident()
        if now is not None and now.all > limit.size and now.in_files > limit.size // 4:
            _rest(limit)


def empty(length: int, dtype: Any) -> NDArray[Any]:
    """A new column. Raises ResourceError if the temporary folder has no room for it."""
    size, limit = length * np.dtype(dtype).itemsize, _LIMIT.get()
    if limit is None or size * _SHARE <= limit.size:
        return np.empty(length, dtype)
    with tempfile.TemporaryFile(dir=temporary.folder()) as file:
        try:
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):  # or a full disk is a signal when the column is written
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            fix = "set TMPDIR to a folder with more room"
            raise ResourceError(
                f"no room for {memory.in_words(size)} in {temporary.folder()}: {error.strerror}", fix=fix
            ) from None
        mapped = mmap.mmap(file.fileno(), size)
    with limit.lock:
        limit.maps.add(mapped)
    return np.frombuffer(mapped, dtype)


def parts(length: int) -> Iterator[slice]:
    """Slices that make up a column of this length, each short enough for temporary arrays of its size."""
    return (slice(start, min(start + _PART, length)) for start in range(0, length, _PART))


def groups(starts: NDArray[np.int64], most: int) -> Iterator[slice]:
    """Slices of groups, one after another, that have at most so many entries together, and at least one group.

    starts int64[groups + 1] : where the entries of every group begin, and the end
    """
    low, n = 0, len(starts) - 1
    while low < n:
        high = int(np.searchsorted(starts, starts[low] + most, side="right")) - 1
        high = min(max(high, low + 1), n)
        yield slice(low, high)
        low = high


class Window(NamedTuple):
    """Some groups of a counting sort: entry `to` of a new column is columns[…][to - first] while they are written."""

    groups: slice
    first: int
    columns: tuple[NDArray[Any] | None, ...]


def windows(starts: NDArray[np.int64], columns: Sequence[NDArray[Any] | None]) -> Iterator[Window]:
    """The groups of new columns, for a counting sort that writes one window in each pass over the rows.

    A sort writes its groups in any order. Columns in memory are written in one pass. The pages of a file would go to
    the disk again and again, since the system keeps few that have changed: so the groups of a window, a quarter of the
    limit, are written in memory, and from there into the file.
    starts : as in `groups`; columns : what is written, None for what is not there
    """
    limit, there = _LIMIT.get(), [column for column in columns if column is not None]
    if limit is None or not any(map(is_mapped, there)):
        yield Window(slice(0, len(starts) - 1), 0, tuple(columns))
        return
    slices = list(groups(starts, max(_LEAST, limit.size // 4 // sum(column.itemsize for column in there))))
    longest = max(int(starts[found.stop] - starts[found.start]) for found in slices)
    held = tuple(None if column is None else np.empty(longest, column.dtype) for column in columns)
    for found in slices:
        low, high = int(starts[found.start]), int(starts[found.stop])
        yield Window(found, low, held)
        for column, written in zip(columns, held, strict=True):
            if column is not None and written is not None:
                column[low:high] = written[: high - low]
        rest()


def mean(column: NDArray[Any]) -> float:
    """The mean of a column, summed in float64."""
    total = sum(float(column[part].sum(dtype=np.float64)) for part in parts(len(column)))
    rest()
    return total / len(column)


def taken(column: NDArray[Any], rows: NDArray[Any], table: NDArray[Any] | None = None) -> NDArray[Any]:
    """column[rows] for row numbers or bool[n], as a new column; or table[column[rows]]."""
    if _LIMIT.get() is None:
        chosen: NDArray[Any] = column[rows]
        return chosen if table is None else table[chosen]
    is_mask, dtype = rows.dtype == np.bool_, column.dtype if table is None else table.dtype
    out = empty(int(np.count_nonzero(rows)) if is_mask else len(rows), dtype)
    done = 0
    for part in parts(len(rows)):
        found = column[part][rows[part]] if is_mask else column[rows[part]]
        out[done : done + len(found)] = found if table is None else table[found]
        done += len(found)
    rest()
    return out


def is_mapped(column: NDArray[Any]) -> bool:
    """Whether the column is in a file."""
    return _map(column) is not None


def read_ahead(column: NDArray[Any], low: int, high: int) -> None:
    """Ask the system for the entries low to high of a column in a file, which will be read soon."""
    _advise(column, low, high, "MADV_WILLNEED")


def rest() -> None:
    """Drop the pages of all columns in files from this process's memory, after a pass over some; reading loads them."""
    limit = _LIMIT.get()
    if limit is not None:
        _rest(limit)


def _rest(limit: _Limit) -> None:
    with limit.lock:
        maps = list(limit.maps)
    for mapped in maps:
        _advise_map(mapped, 0, len(mapped), "MADV_DONTNEED")


def drop(column: NDArray[Any], low: int, high: int) -> None:
    """Drop the pages of the entries low to high of a column in a file from this process's memory."""
    _advise(column, low, high, "MADV_DONTNEED")


def _advise(column: NDArray[Any], low: int, high: int, advice: str) -> None:
    mapped = _map(column)
    if mapped is not None:
        _advise_map(mapped, low * column.itemsize, high * column.itemsize, advice)


def _advise_map(mapped: mmap.mmap, low: int, high: int, advice: str) -> None:
    start = low // mmap.PAGESIZE * mmap.PAGESIZE
    length = min(high, len(mapped)) - start
    if length > 0 and hasattr(mmap, advice):  # advice changes no result, so a system may lack it
        mapped.madvise(getattr(mmap, advice), start, length)


def _map(column: Any) -> mmap.mmap | None:
    """The map of a whole column, None for one in memory."""
    while isinstance(column, np.ndarray):
        column = column.base
    column = column.obj if isinstance(column, memoryview) else column
    return column if isinstance(column, mmap.mmap) else None
