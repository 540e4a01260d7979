"""Docstrings of the package as the documentation site shows them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def docstrings() -> ModuleType:
    """The extension of the site that reads docstrings."""
    pytest.importorskip("sphinx")
    path = Path(__file__).parents[1] / "docs" / "extensions" / "docstrings.py"
    spec = importlib.util.spec_from_file_location("docstrings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop("docstrings", None)
    return module


def shown(docstrings: ModuleType, text: str) -> list[str]:
    return [line for line in docstrings.converted(text.splitlines()) if line]


def test_an_item_keeps_its_further_lines(docstrings: ModuleType) -> None:
    assert shown(docstrings, "path : a file\n    or a folder\nids : text") == [
        "``path``", "    a file or a folder", "``ids``", "    text",
    ]  # fmt: skip


def test_items_with_a_semicolon_between_them_stand_apart(docstrings: ModuleType) -> None:
    assert shown(docstrings, "rank : k; seed : of the start") == ["``rank``", "    k", "``seed``", "    of the start"]


def test_alternatives_become_points(docstrings: ModuleType) -> None:
    text = "A : one of\n    a matrix\n    a frame, whose index\n        has the ids"
    assert shown(docstrings, text) == [
        "``A``",
        "    one of",
        "    - a matrix",
        "    - a frame, whose index has the ids",
    ]


def test_alternatives_with_names_are_items(docstrings: ModuleType) -> None:
    text = "fill : one of\n    zero : 0\n    mean : μ"
    assert shown(docstrings, text) == [
        "``fill``", "    one of", "    ``zero``", "        0", "    ``mean``", "        μ",
    ]  # fmt: skip


def test_equations_stay_as_they_are(docstrings: ModuleType) -> None:
    text = "Minimises\n\n    Σ |p_u|² + b_u*\n\nfor all u."
    assert shown(docstrings, text) == ["Minimises", "::", "    Σ |p_u|² + b_u*", "for all u."]


def test_characters_with_a_meaning_in_restructuredtext_are_escaped(docstrings: ModuleType) -> None:
    assert shown(docstrings, "x_ and |y| of `a_b` *z*") == [r"x\_ and \|y\| of ``a_b`` \*z\*"]


def test_errors_and_public_names_are_links(docstrings: ModuleType) -> None:
    assert shown(docstrings, "Raises DataError, as `read_ratings` does") == [
        "Raises :py:exc:`DataError <recsys_mf.errors.DataError>`, "
        "as :py:obj:`read_ratings <recsys_mf.read_ratings>` does"
    ]
