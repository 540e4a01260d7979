"""A pass over all bytes of a text table before it is parsed; finds what the first lines do not show."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys_mf.loaders.dialect import quote_scan
from recsys_mf.loaders.quotes import Quotes

_BLOCK = 1 << 18  # bytes: with the flags of each it stays in a core's cache


@dataclass(frozen=True)
class Survey:
    """Facts from the bytes of a text table.

    quotes : how fields are quoted
    is_utf8 : whether all bytes are
    has_blanks : whether there may be blanks around fields or lines
    has_padding : whether a number may start with a zero: 0042
    """

    quotes: Quotes
    is_utf8: bool
    has_blanks: bool
    has_padding: bool


def survey(file: Any, delimiter: str) -> Survey:
    """The facts of a binary file, which is read to the end.

    delimiter : as in the file, `::` included
    """
    byte = delimiter[-1].encode()
    scan, decoder = quote_scan(delimiter), codecs.getincrementaldecoder("utf-8")()
    around = [
        pair
        for blank in ((b" ",) if byte == b"\t" else (b" ", b"\t"))
        for pair in (byte + blank, blank + byte, b"\n" + blank, blank + b"\n", blank + b"\r")
    ]
    is_utf8, has_blanks, has_padding = True, False, False
    before = b"\n"
    while block := file.read(_BLOCK):
        if is_utf8 and not (block.isascii() and not decoder.getstate()[0]):
            is_utf8 = _is_decoded(decoder, block)
        scan.feed(block)
        window = before + block
        if not has_blanks and (b" " in window or b"\t" in window):
            has_blanks = any(pair in window for pair in around)
        has_padding = has_padding or _has_padding(window, byte)
        before = window[-2:]
    return Survey(scan.finish(), is_utf8 and _is_decoded(decoder, b"", final=True), has_blanks, has_padding)


def _is_decoded(decoder: codecs.IncrementalDecoder, block: bytes, *, final: bool = False) -> bool:
    try:
        decoder.decode(block, final)
    except UnicodeDecodeError:
        return False
    return True


def _has_padding(text: bytes, delimiter: bytes) -> bool:
    """Whether a digit follows a zero at the start of a field. All bytes up to a comma are taken for its start."""
    codes = np.frombuffer(text, np.uint8)
    starts = codes[:-2] <= ord(",")
    if delimiter > b",":
        starts |= codes[:-2] == ord(delimiter)
    starts &= codes[1:-1] == ord("0")
    starts &= codes[2:] - np.uint8(ord("0")) < 10
    return bool(starts.any())
