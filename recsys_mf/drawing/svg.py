"""Pictures as SVG: a separate file, or a part of a page that takes the colours and the font of the page."""

from __future__ import annotations

import io
import re
from html import escape

from recsys_mf.drawing.picture import Picture
from recsys_mf.drawing.style import VARIABLES, styled

_FONT = re.compile(r"font: ([^;'\"]*?)([\d.]+px) [^;\"]*")
_ID = re.compile(r'(\bid="|url\(#|href="#)')
_COLOUR = re.compile("|".join(VARIABLES), re.IGNORECASE)


def to_file(picture: Picture) -> str:
    """An SVG document with the light colours and a background."""
    return f'<?xml version="1.0" encoding="utf-8"?>\n{_drawn(picture, transparent=False)}\n'


def to_inline(picture: Picture) -> str:
    """An SVG element for an HTML page: colours are variables of its style sheet, the font is that of the page, and
    ids begin with the picture's name, so that those of several pictures differ."""
    text = _ID.sub(rf"\g<1>{picture.name}-", _drawn(picture, transparent=True))
    text = _FONT.sub(r"font: \1\2 var(--font)", text)
    return _COLOUR.sub(lambda found: f"var({VARIABLES[found[0].lower()]})", text)


def _drawn(picture: Picture, *, transparent: bool) -> str:
    """The svg element, with its title for screen readers."""
    from matplotlib.figure import Figure

    target = io.StringIO()
    with styled(picture.name):
        figure = Figure(figsize=picture.size, layout="constrained")
        picture.draw(figure.add_subplot())
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(target, format="svg", metadata=nothing, transparent=transparent)
    text = target.getvalue()
    opening, rest = text[text.index("<svg") :].split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    assert box is not None
    title = escape(picture.title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box[0]} role="img" '
        f'aria-label="{title}"><title>{title}</title>{rest.strip()}'
    )
