"""`recsys-mf predict`: a prediction for every row of a file of pairs."""

from __future__ import annotations

from typing import Any

import click

from recsys_mf.cli import options
from recsys_mf.cli.places import OUTPUT, PLACE, TABLE
from recsys_mf.cli.replacing import WritingCommand
from recsys_mf.errors import printable
from recsys_mf.storage import Place


@click.command(cls=WritingCommand)
@click.argument("run", type=PLACE)
@click.argument("pairs", metavar="PAIRS", type=TABLE)
@click.option("--output", "-o", required=True, type=OUTPUT, help="File to write (.parquet, .csv or .tsv).")
@click.option("--force", is_flag=True, help="Replace the output file if it exists.")
@click.option("--user-column", metavar="NAME", help="Column with the user ids.  [default: recognised by its name]")
@click.option("--item-column", metavar="NAME", help="Column with the item ids.  [default: recognised by its name]")
@click.option("--time-column", metavar="NAME", help="Column with the times, for a model trained with times.")
@options.ids_option
@click.option(
    "--interval",
    type=float,
    metavar="P",
    help="Add columns lower and upper: the interval that contains the rating with probability P.",
)
@click.option(
    "--distribution", is_flag=True, help="Add a column per rating level with its probability (ordinal models only)."
)
@options.encoding_option
@options.device_option
@options.threads_option
@options.quiet_option
def predict(run: Place, pairs: str, output: Place, force: bool, quiet: bool, **given: Any) -> None:
    """Predict the rating of every (user, item) row of PAIRS with the model in the directory RUN.

    PAIRS is a table of any format that `train` reads. Its rows are written in the same order, with a column
    `prediction` and a column `known`, which says which ids the model was trained on: both, user, item or neither. The
    file may be larger than memory. A model that was trained with times reads a time column; without one it predicts
    for an average time.
    """
    from tqdm import tqdm

    from recsys_mf import store, streaming
    from recsys_mf.cli.progress import announce_compilation, is_silent

    announce_compilation(quiet=quiet)
    loaded = store.load(run)
    with tqdm(desc="predicting", unit=" pairs", unit_scale=True, disable=is_silent(quiet=quiet), leave=False) as bar:
        wanted = streaming.Wanted(
            **{name: given.pop(name) for name in ("interval", "distribution", "device", "threads")}
        )
        counts = streaming.predict_file(loaded, pairs, output, wanted, force=force, watch=bar.update, **given)
    total = sum(counts.values())
    known = {"both": "both", "item": "only the item", "user": "only the user", "neither": "neither"}
    shares = ", ".join(f"{counts[word]:,} {said}" for word, said in known.items())
    options.say(f"{printable(output)}: {total:,} predictions; ids known: {shares}")
