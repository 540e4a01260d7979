"""The pages of results in a browser: without errors, without a network, readable on every screen and aloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import SCREENS, Visit, find_faults
from tests.drawing.test_page import RESULTS, result

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", RESULTS)
def test_a_page_has_no_fault_in_a_browser(visit: Visit, tmp_path: Path, name: str, screen: str) -> None:
    file = tmp_path / "page.html"
    result(name).save_html(file)
    page = visit(file, screen)
    for summary in page.query_selector_all("summary"):
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= SCREENS[screen][0]
    assert find_faults(page) == []


@pytest.mark.parametrize("name", ["committee", "comparison"])
def test_letters_of_pictures_are_large_enough_on_a_phone(visit: Visit, tmp_path: Path, name: str) -> None:
    file = tmp_path / "page.html"
    result(name).save_html(file)
    sizes = visit(file, "phone").evaluate(
        "[...document.querySelectorAll('figure svg text')].map(text => text.getBoundingClientRect().height)"
    )
    assert len(sizes) > 10
    assert min(size for size in sizes if size > 0) >= 8


def test_a_dark_screen_has_dark_pictures_and_paper_has_light_ones(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    result("committee").save_html(file)
    page = visit(file, "dark")
    colour = "getComputedStyle(document.querySelector('figure svg text')).fill"
    dark = page.evaluate(colour)
    page.emulate_media(media="print")
    assert page.evaluate(colour) != dark
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
