#!/usr/bin/env python
r"""Check and time everything that runs on a CUDA card, in under ten minutes. Run this first if you have a card.

    scripts/bench/gpu.py [--data DIR] [--budget 540] [--output DIR]
    scripts/bench/gpu.py --dry-run          # every part on the CPU, at tiny sizes, under Triton's interpreter
    scripts/bench/gpu.py --section FILE     # the section of BENCHMARKS.md from the gpu.json of an earlier run

The package is imported from the checkout if it is not installed. The parts run one after another, the most important
first. Each has its own process, so that the next part gets the card even if one fails or hangs. Only the checks of the
ranks run in parallel. Every row is printed and written to gpu.json and gpu.md as soon as it is measured. At the end
BENCHMARKS.md gets a section for the card, except after a dry run or if `--only` leaves out some parts.

If Nsight Compute is installed, it can count the bytes:
    ncu --target-processes all --clock-control none -k _epoch -c 2 --metrics dram__bytes.sum,lts__t_bytes.sum \
        scripts/bench/gpu.py --only profile
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import click
import document
import gpu_report
from gpu_session import Row, Session, Settings, in_a_line, limits_of

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

Task = tuple[str, Any]  # a part, and the argument of its function besides the session


@dataclass(frozen=True)
class Part:
    """Where the function of a part is, and the seconds after which it is stopped."""

    module: str
    function: str
    limit: float


PARTS = {
    "machine": Part("gpu_machine", "machine", 60),
    "checks": Part("gpu_checks", "checks", 120),
    "sgd": Part("gpu_kernels", "sgd", 170),
    "rows": Part("gpu_kernels", "rows", 100),
    "sweeps": Part("gpu_sweeps", "sweeps", 200),
    "accuracy": Part("gpu_sweeps", "accuracy", 80),
    "streams": Part("gpu_kernels", "streams", 40),
    "lists": Part("gpu_lists", "lists", 60),
    "svd": Part("gpu_sweeps", "svd", 40),
    "real": Part("gpu_sweeps", "real", 120),
    "profile": Part("gpu_kernels", "profile", 300),
}
DEFAULT = tuple(name for name in PARTS if name != "profile")


@dataclass
class Run:
    """The rows so far, and where they are written."""

    output: Path
    settings: Settings
    budget: float
    card: str
    began: float = field(default_factory=time.time)
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Print a row, and write all rows so far."""
        self.rows.append(row)
        shown = ", ".join(f"{name} {gpu_report.shown(name, value)}" for name, value in row.figures.items())
        click.echo(f"[{time.time() - self.began:5.0f} s] {row.part}: {row.table}: {row.name}: {row.failure or shown}")
        self.write(finished=False)

    def write(self, *, finished: bool) -> None:
        """Write the JSON and the Markdown, each as a whole."""
        record = {
            "card": self.card, "host": document.machine(), "dry_run": self.settings.rehearsal, "finished": finished,
            "budget": self.budget, "seconds": time.time() - self.began,
        }  # fmt: skip
        text, aside = gpu_report.encoded(record, self.rows), self.output / "gpu.json.part"
        aside.write_text(text)
        aside.replace(self.output / "gpu.json")
        (self.output / "gpu.md").write_text(gpu_report.markdown(json.loads(text)) + "\n")


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder with ml-1m.parquet, for the part that needs it.")
@click.option("--budget", default=540.0, show_default=True, help="Seconds that the whole run may take.")
@click.option("--output", default=ROOT / ".bench" / "gpu", type=click.Path(path_type=Path),
              help="Folder for gpu.json and gpu.md.  [default: .bench/gpu]")  # fmt: skip
