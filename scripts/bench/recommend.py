#!/usr/bin/env python
"""Time the lists of the ten best items of all users, compared with a bare matrix product and with implicit.

    scripts/bench/recommend.py [--turns 3] [--threads 2,1] [--users 162541] [--items 59047] [--rank 64]

Random factors and biases in the shape of MovieLens 25M; about 150 rated items per user are left out. The systems take
turns, each in a process of its own. `product` computes all scores with OpenBLAS and does nothing with them. Writes a
section of BENCHMARKS.md, or prints it if an option is not the default. Needs no data.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import click
import document
import environments
import numpy as np
import running
from lists import Tables
from systems import System

TURNS, THREADS, SHAPE, RATED, TOP = 3, "2,1", (162_541, 59_047, 64), 150, 10
SYSTEMS = {
    "ours": System("ours", "recsys-mf", "ours", "", {}),
    "product": System("product", "product", "product", "", {}),
    "implicit": System("implicit", "implicit", "implicit", "implicit", {}),
}


@click.command()
@click.option("--turns", default=TURNS, show_default=True, help="Measurements of every system.")
@click.option("--threads", default=THREADS, show_default=True, help="Numbers of threads, one after another.")
@click.option("--users", default=SHAPE[0], show_default=True)
@click.option("--items", default=SHAPE[1], show_default=True)
@click.option("--rank", default=SHAPE[2], show_default=True)
@click.option("--environments", "folder", default=environments.DEFAULT, type=click.Path(path_type=Path),
              help="Where the peers' environments are; they are made if missing.  [default: .bench]")  # fmt: skip
def main(turns: int, threads: str, users: int, items: int, rank: int, folder: Path) -> None:
    """Time every system with every number of threads."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        write_tables(Path(place), users, items, rank)
        for count in map(int, threads.split(",")):
            taken: dict[str, list[Mapping[str, float]]] = {name: [] for name in SYSTEMS}
            for _ in range(turns):
                for name in SYSTEMS:
                    taken[name].append(_measure(name, Path(place), folder, count))
            rows += [_row(f"{count}", taken, "seconds"), _row(f"{count}, processor", taken, "processor_seconds")]
        agreement = _agreement(Path(place))
    peer = environments.peers()["implicit"].package
    note = (
        f"{document.machine()}; {users:,} users, {items:,} items, rank {rank}, top {TOP}; medians of {turns} turns; a "
        "ratio is the median over the turns. *processor*: CPU seconds of all cores. "
        f"{peer} takes the bias as one more factor; {agreement:.3%} of the entries of its lists are the same as ours."
    )
    text = f"{note}\n\n{_table(rows)}"
    if (turns, threads, (users, items, rank)) == (TURNS, THREADS, SHAPE):
        document.write_section(environments.ROOT / "BENCHMARKS.md", "recommend", text)
    else:
        print(text)


def write_tables(place: Path, users: int, items: int, rank: int) -> None:
    """Write random factors, biases and rated items as `lists.Tables`."""
    rng = np.random.default_rng(0)
    P, Q = (0.3 * rng.standard_normal((size, rank), np.float32) for size in (users, items))
    b_u, b_i = (0.4 * rng.standard_normal(size, np.float32) for size in (users, items))
    chosen = np.sort(rng.integers(items, size=(users, min(RATED, items)), dtype=np.int32), axis=1)
    is_new = np.diff(chosen, axis=1, prepend=np.int32(-1)) > 0
    starts = np.concatenate([[0], np.cumsum(is_new.sum(1))])
    for name, array in zip(Tables._fields, (P, b_u, Q, b_i, starts, chosen[is_new]), strict=True):
        np.save(place / f"{name}.npy", array)


def _measure(name: str, place: Path, folder: Path, threads: int) -> Mapping[str, float]:
    """The seconds of one system, on the clock and of all cores."""
    outcome = running.trial(
        SYSTEMS[name], {"top": TOP}, place, folder, threads=threads, limit=3600, adapter="lists.py"
    )  # fmt: skip
    if outcome.failure:
        raise click.ClickException(f"{name}: {outcome.failure}")
    print(f"{threads} threads: {name} {outcome.figures['seconds']:.2f} s", file=sys.stderr)
    return outcome.figures


def _agreement(place: Path) -> float:
    """Share of the entries of the lists that two systems have in the same place: sums are rounded differently."""
    ours, theirs = (np.load(place / f"lists-{name}.npy") for name in ("ours", "implicit"))
    return float((ours == theirs).mean())


def _row(label: str, taken: Mapping[str, Sequence[Mapping[str, float]]], measure: str) -> list[str]:
    seconds = {name: [figures[measure] for figures in turns] for name, turns in taken.items()}
    ratios = [
        median(b / a for a, b in zip(seconds[first], seconds[second], strict=True))
        for first, second in (("product", "ours"), ("ours", "implicit"))
    ]
    times = [f"{median(of_system):.1f}" for of_system in seconds.values()]
    return [label, *times, *(f"{ratio:.2f}×" for ratio in ratios)]


def _table(rows: list[list[str]]) -> str:
    header = ("threads", "recsys-mf s", "product s", "implicit s", "ours / product", "implicit / ours")
    return document.table(header, rows)


if __name__ == "__main__":
    main()
