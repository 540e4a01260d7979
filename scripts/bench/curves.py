#!/usr/bin/env python
"""Plot held-out error against wall time for SGD systems on MovieLens 1M; writes into BENCHMARKS.md and docs.

    scripts/bench/curves.py --data DIR [--turns 5] [--environments DIR]

The systems take turns; ours uses another seed in every turn. A point is the median of the seconds and of the RMSE over
the turns.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import document
import environments
import numpy as np
import running
from systems import CHOSEN, System

TABLE, TURNS, THREADS = "ml-1m", 5, 2
PLOT = Path("docs") / "rmse-against-seconds.svg"
LENGTHS = (1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 60)
Points = list[list[float]]


@dataclass(frozen=True)
class Line:
    """A system with its settings, and the numbers of passes after which its error is measured."""

    system: System
    settings: Mapping[str, Any]
    lengths: Sequence[int] = ()


def _peer(label: str, name: str, passes: str, **changed: Any) -> Line:
    settings = CHOSEN[TABLE][name] | changed
    most = settings.pop(passes)
    return Line(System(name, label, name, name, {}), settings, [n for n in LENGTHS if n <= most])


LINES = (
    Line(System("single", "recsys-mf sgd, one run, rank 64", "sgd", "", {}),
         {"members": 1, "regularisation": 0.045, "epochs": 36}),
    Line(System("committee", "recsys-mf sgd, a committee of 6 cut to rank 64", "sgd", "", {}), {"epochs": 28}),
    _peer("LIBMF, rank 64", "libmf", "nr_iters", k=64),
    _peer("LIBMF, rank 128", "libmf", "nr_iters"),
    _peer("cornac MF, rank 100", "cornac", "max_iter"),
)  # fmt: skip


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with ml-1m.parquet.")
@click.option("--turns", default=TURNS, show_default=True)
@click.option("--environments", "folder", default=environments.DEFAULT, type=click.Path(path_type=Path),
              help="Where the peers' environments are; they are made if missing.  [default: .bench]")  # fmt: skip
def main(data: Path, turns: int, folder: Path) -> None:
    """Fit the systems in turns."""
    found: dict[str, list[Points]] = {line.system.label: [] for line in LINES}
    with tempfile.TemporaryDirectory() as tables:
        running.write_tables(TABLE, data, Path(tables))
        for turn in range(turns):
            for line in LINES:
                found[line.system.label].append(_points(line, turn, Path(tables), folder))
    curves = {label: np.median(runs, axis=0).tolist() for label, runs in found.items()}
    if turns == TURNS:
        _plot(curves, folder)
        document.write_section(environments.ROOT / "BENCHMARKS.md", "curves", _markdown(curves))
    else:
        print(_markdown(curves))


def _points(line: Line, seed: int, tables: Path, folder: Path) -> Points:
    options = {"settings": dict(line.settings), "lengths": list(line.lengths), "seed": seed}
    outcome = running.trial(
        line.system, options, tables, folder, threads=THREADS, limit=3600, adapter="curve.py"
    )  # fmt: skip
    if outcome.failure:
        raise click.ClickException(f"{line.system.label}: {outcome.failure}")
    points: Points = outcome.figures["points"]
    print(f"{line.system.label}: {points[-1][1]:.4f} after {points[-1][0]:.2f} s", file=sys.stderr)
    return points


def _plot(curves: Mapping[str, Points], folder: Path) -> None:
    target = environments.ROOT / PLOT
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        given = Path(place) / "curves.json"
        given.write_text(json.dumps(curves))
        python = environments.python("plot", folder)
        subprocess.run([python, str(Path(__file__).parent / "plot.py"), str(given), str(target)], check=True)


def _markdown(curves: Mapping[str, Points]) -> str:
    """The seconds that each system needs to reach an error, and its last point."""
    errors = (0.90, 0.88, 0.86, 0.85, 0.845, 0.84, 0.838)
    rows = [
        [label, *(_reached(points, error) for error in errors), f"{points[-1][1]:.4f}", f"{points[-1][0]:.2f}"]
        for label, points in curves.items()
    ]
    header = ["system", *(f"s to {error:g}" for error in errors), "last RMSE", "after s"]
    note = (
        f"{document.machine()}; threads: {THREADS}. MovieLens 1M with 10 % held out (seed 0). Seconds of the fit, "
        f"including set-up; medians of {TURNS} turns. The peers have the settings of the table above."
    )
    return f"![Held-out RMSE against seconds]({PLOT})\n\n{note}\n\n{document.table(header, rows)}"


def _reached(points: Points, error: float) -> str:
    return next((f"{seconds:.2f}" for seconds, rmse in points if rmse <= error), "")


if __name__ == "__main__":
    main()
