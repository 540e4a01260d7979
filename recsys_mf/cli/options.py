"""Options that several commands share, and the printing of a result in the requested form."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from recsys_mf.cli.places import TABLE
from recsys_mf.errors import ConfigError, ResourceError, system_errors

if TYPE_CHECKING:
    from recsys_mf.run import Run
    from recsys_mf.solvers import Solver

_Command = Callable[..., Any]

COLUMNS = ("user_column", "item_column", "rating_column", "time_column", "weight_column")
READING = ("duplicates", *COLUMNS, "ids", "encoding")
"""Options that say how a table of ratings is read: keywords of `loaders.read_ratings`."""


def exclusive(*pairs: tuple[str, str]) -> Callable[[_Command], _Command]:
    """Refuse the first option of a pair if the second is given too.

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
                    raise ConfigError(f"{idle} has no effect together with {other}", fix="give only one of them")
            return command(*values, **named)

        return checked

    return decorated


def is_given(name: str) -> bool:
    """Whether the parameter of this name was typed on the command line, or is in a file of options (--config)."""
    given = (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)
    return click.get_current_context().get_parameter_source(name) in given


def column_options(command: _Command) -> _Command:
    """Options that say how a table is read: columns, encoding, kind of ids; keywords of `loaders.read_ratings`."""
    for name in ("time", "rating", "item", "user"):
        what = {"user": "user ids", "item": "item ids", "rating": "ratings", "time": "times"}[name]
        off = "; none reads no times" if name == "time" else ""
        text = f"Column with the {what}{off}.  [default: recognised by its name]"
        command = click.option(f"--{name}-column", metavar="NAME", help=text)(command)
    return ids_option(encoding_option(command))


def weight_option(command: _Command) -> _Command:
    """The option that names a column of weights, which is read only if it is named."""
    text = "Column with the weights of the ratings: one of weight 2 counts as two.  [default: no weights]"
    return click.option("--weight-column", metavar="NAME", help=text)(command)


def encoding_option(command: _Command) -> _Command:
    """The option that names the encoding of a table of text."""
    text = "Encoding of text and JSON files.  [default: detected: UTF-8, UTF-16, UTF-32, else cp1252]"
    return click.option("--encoding", metavar="NAME", help=text)(command)


def ids_option(command: _Command) -> _Command:
    """The option that says how ids are read."""
    return click.option(
        "--ids",
        type=click.Choice(["auto", "integer", "string"]),
        default="auto",
        show_default=True,
        help="Read ids as integers or as strings; auto: by the type of the column.",
    )(command)


def duplicates_option(command: _Command) -> _Command:
    """The option that says what to do if a (user, item) pair occurs more than once."""
    return click.option(
        "--duplicates",
        type=click.Choice(["error", "last", "mean"]),
        default="error",
        show_default=True,
        help="If a (user, item) pair occurs more than once: stop with an error, keep its newest row (by time, else the "
        "last row), or average its ratings.",
    )(command)


_SPLIT_TEXTS = {
    "test": "Table of test ratings; without it a part of RATINGS is held out.",
    "hold_out": "Fraction of the ratings to hold out for the test; 0 trains on all. With --by user-time also a whole "
    "number of ratings per user.",
    "validation": "Fraction of the training ratings on which epochs, ranks and the like are chosen.",
    "seed": "Seed of every random draw.",
}


def split_options(**texts: str) -> Callable[[_Command], _Command]:
    """The options that say which ratings are for the test and for validation, and the seed.

    texts : help of the options that mean something else than in `train`, by their names
    """
    said = {**_SPLIT_TEXTS, **texts}
    by = (
        "How the held-out ratings are chosen: at random, at random within each user, the newest, or the newest of each "
        "user."
    )
    added = (
        click.option("--test", type=TABLE, metavar="FILE", help=said["test"]),
        click.option("--hold-out", type=float, default=0.1, show_default=True, help=said["hold_out"]),
        click.option("--by", default="random", show_default=True, metavar="random|user|time|user-time", help=by),
        click.option("--validation", type=float, default=0.1, show_default=True, help=said["validation"]),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help=said["seed"]),
    )
    return lambda command: functools.reduce(lambda inner, option: option(inner), reversed(added), command)