@click.option("--only", default=",".join(DEFAULT), help="Parts, separated by commas.  [default: all except profile]")
@click.option("--dry-run", is_flag=True, help="Run every part on the CPU, at tiny sizes.")
@click.option("--section", type=click.Path(path_type=Path), help="A gpu.json: only write its section of BENCHMARKS.md.")
def main(data: Path | None, budget: float, output: Path, only: str, dry_run: bool, section: Path | None) -> None:
    """Run the parts one after another."""
    if section is not None:
        _write_section(json.loads(section.read_text()))
        return
    parts = only.split(",")
    for name in parts:
        if name not in PARTS:
            raise click.BadParameter(f"'{name}' is not one of {', '.join(PARTS)}", param_hint="--only")
    if dry_run:
        os.environ["TRITON_INTERPRET"] = "1"
    card = "dry run" if dry_run else _card()
    output.mkdir(parents=True, exist_ok=True)
    run = Run(output, Settings(dry_run, data, time.time() + budget), budget, card)
    if "real" in parts and data is None and not dry_run:
        run.add(Row("real", "the part", "real", {}, "left out: --data was not given"))
        parts.remove("real")
    for tasks in _waves(run.settings, parts):
        _run(tasks, run)
    run.write(finished=True)
    if not dry_run and only == ",".join(DEFAULT):
        _write_section(json.loads((output / "gpu.json").read_text()))


def _card() -> str:
    """The card's name. Raises ClickException if there is no card or it is too old for the kernels."""
    from recsys_mf.errors import DeviceError
    from recsys_mf.kernels import select

    try:
        backend = select("cuda")
    except DeviceError:
        raise click.ClickException("no CUDA card is here; --dry-run rehearses all parts on the CPU") from None
    facts = backend.device.describe()
    if not facts["kernels"].startswith("triton"):
        raise click.ClickException(f"Triton's kernels cannot run on the card '{facts['card']}' or this system")
    return facts["card"]


def _write_section(run: dict[str, Any]) -> None:
    if run["dry_run"]:
        raise click.ClickException("these are the figures of a dry run, which go into no document")
    gpu_report.write_section(ROOT / "BENCHMARKS.md", run)


def _waves(settings: Settings, parts: Sequence[str]) -> list[list[list[Task]]]:
    """The waves, run one after another: each is a list of processes that run at the same time, given by tasks."""
    checks: list[Task] = [("checks", rank) for rank in (*settings.plan.check_ranks, None)]
    by_part: dict[str, list[Task]] = {name: [(name, None)] for name in parts}
    by_part |= {"checks": checks} if "checks" in by_part else {}
    if settings.rehearsal:  # in one process; with several, imports would take most of the time
        return [[[task for tasks in by_part.values() for task in tasks]]]
    return [[[task] for task in tasks] for tasks in by_part.values()]


def _run(processes: Sequence[Sequence[Task]], run: Run) -> None:
    """Run processes at the same time and take their rows until all have ended or the time is up."""
    settings = replace(run.settings, limits=limits_of(run.rows))
    limit = (
        sum(PARTS[part].limit for part, _ in processes[0]) if len(processes) == 1 else PARTS[processes[0][0][0]].limit
    )
    ends = min(time.time() + limit, settings.ends)
    context, running = multiprocessing.get_context("spawn"), {}
    for tasks in processes:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(tasks, settings, theirs))
        process.start()
        theirs.close()
        running[ours] = (process, tasks)
    while running and time.time() < ends:
        for ready in wait(list(running), timeout=max(0.0, ends - time.time())):
            _take(cast(Connection, ready), running, run)
    for process, tasks in running.values():
        process.kill()
        process.join()
        run.add(Row(tasks[0][0], "the part", _label(tasks), {}, f"stopped: out of time (limit {limit:.0f} s)"))


def _take(ours: Connection, running: dict[Connection, Any], run: Run) -> None:
    """The next row of a process, or its end."""
    try:
        run.add(ours.recv())
    except EOFError:
        process, tasks = running.pop(ours)
        process.join()
        if process.exitcode:
            failure = f"the process ended with status {process.exitcode}"
            run.add(Row(tasks[0][0], "the part", _label(tasks), {}, failure))


def _label(tasks: Sequence[Task]) -> str:
    return ", ".join(f"{part} {argument}" if argument is not None else part for part, argument in tasks)


def work(tasks: Sequence[Task], settings: Settings, pipe: Connection) -> None:
    """What a process does: its tasks, one after another."""
    session = Session(settings, pipe.send)
    for name, argument in tasks:
        session.part = name
        try:
            if name == "checks" and argument is None:
                importlib.import_module("gpu_checks").compiled_for_cpu(session)
                continue
            function = getattr(importlib.import_module(PARTS[name].module), PARTS[name].function)
            function(session, *(() if argument is None else (argument,)))
        except Exception as error:
            session.send(Row(name, "the part", _label([(name, argument)]), {}, in_a_line(error)))


if __name__ == "__main__":
    main()
