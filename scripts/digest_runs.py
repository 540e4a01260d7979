"""Digests of the models that every solver fits to tables: equal before and after a change that must change no number.

    python scripts/digest_runs.py [--threads 2] [--solver sgd] TABLE ... > before.txt

A line per table and solver: SHA-256 of the arrays of the model and of those of the baselines, and the held-out RMSE.
Another kind of processor may give other digests.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from pathlib import Path

import recsys_mf as mf

SETTINGS: dict[str, list[dict[str, object]]] = {
    "sgd": [{}, {"members": 1, "rank": 8}],
    "als": [{}, {"members": 1, "rank": 8, "cg_steps": 0}],
    "gibbs": [{"sweeps": 30}, {"sweeps": 30, "likelihood": "gaussian", "rank": 8}],
}


def digest(path: Path) -> str:
    """The first 16 digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--solver", action="append", choices=list(SETTINGS))
    args = parser.parse_args()
    for table in args.tables:
        split = mf.hold_out(mf.read_ratings(table), 0.1, seed=0)
        assert split.test is not None
        for name in args.solver or SETTINGS:
            for settings in SETTINGS[name]:
                run = mf.train(split, mf.SOLVERS[name](**settings), device="cpu", threads=args.threads)
                report = mf.evaluate(run, split.test, device="cpu", threads=args.threads)
                error = next(row for row in report.rows if row.solver == name).scores["rmse"].value
                with tempfile.TemporaryDirectory() as folder:
                    mf.save(run, Path(folder) / "run")
                    digests = [digest(Path(folder) / "run" / f"{part}.safetensors") for part in ("model", "baselines")]
                print(Path(table).stem, name, settings, *digests, repr(error), flush=True)


if __name__ == "__main__":
    main()
