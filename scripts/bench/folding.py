#!/usr/bin/env python
"""Compare users that are folded in with a new training on the same ratings; write the table into BENCHMARKS.md.

    scripts/bench/folding.py --data DIR [--solvers sgd,als,gibbs] [--table ml-1m]

A tenth of the users is left out of training. A tenth of their ratings is the test part; 5, 20 and 90 % of their ratings
are given, once to `fold_in` and once, with the ratings of all other users, to a new training. The users are also
removed from the new run and folded into it: its items know their ratings, so what is left of the difference is due to
the rows. Times are not used. With options other than the defaults the section is printed and not written.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click
import document
import environments
import numpy as np

from recsys_mf import Ratings, read_ratings, train
from recsys_mf.errors import RecsysWarning
from recsys_mf.prediction import predict
from recsys_mf.run import Run

SHARES, SOLVERS, TABLE = (0.05, 0.2, 0.9), "sgd,als,gibbs", "ml-1m"
_LEFT_OUT = _TESTED = 0.1


class Row(NamedTuple):
    """Errors on the same test ratings, and milliseconds per user of one call that folds all of them in."""

    solver: str
    share: float
    n_users: int
    folded: float
    trained: float
    folded_again: float
    milliseconds: float


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the tables.")
@click.option("--table", default=TABLE, show_default=True)
@click.option("--solvers", default=SOLVERS, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the users that are left out and of their ratings.")
def main(data: Path, table: str, solvers: str, seed: int) -> None:
    """Run every solver."""
    warnings.simplefilter("ignore", RecsysWarning)
    ratings = replace(read_ratings(data / f"{table}.parquet"), times=None)
    rows = [row for solver in solvers.split(",") for row in compare(ratings, solver, seed)]
    section = f"{_markdown(rows)}\n\n{table}, seed {seed}; {document.machine()}"
    if (table, solvers, seed) == (TABLE, SOLVERS, 0):
        document.write_section(environments.ROOT / "BENCHMARKS.md", "folding", section)
    else:
        print(section)


def compare(ratings: Ratings, solver: str, seed: int) -> list[Row]:
    """The rows of a solver."""
    rng = np.random.default_rng(seed)
    is_out = (rng.random(ratings.n_users) < _LEFT_OUT)[ratings.users]
    draw = rng.random(len(ratings))
    test = ratings.select(is_out & (draw < _TESTED))
    run = train(ratings.select(~is_out).restricted(), solver)
    rows = []
    for share in SHARES:
        is_given = is_out & (draw >= _TESTED) & (draw < _TESTED + share)
        given = ratings.select(is_given).restricted()
        start = time.perf_counter()
        folded = run.fold_in(given)
        seconds = time.perf_counter() - start
        trained = train(ratings.select(~is_out | is_given).restricted(), solver)
        folded_again = trained.forget(given.user_vocabulary.entries).fold_in(given)
        first, second, third = (error(of, test) for of in (folded, trained, folded_again))
        rows.append(Row(solver, share, given.n_users, first, second, third, 1e3 * seconds / given.n_users))
        print(rows[-1], file=sys.stderr)
    return rows


def error(run: Run, test: Ratings) -> float:
    """RMSE of a run on a table."""
    pairs = test.reindexed(run.user_vocabulary, run.item_vocabulary)
    values = predict(run.model, pairs.users, pairs.items).values.astype(np.float64)
    return float(np.sqrt(np.mean((values - pairs.values) ** 2)))


def _markdown(rows: list[Row]) -> str:
    header = (
        "solver", "ratings given", "users", "folded in", "trained again", "difference", "folded into that",
        "ms per user",
    )  # fmt: skip
    cells = [
        (
            row.solver, f"{row.share:.0%}", f"{row.n_users}", f"{row.folded:.4f}", f"{row.trained:.4f}",
            f"{row.folded - row.trained:+.4f}", f"{row.folded_again:.4f}", f"{row.milliseconds:.2f}",
        )
        for row in rows
    ]  # fmt: skip
    return document.table(header, cells)


if __name__ == "__main__":
    main()
