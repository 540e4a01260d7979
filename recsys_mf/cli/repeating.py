"""Repeating: the plan that a stored run was made by, and whether the new run is the same (`train --repeat`)."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from recsys_mf.cli.plan import FILES, Plan
from recsys_mf.errors import ArtifactError, ConfigError, RecsysWarning
from recsys_mf.storage import Place, is_address

if TYPE_CHECKING:
    from recsys_mf.models import Model
    from recsys_mf.run import Run
    from recsys_mf.solvers import Solver

HARMLESS = {
    "output", "force", "quiet", "device", "threads", "size", "html", "plots", "titles", "log", "predictions",
    "keep_rated", "as_json", "markdown", "repeat", "ranking", "relevant", "checkpoint", "every",
    "engine", "master", "storage", "workers",
}  # fmt: skip
"""Options of `recsys-mf train` that decide where it runs and what is written, but do not change the numbers."""


def refuse_with_repeat(context: click.Context) -> None:
    """Raise ConfigError if an option is given that changes the result: with --repeat it comes from the run."""
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if name not in HARMLESS | FILES.keys() and source is click.core.ParameterSource.COMMANDLINE:
            fix = "leave it out, or train without --repeat"
            what = f"{' or '.join(parameter.opts)} cannot be given with --repeat, which takes this option from the run"
            raise ConfigError(what, where=f"--repeat {context.params['repeat']}", fix=fix)


def plan_of_record(record: Mapping[str, Any], where: Place, given_files: Mapping[str, str]) -> Plan:
    """The plan that a run was made by.

    where : its directory, for messages
    given_files : role -> path of a file now, if it has moved
    Raises ArtifactError if the record is incomplete, and ConfigError for a file that the run was not made from or does
    not name.
    """
    from recsys_mf import store
    from recsys_mf.experiment import Experiment
    from recsys_mf.training import provenance

    rule = _rule(record, where)
    expected = provenance.fingerprints(record)
    for role in given_files:
        if role not in expected:
            fix = "leave this option out"
            raise ConfigError(
                "the run was made without such a file", where=f"{FILES[role]} with --repeat {where}", fix=fix
            )
    named = {role: file["path"] for role, file in record.get("files", {}).items()}
    for role in expected:
        if role not in named and role not in given_files:
            fix = f"give {FILES[role]} too"
            raise ConfigError(
                f"the run does not record the path of its {role.replace('_', ' ')}", where=str(where), fix=fix
            )
    folder = record.get("folder", "")
    files = {role: given_files.get(role) or _located(named[role], folder) for role in FILES if role in expected}
    columns = record.get("feature_columns")
    start = None if "start" not in files else store.load(files["start"])
    experiment = Experiment(
        ratings=files["ratings"],
        solver=_solver(record, where),
        test=files.get("test"),
        hold_out=rule.get("fraction", 0.0),
        by=rule.get("by", "random"),
        split_seed=rule.get("seed", 0),
        folds=record.get("folds"),
        validation=record["validation"],
        seed=record["seed"],
        baselines=None if start else {label: _solver(facts, where) for label, facts in record["baselines"].items()},
        compress=None if start else record["compress"],
        start=start,
        user_features=files.get("user_features"),
        item_features=files.get("item_features"),
        feature_columns=None if columns is None else columns.split(","),
        reading=record.get("reading", {}),
    )
    plan = Plan(experiment, files, record.get("given", {}), expected)
    if start is not None:
        plan.check("start", provenance.fingerprint_of_run(start))
    return plan


def _rule(record: Mapping[str, Any], where: Place) -> Mapping[str, Any]:
    """The rule of the split. Raises ArtifactError if no options of the command line express it."""
    rule: Mapping[str, Any] = record.get("split_rule", {})
    if not rule:
        seen = "a split made by hand" if "split_rule" in record else "a record of an earlier version"
        raise ArtifactError(
            "the run cannot be repeated", where=str(where), seen=seen, fix="train again with the same options"
        )
    if rule["kind"] == "fold" or "validation" in rule or record["validation"] is None:
        seen = record["split"] if rule["kind"] == "fold" else "validation rows chosen by hand"
        raise ArtifactError(
            "the command line cannot repeat this run", where=str(where), seen=seen, fix="repeat it in Python"
        )
    return rule


def _solver(facts: Mapping[str, Any], where: Place) -> Solver:
    from recsys_mf.solvers import SOLVERS

    try:
        return SOLVERS[facts["solver"]](**facts["settings"])
    except (ConfigError, KeyError, TypeError) as error:
        fix = "repeat the run with the version that made it: see libraries in run.json"
        raise ArtifactError(
            "this version does not have the solver or its settings", where=f"{where}/run.json", seen=error, fix=fix
        ) from None


def _located(path: str, folder: str) -> str:
    """A path as it was typed: relative to the current folder, else to the folder where it was typed."""
    elsewhere = os.path.join(folder, path)
    here = path == "-" or is_address(path) or os.path.exists(path) or bool(glob.glob(path))
    return path if here or not (os.path.exists(elsewhere) or glob.glob(elsewhere)) else elsewhere


def say_whether_repeated(where: Place, record: Mapping[str, Any], run: Run, *, quiet: bool) -> None:
    """Print on stderr whether a run equals the stored one in every bit, and how the two environments differ."""
    from recsys_mf import store
    from recsys_mf.training import provenance

    others = provenance.differences(record, run.provenance)
    if others:
        message = f"{where} was made with {'; '.join(others)}, so the last digits may differ"
        warnings.warn(message, RecsysWarning, stacklevel=2)
    try:
        first = store.load(where)
    except ArtifactError as error:
        warnings.warn(
            f"the result was not compared with {where}, which cannot be loaded: {error}", RecsysWarning, stacklevel=2
        )
        return
    fits = {"the model": (first.fit, run.fit)} | {
        name: (fit, run.baselines[name]) for name, fit in first.baselines.items()
    }
    changed = [name for name, (one, now) in fits.items() if not _are_equal(one.model, now.model)]
    if changed:
        warnings.warn(f"these models differ from those in {where}: {', '.join(changed)}", RecsysWarning, stacklevel=2)
    elif not quiet:
        click.echo(f"the model and its baselines equal those in {where} byte for byte", err=True)


def _are_equal(one: Model, other: Model) -> bool:
    """Whether two models have the same arrays, bit for bit, and the same plain numbers beside them."""
    from recsys_mf.training import provenance

    return one.facts() == other.facts() and provenance.digest(one) == provenance.digest(other)
