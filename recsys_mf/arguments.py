"""Arguments of the public functions: checks that each has the documented type and range, or raises an error that names
it."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable
from typing import Any, TypeVar

from recsys_mf.errors import ConfigError, nearest

MAX_WHOLE = 2**63 - 1
"""The largest whole number that an argument accepts by default."""

_T = TypeVar("_T")


def whole(value: Any, name: str, low: int = 0, high: int = MAX_WHOLE) -> int:
    """The value as int. Raises ConfigError unless it is a whole number (True is not) from low to high."""
    if not is_number(value, whole=True):
        raise ConfigError(
            "not a whole number", where=name, seen=format_argument(value), fix=f"give {_bounds(low, high)}"
        )
    if not low <= value <= high:
        raise ConfigError("out of range", where=name, seen=value, fix=f"give {_bounds(low, high)}")
    return int(value)


def fraction(value: Any, name: str) -> float:
    """The value as float. Raises ConfigError unless it is a number of at least 0 and below 1."""
    if not (is_number(value) and 0 <= value < 1):
        fix = "give a number of at least 0 and below 1"
        raise ConfigError(f"{name} is out of range", seen=format_argument(value), fix=fix)
    return float(value)


def choice(value: Any, name: str, choices: Iterable[str], what: str = "unknown value") -> str:
    """The value. Raises ConfigError unless it is one of the choices, naming the nearest."""
    choices = list(choices)
    if not (isinstance(value, str) and value in choices):
        raise ConfigError(what, where=name, seen=format_argument(value), fix=nearest(value, choices))
    return value


def instance(value: Any, name: str, kind: type[_T], fix: str) -> _T:
    """The value. Raises ConfigError unless it is of this class.

    fix : how to get such an object, for the message
    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise ConfigError(f"not {article} {kind.__name__}", where=name, seen=type(value).__name__, fix=fix)
    return value


def format_argument(value: Any) -> str:
    """A value for a message: as it is written if it is plain, else its type."""
    try:
        return repr(value) if isinstance(value, str | int | float | tuple | list | None) else type(value).__name__
    except ValueError:  # e.g. an integer of 5,000 digits
        return type(value).__name__


def _bounds(low: int, high: int) -> str:
    if high == low:
        return str(low)
    return f"a whole number, {low:,} or more" if high == MAX_WHOLE else f"a whole number from {low:,} to {high:,}"


def is_path(value: Any) -> bool:
    """Whether the value names a file."""
    return isinstance(value, str | os.PathLike)


def is_number(value: Any, *, whole: bool = False) -> bool:
    """Whether the value is a real (or whole) number; True and False are not."""
    return isinstance(value, numbers.Integral if whole else numbers.Real) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether a real number is finite and a float holds it."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
