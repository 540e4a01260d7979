"""Equations as MathML: browsers draw it themselves and screen readers read it, so a page needs no script for it.

docutils translates the LaTeX; a command that it does not know is a warning, which ends the build.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

_ACCENT = re.compile(r"\\(hat|bar) (\w)_")  # docutils would put the index of a letter with an accent under it


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """An equation in a line of text."""
    translator.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """An equation on lines of its own."""
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    translator.body.append(_mathml(node, as_block=True))
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def _mathml(node: nodes.math | nodes.math_block, *, as_block: bool) -> str:
    text = node.astext().strip()
    try:
        return str(tex2mathml(_ACCENT.sub(r"{\\\1 \2 {}}_", text), as_block=as_block))
    except MathError as error:
        logger.warning("equation: %s: %s", error, text, location=node)
        return ""


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
