"""Report: the rows of gpu.py as JSON, and as a section of BENCHMARKS.md made from that JSON alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import document
from gpu_session import FULL, REHEARSAL, Plan, Row

TITLES = {
    "machine": "The card",
    "checks": "Kernels compared with the reference",
    "sgd": "SGD",
    "rows": "Row solves of ALS and the Gibbs sampler",
    "sweeps": "Whole epochs and sweeps",
    "lists": "Lists of the best items",
    "streams": "Triples streamed from the host",
    "svd": "Truncated SVD",
    "accuracy": "Errors compared with the CPU on a planted table",
    "real": "Errors compared with the CPU on MovieLens 1M",
    "profile": "Epochs for a profiler",
}
NOTES = {
    "limits": "A copy in the card's memory, counting bytes read and written; products of square matrices.",
    "epochs": "Milliseconds are medians over the turns; spread is the range of the turns divided by the median. An "
    "update at rank k moves 4 k numbers (two rows read, two written); GB/s counts only these.",
    "bands": "The same epoch with grids of other sizes.",
    "Gram sums and solutions apart": "The Gram sums take 2 k² operations per rating; they are compared with products "
    "of matrices.",
    "row solves": "solve is with normals; refine takes 3 steps, and its GB/s counts five row gathers per rating.",
    "the ten best items of all users": "Rated items are left out. product: all scores in float32 without TF32, without "
    "the search.",
    "epochs and sweeps on the card": "first s: the first one, including set-up on the host; s: median of the others.",
    "plain PyTorch": "Embeddings trained with Adam (fused) on minibatches of 16,384 ratings that are already on the "
    "card, as it is often written by hand; s: median epoch.",
    "500 samples": "Estimated from the median of the sweeps after the first; samples are copied to the host.",
    "a planted million": "A tenth is held out (seed 0); fixed numbers of epochs; seconds of whole fits. The same seed "
    "draws different numbers on each device. The CPU uses float32 and the conflict-free schedule.",
    "MovieLens 1M": "Measured as for the planted table.",
}
HEADINGS = {  # of tables and columns, where the document has other words than the JSON
    "kernels beside the reference": "kernels compared with the reference",
    "runs beside each other": "repeated runs",
    "torch's kernels beside them": "torch's kernels, for comparison",
    "Gram sums and solutions apart": "Gram sums and solutions, separately",
    "ns a row": "ns per row",
    "beside two threads of the CPU": "compared with two threads of the CPU",
}
REHEARSED = "**A dry run under Triton's interpreter on the CPU, at tiny sizes: no figure below means anything.**"


class Target(NamedTuple):
    """What a figure of a row should reach, or of all rows of the table if `name` is empty."""

    text: str
    table: str
    name: str
    figure: str
    limit: float
    least: bool


def targets(plan: Plan) -> list[Target]:
    """The targets of the CUDA kernels."""
    low, high = plan.ranks
    half, single = (f"100 M, rank {high}, {precision}, conflict-free" for precision in ("half", "float32"))
    long, beside = "500 samples", "beside two threads of the CPU"
    return [
        Target(f"SGD, 100 M, rank {high}, half: of the copy", "epochs", half, "of copy", 0.6, True),
        Target(f"SGD, 100 M, rank {high}, float32: of the copy", "epochs", single, "of copy", 0.5, True),
        *(
            Target(f"{label}, 25 M, rank {low}: times the CPU", beside, f"{label}, rank {low}, 25 M", "ratio", 20, True)
            for label in ("als", "gibbs, links none", "gibbs, links both")
        ),
        Target(
            f"gibbs, 10 M, rank {high}: s for 500 samples", long, f"gibbs, links none, rank {high}, 10 M",
            "estimate s", 300, False,
        ),
        Target(
            f"lists, 25 M, rank {low}: of the product in float32", "the ten best items of all users",
            f"25 M, rank {low}", "of product", 0.5, True,
        ),
        *(
            Target(f"{table}: largest difference of RMSE from the CPU", table, "", "difference", 0.001, False)
            for table in ("a planted million", "MovieLens 1M")
        ),
    ]  # fmt: skip


def encoded(record: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The JSON of a run."""
    return json.dumps({**record, "rows": [asdict(row) for row in rows]}, indent=1, default=float) + "\n"


