#!/usr/bin/env python
"""Run every program that measures speed, one after another, and write their sections of BENCHMARKS.md.

    scripts/bench/speed.py --data DIR [--only curves,passes]

curves: error against seconds. passes: an epoch, an iteration, a sweep, compared with the peers'. stages: reading,
splitting, predicting, and the kernels compared with the limits of the machine. scale: whole commands from 100,000 to
100 million ratings. It takes an hour; nothing else should run on the machine.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

PROGRAMS = {"curves": True, "passes": True, "stages": False, "scale": False}  # name: whether it needs the data


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with ml-1m.parquet.")
@click.option("--only", default=",".join(PROGRAMS), show_default=True)
def main(data: Path, only: str) -> None:
    """Run the programs one after another; stop at the first that fails."""
    for name in only.split(","):
        if name not in PROGRAMS:
            raise click.BadParameter(f"'{name}' is not one of {', '.join(PROGRAMS)}")
        program = [sys.executable, str(Path(__file__).parent / f"{name}.py")]
        subprocess.run([*program, *(["--data", str(data)] if PROGRAMS[name] else [])], check=True)


if __name__ == "__main__":
    main()
