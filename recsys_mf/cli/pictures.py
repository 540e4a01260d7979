"""`--html` and `--plots`: a result as a page and as pictures, checked before the work and written after it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from recsys_mf.cli.places import OUTPUT, TABLE, absolute
from recsys_mf.errors import ConfigError
from recsys_mf.storage import Place

if TYPE_CHECKING:
    from recsys_mf.drawing import Drawable

_Command = Callable[..., Any]


def picture_options(command: _Command) -> _Command:
    """The options that write a page and pictures."""
    text = "Draw the pictures of the report as files NAME.svg in the new folder DIR."
    command = click.option("--plots", type=OUTPUT, metavar="DIR", help=text)(command)
    text = "Write the report as a page with pictures: one HTML file that opens in a browser without a network."
    return click.option("--html", type=OUTPUT, metavar="FILE", help=text)(command)


def titles_option(command: _Command) -> _Command:
    """The option that names a table with the titles of items, for the page."""
    text = "Table with a row per item and a column title or name, for the items on the --html page."
    return click.option("--titles", type=TABLE, metavar="FILE", help=text)(command)


def name_items(report: Any, titles: str | None) -> Any:
    """The report with the titles of items, if there is a table of them."""
    return report if titles is None else report.name_items(titles)


@dataclass(frozen=True)
class PictureFiles:
    """Where a page and pictures are written, None for nowhere; titles : a table of the items."""

    html: Place | None
    plots: Place | None
    force: bool
    titles: str | None = None

    def check(self, *others: Place | None) -> None:
        """Raise, before the work, what writing would raise.

        others : files and folders that the command also writes
        """
        if self.html is None and self.plots is None:
            if self.titles is not None:
                raise ConfigError("there is no page to show titles on", where="--titles", fix="give --html too")
            return
        from recsys_mf.drawing import check_pictures
        from recsys_mf.loaders.names import check_names

        taken = {absolute(path) for path in (*others, self.html) if path is not None}
        if self.plots is not None and absolute(self.plots) in taken:
            raise ConfigError("two results in one place", where="--plots", seen=self.plots, fix="give another folder")
        check_pictures(self.html, self.plots, force=self.force)
        if self.titles is not None:
            check_names(self.titles, "item")

    def write(self, result: Drawable, record: Mapping[str, str] | None = None) -> None:
        """Write the page and the pictures.

        record : facts for the page in addition to those of the result
        """
        if self.html is not None:
            command = shlex.join(["recsys-mf", *sys.argv[1:]])
            result.save_html(self.html, force=self.force, record={"command": command, **(record or {})})
        if self.plots is not None:
            result.save_plots(self.plots, force=self.force)
