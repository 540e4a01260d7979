"""The docstrings of this package as reStructuredText.

They are plain text: items `name : what it is` with indented continuation lines, indented lines after a paragraph that
stay as they are (equations, calls), lists with `- `, and `names` in single backticks. Nothing else in them has a
meaning, so every other special character of reStructuredText is escaped.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

import recsys_mf
from recsys_mf import errors

_ITEM = re.compile(r"(?P<term>[^\s:`(][^:`]{0,70}?) : (?P<text>\S.*)")
_CODE = re.compile(r"(`[^`]+`)")
_FAULT = re.compile(r"\b[A-Z]\w+(?:Error|Warning|Notice)\b")
INDENT = "    "


def converted(lines: list[str]) -> list[str]:
    """The lines of a docstring as reStructuredText."""
    out: list[str] = []
    place = 0
    while place < len(lines):
        line = lines[place]
        if not line.strip():
            place += 1
        elif line[0].isspace():  # after a paragraph: as it is
            block, place = _indented(lines, place)
            out += ["", "::", "", *(INDENT + text for text in block), ""]
        elif _ITEM.fullmatch(line):
            rest, place = _indented(lines, place + 1)
            for first, *others in _items(line, rest):
                found = _ITEM.fullmatch(first)
                assert found is not None
                terms = (f"``{term}``" for term in re.split(r", (?![^\[]*\])", found["term"]))
                body = converted([found["text"], *others])
                out += [", ".join(terms), *(INDENT + text if text else "" for text in body)]
            out += [] if place < len(lines) and _ITEM.fullmatch(lines[place]) else [""]
        elif line.startswith("- "):
            rest, place = _indented(lines, place + 1)
            out += ["- " + escaped(" ".join([line[2:], *map(str.strip, rest)]))]
            out += [] if place < len(lines) and lines[place].startswith("- ") else [""]
        else:
            paragraph, place = _paragraph(lines, place)
            out += [escaped(paragraph), ""]
    return out


def _indented(lines: list[str], place: int) -> tuple[list[str], int]:
    """The indented lines from a place on without their common indent, and the place after them."""
    block: list[str] = []
    while place < len(lines) and (not lines[place].strip() or lines[place][0].isspace()):
        block.append(lines[place])
        place += 1
    while block and not block[-1].strip():
        block.pop()
    least = min((len(text) - len(text.lstrip()) for text in block if text.strip()), default=0)
    return [text[least:] for text in block], place


def _items(line: str, rest: list[str]) -> list[list[str]]:
    """An item and its continuation lines: several items if semicolons separate them (`a : this; b : that`); with
    alternatives on lines of their own, if it has any."""
    lines: list[str] = []
    for text in rest:
        if text.startswith(" ") and lines:
            lines[-1] += " " + text.strip()
        else:
            lines.append(text)
    if line.endswith(" : one of"):
        return [[line, *(text if _ITEM.fullmatch(text) else f"- {text}" for text in lines)]]
    if any(map(_ITEM.fullmatch, lines)):
        return [[line, *lines]]
    return [[item] for item in re.split(r"; (?=[^\s;:][^;:]{0,40} : )", " ".join([line, *lines]))]


def _paragraph(lines: list[str], place: int) -> tuple[str, int]:
    """The lines of a paragraph as one, and the place after them."""
    words = [lines[place]]
    place += 1
    while place < len(lines) and lines[place].strip() and not lines[place][0].isspace():
        if _ITEM.fullmatch(lines[place]) or lines[place].startswith("- "):
            break
        words.append(lines[place])
        place += 1
    return " ".join(words), place


def escaped(text: str) -> str:
    """Prose with its `names` as code, names of the package and of errors as links, and the rest as it is."""
    return "".join(_marked_up(part) for part in _CODE.split(text))


def _marked_up(part: str) -> str:
    if _CODE.fullmatch(part):
        name = part.strip("`")
        return f":py:obj:`{name} <recsys_mf.{name}>`" if name in recsys_mf.__all__ else f"``{name}``"
    plain = re.sub(r"([\\*|_`])", r"\\\1", part)
    return _FAULT.sub(_fault, plain)


def _fault(found: re.Match[str]) -> str:
    name = found[0]
    return f":py:exc:`{name} <recsys_mf.errors.{name}>`" if hasattr(errors, name) else name


def _convert(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if name.startswith("recsys_mf"):
        lines[:] = converted(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _convert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
