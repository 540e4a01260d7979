#!/usr/bin/env python
"""Time a sweep of our Gibbs sampler against smurff and myfm on MovieLens 1M, and write it into BENCHMARKS.md.

    scripts/bench/sweeps.py --data DIR [--ranks 16,32,64] [--turns 3] [--environments DIR]

The samplers take turns. A sweep's seconds are those of a longer run less those of a shorter one over the difference in
sweeps, so that neither set-up nor compilation is in them. With other options than the defaults the table is printed
and not written.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
import document
import environments
import running
from systems import System

TABLE = "ml-1m"
RANKS, TURNS = "16,32,64", 3


@dataclass(frozen=True)
class Sampler:
    """What is timed, and at which numbers of sweeps."""

    system: System
    short: int
    long: int


SAMPLERS = (
    Sampler(System("gibbs", "recsys-mf gibbs", "gibbs", "", {}), 3, 23),
    Sampler(System("smurff", "smurff BPMF", "smurff", "smurff", {}), 3, 23),
    Sampler(System("myfm", "myfm Gibbs", "myfm", "myfm", {}), 2, 8),
)


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with ml-1m.parquet.")
@click.option("--ranks", default=RANKS, show_default=True)
@click.option("--turns", default=TURNS, show_default=True, help="Measurements of every sampler at every rank.")
@click.option("--environments", "folder", default=environments.DEFAULT, type=click.Path(path_type=Path),
              help="Where the peers' environments are or are made.  [default: .bench]")  # fmt: skip
@click.option("--threads", default=2, show_default=True, help="Threads of the samplers that have them.")
def main(data: Path, ranks: str, turns: int, folder: Path, threads: int) -> None:
    """Time every sampler at every rank."""
    by_rank: dict[int, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as tables:
        running.write_tables(TABLE, data, Path(tables))
        for rank in map(int, ranks.split(",")):
            by_rank[rank] = {sampler.system.label: [] for sampler in SAMPLERS}
            for _ in range(turns):
                for sampler in SAMPLERS:
                    seconds = _seconds(sampler, rank, Path(tables), folder, threads)
                    by_rank[rank][sampler.system.label].append(seconds)
    text = _markdown(by_rank, turns, threads)
    if (ranks, turns, threads) == (RANKS, TURNS, 2):
        document.write_section(environments.ROOT / "BENCHMARKS.md", "sweeps", text)
    else:
        print(text)


def _seconds(sampler: Sampler, rank: int, tables: Path, folder: Path, threads: int) -> float:
    """Of a sweep, by one measurement."""
    lengths = {"rank": rank, "short": sampler.short, "long": sampler.long}
    outcome = running.trial(
        sampler.system, lengths, tables, folder, threads=threads, limit=3600, adapter="clock.py"
    )  # fmt: skip
    if outcome.failure:
        raise click.ClickException(f"{sampler.system.label}: {outcome.failure}")
    seconds = float(outcome.figures["seconds_per_sweep"])
    print(f"rank {rank}: {sampler.system.label} {seconds:.3f} s", file=sys.stderr)
    return seconds


def _markdown(by_rank: Mapping[int, Mapping[str, list[float]]], turns: int, threads: int) -> str:
    names = [sampler.system.label for sampler in SAMPLERS]
    header = ["rank", *(f"{name}, sweeps/s" for name in names), *(f"ours / {name}" for name in names[1:])]
    rows = []
    for rank, seconds in by_rank.items():
        rates = [1 / median(seconds[name]) for name in names]
        ratios = [median(b / a for a, b in zip(seconds[names[0]], seconds[name], strict=True)) for name in names[1:]]
        rows.append([str(rank), *(f"{rate:.2f}" for rate in rates), *(f"{ratio:.2f}×" for ratio in ratios)])
    note = (
        f"{document.machine()}; threads: {threads} (myfm samples on one). MovieLens 1M less 10 %, Gaussian noise, no "
        f"timestamps, no links. Medians of {turns} turns; a ratio is the median of those of the turns."
    )
    return f"{note}\n\n{document.table(header, rows, left=())}"


if __name__ == "__main__":
    main()
