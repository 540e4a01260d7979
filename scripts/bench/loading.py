#!/usr/bin/env python
"""Time what comes after a training: loading its run, and the page of its report; write the table into BENCHMARKS.md.

    scripts/bench/loading.py --data DIR [--runs ml-1m:sgd,ml-1m:gibbs] [--turns 5]

A run is loaded in a new process each time, after the package is imported. For comparison, the table has the seconds
that one thread takes to compute the digests of the same files. With options other than the defaults the section is
printed and not written.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import click
import document
import environments

from recsys_mf import evaluate, hold_out, read_ratings, save, train
from recsys_mf.splits import Split

RUNS, TURNS = "ml-1m:sgd,ml-1m:gibbs", 5
_LOAD = """
import sys, time
from recsys_mf import load
start = time.perf_counter()
load(sys.argv[1])
print(time.perf_counter() - start)
"""


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the tables.")
@click.option("--runs", default=RUNS, show_default=True, help="Tables and solvers.")
@click.option("--turns", default=TURNS, show_default=True, help="Processes that load a run.")
def main(data: Path, runs: str, turns: int) -> None:
    """Train, save and time every run."""
    header = ("run", "MiB", "train s", "load s", "digests s", "page s")
    rows = []
    for table, solver in (run.split(":") for run in runs.split(",")):
        split = hold_out(read_ratings(data / f"{table}.parquet"), 0.1, seed=0)
        rows.append((f"{table}, {solver}", *measure(split, solver, turns)))
    section = f"{document.machine()}; medians of {turns} turns.\n\n{document.table(header, rows)}"
    if (runs, turns) == (RUNS, TURNS):
        document.write_section(environments.ROOT / "BENCHMARKS.md", "loading", section)
    else:
        print(section)


def measure(split: Split, solver: str, turns: int) -> tuple[str, ...]:
    """Mebibytes of the run, and seconds of the training, a load, the digests and the page."""
    assert split.test_as_read is not None
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = train(split, solver)
        trained = time.perf_counter() - start
        report = evaluate(run, split.test_as_read)
        start = time.perf_counter()
        report.save_html(Path(folder) / "report.html")
        page = time.perf_counter() - start
        where = Path(folder) / "run"
        save(run, where, report=report)
        files = [path for path in where.iterdir() if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 2**20
        loaded, digested = [], []
        for _ in range(turns):
            command = [sys.executable, "-c", _LOAD, str(where)]
            loaded.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            start = time.perf_counter()
            for path in files:
                hashlib.sha256(path.read_bytes()).digest()
            digested.append(time.perf_counter() - start)
    seconds = trained, median(loaded), median(digested), page
    return (f"{size:.1f}", *(f"{value:.2f}" for value in seconds))


if __name__ == "__main__":
    main()
