"""`recsys-mf fold-in` and `recsys-mf forget`: a run with new users or ratings, or without some users."""

from __future__ import annotations

from typing import Any

import click

from recsys_mf.cli import options
from recsys_mf.cli.places import OUTPUT, PLACE, TABLE
from recsys_mf.cli.replacing import WritingCommand
from recsys_mf.errors import printable
from recsys_mf.storage import Place


def _writing(command: Any) -> Any:
    command = click.option("--force", is_flag=True, help="Replace the run in the output directory.")(command)
    text = "Directory to write the new run to."
    return click.option("--output", "-o", required=True, type=OUTPUT, help=text)(command)


@click.command("fold-in", cls=WritingCommand)
@click.argument("run", type=PLACE)
@click.argument("ratings", metavar="RATINGS", type=TABLE)
@click.option("--side", type=click.Choice(["user", "item"]), default="user", show_default=True,
              help="Which rows are added and updated: users, the items fixed, or items, the users fixed.")  # fmt: skip
@_writing
@options.duplicates_option
@options.column_options
@options.quiet_option
def fold_in(run: Place, ratings: str, side: str, output: Place, force: bool, quiet: bool, **given: Any) -> None:
    """Add new users and new ratings to a run, without training.

    RUN is the directory of the run; RATINGS may hold new users and known ones. Each user with a rating in RATINGS
    gets the row that fits all of their ratings best while the items stay as they are. The items learn nothing from
    these ratings: train again, or with --from, from time to time.
    """
    from recsys_mf import loaders, store

    store.check_free(output, force=force)
    loaded = store.load(run)
    table = loaders.read_ratings(ratings, like=loaded, **options.choose_reading_beside([loaded], given))
    folded = loaded.fold_in(table, side=side)
    store.save(folded, output, force=force)
    facts = folded.provenance["continued"]
    counts = (f"{name} added: {facts['added'][name]:,}" for name in (f"{side}s", "ratings"))
    options.say(f"{printable(output)}: {', '.join(counts)}, ratings replaced: {facts['changed']['ratings']:,}")


@click.command(cls=WritingCommand)
@click.argument("run", type=PLACE)
@click.option(
    "--users", required=True, type=TABLE, metavar="IDS|FILE", help="Users to forget: ids such as 17,42, or a table."
)
@_writing
@options.quiet_option
def forget(run: Place, users: str, output: Place, force: bool, quiet: bool) -> None:
    """Write a run without some of its users.

    Their rows, their ids and their ratings are left out of the run in the directory RUN. If they took part in
    training, the factors of the items still reflect their ratings; to remove that too, train again without them.
    """
    from recsys_mf import store
    from recsys_mf.loaders.id_lists import read_ids

    store.check_free(output, force=force)
    loaded = store.load(run)
    ids = read_ids(users, "user", loaded.user_vocabulary, where="--users")
    store.save(loaded.forget(ids), output, force=force)
    options.say(f"{printable(output)}: users: {len(loaded.user_vocabulary) - len(ids):,}, forgotten: {len(ids):,}")
