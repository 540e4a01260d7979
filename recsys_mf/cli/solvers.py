"""`recsys-mf solvers`: every solver with its settings."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from recsys_mf.cli import options

if TYPE_CHECKING:
    from recsys_mf.solvers import Solver


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def solvers(name: str | None, as_json: bool) -> None:
    """List the solvers with their settings, defaults and choices; with NAME, also explain what that solver computes."""
    from recsys_mf.solvers import SOLVERS

    shown = SOLVERS if name is None else {name: SOLVERS[name]}
    if as_json:
        options.say(json.dumps({key: _described(solver) for key, solver in shown.items()}, indent=2))
        return
    for key, solver in shown.items():
        options.say(f"{key}: {_summary(solver)}")
        for field in dataclasses.fields(solver):
            default = solver().settings()[field.name]
            options.say(f"  {field.name:22} {default!s:14} {field.metadata['help']}{_choices(field)}{_searched(field)}")
        options.say("")
    if name is not None:
        options.say(_documentation(SOLVERS[name]))
    else:
        options.say(
            "Give a setting to train with -p name=value. `recsys-mf solvers NAME` explains what a solver computes."
        )


def _described(solver: type[Solver]) -> dict[str, Any]:
    defaults = solver().settings()
    fields = [
        {
            "name": field.name,
            "default": defaults[field.name],
            "help": field.metadata["help"],
            "tuned": None if (values := field.metadata["search"]) is None else list(values),
        }
        for field in dataclasses.fields(solver)
    ]
    return {"summary": _summary(solver), "settings": fields}


def _choices(field: dataclasses.Field[Any]) -> str:
    """The values that a setting takes, if these are a few words."""
    choices = field.metadata["choices"]
    return f" (choices: {', '.join(choices)})" if choices else ""


def _searched(field: dataclasses.Field[Any]) -> str:
    """The range of a number that `recsys-mf tune` searches."""
    values = field.metadata["search"]
    return f" (tune tries {values.low:g} to {values.high:g})" if hasattr(values, "low") else ""


def _documentation(solver: type[Solver]) -> str:
    import inspect

    return inspect.getdoc(solver) or ""


def _summary(solver: type[Solver]) -> str:
    return _documentation(solver).split("\n")[0].rstrip(".:")
