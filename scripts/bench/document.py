"""Document: Markdown tables, and the sections of BENCHMARKS.md that a program writes.

A section lies between the comments <!-- NAME:begin --> and <!-- NAME:end -->; the rest of the file is not changed.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path


def write_section(path: Path, name: str, text: str) -> None:
    """Replace the text between the marks of a section. Raises ValueError if the marks are missing."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found, rest = path.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path} lacks the marks {begin} and {end}")
    path.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,)) -> str:
    """A Markdown table. Columns are right-aligned, except those in `left`."""
    rule = ["---" if n in left else "---:" for n in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def machine() -> str:
    """The processor, its number of cores, the operating system and the version of Python, in words."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
