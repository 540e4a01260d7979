"""The documentation site in a browser: no error, no request, no page wider than its screen, no serious fault for those
who use a keyboard or a screen reader.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import Visit, find_faults

pytestmark = pytest.mark.slow

KINDS = ("index", "quickstart", "coming-from", "glossary", "search", "solvers/sgd", "reference/cli")
"""A page of each kind; axe-core takes seconds for each."""


@pytest.mark.parametrize("screen", ["desktop", "phone", "dark"])
def test_pages_fit_and_load_nothing_from_elsewhere(site: Path, visit: Visit, screen: str) -> None:
    for path in sorted(site.rglob("*.html")):
        visit(path, screen).close()


@pytest.mark.parametrize("screen", ["phone", "dark"])
@pytest.mark.parametrize("name", KINDS)
def test_axe_finds_no_serious_fault(site: Path, visit: Visit, name: str, screen: str) -> None:
    assert find_faults(visit(site / f"{name}.html", screen)) == []


def test_search_finds_a_page(site: Path, visit: Visit) -> None:
    page = visit(site / "search.html", "desktop")
    page.goto((site / "search.html").as_uri() + "?q=burn-in")
    page.wait_for_selector("ul.search li a", timeout=10_000)
    assert "gibbs" in page.inner_text("ul.search").lower()
