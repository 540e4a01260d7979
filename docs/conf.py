"""The documentation site: `scripts/docs` builds it from the pages in this folder, without network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "extensions")]

from recsys_mf import __version__  # noqa: E402

project = "recsys-mf"
author = "the developers of recsys-mf"
copyright = author  # noqa: A001
release = version = __version__

extensions = [
    "myst_parser",  # pages in Markdown
    "sphinx.ext.autodoc",
    "sphinx_click",  # the command line from click
    "sphinx_copybutton",
    "sphinx_design",  # columns and cards
    "docstrings",  # the docstrings of this package as they are written
    "commands",  # examples in the help of a command as they are typed
    "equations",  # mathematics as MathML, which browsers draw without scripts
    "settings_table",  # the settings of a solver from its class
]
exclude_patterns = ["_build"]
smartquotes = False
default_role = "code"
nitpick_ignore_regex = [(r"py:.*", r"(?!recsys_mf\.).*")]  # types of other packages, whose sites are not looked up

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

_BRAND = ("color-brand-primary", "color-brand-content", "color-brand-visited", "color-api-name", "color-api-pre-name")
html_theme = "furo"  # good on phones and in dark mode, loads no script or font from elsewhere; half of pydata's size
html_title = f"recsys-mf {release}"
html_static_path = ["assets"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_copyright = False
html_last_updated_fmt = None
html_math_renderer = "mathml"
pygments_style = "a11y-light"
pygments_dark_style = "a11y-dark"
html_theme_options = {
    "light_css_variables": dict.fromkeys(_BRAND, "#0b5fa5"),
    "dark_css_variables": dict.fromkeys(_BRAND, "#79b8ff"),
}


def _name_levels(app: object, page: str, template: str, context: dict[str, Any], tree: object) -> None:
    """Give the captions of the navigation, which are headings, a level."""
    key = "furo_navigation_tree"
    context[key] = context.get(key, "").replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("html-page-context", _name_levels, priority=900)  # after the theme
