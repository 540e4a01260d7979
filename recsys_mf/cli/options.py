"""Options that several commands share, and the printing of a result in the form that was asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from recsys_mf.errors import ConfigError, ResourceError, system_errors

_Command = Callable[..., Any]


def exclusive(*pairs: tuple[str, str], why: str = "would do nothing") -> Callable[[_Command], _Command]:
    """Refuse, of each pair of options, the first beside the second, where both are given.

    pairs : names of options as they are typed
    """

    def decorated(command: _Command) -> _Command:
        @functools.wraps(command)
        def checked(*values: Any, **named: Any) -> Any:
            given = {
                option
                for parameter in click.get_current_context().command.params
                if is_given(parameter.name or "")
                for option in parameter.opts
            }
            for idle, other in pairs:
                if {idle, other} <= given:
                    raise ConfigError(f"{idle} {why} beside {other}", fix="give one of them")
            return command(*values, **named)

        return checked

    return decorated


def is_given(name: str) -> bool:
    """Whether the parameter of this name stands on the command line of the command that runs."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def column_options(command: _Command) -> _Command:
    """Options that say how a table is read: columns, encoding, kind of ids; keywords of `loaders.read_ratings`."""
    for name in ("time", "rating", "item", "user"):
        text = f"Column with the {name if name in ('rating', 'time') else name + ' ids'} (recognised by its name)."
        command = click.option(f"--{name}-column", metavar="NAME", help=text)(command)
    return ids_option(encoding_option(command))


def encoding_option(command: _Command) -> _Command:
    """The option that names the encoding of a table of text."""
    text = "Encoding of text and JSON (found: UTF-8, UTF-16, else cp1252)."
    return click.option("--encoding", metavar="NAME", help=text)(command)


def ids_option(command: _Command) -> _Command:
    """The option that says how ids are read."""
    return click.option(
        "--ids",
        type=click.Choice(["auto", "integer", "string"]),
        default="auto",
        show_default=True,
        help="Read ids as integers or strings; auto takes what the table says.",
    )(command)


def duplicates_option(command: _Command) -> _Command:
    """The option that says what becomes of a (user, item) pair that occurs again."""
    return click.option(
        "--duplicates",
        type=click.Choice(["error", "last", "mean"]),
        default="error",
        show_default=True,
        help="Where a (user, item) pair occurs again: stop, keep the newest (by time; else the last row), or average.",
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
    command = exclusive(("--markdown", "--json"))(command)
    command = click.option("--markdown", is_flag=True, help="Print the report as Markdown.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")(command)


def print_report(report: Any, *, as_json: bool, markdown: bool) -> None:
    """The report on stdout as a table for the terminal, as JSON or as Markdown."""
    from recsys_mf.evaluation import render

    written = render.to_json if as_json else render.to_markdown if markdown else render.to_text
    say(written(report))


def say(text: str) -> None:
    """Print a result on stdout. Raises ResourceError where that has no room."""
    with system_errors(ResourceError, "cannot be written to", where="standard output", fix="make room there"):
        click.echo(text)
