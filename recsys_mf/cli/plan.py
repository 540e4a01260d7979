"""Plan: everything that decides the result of a training, made from the options of `recsys-mf train`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys_mf.cli import options
from recsys_mf.cli.config import SHORTHANDS
from recsys_mf.errors import ConfigError, DataError, printable
from recsys_mf.storage import Place

if TYPE_CHECKING:
    from recsys_mf.cli.config import Config
    from recsys_mf.cli.log import LogFile
    from recsys_mf.experiment import Experiment
    from recsys_mf.features import Features
    from recsys_mf.ratings import Ratings
    from recsys_mf.run import Run
    from recsys_mf.solvers import Solver

FILES = {
    "ratings": "RATINGS",
    "test": "--test",
    "user_features": "--user-features",
    "item_features": "--item-features",
    "start": "--from",
}
"""The roles of the files that a training reads, and the options that name them."""

DECIDED_BY_START = (
    "settings", "folds", "compress", "likelihood", "sweeps", "chains", "schedule", "precision", "svd_ranks",
    "svd_route", "user_features", "item_features",
)  # fmt: skip
"""Options that `--from` takes from the run."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `recsys-mf train` by their names."""

    ratings: str | None
    output: Place
    force: bool
    solver: str | None
    settings: tuple[str, ...]
    test: str | None
    hold_out: float
    by: str
    folds: int | None
    validation: float
    seed: int
    device: str
    threads: int | None
    engine: str
    master: str | None
    storage: str | None
    workers: int | None
    size: str | None
    start: Place | None
    repeat: Place | None
    config: Config | None
    compress: int | None
    user_features: str | None
    item_features: str | None
    feature_columns: str | None
    likelihood: str | None
    sweeps: str | None
    chains: str | None
    schedule: str | None
    precision: str | None
    predictions: Place | None
    html: Place | None
    plots: Place | None
    titles: str | None
    log: Path | None
    checkpoint: Path | None
    every: str | None
    keep_rated: bool
    svd_ranks: str | None
    svd_route: str
    duplicates: str
    user_column: str | None
    item_column: str | None
    rating_column: str | None
    time_column: str | None
    weight_column: str | None
    ids: str
    encoding: str | None
    as_json: bool
    markdown: bool
    quiet: bool
    ranking: int | None
    relevant: float | None

    @property
    def files(self) -> dict[str, str]:
        """The files that are read, by their role (FILES)."""
        return {role: str(getattr(self, role)) for role in FILES if getattr(self, role) is not None}

    @property
    def shorthands(self) -> dict[str, str | None]:
        """Settings of the solver that have an option of their own."""
        return {name: getattr(self, name) for name in SHORTHANDS}


