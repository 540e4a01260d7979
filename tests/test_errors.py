"""The tree of errors: how a message reads, which exit code a class has, which choice is named."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_mf import errors
from recsys_mf.errors import (
    LONGEST,
    DataError,
    RecsysError,
    RecsysWarning,
    ResourceError,
    nearest,
    printable,
    system_errors,
)

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


def test_every_class_is_caught_as_the_root_and_has_its_own_exit_code() -> None:
    codes = [c.exit_code for c in CLASSES]
    assert len(CLASSES) == 7
    assert len(set(codes)) == len(codes)
    assert 0 not in codes
    assert max(codes) < 64  # shells and sysexits use the higher ones


def test_the_tree_in_the_module_docstring_is_the_tree_of_the_code() -> None:
    documented = dict(re.findall(r"(\w+Error) +(\d)", errors.__doc__ or ""))
    assert documented == {c.__name__: str(c.exit_code) for c in CLASSES}


def test_the_lists_of_warnings_are_those_of_the_code() -> None:
    warnings = {c.__name__ for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, RecsysWarning)}
    docstring = set(re.findall(r"(\w+(?:Warning|Notice)) \(", errors.__doc__ or ""))
    assert docstring == warnings - {"RecsysWarning"}
    page = (Path(__file__).parents[1] / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    members = re.search(r"automodule:: recsys_mf\.errors\n +:members: (.+)", page)
    assert members is not None
    assert set(members[1].split(", ")) == warnings | {c.__name__ for c in CLASSES}


def test_nearest_names_the_closest_choice_first_and_lists_all() -> None:
    assert nearest("rnak", ["rank", "epochs"]) == "did you mean 'rank'? (valid: rank, epochs)"


def test_nearest_without_a_similar_choice_lists_the_choices_without_a_guess() -> None:
    assert nearest("xyz", iter(["rank", "epochs"])) == "choose one of: rank, epochs"


ANYTHING = st.text(max_size=2000) | st.binary(max_size=500).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
PARTS = st.none() | ANYTHING | st.sampled_from(["\x1b]0;owned\x07", "a\nerror: forged", "\u202egnp.exe", "x" * 5000])


@settings(max_examples=200, deadline=None)
@given(what=ANYTHING, where=PARTS, seen=PARTS, fix=PARTS)
def test_a_message_is_one_short_printable_line_whatever_it_contains(
    what: str, where: str | None, seen: str | None, fix: str | None
) -> None:
    line = f"error: {DataError(what, where=where, seen=seen, fix=fix)}"
    assert line.isprintable()
    assert len(line) <= LONGEST
    assert str(RecsysWarning(what)).isprintable()
    assert len(f"warning: {RecsysWarning(what)}") <= LONGEST


@settings(max_examples=200, deadline=None)
@given(text=ANYTHING, most=st.integers(2, 300))
def test_printable_text_that_fits_is_not_changed(text: str, most: int) -> None:
    shown = printable(text, most)
    assert shown.isprintable()
    assert len(shown) <= most
    if text.isprintable():
        assert printable(text) == text
        assert shown == text or len(text) > most


def test_where_and_fix_are_not_cut_if_the_value_is_long() -> None:
    line = str(DataError("no such column", where="ratings.csv, column user", seen="x" * 9999, fix="give another"))
    assert line.startswith("ratings.csv, column user: no such column (saw xxx")
    assert line.endswith("xxx); give another")


@pytest.mark.parametrize("seen", [10**5000, object(), b"\x1b", None, [1] * 1000], ids=range(5))
def test_a_value_of_any_kind_is_shown_or_its_type_is(seen: object) -> None:
    assert str(RecsysError("wrong", seen=seen)).isprintable()


def test_system_errors_keep_the_words_of_the_system_and_a_broken_pipe_is_left_alone() -> None:
    line = r"^there: cannot be written \(saw No space left\); make room$"
    refused = system_errors(ResourceError, "cannot be written", where="there", fix="make room")
    with pytest.raises(ResourceError, match=line), refused:
        raise OSError(28, "No space left")
    with pytest.raises(BrokenPipeError), system_errors(ResourceError, "x", where="there", fix="y"):
        raise BrokenPipeError


def test_nearest_takes_a_name_that_is_not_text() -> None:
    assert nearest(None, ["rank"]) == "choose one of: rank"
    assert nearest("K", ["rank"], {"k": ("rank",)}) == "did you mean 'rank'? (valid: rank)"


def test_the_estimators_say_what_they_need() -> None:
    """In a process of its own, in which scikit-learn cannot be found."""
    program = "import sys; sys.modules['sklearn'] = None; import recsys_mf.sklearn"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    last = process.stderr.strip().splitlines()[-1]
    what = "recsys_mf.sklearn needs scikit-learn; install it with `pip install recsys_mf[sklearn]`"
    assert last == f"ModuleNotFoundError: {what}"
