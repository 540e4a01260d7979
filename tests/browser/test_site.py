"""The documentation site in a browser: it loads nothing from elsewhere, reports no error, fits the width of a phone,
and axe-core finds no serious fault, in light and dark.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PHONE, DESKTOP = 390, 1280


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, without a window."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield opened
        opened.close()


@pytest.fixture(params=[(PHONE, "dark"), (DESKTOP, "light")], ids=["phone, dark", "desktop, light"])
def page(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page of a width on a light or dark screen."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    yield context.new_page()
    context.close()


def pages(site: Path) -> list[Path]:
    """All pages of the site but the lists that Sphinx makes."""
    return sorted(path for path in site.rglob("*.html") if path.name not in ("genindex.html", "py-modindex.html"))


def test_pages_load_nothing_from_elsewhere_and_report_no_error(site: Path, page: Any) -> None:
    faults: list[str] = []
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
    page.on("console", lambda said: faults.extend([f"{page.url}: {said.text}"] if said.type == "error" else []))
    for path in pages(site):
        page.goto(path.as_uri())
        page.wait_for_load_state("load")
    assert not faults
    assert not [url for url in sent if not url.startswith(("file:", "data:"))]


def test_pages_fit_the_width_of_the_screen(site: Path, page: Any) -> None:
    too_wide = []
    for path in pages(site):
        page.goto(path.as_uri())
        if page.evaluate("document.documentElement.scrollWidth") > page.viewport_size["width"]:
            too_wide.append(path.name)
    assert not too_wide


def test_axe_finds_no_serious_fault(site: Path, page: Any) -> None:
    faults = []
    on_phones = {"index.html", "quickstart.html", "sgd.html", "coming-from.html", "search.html"}  # one of each kind
    for path in pages(site):
        if page.viewport_size["width"] == PHONE and path.name not in on_phones:
            continue
        page.goto(path.as_uri())
        found = axe.Axe().run(page).response["violations"]
        for fault in found:
            if fault["impact"] in ("serious", "critical"):
                targets = [node["target"] for node in fault["nodes"][:3]]
                faults.append(f"{path.relative_to(site)}: {fault['id']}: {targets}")
    assert not faults, "\n".join(faults)


def test_search_finds_a_page(site: Path, page: Any) -> None:
    page.goto((site / "search.html").as_uri() + "?q=burn-in")
    page.wait_for_selector("ul.search li a", timeout=10_000)
    assert "gibbs" in page.inner_text("ul.search").lower()
