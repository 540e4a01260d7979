"""`recsys-mf evaluate`: the report of a run on any table."""

from __future__ import annotations

from typing import Any

import click

from recsys_mf.cli import options
from recsys_mf.cli.pictures import PictureFiles, name_items, picture_options, titles_option
from recsys_mf.cli.places import OUTPUT, PLACE, TABLE
from recsys_mf.cli.replacing import WritingCommand
from recsys_mf.errors import ConfigError
from recsys_mf.storage import Place


@click.command(cls=WritingCommand)
@click.argument("run", type=PLACE)
@click.option("--test", required=True, type=TABLE, metavar="FILE", help="Table of ratings to compute the error on.")
@click.option("--predictions", type=OUTPUT, metavar="FILE",
              help="Write the rows of the table with their predictions to FILE (.parquet, .csv or .tsv).")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the --predictions, --html and --plots files if they exist.")
@picture_options
@titles_option
@options.ranking_options
@options.device_option
@options.threads_option
@options.duplicates_option
@options.column_options
@options.weight_option
@options.report_options
@options.quiet_option
def evaluate(run: Place, test: str, predictions: Place | None, force: bool, quiet: bool, **given: Any) -> None:
    """Report the error of the model in the directory RUN, and of its baselines, on a table of ratings.

    Every row is scored. If the model was not trained on the user or the item of a row, the row gets a fallback
    prediction; the report says how many rows do. If the model was trained on some of the pairs, the report says so and
    does not call their error held-out.
    """
    from recsys_mf import evaluation, loaders, store
    from recsys_mf.evaluation import rendering
    from recsys_mf.evaluation.full_ranking import check_arguments
    from recsys_mf.evaluation.predictions import check_predictions, predict_rows, write_predictions

    if predictions is not None:
        check_predictions(predictions, force=force, held_out=True)
    elif force and given["html"] is None and given["plots"] is None:
        fix = "leave --force out, or give --predictions, --html or --plots"
        raise ConfigError("there is no output file to replace", where="--force", fix=fix)
    pictures = PictureFiles(given.pop("html"), given.pop("plots"), force, given.pop("titles"))
    pictures.check(predictions)
    printing = {name: given.pop(name) for name in ("as_json", "markdown")}
    n, relevant = (given.pop(name) for name in ("ranking", "relevant"))
    check_arguments(n, relevant)
    ranking = None if n is None else evaluation.Top(n, relevant)
    place = {name: given.pop(name) for name in ("device", "threads")}
    loaded = store.load(run)
    table = loaders.read_ratings(test, like=loaded, **options.choose_reading_beside([loaded], given))
    report = evaluation.evaluate(loaded, table, held_out=f"the pairs of {test}", ranking=ranking, **place)
    if predictions is not None:
        write_predictions(predict_rows(loaded, table, **place), predictions, force=force)
    pictures.write(name_items(report, pictures.titles))
    options.print_report(report, rendering, **printing)
