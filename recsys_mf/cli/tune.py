"""`recsys-mf tune`: the best settings of a solver, or also the best solver, within a given time or number of trials."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys_mf.cli import options
from recsys_mf.cli.keeping import Finished, telling_what_is_kept
from recsys_mf.cli.places import OUTPUT, TABLE, local
from recsys_mf.cli.replacing import WritingCommand
from recsys_mf.errors import ConfigError, printable
from recsys_mf.storage import Place

if TYPE_CHECKING:
    from recsys_mf.cli.log import LogFile
    from recsys_mf.cli.progress import TuningBar
    from recsys_mf.experiment import Experiment
    from recsys_mf.tuning import Plan, Standing, Tuned

_WRITTEN = ("test", "hold_out", "by", "validation", "seed", *options.READING)
"""Options of train that go into the file of the best settings, if they are given."""


@click.command(cls=WritingCommand)
@click.argument("ratings", metavar="RATINGS", type=TABLE)
@click.option("--solver", metavar="NAME", help="Solver to search: sgd, als, gibbs or bias.  [default: the best of all]")
@options.settings_option("Setting of the solver that is not searched, e.g. -p rank=32; repeatable.")
@click.option(
    "--minutes", type=float, metavar="N", help="Time for everything, including the fit and the test at the end."
)
@click.option("--trials", type=int, metavar="N", help="Settings to try in total, including those in --study.")
@click.option("--output", "-o", type=OUTPUT, metavar="FILE.toml",
              help="Write the best settings to FILE, for train --config.")  # fmt: skip
@click.option("--run", "run", type=OUTPUT, metavar="DIR",
              help="Write the model with the best settings as a run directory, as train does.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace FILE.toml, the run and the log if they exist.")
@click.option(
    "--study",
    type=local("study"),
    metavar="FILE",
    help="Keep the trials in FILE, so that the same command continues with them and several processes can share them.",
)
@click.option("--search-only", is_flag=True, help="Only add trials to --study; do not fit and test the best.")
@options.split_options(validation="Fraction of the training ratings on which settings are compared.")
@click.option("--log", type=local("log"), metavar="FILE.jsonl",
              help="Write a line of JSON per trial and per epoch to FILE while it runs.")  # fmt: skip
@options.device_option
@options.threads_option
@options.duplicates_option
@options.column_options
@options.weight_option
@options.report_options
@options.quiet_option
@options.exclusive(
    ("--test", "--hold-out"), ("--by", "--test"), ("--output", "--search-only"), ("--run", "--search-only")
)
def tune(ratings: str, as_json: bool, markdown: bool, quiet: bool, **given: Any) -> None:
    """Search the settings of a solver on RATINGS, fit the best on all training ratings, and test them once.

    Settings are compared on validation rows within the training ratings; those that are clearly worse than others are
    stopped early. The defaults are tried first; the report says whether the search gained anything on held-out ratings.
    Without --solver the solvers are also compared, fast ones first, as the time allows.

    \b
    recsys-mf tune ratings.parquet --solver sgd --minutes 5 -o best.toml
    recsys-mf train ratings.parquet --config best.toml -o run
    recsys-mf tune ratings.parquet --minutes 5 --run run        the best model in five minutes
    """
    began = time.monotonic()  # before the imports, which count too
    from recsys_mf import store
    from recsys_mf.cli.log import Lines, LogFile
    from recsys_mf.cli.progress import TuningBar, announce_compilation
    from recsys_mf.experiment import Hooks
    from recsys_mf.outputs import check_output
    from recsys_mf.tuning import rendering, tune_by_plan
    from recsys_mf.tuning.storage import require_optuna

    require_optuna()
    plan = _plan(ratings, given)
    force = given["force"]
    if given["output"] is not None:
        check_output(given["output"], "best settings", (".toml",), force=force)
    if given["run"] is not None:
        store.check_free(given["run"], force=force)
    log, lines = LogFile(given["log"], force=force), Lines(quiet=quiet)
    announce_compilation(quiet=quiet)
    record = _Record(plan, given)
    bar = TuningBar(quiet=quiet)
    with log, telling_what_is_kept("--study FILE", lambda error: _measure(bar, given["study"])), bar:

        def watch(standing: Standing) -> None:
            bar(standing)
            lines.tell_tuning(standing)
            _log(log, standing)

        tuned = tune_by_plan(
            plan, device=given["device"], threads=given["threads"], watch=watch,
            hooks=Hooks(on_read=lambda role, table: log.write("read", role=role, rows=len(table)), record=record),
            began=began,
        )  # fmt: skip
        if tuned.outcome is not None and given["run"] is not None:
            store.save(tuned.outcome.run, given["run"], force=force, report=tuned.outcome.report)
            log.write("saved", run=str(given["run"]))
    if given["output"] is not None:
        _write_best(given["output"], tuned, ratings, given)
    options.print_report(tuned, rendering, as_json=as_json, markdown=markdown)


def _plan(ratings: str, given: dict[str, Any]) -> Plan:
    """The plan that the options describe."""
    from recsys_mf.experiment import Experiment
    from recsys_mf.solvers import SOLVERS
    from recsys_mf.tuning import Plan

    texts = options.parse_settings(given["settings"])
    if texts and given["solver"] is None:
        raise ConfigError("settings belong to a solver", where="-p", seen=", ".join(texts), fix="give --solver too")
    solver = None if given["solver"] is None else SOLVERS[given["solver"]].from_texts(texts)
    experiment = Experiment(
        ratings=ratings,
        test=given["test"],
        hold_out=0.0 if given["test"] is not None else given["hold_out"],
        by=given["by"],
        validation=given["validation"],
        seed=given["seed"],
        reading=options.choose_reading(given, SOLVERS.values() if solver is None else [solver]),
    )
    names = ("minutes", "trials", "study", "search_only")
    return Plan(experiment=experiment, solver=solver, fixed=tuple(texts), **{name: given[name] for name in names})


class _Record:
    """Extends the record of the run so that `train --repeat` can use it."""

    def __init__(self, plan: Plan, given: dict[str, Any]) -> None:
        self._experiment: Experiment = plan.experiment
        self._test, self._given = given["test"], options.parse_settings(given["settings"])

    def __call__(self, record: Any) -> Any:
        from recsys_mf.cli import plan

        files = {"ratings": self._experiment.ratings} | ({} if self._test is None else {"test": self._test})
        return plan.Plan(self._experiment, files=files, given=self._given, expected={}).recorded(record)


def _log(log: LogFile, standing: Standing) -> None:
    if standing.progress is not None:
        log(standing.progress)
    if standing.ended is not None:
        facts = dataclasses.asdict(standing.ended)
        log.write("trial", trial_seconds=facts.pop("seconds"), **facts, best=standing.best)


def _write_best(path: Place, tuned: Tuned, ratings: str, given: dict[str, Any]) -> None:
    from recsys_mf.cli.config import write_config
    from recsys_mf.outputs import written_output

    best = tuned.best
    names = tuned.fixed if best.is_default else [*tuned.fixed, *tuned.searched[best.solver]]
    shared = {name.replace("_", "-"): given[name] for name in _WRITTEN if options.is_given(name)}
    comment = (
        f"The best of {len(tuned.trials)} settings that recsys-mf tune tried on {printable(ratings)}: validation RMSE "
        f"{best.error:.4f}.\nrecsys-mf train {printable(ratings)} --config {printable(path)} -o run"
    )
    with written_output(path, force=given["force"]) as aside:
        write_config(aside, comment, {"solver": best.solver, **shared}, {name: best.settings[name] for name in names})


def _measure(bar: TuningBar, study: Path | None) -> Finished | None:
    """How many trials are finished."""
    where = None if study is None else str(study)
    return Finished(f"{bar.finished} trials are finished and", where) if bar.finished else None
