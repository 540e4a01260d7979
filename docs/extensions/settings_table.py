"""The directive `settings`: the settings of a solver as a table, from its class."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from recsys_mf.solvers import SOLVERS

_WIDTHS = (24, 18, 58)


class Settings(SphinxDirective):
    """A row per setting of the solver that is named: its name, its default, what it is."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """See `Directive`."""
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in _WIDTHS), cols=len(_WIDTHS))
        group += nodes.thead("", _row(*(nodes.Text(text) for text in ("setting", "default", "what it is"))))
        group += nodes.tbody("", *(_setting(field) for field in dataclasses.fields(SOLVERS[self.arguments[0]])))
        return [nodes.table("", group)]


def _setting(field: dataclasses.Field[Any]) -> nodes.row:
    default = field.default
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    choices = field.metadata["choices"]
    text = field.metadata["help"] + (f" ({', '.join(choices)})" if choices else "")
    return _row(nodes.literal(text=field.name), nodes.literal(text=shown), nodes.Text(text))


def _row(*cells: nodes.Node) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
