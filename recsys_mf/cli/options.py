"""Options that several commands share, and the printing of a result in the form that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_Command = Callable[..., Any]


def column_options(command: _Command) -> _Command:
    """Options naming the columns and the kind of ids of a table; passed on as keywords of `loaders.read_ratings`."""
    for name in ("time", "rating", "item", "user"):
        text = f"Column with the {name if name in ('rating', 'time') else name + ' ids'} (recognised by its name)."
        command = click.option(f"--{name}-column", metavar="NAME", help=text)(command)
    return ids_option(command)


def ids_option(command: _Command) -> _Command:
    """The option that says how ids are read."""
    return click.option(
        "--ids",
        type=click.Choice(["auto", "integer", "string"]),
        default="auto",
        show_default=True,
        help="Read ids as integers or strings; auto takes what the file says.",
    )(command)


def duplicates_option(command: _Command) -> _Command:
    """The option that says what becomes of a (user, item) pair that occurs again."""
    return click.option(
        "--duplicates",
        type=click.Choice(["error", "last", "mean"]),
        default="error",
        show_default=True,
        help="Where a (user, item) pair occurs again: stop, keep the last row, or average.",
    )(command)


def device_option(command: _Command) -> _Command:
    """The option that says where to compute."""
    return click.option(
        "--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where to compute."
    )(command)


def threads_option(command: _Command) -> _Command:
    """The option that says on how many threads."""
    text = "Threads on the CPU (all that are granted by default); results do not depend on it."
    return click.option("--threads", type=int, help=text)(command)


def quiet_option(command: _Command) -> _Command:
    """The option that hides progress."""
    return click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")(command)


def report_options(command: _Command) -> _Command:
    """Options for the form in which a report is printed."""
    command = click.option("--markdown", is_flag=True, help="Print the report as Markdown.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")(command)


def print_report(report: Any, *, as_json: bool, markdown: bool) -> None:
    """The report on stdout as a table for the terminal, as JSON or as Markdown."""
    from recsys_mf.evaluation import render

    written = render.to_json if as_json else render.to_markdown if markdown else render.to_text
    click.echo(written(report))
