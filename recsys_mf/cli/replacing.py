"""Replacing: no command writes over what it reads, not even with --force, or into a folder of tables that it reads."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from recsys_mf.cli.config import Config
from recsys_mf.cli.places import PlaceType
from recsys_mf.errors import ConfigError
from recsys_mf.storage import Address, Place, place

REPLACEABLE = {"start", "repeat"}
"""Parameters that name a run which the new run may replace: it is loaded as a whole before."""

_STDIN = "-"


class WritingCommand(click.Command):
    """A command that writes files or folders: its outputs are compared with its inputs before it begins."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises ConfigError if an output would replace an input."""
        refuse_to_replace(self, ctx.params)
        return super().invoke(ctx)


def refuse_to_replace(command: click.Command, given: Mapping[str, Any]) -> None:
    """Raise ConfigError if an output is the same file or folder as an input, through links too, or contains one, or is
    a file in a folder that is an input; or if it would be a part of a folder of tables that is an input.

    given : values of the parameters of the command by their names
    """
    typed = [(parameter, named) for parameter in command.params for named in _places(parameter, given)]
    for output, there in typed:
        for parameter, read in typed:
            if not _is_output(output) or _is_output(parameter):
                continue
            if parameter.name in REPLACEABLE and output.name == "output" and _is_same(there, read):
                continue
            if _would_replace(there, read):
                what = f"{_name(output)} would replace {_name(parameter)}, which the command reads"
                raise ConfigError(what, where=str(there), seen=read, fix="give another path")
            if _would_be_read(there, read):
                what = f"{_name(output)} lies in {_name(parameter)}, where the next command would read it as a table"
                raise ConfigError(what, where=str(there), seen=read, fix="give a path outside of it")


def _places(parameter: click.Parameter, given: Mapping[str, Any]) -> Iterator[Place]:
    """The places that were given for a parameter."""
    if not isinstance(parameter.type, PlaceType):
        return
    value = given.get(str(parameter.name))
    for one in value if isinstance(value, tuple) else (value,):
        if one is not None and one != _STDIN:
            yield one.path if isinstance(one, Config) else place(one)


def _is_output(parameter: click.Parameter) -> bool:
    return isinstance(parameter.type, PlaceType) and parameter.type.is_output


def _name(parameter: click.Parameter) -> str:
    """The parameter as its help names it; "an input" if there it is one of several things."""
    name = next((option for option in parameter.opts if option.startswith("--")), parameter.human_readable_name)
    return "an input" if "|" in name else name


def _would_replace(output: Place, read: Place) -> bool:
    """Whether writing the output changes what is read, a file, a folder or a glob."""
    if isinstance(output, Address) and isinstance(read, Address):
        return output.holds(read) or fnmatch.fnmatchcase(str(output), str(read))
    if isinstance(output, Address) or isinstance(read, Address):
        return False
    if not os.path.exists(output):
        return False
    target = Path(os.path.realpath(output))
    for found in [read] if os.path.exists(read) else map(Path, glob.glob(str(read), recursive=True)):
        path = Path(os.path.realpath(found))
        if _is_same(output, found) or target in path.parents or (path in target.parents and _is_part(target, path)):
            return True
    return False


def _would_be_read(output: Place, read: Place) -> bool:
    """Whether the output is to lie in a folder of tables that is read, under a name that is not left out there, or is
    to match a glob that is read.
    """
    from recsys_mf.loaders.parts import is_companion
    from recsys_mf.store import is_run

    if isinstance(output, Address) or isinstance(read, Address):
        return False
    if glob.has_magic(str(read)) and not os.path.exists(read):
        return fnmatch.fnmatchcase(os.path.abspath(output), os.path.abspath(read))
    if not os.path.isdir(read) or is_run(read):
        return False
    target, folder = Path(os.path.realpath(output)), Path(os.path.realpath(read))
    return folder in target.parents and not is_companion(target.relative_to(folder).as_posix())


def _is_same(output: Place, read: Place) -> bool:
    if isinstance(output, Address) or isinstance(read, Address):
        return output == read
    return os.path.exists(output) and os.path.exists(read) and os.path.samefile(output, read)


def _is_part(target: Path, folder: Path) -> bool:
    """Whether a path in a folder is one of its files: of a run, one that runs have; else any file."""
    from recsys_mf.store import is_run
    from recsys_mf.store.layout import WRITTEN

    return target.name in WRITTEN if is_run(folder) else target.is_file()
