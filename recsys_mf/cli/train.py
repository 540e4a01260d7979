"""`recsys-mf train`: from a rating table to a run directory and a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys_mf.cli import options
from recsys_mf.errors import ConfigError, nearest

if TYPE_CHECKING:
    from recsys_mf.models import Run
    from recsys_mf.ratings import Ratings
    from recsys_mf.solvers import Solver
    from recsys_mf.splits import Split


@click.command()
@click.argument("ratings", metavar="RATINGS")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Run directory to write.")
@click.option("--force", is_flag=True, help="Replace the run directory if it exists.")
@click.option("--solver", metavar="NAME", help="How the model is found: see `recsys-mf solvers`.  [default: sgd]")
@click.option("--set", "-p", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the solver.")
@click.option("--test", metavar="FILE", help="Report on this table instead of holding ratings out.")
@click.option("--hold-out", type=float, help="Fraction of ratings to hold out; 0 trains on all.  [default: 0.1]")
@click.option("--by", default="random", show_default=True, metavar="random|user|time", help="How they are chosen.")
@click.option("--folds", type=int, help="Cross-validate on this many folds, then train on all ratings.")
@click.option("--validation", type=float, default=0.1, show_default=True,
              help="Fraction of the training ratings to choose epochs and ranks on.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of every random draw.")
@options.device_option
@options.threads_option
@click.option("--memory", "size", metavar="SIZE", help="Keep long columns in temporary files beyond it: 2GiB, 500MB.")
@click.option("--from", "start", type=click.Path(path_type=Path), help="Run directory to continue from.")
@click.option("--compress", type=int, metavar="K", help="Keep a posterior as a plain factorisation of rank K.")
@click.option("--user-features", metavar="FILE", help="Table of what is known of users (gibbs).")
@click.option("--item-features", metavar="FILE", help="The same of items: numbers, categories, A|B|C or lists.")
@click.option("--feature-columns", metavar="NAME,…", help="Columns of these tables to use.  [default: all]")
@click.option("--likelihood", metavar="auto|gaussian|ordinal", help="The same as -p likelihood=… (gibbs).")
@click.option("--sweeps", metavar="N", help="The same as -p sweeps=N (gibbs).")
@click.option("--chains", metavar="N", help="The same as -p chains=N (gibbs).")
@click.option("--schedule", metavar="conflict-free|hogwild", help="The same as -p schedule=… (sgd on CUDA).")
@click.option("--precision", metavar="float32|half|bfloat16", help="The same as -p precision=… (sgd on CUDA).")
@click.option("--trace", type=click.Path(path_type=Path), metavar="FILE.svg", help="Draw the traces of a sampler.")
@click.option("--svd-ranks", metavar="K,K,…", help="Ranks that the truncated SVD baselines try.")
@click.option("--svd-route", default="auto", show_default=True, metavar="auto|dense|operator",
              help="How the truncated SVD baselines are computed.")  # fmt: skip
@options.duplicates_option
@options.column_options
@options.report_options
@options.quiet_option
def train(
    ratings: str, output: Path, force: bool, solver: str | None, settings: tuple[str, ...], test: str | None,
    hold_out: float | None, by: str, folds: int | None, validation: float, seed: int, device: str,
    threads: int | None, size: str | None, start: Path | None, compress: int | None, user_features: str | None,
    item_features: str | None, feature_columns: str | None, likelihood: str | None, sweeps: str | None,
    chains: str | None, schedule: str | None, precision: str | None, trace: Path | None,
    svd_ranks: str | None, svd_route: str,
    as_json: bool, markdown: bool, quiet: bool, duplicates: Any, **columns: Any,
) -> None:  # fmt: skip
    """Train on RATINGS and write a run directory; print a report on held-out ratings.

    RATINGS is a Parquet file, a folder or glob of them, or a text file: CSV, TSV, MovieLens u.data or ratings.dat.
    The baselines (mean, biases, truncated SVD) are fitted beside the model. The number of epochs is chosen on a
    validation part of the training ratings, then the model is fitted again on all of them.
    """
    if sum(option is not None for option in (test, hold_out, folds)) > 1:
        raise ConfigError("--test, --hold-out and --folds exclude each other", fix="give one of them")
    from recsys_mf import loaders, memory, splits, store, training
    from recsys_mf.cli.progress import Bars, announce_compilation
    from recsys_mf.cli.trace import check_trace, write_trace
    from recsys_mf.columns import limited
    from recsys_mf.evaluation import evaluate, summarise_folds, validation_report

    store.check_free(output, force=force)
    if trace is not None:
        check_trace(trace, force=force)
    if size is not None:
        click.get_current_context().with_resource(limited(memory.parsed(size)))
    announce_compilation(quiet=quiet)
    begin = None if start is None else store.load(start)
    shorthands = {"likelihood": likelihood, "sweeps": sweeps, "chains": chains}
    shorthands |= {"schedule": schedule, "precision": precision}
    settings += tuple(f"{name}={value}" for name, value in shorthands.items() if value is not None)
    method = _solver(solver, settings, begin)
    if trace is not None and not method.samples_posterior:
        fix = "leave it out, or use a solver that samples: gibbs"
        raise ConfigError(f"solver '{method.name}' has no traces", where="--trace", fix=fix)
    compared_with = _baselines(svd_ranks, svd_route)
    if columns["time_column"] is None and not method.takes_times and by != "time":
        columns["time_column"] = "none"  # nobody would look at them
    table = loaders.read_ratings(ratings, duplicates=duplicates, **columns)
    if user_features is not None or item_features is not None:
        files = {"user": user_features, "item": item_features}
        table = _with_features(table, files, feature_columns, columns["ids"], quiet=quiet)
    elif feature_columns is not None:
        fix = "give --user-features or --item-features"
        raise ConfigError("no table has these columns", where="--feature-columns", seen=feature_columns, fix=fix)

    with Bars(quiet=quiet) as bars:

        def trained(split: Split) -> Run:
            run = training.train(
                split, method, seed=seed, device=device, threads=threads, validation=validation,
                compared_with=compared_with, start=begin, compress=compress, watch=bars,
            )  # fmt: skip
            return replace(run, provenance={**run.provenance, "data": ratings})

        if folds is not None:
            reports = [
                evaluate(trained(split), _tested(split), device=device, threads=threads)
                for split in splits.k_folds(table, folds, seed)
            ]
            report: Any = summarise_folds(reports)
            run = trained(splits.hold_out(table, 0))
        else:
            split = _split(table, test, 0.1 if hold_out is None else hold_out, seed, by, duplicates, columns)
            del table  # its rows are in the split
            run = trained(split)
            report = (
                validation_report(run)
                if split.test is None
                else evaluate(run, split.test, device=device, threads=threads)
            )
    store.save(run, output, force=force, report=report)
    if trace is not None:
        write_trace(run, trace, report.data)
    options.print_report(report, as_json=as_json, markdown=markdown)


def _with_features(
    table: Ratings, files: dict[str, str | None], columns: str | None, ids: Any, *, quiet: bool
) -> Ratings:
    """The table with the side information of these files; what was left out of them is said on stderr."""
    from recsys_mf import loaders

    names = None if columns is None else [name.strip() for name in columns.split(",")]
    features: dict[str, Any] = {}
    for role, file in files.items():
        if file is None:
            continue
        features[f"{role}s"] = found = loaders.read_features(file, role=role, columns=names, ids=ids)  # type: ignore[arg-type]
        if not quiet:
            left_out = f"; left out: {'; '.join(found.left_out)}" if found.left_out else ""
            click.echo(f"{file}: {len(found.names):,} features of {len(found):,} {role}s{left_out}", err=True)
    return table.with_features(**features)


def _split(
    table: Ratings, test: str | None, hold_out: float, seed: int, by: Any, duplicates: Any, columns: dict[str, Any]
) -> Split:
    from recsys_mf import loaders, splits

    if test is None:
        return splits.hold_out(table, hold_out, seed, by=by)
    return splits.given(
        table, loaders.read_ratings(test, duplicates=duplicates, **columns), rule=f"the pairs of {test}"
    )


def _tested(split: Split) -> Ratings:
    assert split.test is not None
    return split.test


def _solver(name: str | None, settings: tuple[str, ...], start: Run | None) -> Solver:
    """The solver that the options name, or that of the run to continue from, with the given settings."""
    from recsys_mf.solvers import SOLVERS

    texts = dict(_named(setting) for setting in settings)
    if name is None and start is not None:
        name = start.fit.solver
        texts = {key: _text(value) for key, value in start.fit.settings.items()} | texts
    name = name or "sgd"
    if name not in SOLVERS:
        raise ConfigError(f"no solver '{name}'", where="--solver", fix=nearest(name, SOLVERS))
    return SOLVERS[name].from_texts(texts)


def _named(setting: str) -> tuple[str, str]:
    name, equals, value = setting.partition("=")
    if not equals:
        raise ConfigError("not a setting", where="-p", seen=repr(setting), fix="write it as name=value")
    return name.strip(), value.strip()


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _baselines(ranks: str | None, route: str) -> dict[str, Solver]:
    """The baselines, with the ranks and the route of the truncated SVD as the options say."""
    from recsys_mf.solvers import TruncatedSvd
    from recsys_mf.training import baselines

    texts = {"route": route} | ({} if ranks is None else {"ranks": ranks})
    checked = TruncatedSvd.from_texts(texts)
    return baselines(checked.ranks, checked.route)
