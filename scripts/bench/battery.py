"""The battery of `tests/battery.py` as a table: defaults compared with a single run, biases and the best of a grid.

    python scripts/bench/battery.py [--solver sgd] [--seeds 5] [--table "two camps"]

Errors are RMSE on test pairs drawn from the same model, averaged over the seeds. A row is marked as bad if the default
has an error more than 1 % above that of a single run or biases, or more than 2 % above that of the best of the grid.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.battery import SEEDS, TABLES, compare


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solver", action="append", choices=["sgd", "als", "gibbs"])
    parser.add_argument("--table", action="append", choices=list(TABLES))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    args = parser.parse_args()
    print("| table | solver | default | single run | bias | best of grid | worst ratio | |")
    print("|---|---|--:|--:|--:|--:|--:|---|")
    for table in args.table or TABLES:
        for name in args.solver or ("sgd", "als", "gibbs"):
            found = compare(table, name, args.seeds)
            verdict = "" if found.over_simple <= 1.01 and found.over_best <= 1.02 else "bad"
            figures = " | ".join(f"{error:.4f}" for error in (found.default, found.single, found.bias, found.best))
            worst = max(found.over_simple, found.over_best)
            print(f"| {table} | {name} | {figures} | {worst:.3f} | {verdict} |", flush=True)


if __name__ == "__main__":
    main()
