"""`recsys-mf recommend`: the best items of users; `explain`: why; `similar`: items or users that are alike."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import click

from recsys_mf.arguments import whole
from recsys_mf.cli import options
from recsys_mf.cli.columns import print_frame, print_table
from recsys_mf.cli.options import say
from recsys_mf.cli.places import OUTPUT, PLACE, TABLE
from recsys_mf.cli.replacing import WritingCommand
from recsys_mf.errors import ConfigError, FoldWarning, printable
from recsys_mf.storage import Place

if TYPE_CHECKING:
    import pyarrow as pa

    from recsys_mf.ratings import Ratings
    from recsys_mf.run import Run

_MAX_PRINTED = 1000  # rows


@click.command(cls=WritingCommand)
@click.argument("run", type=PLACE)
@click.option("--users", type=TABLE, metavar="IDS|FILE",
              help="Users to recommend for: ids such as 17,42, or a table of user ids.  "
              "[default: all users of the run]")  # fmt: skip
@click.option("--top", type=int, default=10, show_default=True, help="Number of items per user.")
@click.option("--titles", type=TABLE, metavar="FILE", help="Table with a row per item and a column title or name.")
@click.option("--exclude", type=TABLE, default="rated", show_default=True, metavar="rated|none|FILE",
              help="Items that are left out: those that the user rated in the training ratings; none; or also those in "
              "a table of pairs.")  # fmt: skip
@click.option(
    "--among", type=TABLE, metavar="IDS|FILE", help="Choose only from these items: ids such as 17,42, or a table."
)
@click.option("--ratings", type=TABLE, metavar="FILE", help="Table of ratings of new users, or new ratings of known "
              "ones, to fold in first; without --users the lists are for the users of this table.")  # fmt: skip
@click.option("--score", type=click.Choice(["mean", "lower", "draw"]), default="mean", show_default=True,
              help="What items are ordered by: the predicted rating; the lower end of its interval; or one sample of "
              "the posterior per user (Thompson sampling, gibbs only).")  # fmt: skip
@click.option(
    "--interval", type=float, metavar="P", help="Probability of the interval of --score lower.  [default: 0.8]"
)
@click.option("--seed", type=int, metavar="N", help="Seed of the samples of --score draw.  [default: 0]")
@click.option("--output", "-o", type=OUTPUT, help="File to write (.parquet, .csv or .tsv); "
              "without it the lists are printed.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the output file if it exists.")
@options.duplicates_option
@options.column_options
@options.device_option
@options.threads_option
@options.quiet_option
def recommend(run: Place, output: Place | None, force: bool, quiet: bool, **given: Any) -> None:
    """List the best items for users.

    RUN is the directory of the run. The search is exact: every item gets a score. Items are ordered by the predicted
    rating before it is clipped to the rating scale; those with equal scores by their ids. --duplicates, --ids,
    --encoding and the options that name columns say how the table of --ratings is read.
    """
    from recsys_mf import loaders, store
    from recsys_mf.cli.progress import announce_compilation, is_silent
    from recsys_mf.loaders.id_lists import read_ids
    from recsys_mf.loaders.writing import TABLES
    from recsys_mf.outputs import check_output
    from recsys_mf.serving import recommending
    from recsys_mf.serving.trained import FOLD_IN, find_known

    whole(given["top"], "--top", 1)
    if output is None and force:
        raise ConfigError("there is no output file to replace", where="--force", fix="leave it out, or give -o FILE")
    if output is None and given["users"] is None and given["ratings"] is None:
        fix = "give some with --users, or a file to write with -o"
        raise ConfigError("the lists of all users are too long to print", where="--users", fix=fix)
    score = _score(given)
    _check_reading(given)
    if output is not None:
        check_output(output, "output", TABLES, force=force)
    announce_compilation(quiet=quiet)
    loaded = store.load(run)
    users_of_ratings = None
    if given["ratings"] is not None:
        reading = options.choose_reading_beside([loaded], given)
        table = loaders.read_ratings(given["ratings"], like=loaded, **reading)
        loaded = loaded.fold_in(table)
        users_of_ratings = _with_rows(loaded, table)
    among = given["among"]
    wanted = recommending.ListOptions(
        n=given["top"],
        exclude=given["exclude"],
        among=None if among is None else read_ids(among, "item", loaded.item_vocabulary, where="--among"),
        titles=given["titles"],
        score=score,
        device=given["device"],
        threads=given["threads"],
    )
    recommender = recommending.Recommender(loaded, wanted)
    users = recommender.everyone
    if users_of_ratings is not None:
        users = find_known(loaded, users_of_ratings, "user")
    if given["users"] is not None:
        ids = read_ids(given["users"], "user", loaded.user_vocabulary, where="--users")
        users = find_known(loaded, ids, "user", where="--users", advice=FOLD_IN)
    if output is None:
        _print_lists(recommender, users)
        return
    from tqdm import tqdm

    with tqdm(desc="recommending", unit=" users", total=len(users), disable=is_silent(quiet=quiet), leave=False) as bar:
        rows = recommending.recommend_to_file(recommender, users, output, force=force, watch=bar.update)
    say(f"{printable(output)}: {rows:,} rows, up to {recommender.n:,} items for each of {len(users):,} users")


@click.command()
@click.argument("run", type=PLACE)
@click.argument("user")
@click.argument("item")
@click.option("--top", type=int, default=10, show_default=True, help="Number of ratings to show.")
@click.option("--titles", type=TABLE, metavar="FILE", help="Table with a row per item and a column title or name.")
@options.quiet_option
def explain(run: Place, user: str, item: str, top: int, titles: str | None, quiet: bool) -> None:
    """Show which ratings of a user move a prediction.

    RUN is the directory of the run. The effects add up to the prediction that is computed from the user's own
    ratings with the items fixed.
    """
    from recsys_mf import store
    from recsys_mf.loaders.id_lists import read_ids
    from recsys_mf.serving.trained import Side
    from recsys_mf.vocabulary import Vocabulary

    top = whole(top, "--top", 1)
    loaded = store.load(run)
    sides: tuple[tuple[Side, str, Vocabulary], ...] = (
        ("user", user, loaded.user_vocabulary),
        ("item", item, loaded.item_vocabulary),
    )
    ids = [read_ids(text, side, vocabulary, where=side.upper())[0].as_py() for side, text, vocabulary in sides]
    found = loaded.explain(*ids, titles=titles)
    options.say(
        f"prediction of the model: {found.prediction:.3f}\n"
        f"from the user's own ratings, with the items fixed: {found.folded:.3f}\n"
        f"  without any of them: {found.base:.3f}\n"
        f"  effect of all {len(found.ratings):,}: {found.folded - found.base:+.3f}"
    )
    print_frame(found.ratings.head(top))


@click.command()
@click.argument("run", type=PLACE)
@click.argument("ids", metavar="IDS", type=TABLE)
@click.option("--users", "of_users", is_flag=True, help="IDS are users, not items.")
@click.option("--top", type=int, default=10, show_default=True, help="Number of similar items (or users) per id.")
@click.option(
    "--titles", type=TABLE, metavar="FILE", help="Table with a row per item (or user) and a column title or name."
)
@options.quiet_option
def similar(run: Place, ids: str, of_users: bool, top: int, titles: str | None, quiet: bool) -> None:
    """List the items or users most similar to the given ones.

    RUN is the directory of the run. IDS are ids such as 17,42, or a table of ids. Similarity is the cosine of the
    factors, without the biases.
    """
    from recsys_mf import store
    from recsys_mf.cli.progress import announce_compilation
    from recsys_mf.loaders.id_lists import read_ids
    from recsys_mf.serving.trained import Side, vocabulary_of

    whole(top, "--top", 1)
    announce_compilation(quiet=quiet)
    loaded = store.load(run)
    side: Side = "user" if of_users else "item"
    column = read_ids(ids, side, vocabulary_of(loaded, side), where="IDS")
    print_frame(loaded.similar(column, top, side=side, titles=titles))


def _with_rows(run: Run, table: Ratings) -> pa.Array:
    """The user ids of a table that was folded in, but for users all of whose ratings are of unknown items."""
    import pyarrow as pa

    ids = table.user_vocabulary.entries
    has_row = run.user_vocabulary.indices(ids) >= 0
    if not has_row.all():
        message = (
            f"{int((~has_row).sum()):,} of {len(ids):,} users rated no item that the model knows: they get no list"
        )
        warnings.warn(message, FoldWarning, stacklevel=2)
    return ids.filter(pa.array(has_row))


def _check_reading(given: dict[str, Any]) -> None:
    """Raise ConfigError for an option of the table of ratings if there is none."""
    if given["ratings"] is None:
        for name in filter(options.is_given, options.READING):
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} has no effect without --ratings", fix="give --ratings too, or leave it out")


def _score(given: dict[str, Any]) -> Any:
    """The requested score. Raises ConfigError for an option of another score, and for a value out of range."""
    from recsys_mf.prediction import check_probability
    from recsys_mf.prediction.ranking import Draw, Lower

    name = given["score"]
    for option, owner in (("interval", "lower"), ("seed", "draw")):
        if given[option] is not None and name != owner:
            fix = f"leave it out, or give --score {owner}"
            raise ConfigError(f"--{option} has no effect with --score {name}", fix=fix)
    if name == "lower" and given["interval"] is not None:
        check_probability(given["interval"])
        return Lower(given["interval"])
    if given["seed"] is not None:
        whole(given["seed"], "--seed")
    return Draw(given["seed"]) if name == "draw" and given["seed"] is not None else name


def _print_lists(recommender: Any, users: Any) -> None:
    """Print the lists of the first users, and say how many users have none and how many are not shown."""
    import pyarrow as pa

    shown = users[: max(1, _MAX_PRINTED // min(recommender.n, _MAX_PRINTED))]
    lists = recommender.batch(shown)
    print_table(pa.table(lists))
    recommender.note_untitled()
    if recommender.without:
        say(f"no items are left for {recommender.without:,} of the users")
    if len(shown) < len(users):
        say(f"and {len(users) - len(shown):,} more users; give -o FILE to write all of them")