@dataclass(frozen=True)
class Plan:
    """What is trained, and on which data.

    files : role -> path, for the roles in FILES that are used
    given : settings of the solver as they were typed
    expected : role -> fingerprint that the file must have; empty if the files are read for the first time
    config : the file of options, if there is one
    """

    experiment: Experiment
    files: Mapping[str, str]
    given: Mapping[str, str]
    expected: Mapping[str, str]
    config: Config | None = None

    def check(self, role: str, fingerprint: str) -> None:
        """Raise DataError if the file of a role is not the one that the run was made from."""
        expected = self.expected.get(role)
        if expected not in (None, fingerprint):
            fix = f"give the file with fingerprint {expected[:12]}…, or train without --repeat"
            what = "changed since the run was made"
            raise DataError(what, where=self.files[role], seen=f"fingerprint {fingerprint[:12]}…", fix=fix)

    def recorded(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record of a run, extended by what the command line knows."""
        from recsys_mf.training import provenance

        fingerprints, columns = provenance.fingerprints(record), self.experiment.feature_columns
        return {
            **record,
            "data": self.files["ratings"],
            "command": ["recsys-mf", *sys.argv[1:]],
            "folder": os.getcwd(),
            "given": dict(self.given),
            "files": {role: {"path": path, "fingerprint": fingerprints.get(role)} for role, path in self.files.items()},
            "reading": dict(self.experiment.reading),
            "feature_columns": None if columns is None else ",".join(columns),
            "folds": self.experiment.folds,
            **({} if self.config is None else {"config": self.config.to_mapping()}),
        }


def make_plan(chosen: Options, context: click.Context) -> Plan:
    """The plan that the options describe."""
    from recsys_mf import store
    from recsys_mf.experiment import Experiment

    if chosen.ratings is None:
        raise ConfigError(
            "no table to train on", where="RATINGS", fix="give the path of a table, or a run directory to --repeat"
        )
    start = None if chosen.start is None else store.load(chosen.start)
    if start is not None:
        _refuse_with_start(context, chosen.config)
    typed = options.parse_settings(chosen.settings, chosen.shorthands)
    if chosen.config is not None:
        typed = {**chosen.config.settings_for(chosen.solver), **typed}
    solver = _solver(chosen.solver, typed, start)
    whole = chosen.test is not None or chosen.folds is not None
    baselines = _baselines(chosen.svd_ranks, chosen.svd_route)
    columns = chosen.feature_columns
    experiment = Experiment(
        ratings=chosen.ratings,
        solver=solver,
        test=chosen.test,
        hold_out=0.0 if whole else chosen.hold_out,
        by=chosen.by,  # type: ignore[arg-type]
        folds=chosen.folds,
        validation=chosen.validation,
        seed=chosen.seed,
        baselines=None if start is not None else baselines,
        compress=chosen.compress,
        start=start,
        user_features=chosen.user_features,
        item_features=chosen.item_features,
        feature_columns=None if columns is None else [name.strip() for name in columns.split(",")],
        reading=options.choose_reading(vars(chosen), [solver]),
    )
    return Plan(experiment, files=chosen.files, given=typed, expected={}, config=chosen.config)


def check_read(plan: Plan, log: LogFile, role: str, found: Ratings | Features, *, quiet: bool) -> None:
    """Raise DataError if a table is not the one that the plan names; say on stderr what was left out of features."""
    log.write("read", role=role, rows=len(found))
    from recsys_mf import splits
    from recsys_mf.features import Features
    from recsys_mf.training import provenance

    if not isinstance(found, Features):
        if role in plan.expected:
            plan.check(role, splits.fingerprint_as_read(found))
        return
    plan.check(role, provenance.fingerprint_of_features(found))
    if not quiet:
        left_out = f"; left out: {'; '.join(found.left_out)}" if found.left_out else ""
        side = role.removesuffix("_features")
        line = f"{plan.files[role]}: {len(found.names):,} features of {len(found):,} {side}s{left_out}"
        click.echo(printable(line), err=True)


def _refuse_with_start(context: click.Context, config: Config | None) -> None:
    """Raise ConfigError if an option is given that --from takes from the run."""
    if config is not None and config.settings:
        what = f"the settings in {config.path} cannot be given with --from, which takes them from the run"
        raise ConfigError(what, fix="leave them out, or train without --from")
    for name in DECIDED_BY_START:
        if options.is_given(name):
            option = next(" or ".join(p.opts) for p in context.command.params if p.name == name)
            fix = "leave it out, or train without --from"
            raise ConfigError(f"{option} cannot be given with --from, which takes this option from the run", fix=fix)


def _solver(name: str | None, texts: dict[str, str], start: Run | None) -> Solver:
    """The solver that the options name, with the given settings, or the solver of the run to continue from."""
    from recsys_mf.solvers import SOLVERS
    from recsys_mf.training import solver_of

    if start is not None and name in (None, start.fit.solver):
        return solver_of(start.fit)
    return SOLVERS[name or "sgd"].from_texts(texts)


def _baselines(ranks: str | None, route: str) -> dict[str, Solver]:
    """The baselines, with the ranks and the route of the truncated SVD that the options give."""
    from recsys_mf.solvers import TruncatedSvd
    from recsys_mf.training import baselines

    texts = {"route": route} | ({} if ranks is None else {"ranks": ranks})
    checked = TruncatedSvd.from_texts(texts)
    return baselines(checked.ranks, checked.route)
