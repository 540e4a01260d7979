"""The tree of errors: how a message reads, which exit code a class has, which choice is named."""

from __future__ import annotations

import inspect
import re

import pytest

from recsys_mf import errors
from recsys_mf.errors import DataError, RecsysError, nearest

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, RecsysError)]


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({}, "null rating"),
        ({"where": "row 3"}, "row 3: null rating"),
        ({"seen": "NaN"}, "null rating (saw NaN)"),
        ({"fix": "drop it"}, "null rating; drop it"),
        ({"where": "row 3", "seen": "NaN", "fix": "drop it"}, "row 3: null rating (saw NaN); drop it"),
        ({"seen": 0}, "null rating (saw 0)"),
        ({"seen": ""}, "null rating (saw )"),
    ],
)
def test_message_says_where_what_seen_and_fix_in_one_line(parts: dict[str, object], line: str) -> None:
    error = DataError("null rating", **parts)  # type: ignore[arg-type]
    assert str(error) == line
    assert (error.what, error.where, error.seen, error.fix) == (
        "null rating", parts.get("where"), parts.get("seen"), parts.get("fix"),
    )  # fmt: skip


def test_every_class_is_caught_as_the_root_and_has_an_exit_code_of_its_own() -> None:
    codes = [c.exit_code for c in CLASSES]
    assert len(CLASSES) == 7
    assert len(set(codes)) == len(codes)
    assert 0 not in codes
    assert max(codes) < 64  # shells and sysexits use the higher ones


def test_the_tree_in_the_module_docstring_is_the_tree_of_the_code() -> None:
    documented = dict(re.findall(r"(\w+Error) +(\d)", errors.__doc__ or ""))
    assert documented == {c.__name__: str(c.exit_code) for c in CLASSES}


def test_nearest_names_the_closest_choice_first_and_lists_all() -> None:
    assert nearest("rnak", ["rank", "epochs"]) == "did you mean 'rank'? (valid: rank, epochs)"


def test_nearest_of_nothing_alike_lists_the_choices_without_a_guess() -> None:
    assert nearest("xyz", iter(["rank", "epochs"])) == "choose one of: rank, epochs"
