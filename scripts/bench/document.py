"""Document: Markdown tables, and the sections of BENCHMARKS.md that a program writes.

A section lies between the comments <!-- NAME:begin --> and <!-- NAME:end -->; all else in the file is left as it is.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path


def write_section(path: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of a section. Raises ValueError where the marks are not there."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found, rest = path.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path} lacks the marks {begin} and {end}")
    path.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,)) -> str:
    """A Markdown table; columns are right-aligned but for those in `left`."""
    rule = ["---" if n in left else "---:" for n in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def machine() -> str:
    """The processor, its cores, the system and the Python, in words."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
