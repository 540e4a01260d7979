"""Memory of this process and of the machine: what is there, what was used, whether a thing would fit."""

from __future__ import annotations

import os
import re
import resource
import sys
from pathlib import Path

from recsys_mf.errors import ConfigError, ResourceError


def peak() -> int:
    """High-water mark of this process's resident memory, bytes."""
    high_water = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return high_water if sys.platform == "darwin" else high_water * 1024  # bytes there, KiB elsewhere


def available() -> int:
    """Memory that can still be taken, bytes: the machine's, or the control group's where that is less."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        limits.append(int(fields["MemAvailable"].split()[0]) * 1024)
    group = Path("/sys/fs/cgroup")
    if (group / "memory.max").exists():
        most = (group / "memory.max").read_text().strip()
        if most != "max":
            limits.append(int(most) - int((group / "memory.current").read_text()))
    return max(0, min(limits))


def require(needed: int, what: str, *, there: int | None = None, fix: str) -> None:
    """Raise ResourceError when `needed` bytes are more than there are (by default `available()`)."""
    there = available() if there is None else there
    if needed > there:
        raise ResourceError(f"{what} needs {in_words(needed)} and {in_words(there)} are free", fix=fix)


def parsed(text: str) -> int:
    """Bytes of a size as people write it: 2GiB, 500 MB, 1.5G. Raises ConfigError for what is no size."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE)
    if found is None or not float(found[1]):
        raise ConfigError("not a size of memory", seen=repr(text), fix="write it as 2GiB or 500MB")
    power = " kmgt".index(found[2].lower() or " ")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def in_words(size: int) -> str:
    """A number of bytes as people say it: 1.4 GiB."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
