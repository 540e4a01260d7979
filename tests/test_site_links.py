"""The documentation site: it is built without network and without a warning, and its links lead somewhere."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import recsys_mf

pytestmark = pytest.mark.slow


class _Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See HTMLParser."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.loads += [given["src"]] if "src" in given else []
        self.loads += [given["href"]] if tag == "link" and "href" in given else []


@cache
def parsed(path: Path) -> _Page:
    """A page of the site."""
    return _Page(path.read_text(encoding="utf-8"))


def test_links_within_the_site_lead_somewhere(site: Path) -> None:
    broken = []
    for path in site.rglob("*.html"):
        page = parsed(path)
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file() or (
                parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in parsed(target).anchors
            ):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert not [link for link in parsed(path).loads if re.match(r"(https?:)?//", link)], path
    for path in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", path.read_text(encoding="utf-8")), path


def test_every_page_stands_in_the_navigation(site: Path) -> None:
    linked = {(site / urlsplit(link).path).resolve() for link in parsed(site / "index.html").links}
    pages = {
        path for path in site.rglob("*.html") if path.name not in ("genindex.html", "search.html", "py-modindex.html")
    }
    assert {path.resolve() for path in pages} <= linked | {(site / "index.html").resolve()}


def test_the_reference_has_every_public_name(site: Path) -> None:
    anchors = parsed(site / "reference" / "api.html").anchors
    assert {f"recsys_mf.{name}" for name in recsys_mf.__all__} <= anchors


def test_the_reference_has_every_command_and_option(site: Path) -> None:
    from recsys_mf.cli import command

    text = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    for name, sub in command.commands.items():
        assert f'id="recsys-mf-{name}"' in text
        for parameter in sub.params:
            for option in parameter.opts:
                assert not option.startswith("--") or f'id="cmdoption-recsys-mf-{name}-{option.lstrip("-")}"' in text, (
                    option
                )
