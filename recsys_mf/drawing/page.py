"""Page: a result as one HTML file that needs nothing else, its pictures as files, or one of them in a notebook."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_mf import strict_json
from recsys_mf.drawing import style, svg
from recsys_mf.drawing.picture import Picture, require_extra
from recsys_mf.errors import ConfigError, printable
from recsys_mf.layout import Table
from recsys_mf.outputs import FolderKind, check_folder, check_output, written_folder, written_output
from recsys_mf.storage import Place, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HTML = (".html", ".htm")

_MOST_INDEX = 1 << 24  # bytes
_INDEX, _FORMAT = "pictures.json", "recsys-mf pictures"


@dataclass(frozen=True)
class PageTable:
    """A table with its caption.

    best : the row that is marked; greyed : rows that are shown in grey, whose meaning must also be given in words
    """

    caption: str
    table: Table
    best: int | None = None
    greyed: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, tables, pictures, and notes in small print."""

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[PageTable, ...] = ()
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """The contents of a page.

    title : what was done on what; verdict : the result in a sentence; warnings : what to know before reading it
    record : what repeats it, name -> value
    """

    title: str
    verdict: str
    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
    record: Mapping[str, str] = field(default_factory=dict)

    @property
    def pictures(self) -> dict[str, Picture]:
        """All pictures by their names, in order."""
        return {picture.name: picture for section in self.sections for picture in section.pictures}


@singledispatch
def lay_out(result: Any) -> Page:
    """The contents of the page of a result; registered per class of results, next to the class."""
    raise TypeError(f"{type(result).__name__} has no page")


class Drawable:
    """A result that can be drawn: `lay_out` is registered for its class."""

    @property
    def pictures(self) -> tuple[str, ...]:
        """Names of the pictures of this result, for `plot`."""
        return tuple(lay_out(self).pictures)

    def plot(self, name: str, axes: Axes | None = None) -> Axes:
        """Draw a picture and return its matplotlib axes.

        name : one of `pictures`
        axes : where to draw; None for a new figure, which a notebook shows and `axes.figure.savefig` writes
        Raises ConfigError for a name that is none of `pictures`, and if the extra `report` is not installed.
        """
        require_extra("plot")
        pictures = lay_out(self).pictures
        if name not in pictures:
            raise ConfigError("there is no such picture", where="plot", seen=name, fix=f"one of {', '.join(pictures)}")
        picture = pictures[name]
        with style.styled():
            if axes is None:
                from matplotlib import pyplot

                figure = pyplot.figure(figsize=picture.size, layout="constrained")
                figure.suptitle(picture.title, fontsize=10.5, x=0.01, ha="left")
                axes = figure.add_subplot()
            picture.draw(axes)
        return axes

    def save_html(self, path: str | Place, *, force: bool = False, record: Mapping[str, str] | None = None) -> None:
        """Write one HTML file that opens without a network: verdict, tables, pictures and the record.

        force : replace an existing file; record : facts to put before those of the page, name -> value
        Raises ConfigError for a path that cannot be written to, and if the extra `report` is not installed.
        """
        require_extra("save_html")
        target = place(path)
        check_output(target, "page", HTML, force=force)
        text = to_html(lay_out(self), record or {})
        with written_output(target, force=force) as aside:
            aside.write_text(text, encoding="utf-8")

    def save_plots(self, directory: str | Place, *, force: bool = False) -> None:
        """Write every picture as a file NAME.svg into a new folder, with pictures.json, which lists them.

        force : replace a folder that this function wrote before
        Raises ArtifactError for a folder that cannot be written to, ConfigError if the extra `report` is missing.
        """
        require_extra("save_plots")
        pictures = lay_out(self).pictures
        texts = {f"{name}.svg": svg.to_file(picture) for name, picture in pictures.items()}
        index = {"format": _FORMAT, "pictures": {f"{name}.svg": picture.title for name, picture in pictures.items()}}
        there = place(directory)
        with written_folder(there, _folder_kind(there, texts), force=force) as aside:
            for name, text in texts.items():
                (aside / name).write_text(text, encoding="utf-8")
            (aside / _INDEX).write_text(strict_json.to_text(index), encoding="utf-8")


def check_pictures(html: Place | None, plots: Place | None, *, force: bool) -> None:
    """Raise before the work what `save_html` and `save_plots` would raise after it."""
    if html is not None:
        require_extra("--html")
        check_output(html, "page", HTML, force=force)
    if plots is not None:
        require_extra("--plots")
        check_folder(plots, _folder_kind(plots, ()), force=force)


def to_html(page: Page, record: Mapping[str, Any]) -> str:
    """The page as HTML; ids and titles in it are escaped, and control characters are made visible."""
    from recsys_mf import __version__

    text: str = _template().render(
        page=page, record={**record, **page.record}, version=__version__, inline=svg.to_inline,
        light={name: colour for colour, name in style.VARIABLES.items()},
        dark={name: style.DARK[colour] for colour, name in style.VARIABLES.items()},
    )  # fmt: skip
    return text


@cache
def _template() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["shown"] = printable
    return environment.get_template("page.html.jinja")


def _folder_kind(directory: Place, files: Any) -> FolderKind:
    """A folder of pictures: its files were written by this module if its index says so."""
    known: list[str] = []
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = list(strict_json.from_text(_bytes(directory / _INDEX))["pictures"])
    return FolderKind("a folder of pictures", _INDEX, _FORMAT, (*files, *known, _INDEX))


def _bytes(path: Place) -> bytes:
    if isinstance(path, Path):
        return path.read_bytes()
    from recsys_mf.storage.reading import read_bytes

    return read_bytes(path, _MOST_INDEX)
