#!/usr/bin/env python
"""How the time and memory of `recsys-mf train` grow with the table, from 100,000 to 100 million ratings.

    scripts/bench/scale.py [--only ml-1m,ml-25m]

Every row is a whole command on a generated table, measured from outside. The files take 2 GB in the temporary folder.
Writes a section of BENCHMARKS.md, or with `--only` prints it. Needs no data and no peers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import document
import environments
import process

MAKE_SAMPLE = environments.HERE.parent / "make_sample.py"
THREADS = 2
RUNS: Sequence[tuple[str, Sequence[str]]] = (
    ("ml-100k", ()),
    ("ml-1m", ()),
    ("ml-25m", ()),
    ("ml-25m", ("--memory", "512MiB")),
    ("netflix", ()),
)


@click.command()
@click.option("--only", default="", metavar="TABLE,…", help="Only these tables; the section is printed, not written.")
def main(only: str) -> None:
    """Make the tables and train on them."""
    wanted = only.split(",") if only else [table for table, _ in RUNS]
    rows: list[list[str]] = []
    smallest: int | None = None
    with tempfile.TemporaryDirectory() as folder:
        for table, options in RUNS:
            if table in wanted:
                row, peak = _row(table, options, Path(folder), smallest)
                smallest = smallest or peak
                rows.append(row)
                print(" | ".join(rows[-1]), file=sys.stderr)
    header = ("command: `recsys-mf train …`", "ratings", "process s", "µs per rating", "peak GiB", "bytes per rating",
              "sgd fit s", "M updates/s", "RMSE sgd", "RMSE svd bias")  # fmt: skip
    note = (
        f"{document.machine()}; threads: {THREADS}. Whole commands: reading, holding out a tenth, fitting the six "
        "baselines and choosing their ranks, choosing the epochs of `sgd` (rank 64, six runs), fitting everything "
        "again, and the report. *bytes per rating*: peak memory above that of the smallest table, divided by the "
        "number of ratings."
    )
    text = f"{note}\n\n{document.table(header, rows)}"
    if only:
        print(text)
    else:
        document.write_section(environments.ROOT / "BENCHMARKS.md", "scale", text)


def _row(table: str, options: Sequence[str], folder: Path, smallest: int | None) -> tuple[list[str], int]:
    """The cells of a run and its peak memory; smallest : the peak memory of the first run."""
    path = folder / f"{table}.parquet"
    if not path.exists():
        subprocess.run([sys.executable, str(MAKE_SAMPLE), "--like", table, "-o", str(path)], check=True)
    target = folder / "run"
    command = [str(Path(sys.executable).parent / "recsys-mf"), "train", str(path), "-o", str(target), "--force"]
    ended = process.run([*command, "--quiet", *options], threads=THREADS, limit=7200)
    if ended.code:
        raise click.ClickException(f"{table}: {ended.said}")
    report = json.loads((target / "report.json").read_text())
    n = report["train_ratings"] + report["held_out"]["n_pairs"]
    sgd, svd = (next(row for row in report["rows"] if row["label"] == label) for label in ("sgd", "svd bias"))
    grown = ended.peak_memory - (smallest or ended.peak_memory)
    cells = [
        " ".join([f"{table}.parquet", *options]),
        f"{n:,}",
        f"{ended.seconds:.1f}",
        f"{ended.seconds / n * 1e6:.1f}",
        f"{ended.peak_memory / 2**30:.2f}",
        f"{grown / n:.0f}" if grown > 0 else "",
        f"{sgd['fit_seconds']:.1f}",
        f"{sgd['ratings_per_second'] / 1e6:.0f}",
        f"{sgd['scores']['rmse']['value']:.4f}",
        f"{svd['scores']['rmse']['value']:.4f}",
    ]
    return cells, ended.peak_memory


if __name__ == "__main__":
    main()
