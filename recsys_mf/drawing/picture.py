"""Picture: one plot with its title, its caption, and its numbers as a table for those who cannot see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from recsys_mf.errors import ConfigError
from recsys_mf.layout import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (4.8, 3.2)
"""Inches. On a phone a picture is about as wide as this, so that its text is as large as it is drawn."""

_NEEDED = ("matplotlib", "jinja2")


@dataclass(frozen=True)
class Picture:
    """A plot.

    name : of its file and for `plot`; title : a few words; caption : what it shows, in sentences
    draw : draws it into axes
    table : the numbers that it shows
    size : width and height in inches
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Axes], None]
    table: Table
    size: tuple[float, float] = SIZE


def require_extra(where: str | None = None) -> None:
    """Raise ConfigError if a package that pictures need is not installed.

    where : the option or function that asks for pictures
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        fix = "run: pip install 'recsys-mf[report]'"
        raise ConfigError(f"pictures need {' and '.join(missing)}, not installed here", where=where, fix=fix)