def settings_option(text: str, metavar: str = "NAME=VALUE") -> Callable[[_Command], _Command]:
    """The option that gives settings of solvers, which can be repeated."""
    return click.option("--set", "-p", "settings", multiple=True, metavar=metavar, help=text)


def device_option(command: _Command) -> _Command:
    """The option that says where to compute."""
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda",
        help="Device to compute on; auto takes CUDA if it is available.",
    )(command)


def threads_option(command: _Command) -> _Command:
    """The option that says how many threads to use."""
    text = "Number of CPU threads; it does not change the results.  [default: all available]"
    return click.option("--threads", type=int, help=text)(command)


def quiet_option(command: _Command) -> _Command:
    """The option that hides progress."""
    return click.option("--quiet", "-q", is_flag=True, help="Show no progress on stderr.")(command)


def report_options(command: _Command) -> _Command:
    """Options for the form in which a report is printed."""
    command = exclusive(("--markdown", "--json"))(command)
    command = click.option("--markdown", is_flag=True, help="Print the report as Markdown.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")(command)


def ranking_options(command: _Command) -> _Command:
    """Options that add figures of recommendation lists to a report."""
    text = "Lowest rating of a relevant item for --ranking.  [default: 4, if the ratings go up to it]"
    command = click.option("--relevant", type=float, metavar="RATING", help=text)(command)
    text = "Also report how well each model ranks: NDCG, recall and more of the first N of all items for every user."
    return click.option("--ranking", type=int, metavar="N", help=text)(command)


def choose_reading(given: Mapping[str, Any], solvers: Iterable[type[Solver] | Solver]) -> dict[str, Any]:
    """Keywords of `read_ratings`: the options in READING, but without times unless something uses them.

    Times are used by some solvers, by splits by time, and by --duplicates last, which keeps the newest row.
    given : values of the options by their names, among them `by`
    solvers : those that may be trained on the table
    """
    from recsys_mf.splits import BY_TIME

    return _reading(given, is_timed=given["by"] in BY_TIME or any(one.takes_times for one in solvers))


def choose_reading_beside(runs: Iterable[Run], given: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of `read_ratings` for a table that is used with these runs: its options, but without times unless
    something uses them: the model of a run, --duplicates last, or the search for training ratings in the table, by
    its fingerprint, if a run did not keep them.
    """
    from recsys_mf.prediction import takes_times

    return _reading(given, is_timed=any(run.rated is None or takes_times(run.model) for run in runs))


def _reading(given: Mapping[str, Any], *, is_timed: bool) -> dict[str, Any]:
    """The options in READING that the command has; without times if is_timed is False and --duplicates is not last."""
    reading = {name: given[name] for name in READING if name in given}
    if reading["time_column"] is None and not is_timed and reading.get("duplicates") != "last":
        reading["time_column"] = "none"
    return reading


def parse_settings(settings: tuple[str, ...], shorthands: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Settings of a solver by name, as they were typed with -p or with options of their own.

    Raises ConfigError if one is given twice with different values.
    """
    texts: dict[str, str] = {}
    for key, value in [*map(_named, settings), *(shorthands or {}).items()]:
        if value is not None and texts.setdefault(key, value) != value:
            raise ConfigError(
                "given twice", where=f"setting {key}", seen=f"{texts[key]} and {value}", fix="give one value"
            )
    return texts


def _named(setting: str) -> tuple[str, str]:
    name, equals, value = setting.partition("=")
    if not equals:
        raise ConfigError("not a setting", where="-p", seen=repr(setting), fix="write it as NAME=VALUE")
    return name.strip(), value.strip()


def print_report(report: Any, rendering: ModuleType, *, as_json: bool, markdown: bool, **styles: Any) -> None:
    """Print the report on stdout as text for the terminal, as JSON or as Markdown.

    rendering : the module with `to_text`, `to_json` and `to_markdown` for this kind of report
    styles : keywords of its `to_text`
    """
    if as_json or markdown:
        say(rendering.to_json(report) if as_json else rendering.to_markdown(report))
    else:
        say(rendering.to_text(report, **styles))


def say(text: str) -> None:
    """Print a result on stdout. Raises ResourceError if it cannot be written, e.g. to a full disk."""
    with system_errors(ResourceError, "cannot be written to", where="standard output", fix="free some space there"):
        click.echo(text)
