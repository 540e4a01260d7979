"""Text rewritten while it is read, so that Arrow can read it: one byte between fields, no blanks around them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from recsys_mf.loaders.quotes import Quotes
from recsys_mf.loaders.transformed import Transformed

SEPARATOR = "\x1f"
"""Written between fields instead of `::` and of runs of blanks."""

BLANKS = " "
"""The delimiter of a table whose fields are separated by runs of blanks and tabs."""

BY_MOVIE = "MovieID:"
"""In place of a delimiter: lines of a movie's number and a colon, each followed by its rows."""

Rewrite = Callable[[bytes], bytes]
"""From whole lines to whole lines."""


class Rewritten(Transformed):
    """A binary file of text, rewritten by whole lines. A line end inside quotes does not end a line.

    rewrite : called with the lines in order
    """

    def __init__(self, file: Any, rewrite: Rewrite, quotes: Quotes) -> None:
        super().__init__(file)
        self._rewrite, self._quotes, self._rest = rewrite, quotes, b""

    def _transformed(self, block: bytes) -> bytes:
        text = self._rest + block
        end = self._end_of_lines(text) if block else len(text)
        self._rest = text[end:]
        return self._rewrite(text[:end]) if end else b""

    def _end_of_lines(self, text: bytes) -> int:
        """End of the last complete line; 0 if there is none."""
        end = len(text)
        is_open = self._quotes != "none" and _count(text, self._quotes) % 2 == 1
        while end:
            cut = (
                max(text.rfind(b"\n", 0, end), text.rfind(b"\r", 0, end - 1)) + 1
            )  # a \r at the end may be half of \r\n
            if self._quotes != "none":
                is_open ^= _count(text[cut:end], self._quotes) % 2 == 1
            if not is_open:
                return cut
            end = cut - 1
        return 0


def _count(text: bytes, quotes: Quotes) -> int:
    return len(_quote(quotes).findall(text)) if quotes == "escaped" else text.count(b'"')


def _quote(quotes: Quotes) -> re.Pattern[bytes]:
    return re.compile(rb'(?<!\\)"') if quotes == "escaped" else re.compile(rb'"')


def rewrite_fields(delimiter: str, quotes: Quotes) -> Rewrite:
    """Removes blanks around fields and lines, outside quotes, and writes one byte between fields.

    delimiter : as in the file; `::` and runs of blanks become SEPARATOR
    """
    found = {BLANKS: rb"[ \t]+", "\t": rb" *\t *"}.get(
        delimiter, rb"[ \t]*" + re.escape(delimiter.encode()) + rb"[ \t]*"
    )
    between = SEPARATOR if delimiter in (BLANKS, "::") else delimiter
    blanks = rb" +" if delimiter == "\t" else rb"[ \t]+"
    edges = re.compile(rb"(?<![^\r\n])" + blanks + rb"|" + blanks + rb"(?=[\r\n]|\Z)")
    fields = re.compile(found)

    def outside(text: bytes) -> bytes:
        return fields.sub(between.encode(), edges.sub(b"", text))

    if quotes == "none":
        return outside

    def rewrite(text: bytes) -> bytes:
        pieces = _quote(quotes).split(text)
        # The pieces outside quotes at once: a quote in place of each piece inside keeps them apart.
        pieces[::2] = outside(b'"'.join(pieces[::2])).split(b'"')
        return b'"'.join(pieces)

    return rewrite


_MOVIE = re.compile(rb"^[ \t]*(\d+):[ \t]*(?:\r?\n|\Z)", re.MULTILINE)


def rewrite_netflix() -> Rewrite:
    """From `MovieID:` lines followed by `CustomerID,Rating,Date` lines to `MovieID,CustomerID,Rating,Date` lines."""
    movie = b""

    def rewrite(text: bytes) -> bytes:
        nonlocal movie
        pieces = _MOVIE.split(text)  # rows, movie, rows, movie, rows, …
        out = [_led(pieces[0], movie)]
        for number, rows in zip(pieces[1::2], pieces[2::2], strict=True):
            movie = number
            out.append(_led(rows, movie))
        return b"".join(out)

    return rewrite


def _led(rows: bytes, movie: bytes) -> bytes:
    lead = b"\n" + movie + b","
    return lead[1:] + rows.strip().replace(b"\n", lead) + b"\n" if rows.strip() else b""
