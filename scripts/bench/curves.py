#!/usr/bin/env python
"""Plot held-out error against the seconds of the fit for all systems; writes into BENCHMARKS.md and docs.

    scripts/bench/curves.py --data DIR [--sets u1,ml-1m] [--only NAME,...] [--turns 3] [--environments DIR]

The systems take turns; ours uses another seed in every turn. A point is the median of the seconds and of the RMSE over
the turns. The samplers and SVD++, which take minutes on MovieLens 1M, have one turn there.
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
from curve import PASSES
from systems import CHOSEN, PEERS, System

SETS, TURNS, THREADS = "u1,ml-1m", 3, 2
LIMIT, SHORT_LIMIT = 3600, 600  # seconds
TITLES = {"u1": "MovieLens 100K, the published split u1", "ml-1m": "MovieLens 1M, 10 % held out at random, seed 0"}
PLOTS = {"u1": Path("docs") / "rmse-against-seconds-u1.svg", "ml-1m": Path("docs") / "rmse-against-seconds.svg"}
MARKS = {"u1": (1.0, 0.95, 0.92, 0.91, 0.9, 0.89, 0.885, 0.88), "ml-1m": (0.9, 0.87, 0.85, 0.84, 0.83, 0.82, 0.815)}
LENGTHS = (1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 60, 100)
Points = list[list[float]]


@dataclass(frozen=True)
class Line:
    """A system with its settings on a table, and the numbers of passes after which its error is measured.

    is_long : whether it has one turn on MovieLens 1M
    """

    system: System
    settings: Mapping[str, Any]
    lengths: Sequence[int] = ()
    is_long: bool = False

    @property
    def label(self) -> str:
        """Of the system."""
        return self.system.label


def _ours(method: str, *, is_long: bool = False, **settings: Any) -> Line:
    shown = "".join(f" -p {key}={value}" for key, value in settings.items())
    texts = {key: str(value) for key, value in settings.items()}
    return Line(System(method + shown, f"recsys-mf {method}{shown}", method, "", {}), texts, (), is_long)


OURS = (
    _ours("sgd", members=1, noise="common"),
    _ours("sgd", members=1),
    _ours("sgd"),
    _ours("als", members=1),
    _ours("als"),
    _ours("gibbs", is_long=True, links="none"),
    _ours("gibbs", is_long=True, likelihood="gaussian"),
    _ours("gibbs", is_long=True),
)
SAMPLERS = ("smurff", "myfm", "myfm-sets-ordinal")


def lines(table: str) -> list[Line]:
    """What is compared on a table: ours first; the peers with the settings of the tables of accuracy."""
    found = list(OURS)
    for name, passes in PASSES.items():
        most = CHOSEN[table][name][passes]
        lengths = [n for n in LENGTHS if n < most] + [most]
        found.append(Line(PEERS[name], CHOSEN[table][name], lengths, name == "surprise-svdpp"))
    found += [Line(PEERS[name], CHOSEN[table][name], (), True) for name in SAMPLERS]
    return found


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with the tables.")
@click.option("--sets", default=SETS, show_default=True)
@click.option("--only", help="Names of systems, with a comma between them; then the section is printed, not written.")
@click.option("--turns", default=TURNS, show_default=True)
@click.option("--environments", "folder", default=environments.DEFAULT, type=click.Path(path_type=Path),
              help="Where the peers' environments are; they are made if missing.  [default: .bench]")  # fmt: skip
def main(data: Path, sets: str, only: str | None, turns: int, folder: Path) -> None:
    """Fit the systems in turns."""
    for name in sets.split(","):
        chosen = [line for line in lines(name) if only is None or line.system.name in only.split(",")]
        curves = _measure(name, chosen, data, turns, folder)
        if only is None and turns == TURNS:
            _plot(curves, PLOTS[name], TITLES[name], folder)
            document.write_section(
                environments.ROOT / "BENCHMARKS.md", f"curves-{name}", _markdown(name, curves, turns)
            )
        else:
            print(_markdown(name, curves, turns))


def _measure(name: str, chosen: Sequence[Line], data: Path, turns: int, folder: Path) -> dict[str, Points]:
    """The points of every system by its label, medians of its turns."""
    found: dict[str, list[Points]] = {line.label: [] for line in chosen}
    with tempfile.TemporaryDirectory() as tables:
        running.write_tables(name, data, Path(tables))
        for turn in range(turns):
            for line in chosen:
                if turn and line.is_long and name == "ml-1m":
                    continue
                points = _points(line, turn, Path(tables), folder)
                print(f"{name}, {line.label}: {points[-1][1]:.4f} after {points[-1][0]:.2f} s", file=sys.stderr)
                found[line.label].append(points)
    return {label: _median(runs) for label, runs in found.items()}


def _points(line: Line, seed: int, tables: Path, folder: Path) -> Points:
    options = {"settings": dict(line.settings), "lengths": list(line.lengths), "seed": seed}
    for limit in (LIMIT if line.is_long else SHORT_LIMIT, LIMIT):  # again, since LIBMF's threads sometimes wait forever
        outcome = running.trial(
            line.system, options, tables, folder, threads=THREADS, limit=limit, adapter="curve.py"
        )  # fmt: skip
        if not outcome.failure:
            break
    if outcome.failure:
        raise click.ClickException(f"{line.label}: {outcome.failure}")
    points: Points = outcome.figures["points"]
    return points


def _median(runs: Sequence[Points]) -> Points:
    """Point by point, as far as all runs go."""
    length = min(map(len, runs))
    medians: Points = np.median([points[:length] for points in runs], axis=0).tolist()
    return medians


def _plot(curves: Mapping[str, Points], plot: Path, title: str, folder: Path) -> None:
    target = environments.ROOT / plot
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        given = Path(place) / "curves.json"
        given.write_text(json.dumps({"title": title, "curves": curves}))
        python = environments.python("plot", folder)
        subprocess.run([python, str(Path(__file__).parent / "plot.py"), str(given), str(target)], check=True)


def _markdown(name: str, curves: Mapping[str, Points], turns: int) -> str:
    """The seconds that each system needs to reach an error, its last point, and where a peer was better than ours."""
    marks = MARKS[name]
    rows = [
        [label, *(_reached(points, mark) for mark in marks), f"{points[-1][1]:.4f}", f"{points[-1][0]:.2f}"]
        for label, points in curves.items()
    ]
    header = ["system", *(f"s to {mark:g}" for mark in marks), "last RMSE", "after s"]
    note = (
        f"{document.machine()}; threads: {THREADS}. Seconds of the fit, set-up included, measuring left out; "
        f"medians of {turns} turns, on MovieLens 1M one for the samplers and SVD++. The peers have the settings of the "
        "tables of accuracy, ours what it chose on validation rows before the clock starts."
    )
    image = f"![Held-out RMSE against seconds, {TITLES[name]}]({PLOTS[name]})"
    return f"### {TITLES[name]}\n\n{image}\n\n{note}\n\n{document.table(header, rows)}\n\n{_lead(curves)}"


def _reached(points: Points, error: float) -> str:
    return next((f"{seconds:.2f}" for seconds, rmse in points if rmse <= error), "")


def _lead(curves: Mapping[str, Points]) -> str:
    """In words, where a peer had a lower error than any of ours in the same time."""
    ours = sorted(tuple(point) for label, points in curves.items() if _is_ours(label) for point in points)
    times, lowest = np.array([t for t, _ in ours]), np.minimum.accumulate([rmse for _, rmse in ours])
    behind, n = [], 0
    for label, points in curves.items():
        if _is_ours(label):
            continue
        n += len(points)
        places = np.searchsorted(times, [seconds for seconds, _ in points], side="right") - 1
        gaps = [
            (seconds, lowest[place] - rmse if place >= 0 else np.inf)
            for (seconds, rmse), place in zip(points, places, strict=True)
            if place < 0 or lowest[place] > rmse
        ]
        if gaps:
            most = max(gap for _, gap in gaps)
            by = "before the first of ours" if np.isinf(most) else f"by at most {most:.4f}"
            behind.append(f"{label} at {len(gaps)} from {gaps[0][0]:.2f} to {gaps[-1][0]:.2f} s, {by}")
    if not behind:
        return (
            f"At each of the {n} points of the peers one of ours had as low an error or a lower one in the same time."
        )
    return f"Of the {n} points of the peers these have a lower error than any of ours by then: {'; '.join(behind)}."


def _is_ours(label: str) -> bool:
    return label.startswith("recsys-mf")


if __name__ == "__main__":
    main()
