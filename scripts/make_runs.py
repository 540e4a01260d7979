"""Writes the small runs of a format that the tests keep: `python -m scripts.make_runs FOLDER`, with that release.

Every run is a folder in FOLDER; predictions.json has the predictions of each run when it was made.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import recsys_mf as mf
from recsys_mf.prediction import has_intervals, predict, takes_times

USERS, ITEMS, RATINGS = 12, 8, 60
SETTINGS = {
    "sgd": {"rank": "2", "epochs": "60", "learning_rate": "0.05", "members": "3"},
    "als": {"rank": "2", "epochs": "2"},
    "gibbs": {"rank": "2", "sweeps": "8", "burn_in": "4", "samples": "2", "likelihood": "ordinal"},
}
PAIRS = ["u1", "u2", "u11", "new", "u3", "new"], [2, 4, 16, 6, 99, 99]
DAYS = np.array([0, 3, 1, 2, 0, 9]) * 86400


def predicted(run: mf.Run) -> NDArray[np.float32]:
    """The predictions of the pairs, on their days for a model with times."""
    values: NDArray[np.float32] = run.predict(*PAIRS, DAYS if takes_times(run.model) else None)
    return values


def table() -> mf.Ratings:
    """Ratings from 1 to 5 on four days, with strings as user ids and integers as item ids."""
    rng = np.random.default_rng(10)
    users, items = np.divmod(rng.permutation(USERS * ITEMS)[:RATINGS], ITEMS)
    taste = np.sin(1.7 * users) * np.cos(2.3 * items)  # otherwise validation prefers biases alone, without intervals
    values = np.clip(np.rint(3 + np.sin(users) + np.cos(items) + taste + rng.normal(0, 0.8, RATINGS)), 1, 5)
    days = rng.integers(0, 4, RATINGS) * 86400
    return mf.Ratings.from_ids([f"u{user}" for user in users], items * 2, values, days)


def main(folder: Path) -> None:
    """Train the runs and write them with their predictions."""
    split = mf.hold_out(table(), 0.1, seed=0)
    svd = {"svd bias": mf.SOLVERS["svd"].from_texts({"ranks": "1"})}
    predictions = {}
    for name, settings in SETTINGS.items():
        solver = mf.SOLVERS[name].from_texts(settings)
        run = mf.train(split, solver, device="cpu", validation=0.2, compared_with=svd)
        run = replace(run, provenance={**run.provenance, "platform": "any"})
        assert split.test is not None
        mf.save(run, folder / name, report=mf.evaluate(run, split.test, device="cpu") if name == "sgd" else None)
        predictions[name] = {"predictions": predicted(run).tolist()}
        if has_intervals(run.model):
            users, items, _ = run.indices(*PAIRS)
            interval = predict(run.model, users, items, DAYS, probability=0.8)
            assert interval.lower is not None
            assert interval.upper is not None
            predictions[name] |= {"lower": interval.lower.tolist(), "upper": interval.upper.tolist()}
    (folder / "predictions.json").write_text(json.dumps(predictions, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
