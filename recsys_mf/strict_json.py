"""Strict JSON: every number is finite, both when written and when read."""

from __future__ import annotations

import json
import math
from typing import Any


def to_text(value: Any, *, indent: int | None = 2) -> str:
    """Plain values as ASCII text, indented or on one line; null for a number that is not finite."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def from_text(text: bytes) -> Any:
    """Plain values of UTF-8 text.

    Raises ValueError for text that is not JSON, is nested too deeply or holds a number that is not finite.
    """
    try:
        return json.loads(text.decode(), parse_constant=_number, parse_float=_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"a number that is not finite: {text[:40]}")
    return number
