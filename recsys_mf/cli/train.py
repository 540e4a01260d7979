"""`recsys-mf train`: from a rating table to a run directory and a report."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from recsys_mf.cli import options
from recsys_mf.cli.config import config_option
from recsys_mf.cli.engine import check_engine, engine_options, on_spark
from recsys_mf.cli.keeping import Work, checkpoint_options, measure_training, open_checkpoint, telling_what_is_kept
from recsys_mf.cli.pictures import PictureFiles, name_items, picture_options, titles_option
from recsys_mf.cli.places import OUTPUT, PLACE, TABLE, local
from recsys_mf.cli.plan import Options, check_read, make_plan
from recsys_mf.cli.repeating import plan_of_record, refuse_with_repeat, say_whether_repeated
from recsys_mf.cli.replacing import WritingCommand, refuse_to_replace
from recsys_mf.errors import ConfigError

if TYPE_CHECKING:
    from recsys_mf.kernels.backend import Backend


@click.command(cls=WritingCommand)
@click.argument("ratings", metavar="RATINGS", required=False, type=TABLE)
@click.option("--output", "-o", required=True, type=OUTPUT, help="Run directory to write.")
@click.option("--force", is_flag=True, help="Replace the run directory if it exists.")
@click.option(
    "--solver",
    metavar="NAME",
    help="Solver: sgd, als, gibbs, svd, bias or mean; `recsys-mf solvers` explains them.  [default: sgd]",
)
@options.settings_option("Setting of the solver, e.g. -p rank=32; repeatable; `recsys-mf solvers NAME` lists them.")
@options.split_options()
@click.option("--folds", type=int, help="Cross-validate on this many folds, then train on all ratings.")
@options.device_option
@options.threads_option
@engine_options
@click.option(
    "--memory", "size", metavar="SIZE", help="Memory budget, e.g. 2GiB or 500MB; long columns go to temporary files."
)
@click.option("--from", "start", type=PLACE, help="Run directory to continue from, e.g. with new ratings.")
@click.option("--repeat", type=PLACE, metavar="RUN",
              help="Train again exactly as the run in this directory was trained.")  # fmt: skip
@config_option
@click.option(
    "--compress", type=int, metavar="K", help="Store the model of a sampler (gibbs) as one factorisation of rank K."
)
@click.option(
    "--user-features",
    type=TABLE,
    metavar="FILE",
    help="Table with a row per user: numbers, categories, A|B|C or lists (gibbs only).",
)
@click.option(
    "--item-features",
    type=TABLE,
    metavar="FILE",
    help="Table with a row per item: numbers, categories, A|B|C or lists (gibbs only).",
)
@click.option("--feature-columns", metavar="NAME,…", help="Columns to use of these two tables.  [default: all]")
@click.option("--likelihood", metavar="auto|gaussian|ordinal", help="The same as -p likelihood=… (gibbs).")
@click.option("--sweeps", metavar="N", help="The same as -p sweeps=N (gibbs).")
@click.option("--chains", metavar="N", help="The same as -p chains=N (gibbs).")
@click.option("--schedule", metavar="conflict-free|hogwild", help="The same as -p schedule=… (sgd on CUDA).")
@click.option("--precision", metavar="float32|half|bfloat16", help="The same as -p precision=… (sgd on CUDA).")
@click.option("--predictions", type=OUTPUT, metavar="FILE",
              help="Write the test rows with their predictions to FILE (.parquet, .csv or .tsv).")  # fmt: skip
@picture_options
@titles_option
@click.option("--log", type=local("log"), metavar="FILE.jsonl",
              help="Write a line of JSON per stage and per epoch to FILE while training runs.")  # fmt: skip
@checkpoint_options
@click.option("--keep-rated/--no-keep-rated", default=True, show_default=True,
              help="Store the training ratings in the run directory; --from needs them.")  # fmt: skip
@click.option("--svd-ranks", metavar="K,K,…", help="Ranks to try for the truncated SVD baselines.")
@click.option("--svd-route", default="auto", show_default=True, metavar="auto|dense|operator",
              help="How to compute the truncated SVD baselines; the results agree up to rounding.")  # fmt: skip
@options.ranking_options
@options.duplicates_option
@options.column_options
@options.weight_option
@options.report_options
@options.quiet_option
@options.exclusive(
    ("--test", "--hold-out"),
    ("--test", "--folds"),
    ("--hold-out", "--folds"),
    ("--by", "--test"),
    ("--by", "--folds"),
    ("--titles", "--folds"),
)
def train(**given: Any) -> None:
    """Train a model on RATINGS, write it as a run directory, and print a report of its error on held-out ratings.

    RATINGS is a table in Parquet, text (CSV, TSV, MovieLens, …) or JSON lines: a file, compressed or not, a folder or
    glob of part files, or - for standard input. Every file and folder can be an address: s3://, hdfs://, https://.
    The baselines (mean, biases, truncated SVD) are fitted too. Settings such as the number of epochs are chosen on a
    validation part of the training ratings; then the model is fitted again on all training ratings.

    The run records everything it was made from: `train --repeat RUN -o NEW` makes it again, byte for byte.
    """
    from recsys_mf import memory, store
    from recsys_mf.arrays.mapped import limited
    from recsys_mf.cli.log import Lines, LogFile, tell_all
    from recsys_mf.cli.progress import Bars, announce_compilation
    from recsys_mf.evaluation import rendering
    from recsys_mf.evaluation.predictions import check_predictions, write_predictions
    from recsys_mf.experiment import Hooks

    chosen, context = Options(**given), click.get_current_context()
    check_engine(chosen.engine, given)
    store.check_free(chosen.output, force=chosen.force)
    pictures = PictureFiles(chosen.html, chosen.plots, chosen.force, chosen.titles)
    pictures.check(chosen.output, chosen.predictions, chosen.log)
    log = LogFile(chosen.log, force=chosen.force, goes_on=chosen.checkpoint is not None)
    checkpoint = open_checkpoint(chosen.checkpoint, chosen.every, chosen.output, log, quiet=chosen.quiet)
    if chosen.size is not None:
        context.with_resource(limited(memory.parsed(chosen.size)))
    announce_compilation(quiet=chosen.quiet)
    device: str | Backend = chosen.device
    if chosen.repeat is None:
        plan = make_plan(chosen, context)
    else:
        refuse_with_repeat(context)
        record = store.load_provenance(chosen.repeat)
        plan = plan_of_record(record, chosen.repeat, chosen.files)
        device = device if options.is_given("device") else record["device"]
    refuse_to_replace(context.command, context.params | dict(plan.files))  # --repeat adds those that the run names
    plan = replace(plan, experiment=replace(plan.experiment, ranking=chosen.ranking, relevant=chosen.relevant))
    experiment = plan.experiment
    held_out = experiment.test is not None or experiment.folds is not None or experiment.hold_out > 0
    if chosen.titles is not None and not held_out:
        fix = "leave --titles out, or hold ratings out"
        raise ConfigError("without test ratings no items are shown", where="--titles", seen="--hold-out 0", fix=fix)
    if chosen.predictions is not None:
        check_predictions(chosen.predictions, force=chosen.force, held_out=held_out)

    context.with_resource(log)
    if chosen.engine == "spark":
        experiment, device = on_spark(experiment, given, chosen.threads, context)
    work = Work()
    measure = partial(measure_training, checkpoint, work)
    with telling_what_is_kept("--checkpoint DIR", measure), Bars(quiet=chosen.quiet) as bars:
        run, report, predicted = experiment.run(
            device=device, threads=chosen.threads, watch=tell_all(bars, Lines(quiet=chosen.quiet), log, work),
            keep_predictions=chosen.predictions is not None,
            hooks=Hooks(on_read=partial(check_read, plan, log, quiet=chosen.quiet), record=plan.recorded),
            checkpoint=checkpoint,
        )  # fmt: skip
    if chosen.repeat is not None:
        say_whether_repeated(chosen.repeat, record, run, quiet=chosen.quiet)  # before the new run may replace it
    store.save(run, chosen.output, force=chosen.force, report=report, keep_rated=chosen.keep_rated)
    log.write("saved", run=str(chosen.output))
    if checkpoint is not None:
        checkpoint.remove()
    if chosen.predictions is not None and predicted is not None:
        write_predictions(predicted, chosen.predictions, force=chosen.force)
    repeating = shlex.join(["recsys-mf", "train", "--repeat", str(chosen.output), "-o", "NEW"])
    pictures.write(name_items(report, chosen.titles), {"to repeat": repeating})
    options.print_report(report, rendering, as_json=chosen.as_json, markdown=chosen.markdown)
