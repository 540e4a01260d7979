#!/usr/bin/env python
"""Run our solvers and the peers on the same splits, and write the table of their errors into BENCHMARKS.md.

    scripts/bench/accuracy.py --data DIR [--sets u1,ml-1m] [--only gibbs,smurff] [--environments DIR]

DIR has ml-100k.u1.train.parquet, ml-100k.u1.test.parquet, ml-100k.parquet and ml-1m.parquet. Every system is fitted in
its own process, one after another. Every data set has its own section. With `--only`, the section is printed and not
written.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import document
import environments
import running
from systems import SETS, SYSTEMS, System


@dataclass(frozen=True)
class Conditions:
    """The conditions of all systems.

    data : folder of the tables; folder : of the environments; threads : of every system that can use several
    limit : seconds after which a system is stopped
    """

    data: Path
    folder: Path
    threads: int
    limit: float


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the tables.")
@click.option("--only", default="", metavar="NAME,…", help="Only these systems; the section is printed, not written.")
@click.option("--sets", default="", metavar="SET,…", help=f"Some of {', '.join(SETS)}; all by default.")
@click.option("--environments", "folder", default=environments.DEFAULT, type=click.Path(path_type=Path),
              help="Where the peers' environments are; they are made if missing.  [default: .bench]")  # fmt: skip
@click.option("--threads", default=2, show_default=True, help="Threads of every system that can use several.")
@click.option("--limit", default=3600.0, show_default=True, help="Seconds after which a system is stopped.")
def main(data: Path, only: str, sets: str, folder: Path, threads: int, limit: float) -> None:
    """Run every system on every set."""
    systems = [SYSTEMS[name] for name in _named(only, SYSTEMS)]
    conditions = Conditions(data, folder, threads, limit)
    for name in _named(sets, SETS):
        part = f"{_part(name, systems, conditions)}\n\n{_conditions(threads)}"
        if only:
            print(part)
        else:
            document.write_section(environments.ROOT / "BENCHMARKS.md", f"accuracy-{name}", part)


def _named(given: str, known: Mapping[str, System] | Sequence[str]) -> list[str]:
    names = [name for name in given.split(",") if name] or list(known)
    for name in names:
        if name not in known:
            raise click.BadParameter(f"'{name}' is not one of {', '.join(known)}")
    return names


def _part(table: str, systems: Sequence[System], conditions: Conditions) -> str:
    """The outcomes on one data set as Markdown."""
    with tempfile.TemporaryDirectory() as tables:
        running.write_tables(table, conditions.data, Path(tables))
        outcomes = [(system, _outcome(system, table, Path(tables), conditions)) for system in systems]
    return _markdown(table, outcomes)


def _outcome(system: System, table: str, tables: Path, conditions: Conditions) -> running.Outcome:
    settings = system.settings[table]
    print(f"{table}: {system.name}", end=" ", flush=True, file=sys.stderr)
    runs = [{**settings, "rehearse": True}, settings] if not system.environment else [settings]
    for options in runs:
        outcome = running.trial(
            system, options, tables, conditions.folder, threads=conditions.threads, limit=conditions.limit
        )
    print(outcome.failure or f"{outcome.figures['rmse']:.4f}", file=sys.stderr)
    return outcome


def _markdown(table: str, outcomes: Sequence[tuple[System, running.Outcome]]) -> str:
    """A heading, the rows in order of RMSE, then those that failed, and the notes."""
    done = sorted((pair for pair in outcomes if pair[1].figures), key=lambda pair: pair[1].figures["rmse"])
    failed = [pair for pair in outcomes if not pair[1].figures]
    rows = [_row(system, outcome) for system, outcome in done]
    rows += [[system.label, "", "", "", "", "", outcome.failure.replace("|", "¦")] for system, outcome in failed]
    header = ("system", "RMSE", "MAE", "fit s", "process s", "peak MiB", "settings")
    return "\n\n".join([_heading(table, done), document.table(header, rows, left=(0, 6)), *_notes(done)])


def _row(system: System, outcome: running.Outcome) -> list[str]:
    figures = outcome.figures
    shown = ", ".join(f"{key} {value}" for key, value in figures["settings"].items())
    return [
        system.label,
        f"{figures['rmse']:.4f}",
        f"{figures['mae']:.4f}",
        f"{figures['fit_seconds']:.2f}",
        f"{outcome.seconds:.1f}",
        f"{outcome.peak_memory / 2**20:.0f}",
        shown,
    ]


_TITLES = {
    "u1": "MovieLens 100K, the published split u1",
    "ml-100k": "MovieLens 100K, 10 % held out at random, seed 0",
    "ml-1m": "MovieLens 1M, 10 % held out at random, seed 0",
}


def _heading(table: str, done: Sequence[tuple[System, running.Outcome]]) -> str:
    if not done:
        return f"### {_TITLES[table]}"
    figures = done[0][1].figures
    return (
        f"### {_TITLES[table]}\n\n{figures['n_train']:,} training ratings, {figures['n_test']:,} test ratings, "
        f"{figures['unknown_share']:.2%} of them with an id that is not in the training rows."
    )


def _notes(done: Sequence[tuple[System, running.Outcome]]) -> list[str]:
    filled = [
        f"{system.label} {outcome.figures['filled_share']:.2%}"
        for system, outcome in done
        if outcome.figures["filled_share"]
    ]
    return [f"Test pairs without a prediction, replaced by the training mean: {', '.join(filled)}."] if filled else []


def _conditions(threads: int) -> str:
    return f"{document.machine()}; threads of every system that can use several: {threads}; CPU only."


if __name__ == "__main__":
    main()
