"""Places: the types of all options and arguments that name a file or a folder, on this machine or at an address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from recsys_mf.storage import Address, is_address, on_this_machine, place

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # which takes no argument in older releases of click


class PlaceType(_ParamType):
    """A file or a folder, checked when the command line is parsed: an address must be of a known kind.

    is_text : keep the text: for tables, which functions take by name, and for options that also take a list of ids
    local : None, or a key of `storage.address.LOCAL_ONLY`, for what must be on this machine
    is_output : the command writes there; it must not be an input too (`cli.replacing`)
    """

    name = "path"

    def __init__(self, *, is_text: bool = False, local: str | None = None, is_output: bool = False) -> None:
        self.is_text, self.local, self.is_output = is_text, local, is_output

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path or the address. Raises ConfigError for an address that cannot be one."""
        if not isinstance(value, str):
            return value
        if self.local is not None:
            return on_this_machine(value, self.local)
        if self.is_text:
            if is_address(value):
                place(value)
            return value
        return place(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the names of files."""
        return [CompletionItem(incomplete, type="file")]


TABLE = PlaceType(is_text=True)
PLACE = PlaceType()
OUTPUT = PlaceType(is_output=True)


def local(what: str) -> PlaceType:
    """A place on this machine, where the command writes; what : a key of `LOCAL_ONLY`."""
    return PlaceType(local=what, is_output=True)


def absolute(there: Any) -> Any:
    """A place in a form in which the same places are equal."""
    return there if isinstance(there, Address) else there.absolute()
