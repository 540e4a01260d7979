"""The help texts of commands: what click prints unchanged (after `\\b`) becomes a block of code.

sphinx-click gives these lines with a leading `| `, so their columns would be lost.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def _convert(app: Sphinx, context: Any, lines: list[str]) -> None:
    out: list[str] = []
    for line in lines:
        is_code = line.startswith("| ")
        if is_code and not (out and out[-1].startswith("    ")):
            out += [".. code-block:: text", ""]
        out.append("    " + line[2:] if is_code else line)
    lines[:] = out


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.connect("sphinx-click-process-description", _convert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
