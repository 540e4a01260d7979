"""A headless browser, and what a page must be in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SCREENS = {"desktop": (1280, 900, "light"), "phone": (390, 844, "light"), "dark": (1280, 900, "dark")}
ALLOWED = ("file:", "data:", "about:")

Visit = Callable[[Path, str], Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; scripts/test installs it where it can."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    """Opens a file on a screen. Fails for an error on the console, a request to a network, and a page wider than the
    screen."""
    contexts = []

    def visited(file: Path, screen: str) -> Any:
        width, height, scheme = SCREENS[screen]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.absolute().as_uri())
        page.wait_for_load_state()
        assert said == []
        assert [url for url in asked if not url.startswith(ALLOWED)] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        return page

    yield visited
    for context in contexts:
        context.close()


def find_faults(page: Any) -> list[str]:
    """The serious and critical faults of accessibility that axe-core finds."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
