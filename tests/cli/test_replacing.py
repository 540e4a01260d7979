"""No command writes over what it reads: every pair of an output and an input of every command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from recsys_mf import cli, store
from recsys_mf.cli.places import PlaceType
from recsys_mf.cli.replacing import REPLACEABLE, WritingCommand, refuse_to_replace
from recsys_mf.errors import ConfigError
from tests.trained import small_run, small_table

Cli = Callable[..., tuple[int, str, str]]

COMMANDS = {name: command for name, command in cli.command.commands.items() if not isinstance(command, click.Group)}


def places(command: click.Command, *, is_output: bool) -> list[click.Parameter]:
    return [p for p in command.params if isinstance(p.type, PlaceType) and p.type.is_output == is_output]


PAIRS = [
    (name, str(output.name), str(read.name))
    for name, command in COMMANDS.items()
    for output in places(command, is_output=True)
    for read in places(command, is_output=False)
    if not (output.name == "output" and read.name in REPLACEABLE)
]


def line(name: str, values: dict[str, str]) -> list[str]:
    """The command with values for these parameters, and x for all others that it requires."""
    words = [name]
    for parameter in COMMANDS[name].params:
        value = values.get(str(parameter.name), "x" if parameter.required else None)
        if value is not None:
            words += [value] if isinstance(parameter, click.Argument) else [parameter.opts[0], value]
    return words


def test_commands_with_outputs_compare_them_with_their_inputs() -> None:
    for name, command in COMMANDS.items():
        if places(command, is_output=True):
            assert isinstance(command, WritingCommand), f"{name}: give it cls=WritingCommand"


@pytest.mark.parametrize(("name", "output", "read"), PAIRS)
def test_an_output_never_replaces_an_input(recsys: Cli, name: str, output: str, read: str) -> None:
    Path("input").write_text("")
    Path("link").symlink_to("input")
    os.link("input", "other")
    force = ["--force"] if any("--force" in p.opts for p in COMMANDS[name].params) else []
    for there in ("input", "./input", "link", "other"):
        code, out, err = recsys(*line(name, {output: there, read: "input"}), *force)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"error: {Path(there)}: --{output} would replace ")
        assert err.endswith(", which the command reads (saw input); give another path\n")
    assert sorted(path.name for path in Path().iterdir()) == ["input", "link", "other"]
    assert Path("input").read_text() == ""


def refused(output: str, read: str) -> bool:
    """Whether predict refuses to write to the output when it reads the pairs."""
    try:
        refuse_to_replace(COMMANDS["predict"], {"output": output, "pairs": read})
    except ConfigError:
        return True
    return False


@pytest.mark.parametrize(
    ("output", "read", "is_refused"),
    [
        ("run", "run/users.parquet", True),
        ("run", "link/items.parquet", True),
        ("run", "run/*.parquet", True),
        ("link", "run", True),
        ("run", ".", True),
        ("run", "running/t.csv", False),
        ("run/users.parquet", "run", True),
        ("run/page.html", "run", False),
        ("tree/year=1/a.csv", "tree", True),
        ("tree/year=1/a.csv", "tree/**/*.csv", True),
        ("tree/new.csv", "tree", True),
        ("tree/new/run", "tree", True),
        ("tree/page.html", "tree", False),
        ("tree/new.csv", "tree/*.csv", True),
        ("tree/new.csv", "tree/*.tsv", False),
        ("tree/_out/new.csv", "tree", False),
        ("tree", "tree/year=1/none.csv", False),
        ("x" * 300, "x" * 300, False),
        ("running", "-", False),
        ("s3://b/run", "s3://b/run/users.parquet", True),
        ("s3://b/run", "s3://b/run2/users.parquet", False),
        ("s3://b/t.csv", "s3://b/t.csv", True),
        ("s3://b/t/a.csv", "s3://b/t/*.csv", True),
        ("s3://b/t.csv", "t.csv", False),
    ],
)
def test_folders_links_globs_and_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, read: str, is_refused: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    store.save(small_run(), "run")
    for file in ("run/page.html", "running/t.csv", "tree/year=1/a.csv"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    Path("link").symlink_to("run")
    assert refused(output, read) == is_refused


def test_a_repeated_training_does_not_replace_the_table_that_the_run_names(recsys: Cli) -> None:
    small_table().to_frame().to_csv("t.csv", index=False)
    made = ("--solver", "bias", "--svd-ranks", "1")
    code, _, err = recsys("train", "t.csv", "-o", "run", *made)
    assert code == 0, err
    before = Path("t.csv").read_bytes()
    code, _, err = recsys("train", "--repeat", "run", "-o", "new", "--predictions", "t.csv", "--force")
    assert (code, Path("new").exists(), Path("t.csv").read_bytes()) == (2, False, before)
    assert "--predictions would replace RATINGS, which the command reads" in err
