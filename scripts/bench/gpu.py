#!/usr/bin/env python
r"""Check and time everything that runs on a CUDA card; the first thing to run where there is one.

    scripts/bench/gpu.py [--data DIR] [--budget SECONDS] [--only PART,…] [--output FOLDER] [--dry-run]

Tables are drawn on the spot. In under ten minutes: what the card reaches, the kernels against the float64 reference,
SGD from 1 to 100 million ratings, row solves, whole sweeps beside the CPU's, errors beside the CPU's, streaming, the
truncated SVD and, with DIR/ml-1m.parquet, errors on a real table. Rows are printed and gpu.json is written as they
come; gpu.md in the end. A whole run that is no dry run also writes its section of BENCHMARKS.md.

--dry-run goes through all of it on tiny tables under Triton's interpreter, without a card: its figures mean nothing.

Where Nsight Compute is installed, bytes by the profiler:
    ncu --clock-control none -k _epoch -c 2 --metrics dram__bytes.sum,lts__t_bytes.sum \
        scripts/bench/gpu.py --only profile
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import document

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the checkout, where the package is not installed
Row = dict[str, Any]
PARTS = (
    "machine", "checks", "sgd", "sweeps", "rows", "accuracy", "data", "bands", "streaming", "svd",
)  # fmt: skip
TITLES = {
    "machine": "The card", "checks": "Kernels against the float64 reference",
    "sgd": "SGD: an epoch. Bytes are counted as 4 · rank numbers an update; targets: at rank 128 on 100 M ratings half "
    "60 % of the copy and 45 ms, float32 50 %", "bands": "SGD: other numbers of bands",
    "sweeps": "Epochs and sweeps beside two cores. Targets: 20 times as fast for ALS and Gibbs at rank 64 on 25 M; "
    "500 sweeps at rank 128 on 10 M in 300 s", "rows": "Row solves",
    "accuracy": "Held-out RMSE on a planted million. Target: within 0.001",
    "data": "Held-out RMSE on MovieLens 1M, 10 % at random, seed 0. Target: within 0.001",
    "streaming": "Triples on the card, and sent from the host", "svd": "Truncated SVD by its operator",
    "profile": "An epoch of 100 M ratings at rank 128",
}  # fmt: skip


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder with ml-1m.parquet.")
@click.option("--budget", default=540.0, show_default=True, help="Seconds after which no part is begun.")
@click.option("--only", help="Parts, with commas between; all but profile where none is named.")
@click.option("--output", default=".", type=click.Path(path_type=Path), help="Folder for gpu.json and gpu.md.")
@click.option("--dry-run", is_flag=True, help="Tiny tables, without a card.")
def main(data: Path | None, budget: float, only: str | None, output: Path, dry_run: bool) -> None:
    """Run the parts in turn."""
    import torch

    names = only.split(",") if only else PARTS
    for name in names:
        if name not in TITLES:
            raise click.BadParameter(f"'{name}' is none of {', '.join(TITLES)}")
    if dry_run and not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
    elif dry_run:
        raise click.UsageError("a dry run is for machines without a card, and here is one; leave out --dry-run")
    elif not torch.cuda.is_available():
        raise click.UsageError("CUDA is not available here; give --dry-run to try the program without a card")
    output.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Row]] = {}
    began = time.perf_counter()
    for name in names:
        rows = found.setdefault(name, [])
        for row in _guarded(name, dry_run, data, began, budget):
            rows.append(row)
            print(f"[{time.perf_counter() - began:.0f} s] {name}: {_line(row)}", flush=True)
            (output / "gpu.json").write_text(json.dumps({"dry_run": dry_run, "parts": found}, indent=1))
    text = _markdown(found, dry_run=dry_run)
    (output / "gpu.md").write_text(text)
    if not dry_run and only is None:
        document.write_section(ROOT / "BENCHMARKS.md", "gpu", text)


_BENCH: list[Any] = []


def _guarded(name: str, dry: bool, data: Path | None, began: float, budget: float) -> Iterator[Row]:
    """The rows of a part; of one that fails, those before and the error."""
    if time.perf_counter() - began > budget:
        yield {"not run": f"the budget of {budget:.0f} s was spent"}
        return
    try:
        for row in _rows(name, dry, data):
            yield row
            if time.perf_counter() - began > budget:
                yield {"not run": f"the rest: the budget of {budget:.0f} s was spent"}
                return
    except Exception as error:  # whatever it is, the parts that follow are worth having
        yield {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}


def _rows(name: str, dry: bool, data: Path | None) -> Iterator[Row]:
    import gpu_checks
    import gpu_parts

    if not _BENCH:
        _BENCH.append(gpu_parts.Bench(dry))
    bench = _BENCH[0]
    if name == "checks":
        return gpu_checks.checks(bench.kernels, (8,) if dry else (8, 64, 128, 200))
    if name == "data":
        return _on_data(bench, data)
    part: Iterator[Row] = getattr(gpu_parts, name)(bench)
    return part


def _on_data(bench: Any, data: Path | None) -> Iterator[Row]:
    import gpu_parts

    if data is None:
        yield {"not run": "no --data"}
        return
    from recsys_mf.loaders import read_ratings

    yield from gpu_parts.on_data(bench, read_ratings(data / "ml-1m.parquet", time_column="none"))


def _line(row: Row) -> str:
    return ", ".join(f"{key} {_figure(value)}" for key, value in row.items())


def _figure(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 0.1 else f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def _markdown(found: dict[str, list[Row]], *, dry_run: bool) -> str:
    """A table for every part."""
    lines = ["**A dry run under Triton's interpreter: no figure below means anything.**\n"] if dry_run else []
    for name, rows in found.items():
        header = list(dict.fromkeys(key for row in rows for key in row))
        cells = [[_figure(row.get(key, "")) for key in header] for row in rows]
        lines.append(f"**{TITLES[name]}**\n\n{document.table(header, cells)}\n")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
