"""Memory of this process and of the machine: how much there is, how much was used, whether something fits."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from recsys_mf.errors import ConfigError, ResourceError

resource: Any = import_module("resource") if find_spec("resource") else None  # Windows has none


def peak() -> int:
    """High-water mark of this process's resident memory, bytes; 0 if the system does not say."""
    status = Path("/proc/self/status")
    if status.exists():  # `getrusage` may give the value of the process that started this one
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmHWM" in fields:
            return int(fields["VmHWM"].split()[0]) * 1024
    if resource is None:
        return 0
    high_water = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return high_water if sys.platform == "darwin" else high_water * 1024  # bytes there, KiB elsewhere


class Resident(NamedTuple):
    """Memory that this process holds, bytes; in_files : the part of it that is pages of files."""

    all: int
    in_files: int


def resident() -> Resident | None:
    """The memory that the process holds now; None if the system does not say (only Linux does)."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        return None
    held, in_files = pages.read_text().split()[1:3]
    return Resident(int(held) * resource.getpagesize(), int(in_files) * resource.getpagesize())


def reset_peak() -> int | None:
    """Give unused memory back to the system and let `peak` count from now on.

    Returns the memory that is resident now, in bytes; None if the system cannot reset it (only Linux can).
    """
    import ctypes

    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return peak()


def available() -> int:
    """Memory that can still be allocated, bytes: the smallest limit of machine, control group and process."""
    limits = [*_of_machine(), *_of_process(), *_of_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))]
    return max(0, min(limits, default=sys.maxsize))


def _of_machine() -> Iterator[int]:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        yield int(fields["MemAvailable"].split()[0]) * 1024
    elif hasattr(os, "sysconf"):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_process() -> Iterator[int]:
    """What `ulimit -v` leaves, if the address space is limited and the system says how much is used."""
    statm = Path("/proc/self/statm")
    if resource is not None and statm.exists():
        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            yield most - int(statm.read_text().split()[0]) * resource.getpagesize()


_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))  # of versions 2 and 1
_CACHES = ("inactive_file", "total_inactive_file")  # of memory.stat: freed on demand


def _of_groups(membership: Path, root: Path) -> Iterator[int]:
    """What the control groups of this process (versions 1 and 2) leave, from its own group to the root."""
    lines = membership.read_text().splitlines() if membership.exists() else []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") > 1):
        if controllers not in ("", "memory"):
            continue
        top = root / controllers
        group = top / path.lstrip("/")
        while True:
            for most, taken in _FILES:
                with contextlib.suppress(OSError, ValueError):  # no limit ("max"), or no such file
                    yield int((group / most).read_text()) - int((group / taken).read_text()) + _cached(group)
            if group == top or top not in group.parents:
                break
            group = group.parent


def _cached(group: Path) -> int:
    """Bytes of file cache that a control group would free on demand."""
    with contextlib.suppress(OSError, ValueError):
        fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(int(fields.get(name, 0)) for name in _CACHES)
    return 0


@contextlib.contextmanager
def guarded(what: str, *, fix: str) -> Iterator[None]:
    """Turn a failed allocation inside the block, whatever the library calls it, into a ResourceError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or is_allocation(error)):
            raise
        left = in_words(available())
        raise ResourceError(f"{what} ran out of memory: {left} are free", seen=str(error) or None, fix=fix) from error


def is_allocation(error: BaseException) -> bool:
    """Whether an error of another class means a failed allocation."""
    return any(words in str(error).lower() for words in ("allocate memory", "unable to allocate", "not enough memory"))


def require(needed: int, what: str, *, there: int | None = None, fix: str) -> None:
    """Raise ResourceError if `needed` bytes are more than `there` (by default `available()`)."""
    there = available() if there is None else there
    if needed > there:
        raise ResourceError(f"{what} needs {in_words(needed)}, but only {in_words(there)} are free", fix=fix)


def parsed(text: str) -> int:
    """Bytes of a size in usual notation: 2GiB, 500 MB, 1.5G. Raises ConfigError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE)
    if found is None or not float(found[1]) or len(text) > 30:
        raise ConfigError("not a memory size", seen=repr(text), fix="write it as 2GiB or 500MB")
    power = " kmgt".index(found[2].lower() or " ")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def in_words(size: int) -> str:
    """A number of bytes in usual notation: 1.4 GiB."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
