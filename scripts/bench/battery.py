"""The battery of `tests/battery.py` as a table: defaults beside a single run, biases and the best of a grid.

    python scripts/bench/battery.py [--solver sgd] [--seeds 5] [--table "two camps"]

The grid is rank {4, 16, 64} x {λ/4, λ, 4 λ}, of gibbs the ranks alone. Errors are RMSE on test pairs of the same law,
means over the seeds. A row is bad where the default is above a single run or biases by 1 %, or the best by 2 %.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recsys_mf import SOLVERS, train
from recsys_mf.solvers import Biases, Solver, TruncatedSvd
from recsys_mf.splits import Split
from recsys_mf.training import BASELINE, rmse

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from battery import TABLES

RANKS, FACTORS = (4, 16, 64), (0.25, 1, 4)


def mean_error(splits: list[Split], solver: Solver) -> float:
    """Mean over splits of the test error, the training seed being the number of the split."""
    errors = []
    for seed, split in enumerate(splits):
        run = train(split, solver, seed=seed, compared_with={BASELINE: TruncatedSvd(ranks=(1,))})
        assert split.test is not None
        errors.append(rmse(run.model, split.test))
    return float(np.mean(errors))


def grid(name: str) -> Iterator[Solver]:
    """The solver at every rank and, where it has a λ, at multiples of the usual one."""
    kind = SOLVERS[name]
    for rank in RANKS:
        if name == "gibbs":
            yield kind(rank=rank)
        else:
            yield from (kind(rank=rank, regularisation=kind.usual["regularisation"] * factor) for factor in FACTORS)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solver", action="append", choices=["sgd", "als", "gibbs"])
    parser.add_argument("--table", action="append", choices=list(TABLES))
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    print("| table | solver | default | single run | bias | best of grid | worst ratio | |")
    print("|---|---|--:|--:|--:|--:|--:|---|")
    for table in args.table or TABLES:
        splits = [TABLES[table](seed) for seed in range(args.seeds)]
        bias = mean_error(splits, Biases())
        for name in args.solver or ("sgd", "als", "gibbs"):
            kind = SOLVERS[name]
            default = mean_error(splits, kind())
            single = default if name == "gibbs" else mean_error(splits, kind(members=1))
            best = min(mean_error(splits, solver) for solver in grid(name))
            simple, ideal = default / min(single, bias), default / best
            verdict = "" if simple <= 1.01 and ideal <= 1.02 else "bad"
            print(
                f"| {table} | {name} | {default:.4f} | {single:.4f} | {bias:.4f} | {best:.4f} "
                f"| {max(simple, ideal):.3f} | {verdict} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
