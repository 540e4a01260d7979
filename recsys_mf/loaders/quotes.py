"""Whether the quotes of a text enclose fields: found in a pass over its bytes that a stray quote does not mislead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Quotes = Literal["none", "doubled", "escaped"]
"""Fields are not quoted; quoted, with a quote inside written twice; or with a backslash before it."""

_QUOTE, _BACKSLASH = ord('"'), ord("\\")


@dataclass
class QuoteScan:
    """Reads the blocks of a text and finds how its fields are quoted.

    Quotes open and close in turn. An opening quote comes after a delimiter, a line end or a blank; a closing quote
    comes before one of them; two adjacent quotes are a quote inside a field. If some quote breaks this rule, but none
    does when quotes after a backslash are ignored, a backslash escapes; otherwise quotes are plain characters.

    delimiter : one byte
    """

    delimiter: int
    any_quote: bool = False
    _broken: dict[bool, bool] = field(default_factory=lambda: {False: False, True: False})
    _open: dict[bool, bool] = field(default_factory=lambda: {False: False, True: False})
    _before: bytes = b"\n\n"  # the last byte judged, and the one not judged yet

    def feed(self, block: bytes) -> None:
        """The next bytes of the text."""
        window = self._before + block
        self._before = window[-2:]
        if b'"' in window[1:-1]:
            self.any_quote = True
            for escaped in (False, True):
                self._judge(window, escaped=escaped)

    def finish(self, *, whole: bool = True) -> Quotes:
        """How the fields are quoted.

        whole : False if the text may end inside a quoted field
        """
        self.feed(b"\n")
        if not self.any_quote:
            return "none"
        for escaped, quotes in ((False, "doubled"), (True, "escaped")):
            if not self._broken[escaped] and not (whole and self._open[escaped]):
                return quotes  # type: ignore[return-value]
        return "none"

    def _judge(self, window: bytes, *, escaped: bool) -> None:
        codes = np.frombuffer(window, np.uint8)
        at = np.flatnonzero(codes[1:-1] == _QUOTE) + 1
        if escaped:
            at = at[codes[at - 1] != _BACKSLASH]
        opens = (np.arange(len(at)) % 2 == 0) ^ self._open[escaped]
        beside = np.where(opens, codes[at - 1], codes[at + 1])
        bounds = np.frombuffer(bytes({self.delimiter, *b' \t\r\n"'}), np.uint8)
        self._broken[escaped] |= not bool(np.isin(beside, bounds).all())
        self._open[escaped] ^= bool(len(at) % 2)
