"""`recsys-mf train`: from a rating table to a run directory and a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys_mf.cli import options
from recsys_mf.cli.plan import FILES, Plan, plan_of_record, refuse_with_repeat, say_whether_repeated
from recsys_mf.errors import ConfigError, printable

if TYPE_CHECKING:
    from recsys_mf.evaluation import Report
    from recsys_mf.evaluation.predictions import PredictedRows
    from recsys_mf.ratings import Ratings
    from recsys_mf.run import Run
    from recsys_mf.solvers import Solver
    from recsys_mf.splits import Split

DECIDED_BY_START = (
    "settings", "folds", "compress", "likelihood", "sweeps", "chains", "schedule", "precision", "svd_ranks",
    "svd_route", "user_features", "item_features", "trace",
)  # fmt: skip


@click.command()
@click.argument("ratings", metavar="RATINGS", required=False)
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Run directory to write.")
@click.option("--force", is_flag=True, help="Replace the run directory if it exists.")
@click.option(
    "--solver",
    metavar="NAME",
    help="Solver: sgd, als, gibbs, svd, bias or mean; `recsys-mf solvers` explains them.  [default: sgd]",
)
@click.option(
    "--set",
    "-p",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Setting of the solver, e.g. -p rank=32; repeatable; `recsys-mf solvers NAME` lists them.",
)
@click.option("--test", metavar="FILE", help="Table of test ratings; without it a part of RATINGS is held out.")
@click.option(
    "--hold-out", type=float, help="Fraction of the ratings to hold out for the test; 0 trains on all.  [default: 0.1]"
)
@click.option(
    "--by",
    default="random",
    show_default=True,
    metavar="random|user|time",
    help="How the held-out ratings are chosen: at random, at random within each user, or the newest.",
)
@click.option("--folds", type=int, help="Cross-validate on this many folds, then train on all ratings.")
@click.option("--validation", type=float, default=0.1, show_default=True,
              help="Fraction of the training ratings on which epochs, ranks and the like are chosen.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of every random draw.")
@options.device_option
@options.threads_option
@click.option(
    "--memory", "size", metavar="SIZE", help="Memory budget, e.g. 2GiB or 500MB; long columns go to temporary files."
)
@click.option(
    "--from", "start", type=click.Path(path_type=Path), help="Run directory to continue from, e.g. with new ratings."
)
@click.option("--repeat", type=click.Path(path_type=Path), metavar="RUN",
              help="Train again exactly as the run in this directory was trained.")  # fmt: skip
@click.option(
    "--compress", type=int, metavar="K", help="Store the model of a sampler (gibbs) as one factorisation of rank K."
)
@click.option(
    "--user-features",
    metavar="FILE",
    help="Table with a row per user: numbers, categories, A|B|C or lists (gibbs only).",
)
@click.option(
    "--item-features",
    metavar="FILE",
    help="Table with a row per item: numbers, categories, A|B|C or lists (gibbs only).",
)
@click.option("--feature-columns", metavar="NAME,…", help="Columns to use of these two tables.  [default: all]")
@click.option("--likelihood", metavar="auto|gaussian|ordinal", help="The same as -p likelihood=… (gibbs).")
@click.option("--sweeps", metavar="N", help="The same as -p sweeps=N (gibbs).")
@click.option("--chains", metavar="N", help="The same as -p chains=N (gibbs).")
@click.option("--schedule", metavar="conflict-free|hogwild", help="The same as -p schedule=… (sgd on CUDA).")
@click.option("--precision", metavar="float32|half|bfloat16", help="The same as -p precision=… (sgd on CUDA).")
@click.option("--predictions", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the test rows with their predictions to FILE (.parquet, .csv or .tsv).")  # fmt: skip
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    metavar="FILE.svg",
    help="Draw the monitored quantities of a sampler (gibbs) over its sweeps.",
)
@click.option("--keep-rated/--no-keep-rated", default=True, show_default=True,
              help="Store the training ratings in the run directory; --from needs them.")  # fmt: skip
@click.option("--svd-ranks", metavar="K,K,…", help="Ranks to try for the truncated SVD baselines.")
@click.option("--svd-route", default="auto", show_default=True, metavar="auto|dense|operator",
              help="How to compute the truncated SVD baselines; the results agree up to rounding.")  # fmt: skip
@options.duplicates_option
@options.column_options
@options.report_options
@options.quiet_option
@options.exclusive(
    ("--test", "--hold-out"), ("--test", "--folds"), ("--hold-out", "--folds"), ("--by", "--test"), ("--by", "--folds")
)
def train(
    ratings: str | None, output: Path, force: bool, solver: str | None, settings: tuple[str, ...], test: str | None,
    hold_out: float | None, by: str, folds: int | None, validation: float, seed: int, device: str,
    threads: int | None, size: str | None, start: Path | None, repeat: Path | None, compress: int | None,
    user_features: str | None, item_features: str | None, feature_columns: str | None, likelihood: str | None,
    sweeps: str | None, chains: str | None, schedule: str | None, precision: str | None,
    predictions: Path | None, trace: Path | None, keep_rated: bool, svd_ranks: str | None, svd_route: str,
    as_json: bool, markdown: bool, quiet: bool, duplicates: Any, **columns: Any,
) -> None:  # fmt: skip
    """Train a model on RATINGS, write it as a run directory, and print a report of its error on held-out ratings.

    RATINGS is a table in Parquet, text (CSV, TSV, MovieLens, …) or JSON lines: a file, compressed or not, a folder or
    glob of part files, or - for standard input.
    The baselines (mean, biases, truncated SVD) are fitted too. Settings such as the number of epochs are chosen on a
    validation part of the training ratings; then the model is fitted again on all training ratings.

    The run records everything it was made from: `train --repeat RUN -o NEW` makes it again, byte for byte.
    """
    from recsys_mf import memory, store
    from recsys_mf.arrays.mapped import limited
    from recsys_mf.cli.progress import announce_compilation
    from recsys_mf.cli.trace import check_trace, write_trace
    from recsys_mf.evaluation.predictions import check_predictions, write_predictions

    inputs = [name for name in (ratings, test, user_features, item_features) if name is not None]
    store.check_free(output, force=force, inputs=inputs)
    if trace is not None:
        check_trace(trace, force=force)
    if size is not None:
        click.get_current_context().with_resource(limited(memory.parsed(size)))
    announce_compilation(quiet=quiet)
    context = click.get_current_context()
    files = {role: str(context.params[role]) for role in FILES if context.params[role] is not None}
    if repeat is not None:
        refuse_with_repeat(context)
        record = store.load_provenance(repeat)
        plan = plan_of_record(record, repeat, files)
        begin = None if "start" not in plan.files else store.load(plan.files["start"])
        if context.get_parameter_source("device") is not click.core.ParameterSource.COMMANDLINE:
            device = record["device"]
    elif ratings is None:
        raise ConfigError(
            "no table to train on", where="RATINGS", fix="give the path of a table, or a run directory to --repeat"
        )
    else:
        begin = None if start is None else store.load(start)
        if begin is not None:
            _refuse_with_start(context)
        shorthands = {"likelihood": likelihood, "sweeps": sweeps, "chains": chains}
        shorthands |= {"schedule": schedule, "precision": precision}
        typed = _typed(settings, shorthands)
        method = _solver(solver, typed, begin)
        if columns["time_column"] is None and not method.takes_times and by != "time":
            columns["time_column"] = "none"  # not needed
        whole = test is not None or folds is not None
        plan = Plan(
            files=files,
            reading={"duplicates": duplicates, **columns},
            feature_columns=feature_columns,
            hold_out=(0.0 if whole else 0.1) if hold_out is None else hold_out,
            by=by,
            folds=folds,
            split_seed=seed,
            validation=validation,
            seed=seed,
            solver=method,
            baselines=_baselines(svd_ranks, svd_route),
            compress=compress,
            given=typed,
            expected={},
        )
    if trace is not None and not plan.solver.samples_posterior:
        fix = "leave --trace out, or use --solver gibbs, which samples"
        raise ConfigError(f"solver '{plan.solver.name}' has no traces to draw", where="--trace", fix=fix)
    if predictions is not None:
        held_out = "test" in plan.files or plan.folds is not None or plan.hold_out > 0
        check_predictions(predictions, force=force, held_out=held_out)

    run, report, predicted = _trained(
        plan, begin, device=device, threads=threads, quiet=quiet, with_predictions=predictions is not None
    )
    if repeat is not None:
        say_whether_repeated(repeat, record, run, quiet=quiet)  # before the new run may replace it
    store.save(run, output, force=force, report=report, keep_rated=keep_rated)
    if predictions is not None and predicted is not None:
        write_predictions(predicted, predictions, force=force)
    if trace is not None:
        write_trace(run, trace, report.data, force=force)
    options.print_report(report, as_json=as_json, markdown=markdown)


def _trained(
    plan: Plan, start: Run | None, *, device: str, threads: int | None, quiet: bool, with_predictions: bool
) -> tuple[Run, Any, PredictedRows | None]:
    """The run of a plan, its report, and the test rows with their predictions if these are wanted."""
    from recsys_mf import splits, training
    from recsys_mf.cli.progress import Bars
    from recsys_mf.evaluation import evaluate, summarise_folds, validation_report
    from recsys_mf.evaluation.predictions import join_folds, predict_rows
    from recsys_mf.training import provenance

    if start is not None:
        plan.check("start", provenance.fingerprint_of_run(start))
    table = _read(plan, "ratings")
    if "user_features" in plan.files or "item_features" in plan.files:
        table = _with_features(table, plan, quiet=quiet)
    elif plan.feature_columns is not None:
        fix = "give --user-features or --item-features"
        raise ConfigError(
            "there is no table to take these columns from",
            where="--feature-columns",
            seen=plan.feature_columns,
            fix=fix,
        )

    with Bars(quiet=quiet) as bars:

        def trained(split: Split) -> Run:
            run = training.train(
                split, plan.solver, seed=plan.seed, device=device, threads=threads, validation=plan.validation,
                compared_with=plan.baselines if start is None else None, start=start,
                compress=plan.compress if start is None else None, watch=bars,
            )  # fmt: skip
            return replace(run, provenance=plan.recorded(run.provenance))

        reports: list[Report] = []
        predicted: list[PredictedRows] = []

        def tested(run: Run, split: Split) -> None:
            assert split.test is not None
            assert split.test_as_read is not None
            reports.append(evaluate(run, split.test_as_read, device=device, threads=threads))
            if with_predictions:
                predicted.append(predict_rows(run, split.test_as_read, device=device, threads=threads))

        if plan.folds is not None:
            for split in splits.k_folds(table, plan.folds, plan.split_seed):
                tested(trained(split), split)
            run = trained(splits.hold_out(table, 0, plan.split_seed))
            folds = splits.fold_numbers(len(table), plan.folds, plan.split_seed)
            return run, summarise_folds(reports), join_folds(table, folds, predicted) if predicted else None
        split = _split(table, plan, start)
        del table  # its rows are in the split
        run = trained(split)
        if split.test is None:
            return run, validation_report(run), None
        tested(run, split)
        return run, reports[0], predicted[0] if predicted else None


def _read(plan: Plan, role: str, like: Ratings | None = None) -> Ratings:
    from recsys_mf import loaders, splits

    table = loaders.read_ratings(plan.files[role], like=like, **plan.reading)
    if role in plan.expected:
        plan.check(role, splits.fingerprint_as_read(table))
    return table


def _with_features(table: Ratings, plan: Plan, *, quiet: bool) -> Ratings:
    """The table with the side information of these files; prints on stderr what was left out of them."""
    from recsys_mf import loaders
    from recsys_mf.training import provenance

    columns = plan.feature_columns
    names = None if columns is None else [name.strip() for name in columns.split(",")]
    reading = {key: plan.reading[key] for key in ("ids", "encoding") if key in plan.reading}
    features: dict[str, Any] = {}
    for role in ("user", "item"):
        file = plan.files.get(f"{role}_features")
        if file is None:
            continue
        features[f"{role}s"] = found = loaders.read_features(file, role=role, columns=names, **reading)
        plan.check(f"{role}_features", provenance.fingerprint_of_features(found))
        if not quiet:
            left_out = f"; left out: {'; '.join(found.left_out)}" if found.left_out else ""
            line = f"{file}: {len(found.names):,} features of {len(found):,} {role}s{left_out}"
            click.echo(printable(line), err=True)
    return table.with_features(**features)


def _split(table: Ratings, plan: Plan, start: Run | None) -> Split:
    """The split of a plan; if a run is continued, only ratings that it has not seen are held out."""
    from recsys_mf import splits
    from recsys_mf.training.joining import seen_by

    if "test" not in plan.files:
        among = None if start is None or not plan.hold_out else ~seen_by(start, table)
        return splits.hold_out(table, plan.hold_out, plan.split_seed, by=plan.by, among=among)  # type: ignore[arg-type]
    return splits.given(table, _read(plan, "test", like=table), rule=f"the pairs of {plan.files['test']}")


def _refuse_with_start(context: click.Context) -> None:
    """Raise ConfigError if an option is given that --from takes from the run."""
    for name in DECIDED_BY_START:
        if options.is_given(name):
            option = next(p.opts[0] for p in context.command.params if p.name == name)
            fix = "leave it out, or train without --from"
            raise ConfigError(f"{option} cannot be given with --from, which takes this option from the run", fix=fix)


def _solver(name: str | None, texts: dict[str, str], start: Run | None) -> Solver:
    """The solver that the options name, with the given settings, or the solver of the run to continue from."""
    from recsys_mf.solvers import SOLVERS
    from recsys_mf.training import solver_of

    if start is not None and name in (None, start.fit.solver):
        return solver_of(start.fit)
    return SOLVERS[name or "sgd"].from_texts(texts)


def _typed(settings: tuple[str, ...], shorthands: dict[str, str | None]) -> dict[str, str]:
    """Settings by name, as they were typed. Raises ConfigError if one is given twice with different values."""
    texts: dict[str, str] = {}
    for key, value in [*map(_named, settings), *shorthands.items()]:
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


def _baselines(ranks: str | None, route: str) -> dict[str, Solver]:
    """The baselines, with the ranks and the route of the truncated SVD that the options give."""
    from recsys_mf.solvers import TruncatedSvd
    from recsys_mf.training import baselines

    texts = {"route": route} | ({} if ranks is None else {"ranks": ranks})
    checked = TruncatedSvd.from_texts(texts)
    return baselines(checked.ranks, checked.route)
