"""The encoding of a text table, given or detected by a small rule; readers always see UTF-8.

The rule: a byte order mark, or the zero bytes of ASCII text in UTF-16, mark UTF-16 and UTF-32. All else is UTF-8, and
bytes that are not valid UTF-8 are read as Windows-1252 (as Latin-1 if they are undefined there).
"""

from __future__ import annotations

import codecs
from typing import Any

from recsys_mf.errors import ConfigError
from recsys_mf.loaders.transformed import Transformed

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}  # the longer ones first
_FALLBACK = "recsys_mf.windows-1252"


def checked_encoding(name: str | None) -> str | None:
    """The canonical name of an encoding; None stays None. Raises ConfigError for a name that Python does not know."""
    if name is None:
        return None
    fix = "give an encoding that Python knows, e.g. utf-8, utf-16, cp1252, latin-1, shift_jis, gb18030"
    try:
        found = codecs.lookup(name)
        "".encode(name)  # rot13 etc. are not encodings of text
    except (LookupError, ValueError):
        raise ConfigError("unknown encoding", where="encoding", seen=repr(name)[:60], fix=fix) from None
    return found.name


def found_encoding(head: bytes) -> str:
    """The encoding of a text that starts with these bytes: utf-8, utf-16, utf-16-le, utf-16-be or utf-32."""
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if marked is not None:
        return marked
    even, odd = head[0:4096:2], head[1:4096:2]
    if odd.count(0) > 0.4 * len(odd) and not even.count(0) and len(odd) > 1:
        return "utf-16-le"
    if even.count(0) > 0.4 * len(even) and not odd.count(0) and len(even) > 1:
        return "utf-16-be"
    return "utf-8"


class Utf8(Transformed):
    """A binary file in some encoding, read as UTF-8 without a byte order mark.

    lenient : bytes that are not valid in the encoding are read as Windows-1252; else they raise UnicodeDecodeError
    """

    def __init__(self, file: Any, encoding: str, *, lenient: bool) -> None:
        if lenient:
            codecs.register_error(_FALLBACK, _as_windows_1252)
        super().__init__(file)
        self._decoder = codecs.getincrementaldecoder(encoding)(_FALLBACK if lenient else "strict")
        self._started = False

    def _transformed(self, block: bytes) -> bytes:
        text: str = self._decoder.decode(block, final=not block)
        if text and not self._started:
            text, self._started = text.removeprefix("\ufeff"), True
        return text.encode("utf-8", "surrogatepass")


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    try:
        return wrong.decode("cp1252"), error.end
    except UnicodeDecodeError:
        return wrong.decode("latin-1"), error.end
