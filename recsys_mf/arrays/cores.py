"""Processors: how many this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_VARIABLES = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")  # what joblib and others set in processes that share a machine


def processors() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_threads() -> int:
    """The default number of threads: one per processor, or fewer if there is a lower limit.

    Limits come from the control group (a container's CPU limit) and from the variables that numeric libraries read.
    """
    asked = (os.environ.get(name, "") for name in _VARIABLES)
    numbers = [int(text) for text in asked if text.isascii() and text.isdigit()]
    return max(1, min([processors(), granted(), *numbers]))


@cache
def granted(root: Path = Path("/")) -> int:
    """The CPU limit of the control groups of this process, in processors, rounded up; a large number without a limit.

    root : the folder that proc and sys are in
    """
    return min(_quotas(root), default=_ANY)


_ANY = 1 << 20


def _quotas(root: Path) -> Iterator[int]:
    """The quota of every group that this process is in, of both versions of control groups."""
    top = root / "sys/fs/cgroup"
    for controllers, path in _groups(root):
        version_2 = not controllers
        if not version_2 and "cpu" not in controllers.split(","):
            continue
        mounted = top if version_2 else top / "cpu"
        for folder in (mounted / path, *(mounted / path).parents):  # a group's limit holds for those within it
            if folder.is_relative_to(mounted):
                files = ("cpu.max",) if version_2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                yield from _quota([_text(folder / name) for name in files])


def _groups(root: Path) -> Iterator[tuple[str, str]]:
    """(controllers, path) of the groups; no controllers in version 2."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        yield controllers, path.lstrip("/")


def _quota(texts: list[str]) -> Iterator[int]:
    """The limit in "max 100000", "150000 100000" or ["150000", "100000"], in processors; none without a limit."""
    words = " ".join(texts).split()
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[0]) and int(words[1]):
        yield math.ceil(int(words[0]) / int(words[1]))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
