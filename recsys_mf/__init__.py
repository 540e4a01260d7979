"""Matrix factorisation for rating tables: files become Ratings, a split hides some, a solver turns the rest into a
model, and a report scores it next to the truncated SVD.

    ratings = read_ratings("ratings.parquet")
    split = hold_out(ratings, 0.1, seed=0)
    run = train(split, SOLVERS["sgd"](rank=64))
    report = evaluate(run, split.test)
    save(run, "run", report=report)

The same in one line is `Experiment(ratings="ratings.parquet").run()`; `train("ratings.parquet", "sgd", rank=64)` holds
nothing out.

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from recsys_mf.comparison import compare as compare
    from recsys_mf.comparison import compare_runs as compare_runs
    from recsys_mf.completion import complete as complete
    from recsys_mf.evaluation import evaluate as evaluate
    from recsys_mf.experiment import Experiment as Experiment
    from recsys_mf.exporting import export as export
    from recsys_mf.features import Features as Features
    from recsys_mf.loaders import from_frame as from_frame
    from recsys_mf.loaders import from_matrix as from_matrix
    from recsys_mf.loaders import read_features as read_features
    from recsys_mf.loaders import read_ratings as read_ratings
    from recsys_mf.ratings import Ratings as Ratings
    from recsys_mf.solvers import SOLVERS as SOLVERS
    from recsys_mf.splits import Split as Split
    from recsys_mf.splits import given as given
    from recsys_mf.splits import hold_out as hold_out
    from recsys_mf.splits import k_folds as k_folds
    from recsys_mf.store import load as load
    from recsys_mf.store import save as save
    from recsys_mf.training import train as train
    from recsys_mf.tuning import tune as tune

_HOMES = {
    "compare": "comparison",
    "compare_runs": "comparison",
    "complete": "completion",
    "evaluate": "evaluation",
    "Experiment": "experiment",
    "export": "exporting",
    "Features": "features",
    "from_frame": "loaders",
    "from_matrix": "loaders",
    "read_features": "loaders",
    "read_ratings": "loaders",
    "Ratings": "ratings",
    "SOLVERS": "solvers",
    "Split": "splits",
    "given": "splits",
    "hold_out": "splits",
    "k_folds": "splits",
    "load": "store",
    "save": "store",
    "train": "training",
    "tune": "tuning",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'recsys_mf' has no attribute '{name}'")
    return getattr(importlib.import_module(f"recsys_mf.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
