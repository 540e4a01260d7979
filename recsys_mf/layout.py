"""Tables and paragraphs of results, as text and as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH = 100
"""Characters of a line of text."""


@dataclass(frozen=True)
class Table:
    """Columns of text; the first is aligned left, the others right."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def paragraphs(*texts: str) -> str:
    """Texts wrapped to the width of a report, each on lines of its own."""
    return "\n".join(textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False) for text in texts)


def plain(table: Table) -> str:
    """The table with a head of several lines if its texts are wider than their columns."""
    columns = zip(table.head, *table.rows, strict=True)
    widths = [max(map(len, [*head.split(), *texts])) for head, *texts in columns]
    wrapped = [textwrap.wrap(head, width) for head, width in zip(table.head, widths, strict=True)]
    depth = max(map(len, wrapped))
    heads = zip(*([""] * (depth - len(lines)) + lines for lines in wrapped), strict=True)
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join(
        [*(_aligned(line, widths) for line in heads), rule, *(_aligned(row, widths) for row in table.rows)]
    )


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (f"{text:>{width}}" for text, width in zip(line, widths, strict=True))
    return "  ".join([f"{line[0]:<{len(first)}}", *others]).rstrip()


def piped(table: Table) -> str:
    """The table as Markdown."""
    marks = [":---", *["---:"] * (len(table.head) - 1)]
    lines: Iterable[Sequence[str]] = [table.head, marks, *table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