def markdown(run: Mapping[str, Any]) -> str:
    """The section of a run, from the JSON that `encoded` wrote."""
    rows = [Row(**row) for row in run["rows"]]
    blocks = [f"### {run['card']}", REHEARSED if run["dry_run"] else "", _conditions(run, rows), _targets(run, rows)]
    for part, title in TITLES.items():
        of_part = [row for row in rows if row.part == part]
        blocks += [f"#### {title}", _failures(of_part)] if of_part else []
        for table in dict.fromkeys(row.table for row in of_part):
            blocks += [NOTES.get(table, ""), _table(table, [row for row in of_part if row.table == table])]
    return "\n\n".join(block for block in blocks if block)


def write_section(path: Path, run: Mapping[str, Any]) -> None:
    """Write the section of the run's card into the document; at its end if the card is new."""
    name = "gpu-" + re.sub(r"[^a-z0-9]+", "-", run["card"].lower()).strip("-")
    if f"<!-- {name}:begin -->" not in path.read_text():
        heading = "" if "\n## CUDA\n" in path.read_text() else "\n## CUDA\n\nMeasured by `scripts/bench/gpu.py`.\n"
        with path.open("a") as file:
            file.write(f"{heading}\n<!-- {name}:begin -->\n<!-- {name}:end -->\n")
    document.write_section(path, name, markdown(run))


def _conditions(run: Mapping[str, Any], rows: Sequence[Row]) -> str:
    facts = next((row.figures for row in rows if row.table == "versions"), {})
    shown = ", ".join(f"{name} {value}" for name, value in facts.items())
    ended = "" if run["finished"] else " The run was not finished."
    return f"{run['host']}; {shown}. The run took {run['seconds']:.0f} s of its budget of {run['budget']:.0f} s.{ended}"


def _targets(run: Mapping[str, Any], rows: Sequence[Row]) -> str:
    lines = []
    for target in targets(REHEARSAL if run["dry_run"] else FULL):
        of_table = [row for row in rows if row.table == target.table and target.name in ("", row.name)]
        seen = [abs(row.figures[target.figure]) for row in of_table if target.figure in row.figures]
        limit = f"{'≥' if target.least else '≤'} {shown(target.figure, target.limit)}"
        if not seen:
            lines.append([target.text, limit, "", "not measured"])
            continue
        value = max(seen)
        reached = value >= target.limit if target.least else value <= target.limit
        verdict = "a dry run" if run["dry_run"] else "reached" if reached else "**missed**"
        lines.append([target.text, limit, shown(target.figure, value), verdict])
    lines.append(["Checks that agree", "all", *_agreement(rows)])
    return document.table(("target", "", "measured", ""), lines)


def _agreement(rows: Sequence[Row]) -> tuple[str, str]:
    checks = [row for row in rows if row.part == "checks" and row.table != "set-up"]
    agreeing = sum(row.figures.get("agrees") == "yes" for row in checks)
    return f"{agreeing} of {len(checks)}", "reached" if checks and agreeing == len(checks) else "**missed**"


def _failures(rows: Sequence[Row]) -> str:
    return "\n".join(f"- {row.table}, {row.name}: {row.failure}" for row in rows if row.failure)


def _table(title: str, rows: Sequence[Row]) -> str:
    """The rows, with a column for every figure; for versions and compiled kernels, a line for every figure."""
    done = [row for row in rows if not row.failure]
    names = list(dict.fromkeys(name for row in done for name in row.figures))
    if title in ("versions", "compiled kernels"):
        lines = [[name, shown(name, value)] for row in done for name, value in row.figures.items()]
        return document.table((title, ""), lines, left=(0, 1)) if lines else ""
    if not done:
        return ""
    cells = [
        [row.name, *(shown(name, row.figures[name]) if name in row.figures else "" for name in names)] for row in done
    ]
    return document.table([HEADINGS.get(name, name) for name in (title, *names)], cells)


def shown(name: str, value: Any) -> str:
    """A figure as tables show it: shares in percent, whole numbers with commas, others to four digits."""
    if isinstance(value, str):
        return value.replace("|", "/")
    if name.startswith("of "):
        return f"{value:.1%}"
    if isinstance(value, int):
        return f"{value:,}"
    if "RMSE" in name or "difference" in name:
        return f"{value:.5f}"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
