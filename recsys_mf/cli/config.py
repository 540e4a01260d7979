"""Config: options of `recsys-mf train` in a TOML file, as `recsys-mf tune -o` writes it.

    solver = "sgd"          # every option by its long name, without the dashes
    hold-out = 0.2
    keep-rated = false

    [settings]              # of the solver
    rank = 32

An option typed on the command line overrides the file, and so does a setting typed with -p.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from recsys_mf.cli.places import PLACE
from recsys_mf.errors import ConfigError, nearest, system_errors
from recsys_mf.storage import Address, Place

SHORTHANDS = ("likelihood", "sweeps", "chains", "schedule", "precision")
"""Settings that have an option of their own."""

_SETTINGS = "settings"
_MOST = 1 << 24  # bytes of a file at an address
_LEFT_OUT = {"config", "repeat", "set", "help"}  # options that are not those of one training
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}


@dataclass(frozen=True)
class Config:
    """The contents of such a file.

    options : by their long names, as they are in the file
    settings : of the solver, as texts
    """

    path: Place
    options: Mapping[str, Any]
    settings: Mapping[str, str]

    def to_mapping(self) -> dict[str, Any]:
        """What a run records."""
        return {"path": str(self.path), "options": dict(self.options), "settings": dict(self.settings)}

    def settings_for(self, solver: str | None) -> Mapping[str, str]:
        """The settings, for the solver of this name. Raises ConfigError if they are those of another."""
        own = self.options.get("solver", "sgd")
        if self.settings and (solver or "sgd") != own:
            fix = "leave --solver out, or give another file"
            raise ConfigError(
                f"the settings in {self.path} are those of '{own}'", where="--solver", seen=solver, fix=fix
            )
        return self.settings


def config_option(command: Any) -> Any:
    """The option that reads a file; its values become defaults of the other options."""
    return click.option(
        "--config",
        type=PLACE,
        is_eager=True,
        metavar="FILE.toml",
        callback=_take,
        help="Take options from FILE, e.g. one that tune wrote; options on the command line override them.",
    )(command)


def _take(context: click.Context, parameter: click.Parameter, path: Place | None) -> Config | None:
    if path is None or context.resilient_parsing:
        return None
    config = read_config(path, context)
    names = {option: str(parameter.name) for option, parameter in _options(context).items()}
    context.default_map = {names[key]: value for key, value in config.options.items()}
    return config


def read_config(path: Place, context: click.Context) -> Config:
    """The file for the command of this context.

    Raises ConfigError for a file that cannot be read, text that is not TOML, an option or a table that does not exist,
    and a value of another type or out of range; the message says where.
    """
    with system_errors(ConfigError, "the file of options cannot be read", where=path, fix="give a TOML file"):
        data = path.read_bytes() if isinstance(path, Path) else _fetched(path)
    try:
        found = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise ConfigError("not TOML: the text is not UTF-8", where=str(path), fix="store it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("not TOML", where=str(path), seen=error, fix="write NAME = VALUE") from error
    settings = found.pop(_SETTINGS, {})
    if not isinstance(settings, dict):
        raise ConfigError("not a table", where=f"{path}: {_SETTINGS}", fix="write [settings] on a line of its own")
    texts = {name: _as_text(f"{path}: [settings] {name}", value) for name, value in settings.items()}
    known, options = _options(context), {}
    for key, value in found.items():
        where = f"{path}: {key}"
        if key not in known:
            fix = nearest(key.replace("_", "-"), [*known, _SETTINGS])
            raise ConfigError(f"there is no option '{key}'", where=str(path), fix=fix)
        if key in SHORTHANDS:
            if key in texts:
                raise ConfigError("given twice", where=where, fix="give it once")
            texts[key] = _as_text(where, value)
        else:
            options[key] = _checked(known[key], where, value, context)
    return Config(path, options, texts)


def _fetched(address: Address) -> bytes:
    from recsys_mf.storage.reading import read_bytes

    return read_bytes(address, _MOST)


def write_config(path: Path, comment: str, options: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Write a file that `read_config` reads.

    options : by their long names; settings : of the solver
    """
    lines = [f"# {line}" for line in comment.split("\n")]
    lines += [f"{key} = {_written(value)}" for key, value in options.items()]
    lines += ["", f"[{_SETTINGS}]", *(f"{key} = {_written(value)}" for key, value in settings.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _options(context: click.Context) -> dict[str, click.Parameter]:
    """The options that a file may have, by their names there."""
    named: dict[str, click.Parameter] = {}
    for parameter in context.command.params:
        long = [option for option in parameter.opts if option.startswith("--")]
        name = long[0].removeprefix("--") if long else str(parameter.name)
        if name not in _LEFT_OUT:
            named[name] = parameter
    return named


def _checked(parameter: click.Parameter, where: str, value: Any, context: click.Context) -> Any:
    """The value of an option as it is typed. Raises ConfigError if it is of another type or out of range."""
    is_flag = isinstance(parameter, click.Option) and parameter.is_flag
    kind: type = bool if is_flag else _KINDS.get(type(parameter.type), str)
    if kind is str and _is_list(value):
        value = ",".join(map(str, value))
    elif kind is str and _is_number(value):
        value = str(value)
    right = isinstance(value, bool) if kind is bool else _is_number(value) if kind is float else type(value) is kind
    if not right:
        raise ConfigError("value of another type", where=where, seen=repr(value), fix=f"give {_WORDS[kind]}")
    try:
        parameter.type_cast_value(context, value)
    except click.BadParameter as error:
        raise ConfigError("not a value of this option", where=where, seen=repr(value), fix=error.message) from error
    return value


_KINDS: dict[type, type] = {
    type(click.INT): int,
    click.IntRange: int,
    type(click.FLOAT): float,
    click.FloatRange: float,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list(value: Any) -> bool:
    """Whether the value is a list of numbers and texts, for an option that takes them with commas between."""
    return isinstance(value, list) and bool(value) and all(_is_number(v) or isinstance(v, str) for v in value)


def _as_text(where: str, value: Any) -> str:
    """The value of a setting as it is typed with -p."""
    if isinstance(value, str):
        return value
    if _is_number(value):
        return repr(value)
    if _is_list(value):
        return ",".join(map(str, value))
    fix = "give a number, a text in quotes or a list of numbers"
    raise ConfigError("value of another type", where=where, seen=repr(value), fix=fix)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if _is_number(value):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
