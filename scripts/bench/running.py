"""Running: one system on one split, in its own environment and its own process."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import environments
import process
from systems import System

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Outcome:
    """figures : `trial.Figures` as a mapping; empty if there are none, and `failure` then says why
    seconds, peak_memory : of the whole process, measured from outside
    """

    figures: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""
    seconds: float = 0.0
    peak_memory: int = 0


def write_tables(name: str, data: Path, folder: Path, *, validation: bool = False) -> int:
    """Write the tables of a data set, in a separate process; returns the number of training rows.

    Raises ClickException if they cannot be written.
    """
    import click

    command = [sys.executable, str(HERE / "tables.py"), name, str(data), str(folder)]
    ended = process.run(command + ["--validation"] * validation, threads=1, limit=600)
    if ended.code:
        raise click.ClickException(f"set '{name}' of {data}: {ended.said}")
    return int(ended.said)


def trial(
    system: System, settings: Mapping[str, Any], tables: Path, folder: Path, *, threads: int, limit: float,
    adapter: str = "",
) -> Outcome:  # fmt: skip
    """Run a system with these settings on tables in a folder; a failure is returned as an outcome.

    folder : where the environments of the peers are; limit : seconds after which the system is stopped
    adapter : the program to run; by default the one that measures accuracy
    """
    try:
        python = environments.python(system.environment, folder) if system.environment else Path(sys.executable)
    except environments.InstallError as error:
        return Outcome(failure=str(error))
    program = HERE / (adapter or ("peers.py" if system.environment else "ours.py"))
    with tempfile.TemporaryDirectory() as target:
        result = Path(target) / "figures.json"
        arguments = [system.method, str(tables), json.dumps(settings), str(threads), str(result)]
        ended = process.run([str(python), str(program), *arguments], threads=threads, limit=limit)
        if ended.code:
            return Outcome(failure=ended.said, seconds=ended.seconds, peak_memory=ended.peak_memory)
        figures = json.loads(result.read_text())
    return Outcome(figures, "", ended.seconds, ended.peak_memory)
