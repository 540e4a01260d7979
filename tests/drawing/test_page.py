"""Pages and pictures: complete in themselves, the same twice, escaped, and refused before anything is half-written."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

import recsys_mf as mf
from recsys_mf.drawing import Drawable, lay_out, picture
from recsys_mf.drawing.style import DARK, INK, PAPER, SERIES, VARIABLES
from recsys_mf.errors import ArtifactError, ConfigError, ReadingNotice
from tests.trained import posterior_run, small_run, small_split, small_table

SVG = "{http://www.w3.org/2000/svg}"


def sampled() -> Drawable:
    solver = mf.SOLVERS["gibbs"].from_texts({"rank": "2", "sweeps": "12", "chains": "2", "likelihood": "ordinal"})
    split = small_split()
    return mf.evaluate(mf.train(split, solver, device="cpu"), split.test_as_read)  # type: ignore[arg-type]


def trained(solver: str, **settings: str) -> Drawable:
    split = small_split()
    run = mf.train(split, mf.SOLVERS[solver].from_texts(settings), device="cpu")
    return mf.evaluate(run, split.test_as_read)  # type: ignore[arg-type]


def matrix() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    A = rng.standard_normal((60, 2)) @ rng.standard_normal((2, 6))
    A[rng.random(A.shape) < 0.2] = np.nan
    return pd.DataFrame(A, columns=["<b>", "$x$", "a&b", "\x07bell", "ü", "f"])


def complete_nothing() -> Drawable:
    with pytest.warns(ReadingNotice, match="nothing is missing"):
        return mf.complete(np.eye(4))


RESULTS: dict[str, Callable[[], Any]] = {
    "committee": lambda: trained("sgd", rank="4"),
    "sampler": sampled,
    "svd": lambda: trained("svd"),
    "mean": lambda: trained("mean"),
    "nothing held out": lambda: small_run().report,
    "folds": lambda: mf.Experiment(ratings=small_table(), solver=mf.SOLVERS["sgd"](rank=2, epochs=3, members=1),
                                   folds=3).run(device="cpu").report,
    "comparison": lambda: mf.compare(small_table(), {"<one>": mf.SOLVERS["sgd"](rank=2, epochs=3, members=1),
                                                     "$two$": "bias", "mean": "mean"}, folds=3, device="cpu"),
    "comparison of one split": lambda: mf.compare(small_table(), ["bias", "mean"], device="cpu"),
    "completion": lambda: mf.complete(matrix()),
    "nothing missing": complete_nothing,
}  # fmt: skip

PICTURES = {
    "committee": {"models", "svd_ranks", "by_rating", "residuals", "activity", "popularity", "calibration", "curves",
                  "members"},
    "sampler": {"models", "svd_ranks", "by_rating", "residuals", "activity", "popularity", "calibration",
                "reliability", "curves", "traces"},
    "svd": {"models", "svd_ranks", "by_rating", "residuals", "activity", "popularity"},
    "folds": {"folds", "svd_ranks"},
    "comparison": {"differences", "front", "splits"},
    "comparison of one split": {"differences", "front"},
    "completion": {"methods", "columns", "calibration"},
    "nothing missing": set(),
}  # fmt: skip


@cache
def result(name: str) -> Any:
    return RESULTS[name]()


class Reader(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, *names: str) -> Iterator[str]:
        for _, attributes in self.elements:
            yield from (attributes[name] or "" for name in names if name in attributes)


def read(of: Any, folder: Path, **named: Any) -> tuple[str, Reader]:
    of.save_html(folder / "page.html", force=True, **named)
    text = (folder / "page.html").read_text()
    return text, Reader(text)


@pytest.mark.slow
@pytest.mark.parametrize("name", RESULTS)
def test_a_page_needs_nothing_else_and_its_ids_are_unique(name: str, tmp_path: Path) -> None:
    text, page = read(result(name), tmp_path)
    links = list(page.values("href", "src", "xlink:href"))
    assert [link for link in links if not link.startswith(("#", "data:"))] == []
    assert "<script" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    ids = Counter(page.values("id"))
    assert [key for key, count in ids.items() if count > 1] == []
    used = {link[1:] for link in links if link.startswith("#")} | set(re.findall(r"url\(#([^)]*)\)", text))
    assert used <= ids.keys()


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_has_a_title_a_caption_and_its_numbers(name: str, tmp_path: Path) -> None:
    drawn = result(name)
    assert set(drawn.pictures) == PICTURES[name]
    _, page = read(drawn, tmp_path)
    tags = Counter(tag for tag, _ in page.elements)
    assert tags["svg"] == tags["figure"] == tags["figcaption"] == tags["details"] == len(drawn.pictures)
    for found in lay_out(drawn).pictures.values():
        assert found.caption.endswith(".")
        assert found.table.rows
        assert {len(row) for row in found.table.rows} == {len(found.table.head)}
    named = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in named)


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_drawn_into_axes_and_into_a_file(name: str, tmp_path: Path) -> None:
    from matplotlib import pyplot

    drawn = result(name)
    for one in drawn.pictures:
        axes = drawn.plot(one)
        assert axes.has_data()
        assert axes.get_xlabel()
        assert drawn.plot(one, axes) is axes
        pyplot.close(axes.figure)
    drawn.save_plots(tmp_path / "plots")
    files = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert files == sorted([f"{one}.svg" for one in drawn.pictures] + ["pictures.json"])
    for one in drawn.pictures:
        root = ElementTree.parse(tmp_path / "plots" / f"{one}.svg").getroot()
        assert root.findtext(f"{SVG}title")


@pytest.mark.parametrize("name", ["committee", "comparison", "completion"])
def test_the_same_result_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    drawn = result(name)
    assert read(drawn, tmp_path)[0] == read(drawn, tmp_path)[0]


def test_names_from_data_are_escaped(tmp_path: Path) -> None:
    text, page = read(result("completion"), tmp_path)
    assert "<b>" not in text
    words = "".join(page.words)
    for shown in ("<b>", "$x$", "a&b", "\\x07bell", "ü"):
        assert shown in words
    evil = "<img src=x onerror=alert(1)>\x1b[2J"
    report = result("committee").name_items(pd.DataFrame({"item_id": np.arange(100, 170, 2), "title": evil}))
    text, page = read(report, tmp_path, record={"command": evil})
    assert "<img" not in text
    assert "\x1b" not in text
    assert "".join(page.words).count("<img src=x onerror=alert(1)>\\x1b[2J") > 3


def test_titles_stand_beside_the_ids_that_they_are_of() -> None:
    titles = pd.DataFrame({"item_id": np.arange(100, 170, 2)[::-1], "title": [f"t{i}" for i in range(168, 98, -2)]})
    page = lay_out(result("committee").name_items(titles))
    tables = [part.table for section in page.sections for part in section.tables if "title" in part.table.head]
    assert len(tables) == 2
    assert all(row[1] == f"t{row[0]}" for table in tables for row in table.rows)


def test_best_and_worst_items_are_those_with_the_least_and_largest_errors() -> None:
    report = result("committee")
    split, run = small_split(), small_run()
    items = report.diagnostics.on_test.items
    assert (np.diff(items.errors) >= 0).all()
    assert len(items.errors) % 2 == 0
    assert items.counts.min() >= items.fewest
    assert split.test is not None
    test = split.test.reindexed(run.user_vocabulary, run.item_vocabulary)
    counts = np.bincount(test.items[test.items >= 0], minlength=len(run.item_vocabulary))
    assert (counts[items.items] == items.counts).all()
    assert items.n_items == int((counts >= items.fewest).sum())


def test_diagnostics_count_every_test_row_and_agree_with_the_report() -> None:
    for name in ("committee", "sampler"):
        report = result(name)
        found, n = report.diagnostics.on_test, report.held_out.n_pairs
        assert sum(part.n_pairs for part in found.by_rating) == n
        assert found.residual_counts.sum() == n
        assert found.coverage[9] == pytest.approx(report.rows[-1].coverage.pit)
        assert (np.diff(found.coverage) >= 0).all()
    reliability = result("sampler").diagnostics.on_test.reliability
    levels = 6
    assert reliability.counts.sum() == levels * n
    assert (reliability.counts * reliability.predicted).sum() == pytest.approx(n, rel=1e-4)
    assert (reliability.counts * reliability.observed).sum() == pytest.approx(n)


def test_a_report_that_was_read_again_keeps_its_numbers_and_says_that_it_has_no_such_picture() -> None:
    report = result("committee")
    again = type(report).from_mapping(report.to_mapping())
    assert again == report
    assert "diagnostics" not in report.to_mapping()
    assert again.pictures == ("models",)
    with pytest.raises(ConfigError, match="no such picture"):
        again.plot("curves")


def test_the_error_of_the_svd_is_drawn_at_its_ranks() -> None:
    axes = result("committee").plot("svd_ranks")
    lines = {line.get_label(): np.asarray(line.get_xdata()).tolist() for line in axes.get_lines()}
    assert lines["SVD, bias fill"] == [1, 2, 4, 8, 16]  # of 1 to 64, those that fit 31 items


@pytest.mark.parametrize("call", [lambda r, p: r.save_html(p), lambda r, p: r.plot("models"),
                                  lambda r, p: r.save_plots(p.with_suffix(""))])  # fmt: skip
def test_a_missing_package_is_said_in_one_line(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Any:
        return None if name == "matplotlib" else importlib.util.find_spec(name)

    monkeypatch.setattr(picture, "find_spec", find)
    with pytest.raises(ConfigError, match=r"pictures need matplotlib.*pip install 'recsys-mf\[report\]'"):
        call(result("committee"), tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_is_in_the_way_is_kept(tmp_path: Path) -> None:
    report, page, plots = result("committee"), tmp_path / "page.html", tmp_path / "plots"
    page.write_text("mine")
    with pytest.raises(ConfigError, match="the file exists"):
        report.save_html(page)
    assert page.read_text() == "mine"
    with pytest.raises(ConfigError, match=r"end the name in \.html"):
        report.save_html(tmp_path / "page.pdf")
    plots.mkdir()
    (plots / "mine.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="is not a folder of pictures"):
        report.save_plots(plots, force=True)
    (plots / "mine.txt").unlink()
    plots.rmdir()
    report.save_plots(plots)
    with pytest.raises(ArtifactError, match="holds a folder of pictures already"):
        report.save_plots(plots)
    result("comparison").save_plots(plots, force=True)
    assert sorted(path.stem for path in plots.glob("*.svg")) == sorted(PICTURES["comparison"])


def _luminance(colour: str) -> float:
    """Relative luminance of a colour #rrggbb (WCAG 2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("colour", [INK, *SERIES])
def test_lines_and_letters_have_contrast_on_light_and_dark_paper(colour: str) -> None:
    for paper, ink in ((PAPER, colour), (DARK[PAPER], DARK[colour])):
        low, high = sorted((_luminance(paper), _luminance(ink)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (paper, ink)
    assert VARIABLES.keys() == DARK.keys()


def test_a_posterior_of_few_samples_has_a_page(tmp_path: Path) -> None:
    run, split = posterior_run(), small_split()
    assert split.test_as_read is not None
    text, _ = read(mf.evaluate(run, split.test_as_read), tmp_path)
    assert 'id="calibration"' in text
