"""`recsys-mf compare`: solvers on a table of ratings, or existing runs, on the same held-out rows."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys_mf.cli import options
from recsys_mf.cli.keeping import Finished, telling_what_is_kept
from recsys_mf.cli.pictures import PictureFiles, picture_options
from recsys_mf.cli.places import TABLE, local
from recsys_mf.cli.replacing import WritingCommand
from recsys_mf.errors import ArtifactError, ConfigError, RecsysError, printable
from recsys_mf.storage import Place, place

if TYPE_CHECKING:
    from recsys_mf.cli.progress import ComparisonBar
    from recsys_mf.comparison import Candidate, Comparison, ComparisonStatus
    from recsys_mf.ratings import Ratings

_SPLITTING = ("folds", "seeds", "hold_out", "by", "validation", "seed", "split_seed")
_PLANNED = ("solvers", "ranks", "settings", *_SPLITTING, "state")
"""Options that decide how candidates are trained, and have no effect for existing runs."""


@click.command(cls=WritingCommand)
@click.argument("targets", metavar="RATINGS | RUN RUN …", nargs=-1, required=True, type=TABLE)
@click.option("--solvers", default="sgd,als,svd", show_default=True, metavar="NAME,…",
              help="Solvers to compare: sgd, als, gibbs, svd, bias, mean.")  # fmt: skip
@click.option("--ranks", metavar="K,K,…", help="Ranks of every solver; without them each chooses its rank.")
@options.settings_option(
    "Setting of a solver, e.g. -p sgd.members=1,6; every value is a candidate; repeatable.", "SOLVER.NAME=VALUE,…"
)
@options.split_options(
    test="Table of test ratings; without it a part of RATINGS is held out, and runs are compared on the rows that they "
    "held out.",
    hold_out="Fraction of the ratings to hold out. With --by user-time also a whole number of ratings per user.",
    seed="First seed of every random draw.",
)
@click.option("--split-seed", type=click.IntRange(min=0), help="First seed of the splits.  [default: that of --seed]")
@click.option("--folds", type=int, help="Cross-validate on this many folds.")
@click.option(
    "--seeds", type=int, default=1, show_default=True, help="Repeat with this many seeds, each with another split."
)
@click.option("--state", type=local("state"), metavar="DIR",
              help="Keep fits in DIR, so that the same command continues after an interruption.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the --html and --plots files if they exist.")
@picture_options
@options.device_option
@options.threads_option
@options.duplicates_option
@options.column_options
@options.weight_option
@options.report_options
@options.quiet_option
@options.exclusive(
    ("--test", "--hold-out"), ("--test", "--folds"), ("--hold-out", "--folds"), ("--by", "--test"), ("--by", "--folds")
)
def compare(targets: tuple[str, ...], as_json: bool, markdown: bool, **given: Any) -> None:
    """Compare solvers on RATINGS, or trained runs: which is best, and which of the others are significantly worse.

    Every candidate is fitted on the same splits and tested on the same rows. Differences from the best have 95 %
    intervals: of one split by a paired bootstrap, over several (--folds, --seeds) by the corrected resampled t-test.

    \b
    recsys-mf compare ratings.parquet --solvers sgd,als,svd --ranks 16,32 --folds 5 --state comparison
    recsys-mf compare run-sgd run-als
    """
    from recsys_mf.comparison import rendering

    pictures = PictureFiles(given.pop("html"), given.pop("plots"), given["force"])
    if given.pop("force") and pictures.html is None and pictures.plots is None:
        fix = "leave --force out, or give --html or --plots"
        raise ConfigError("there is no output file to replace", where="--force", fix=fix)
    pictures.check(given["state"])
    runs = [target for target in targets if _is_run(target)]
    comparison = _of_ratings(targets[0], given) if len(targets) == 1 and not runs else _of_runs(targets, given)
    pictures.write(comparison)
    shade = partial(click.style, dim=True)  # no style outside a terminal
    options.print_report(comparison, rendering, as_json=as_json, markdown=markdown, shade=shade)


def _is_run(target: str) -> bool:
    from recsys_mf.store import is_run

    return is_run(target)


def _of_ratings(path: str, given: dict[str, Any]) -> Comparison:
    """The comparison of solvers on a table."""
    from recsys_mf.cli.progress import ComparisonBar, announce_compilation
    from recsys_mf.comparison import Plan, compare_by_plan
    from recsys_mf.loaders import read_ratings

    quiet = given["quiet"]
    plan = Plan(candidates=_candidates(given), **{name: given[name] for name in _SPLITTING})  # before anything is read
    reading = options.choose_reading(given, [candidate.solver for candidate in plan.candidates])
    announce_compilation(quiet=quiet)
    ratings = read_ratings(path, **reading)
    if given["test"] is not None:
        plan = replace(plan, test=read_ratings(given["test"], **{**reading, "like": ratings}))
    place = {name: given[name] for name in ("device", "threads", "state")}
    bar = ComparisonBar(quiet=quiet)
    with telling_what_is_kept("--state DIR", partial(_measure, bar, given["state"])), bar:

        def watch(status: ComparisonStatus) -> None:
            if bar.status is None and status.kept and not quiet:
                kept = f"{status.kept} of {status.total} fits are taken from {given['state']}"
                click.echo(printable(kept), err=True)
            bar(status)

        return compare_by_plan(plan, ratings, name=path, watch=watch, **place)


def _candidates(given: dict[str, Any]) -> tuple[Candidate, ...]:
    from recsys_mf.comparison import grid

    settings: dict[tuple[str, str], str] = {}
    for text in given["settings"]:
        name, equals, value = text.partition("=")
        solver, dot, setting = name.strip().partition(".")
        if not (equals and dot and setting):
            fix = "write it as SOLVER.NAME=VALUE, e.g. sgd.members=1"
            raise ConfigError("not a setting of a solver", where="-p", seen=repr(text), fix=fix)
        if settings.setdefault((solver, setting), value.strip()) != value.strip():
            fix = "give all values in one option: NAME=VALUE,VALUE"
            raise ConfigError("given twice", where=f"setting {solver}.{setting}", fix=fix)
    ranks = [] if given["ranks"] is None else _words(given["ranks"], "--ranks")
    return grid(_words(given["solvers"], "--solvers"), ranks, settings)


def _words(text: str, option: str) -> list[str]:
    """The words of a list with commas between. Raises ConfigError if one is empty."""
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise ConfigError("an empty name in a list", where=option, seen=repr(text), fix="write it as a,b,c")
    return words


def _measure(bar: ComparisonBar, state: Path | None, error: BaseException) -> Finished | None:
    """How many fits are finished; None before the first, unless an interrupted comparison is kept in a folder."""
    status, has_failed = bar.status, isinstance(error, RecsysError)
    if status is None or not (status.done or not (state is None or has_failed)):
        return None
    return Finished(f"{status.done} of {status.total} fits are finished and", None if state is None else str(state))


def _of_runs(targets: tuple[str, ...], given: dict[str, Any]) -> Comparison:
    """The comparison of existing runs."""
    from recsys_mf import store
    from recsys_mf.comparison import compare_runs
    from recsys_mf.loaders import read_ratings

    paths = list(map(place, targets))
    for path in paths:
        if isinstance(path, Path) and not _is_run(str(path)) and path.exists():
            fix = "give one table to train on, or two or more directories that `recsys-mf train` wrote"
            raise ArtifactError("not a run directory", where=str(path), fix=fix)
    if len({path.resolve() if isinstance(path, Path) else path for path in paths}) < len(targets) or len(targets) == 1:
        what = "one run alone cannot be compared" if len(targets) == 1 else "a run is given twice"
        raise ConfigError(what, where=", ".join(targets), fix="give two or more different runs, or a table to train on")
    _refuse_idle(given)
    device = {name: given[name] for name in ("device", "threads")}
    runs = {str(path): store.load(path) for path in paths}
    if given["test"] is not None:
        reading = options.choose_reading_beside(runs.values(), given)
        test = read_ratings(given["test"], like=next(iter(runs.values())), **reading)
        return compare_runs(runs, test, held_out=f"the pairs of {given['test']}", **device)
    first = next(iter(runs.values())).provenance
    seed = "" if first["split_seed"] is None else f", seed {first['split_seed']}"
    return compare_runs(runs, _rows_held_out(paths), held_out=f"{first['split']}{seed}", **device)


def _refuse_idle(given: dict[str, Any]) -> None:
    """Raise ConfigError for an option that has no effect for existing runs."""
    idle = dict.fromkeys(_PLANNED, "with runs, which are trained already")
    if given["test"] is None:
        idle |= dict.fromkeys(options.READING, "with runs, unless there is --test")
    for parameter in click.get_current_context().command.params:
        why = idle.get(str(parameter.name))
        if why is not None and options.is_given(str(parameter.name)):
            raise ConfigError(f"{' or '.join(parameter.opts)} has no effect {why}", fix="leave it out")


def _rows_held_out(runs: list[Place]) -> dict[str, Ratings]:
    """The rows that each run held out: its table is read and split again as its record says.

    Raises ArtifactError if a run held none out, or if they cannot be found.
    """
    found: dict[str, Ratings | None] = {}
    rows: dict[str, Ratings] = {}
    for path in runs:
        table, fix = None, "give a table of test ratings with --test FILE"
        try:
            table = _found_again(path, found)
        except RecsysError as error:
            what = "the rows that the run held out cannot be found again"
            raise ArtifactError(what, where=str(path), seen=error, fix=fix) from error
        if table is None:
            raise ArtifactError("the run held no rows out", where=str(path), fix=fix)
        rows[str(path)] = table
    return rows


def _found_again(path: Place, found: dict[str, Ratings | None]) -> Ratings | None:
    """The rows that a run held out.

    found : rows of other runs, by everything that determines them; added to, so that no table is read twice
    """
    from recsys_mf import splits, store
    from recsys_mf.cli.repeating import plan_of_record

    record = store.load_provenance(path)
    plan = plan_of_record(record, path, {})
    key = json.dumps([plan.files, record["split_rule"], record.get("reading"), plan.experiment.folds], default=str)
    if key not in found:

        def check(role: str, table: Any) -> None:
            plan.check(role, splits.fingerprint_as_read(table))

        experiment = replace(plan.experiment, user_features=None, item_features=None, feature_columns=None)
        found[key] = experiment.test_rows(check)
    return found[key]
