"""Text from a file, shortened and escaped for a message of one line."""

from __future__ import annotations

from collections.abc import Sequence

from recsys_mf.errors import escaped


def clipped(text: str, length: int = 60) -> str:
    """Text for a message: one line without control characters, cut to a length."""
    plain = escaped(text[: length * 2])
    return plain if len(plain) <= length and len(text) <= length * 2 else plain[: length - 1] + "…"


def listed(names: Sequence[str], length: int = 100) -> str:
    """Names for a message: as many as fit on a line, and how many more there are."""
    shown: list[str] = []
    for name in names:
        if shown and sum(map(len, shown)) + 2 * len(shown) + len(name) > length:
            return f"{', '.join(shown)} and {len(names) - len(shown)} more"
        shown.append(clipped(name, 40))
    return ", ".join(shown)
