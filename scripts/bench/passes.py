#!/usr/bin/env python
"""Time one pass of our solvers and of their peers, and write the tables into BENCHMARKS.md.

    scripts/bench/passes.py --data DIR [--contests sgd,als] [--turns 3] [--environments DIR]

A pass is an epoch of SGD, an iteration of ALS over users and items, a sweep of a Gibbs sampler. The systems take turns.
The seconds of a pass are the difference between a longer and a shorter run, divided by the difference in passes, so
set-up and compilation do not count. With another number of turns or threads the tables are printed and not written.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import click
import document
import environments
import running
from systems import System

TURNS, THREADS = 3, 2


@dataclass(frozen=True)
class Entrant:
    """A system that is timed, and the numbers of passes of its two runs."""

    system: System
    short: int
    long: int
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contest:
    """Entrants, ours first, on these tables at these ranks.

    unit : of the rates in the table; note : what holds for all entrants
    """

    tables: Sequence[str]
    ranks: Sequence[int]
    unit: str
    note: str
    entrants: Sequence[Entrant]


def _entrant(label: str, method: str, short: int, long: int, environment: str = "", **settings: Any) -> Entrant:
    return Entrant(System(method, label, method, environment, {}), short, long, settings)


CONTESTS = {
    "sgd": Contest(
        ("ml-1m", "ml-25m"), (32, 64, 128), "M updates/s", "An update processes one rating.",
        (
            _entrant("recsys-mf sgd", "sgd", 4, 24),
            _entrant("LIBMF", "libmf", 4, 24, "libmf"),
        ),
    ),
    "als": Contest(
        ("ml-1m",), (32, 64, 128), "iterations/s",
        "An iteration solves all users, then all items. CG: 3 steps of conjugate gradients per row, which is also our "
        "default. implicit fits a different model (for implicit feedback), at the same cost per rating.",
        (
            _entrant("recsys-mf als", "als", 3, 23),
            _entrant("recsys-mf als, exact", "als", 3, 13, cg_steps=0),
            _entrant("cmfrec CG", "cmfrec", 3, 13, "cmfrec", use_cg=True),
            _entrant("cmfrec Cholesky", "cmfrec", 2, 5, "cmfrec", use_cg=False),
            _entrant("implicit CG", "implicit", 3, 13, "implicit", use_cg=True),
            _entrant("implicit Cholesky", "implicit", 2, 6, "implicit", use_cg=False),
        ),
    ),
    "gibbs": Contest(
        ("ml-1m",), (16, 32, 64), "sweeps/s",
        "Gaussian noise, no timestamps, no links. myfm samples on one thread.",
        (
            _entrant("recsys-mf gibbs", "gibbs", 3, 23),
            _entrant("smurff BPMF", "smurff", 3, 23, "smurff"),
            _entrant("myfm Gibbs", "myfm", 2, 8, "myfm"),
        ),
    ),
}  # fmt: skip

NAMES = {"ml-1m": "MovieLens 1M", "ml-25m": "a generated table of 25 million ratings with the shape of MovieLens 25M"}


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with ml-1m.parquet.")
@click.option("--contests", default=",".join(CONTESTS), show_default=True)
@click.option("--turns", default=TURNS, show_default=True, help="Measurements of every system at every rank.")
@click.option("--environments", "folder", default=environments.DEFAULT, type=click.Path(path_type=Path),
              help="Where the peers' environments are; they are made if missing.  [default: .bench]")  # fmt: skip
@click.option("--threads", default=THREADS, show_default=True, help="Threads of every system that can use several.")
def main(data: Path, contests: str, turns: int, folder: Path, threads: int) -> None:
    """Time every system at every rank."""
    for name in contests.split(","):
        contest = CONTESTS[name]
        parts = [_part(contest, table, data, folder, turns, threads) for table in contest.tables]
        note = f"{document.machine()}; threads: {threads}. 10 % of each table is held out. {contest.note} "
        text = f"{note}Medians of {turns} turns; a ratio is the median over the turns.\n\n" + "\n\n".join(parts)
        if (turns, threads) == (TURNS, THREADS):
            document.write_section(environments.ROOT / "BENCHMARKS.md", f"passes-{name}", text)
        else:
            print(text)


def _part(contest: Contest, table: str, data: Path, folder: Path, turns: int, threads: int) -> str:
    """The results on one table, as Markdown."""
    by_rank: dict[int, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as tables:
        n_ratings = running.write_tables(table, data, Path(tables))
        for rank in contest.ranks:
            by_rank[rank] = {entrant.system.label: [] for entrant in contest.entrants}
            for _ in range(turns):
                for entrant in contest.entrants:
                    seconds = _seconds(entrant, rank, Path(tables), folder, threads)
                    by_rank[rank][entrant.system.label].append(seconds)
    unit = n_ratings / 1e6 if "updates" in contest.unit else 1.0
    return f"{NAMES[table]}:\n\n{_markdown(contest, by_rank, unit)}"


def _seconds(entrant: Entrant, rank: int, tables: Path, folder: Path, threads: int) -> float:
    """Seconds of a pass, by one measurement."""
    options = {"rank": rank, "short": entrant.short, "long": entrant.long, "settings": dict(entrant.settings)}
    outcome = running.trial(
        entrant.system, options, tables, folder, threads=threads, limit=3600, adapter="clock.py"
    )  # fmt: skip
    if outcome.failure:
        raise click.ClickException(f"{entrant.system.label}: {outcome.failure}")
    seconds = float(outcome.figures["seconds_per_pass"])
    print(f"rank {rank}: {entrant.system.label} {seconds:.4f} s", file=sys.stderr)
    return seconds


def _markdown(contest: Contest, by_rank: Mapping[int, Mapping[str, list[float]]], unit: float) -> str:
    names = [entrant.system.label for entrant in contest.entrants]
    header = ["rank", *(f"{name}, {contest.unit}" for name in names), *(f"ours / {name}" for name in names[1:])]
    rows = []
    for rank, seconds in by_rank.items():
        rates = [unit / median(seconds[name]) for name in names]
        ratios = [median(b / a for a, b in zip(seconds[names[0]], seconds[name], strict=True)) for name in names[1:]]
        rows.append([str(rank), *(f"{rate:.4g}" for rate in rates), *(f"{ratio:.2f}×" for ratio in ratios)])
    return document.table(header, rows, left=())


if __name__ == "__main__":
    main()
