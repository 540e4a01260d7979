"""Provenance: the record of a run, from which it can be repeated (`recsys-mf train --repeat RUN`).

It is stored in run.json under "provenance". All values are plain. Written by `training.train`:

    split               how the rows were split, in words; split_seed: its seed, null if none was used
    split_rule          the same as values; empty for a split made by hand
        kind            "hold-out" (with by, fraction, seed), "fold" (folds, fold, seed) or "given"
        ratings, fingerprint             of the table that was split (for a given split: the training table)
        test_ratings, test_fingerprint   of the test table of a given split
        validation      fraction and seed of validation rows that were cut by hand
    validation          fraction of the training rows on which epochs and ranks were chosen; null if rows were given
    seed                of training
    solver, settings    as they were requested; fit.settings has the values that were used
    baselines           label -> solver and settings, as they were requested
    compress            rank to which a posterior was reduced, or null
    start               fingerprint of the run that was continued from, or null
    continued           only if there is a start: ratings, users and items that were kept, added and changed; how:
                        "updated", "fitted again" or "folded in"; since_full_fit: ratings added since the last full fit
    train_ratings, train_fingerprint     of the training rows; after folding in or forgetting, of the ratings that the
                        run keeps, by user and item (if it keeps none, forgetting leaves both as they are)
    test_fingerprint    of the test rows, as the model sees them; null if there are none, or made by hand
    rating_range        smallest and largest training rating
    weighted            whether the training rows have weights
    side_information    user and item -> names of the features
    features            user and item -> fingerprint of the features
    device, threads     where it ran; on a GPU also card, driver and kernels; on a cluster also engine
    processor, python, platform, libraries   what it ran with

and by `recsys-mf train`:

    data                the table as the report names it
    command             as it was typed
    folder              the folder that relative names start from
    given               settings of the solver as they were typed
    files               role -> path as it was typed and fingerprint, of ratings, test, user_features, item_features
                        and start
    reading             how tables were read: columns, ids, duplicates and so on
    feature_columns     columns of the side information that were used, null for all
    folds               number of folds of the cross-validation before this fit, or null
    config              only with --config: its path, and the options and settings that are in it
    tuned               only by `recsys-mf tune`: the budget, how many settings were tried and how they ended, the best
                        of them and its validation error; the settings that were chosen are in `settings`

A fingerprint is a SHA-256. For a table it is over its ids, ratings, times and weights in their order, so that it does
not depend on the format of the file; for features, over their ids, names and values; for a run, over its model and
training rows.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from recsys_mf import __version__
from recsys_mf.arrays.jit import target
from recsys_mf.features import Features
from recsys_mf.kernels.backend import Backend
from recsys_mf.models import Model
from recsys_mf.run import Run
from recsys_mf.solvers import Solver
from recsys_mf.splits import Split
from recsys_mf.store import tensors

_LIBRARIES = ("numpy", "numba", "llvmlite", "scipy", "torch")


def of_rows(split: Split, validation: float) -> dict[str, Any]:
    """The rows and how they were split.

    validation : fraction of the training rows to validate on, if the split has no validation rows
    """
    sides = {"user": split.train.user_features, "item": split.train.item_features}
    known = {side: features for side, features in sides.items() if features is not None}
    return {
        "split": split.rule,
        "split_seed": split.seed,
        "split_rule": dict(split.record),
        "validation": float(validation) if split.valid is None else None,
        "train_ratings": len(split.train),
        "train_fingerprint": split.train.fingerprint,
        "test_fingerprint": split.test.fingerprint if split.test is not None and split.record else None,
        "rating_range": list(split.train.rating_range),
        "weighted": split.train.weights is not None,
        "side_information": {side: list(features.names) for side, features in known.items()},
        "features": {side: fingerprint_of_features(features) for side, features in known.items()},
    }


def of_fit(
    solver: Solver, baselines: Mapping[str, Solver], *, seed: int, start: Run | None, compress: int | None
) -> dict[str, Any]:
    """What was fitted: solvers and settings as they were requested."""
    return {
        "seed": int(seed),
        "solver": solver.name,
        "settings": solver.settings(),
        "baselines": {
            label: {"solver": other.name, "settings": other.settings()} for label, other in baselines.items()
        },
        "compress": compress,
        "start": None if start is None else fingerprint_of_run(start),
    }


def of_machine(backend: Backend) -> dict[str, Any]:
    """The machine and the software."""
    return {
        **backend.device.describe(),
        "threads": backend.device.threads,
        "processor": target(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {"recsys_mf": __version__} | {name: metadata.version(name) for name in _LIBRARIES},
    }


def describe_software() -> str:
    """Versions of Python and of the libraries that compute, in words."""
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    return f"recsys_mf {__version__}, Python {platform.python_version()}, {libraries}"


def fingerprints(record: Mapping[str, Any]) -> dict[str, str]:
    """Role -> fingerprint of the inputs of a run; the roles are those of `files`."""
    rule, features = record["split_rule"], record["features"]
    found = {
        "ratings": rule.get("fingerprint"),
        "test": rule.get("test_fingerprint"),
        "user_features": features.get("user"),
        "item_features": features.get("item"),
        "start": record["start"],
    }
    return {role: fingerprint for role, fingerprint in found.items() if fingerprint is not None}


def fingerprint_of_features(features: Features) -> str:
    """SHA-256 over ids, names and values: the same for the same features, whatever the order of their rows."""
    total = hashlib.sha256(features.vocabulary.fingerprint.encode())
    total.update("\n".join(features.names).encode())
    for array in (features.starts, features.columns, features.values):
        total.update(array.data)
    return total.hexdigest()


def fingerprint_of_run(run: Run) -> str:
    """SHA-256 over the numbers of the model, its ids and the rows it was trained on."""
    total = hashlib.sha256(str(run.provenance["train_fingerprint"]).encode())
    for vocabulary in (run.user_vocabulary, run.item_vocabulary):
        total.update(vocabulary.fingerprint.encode())
    total.update(digest(run.model))
    return total.hexdigest()


def digest(model: Model) -> bytes:
    """SHA-256 of every array of a model, with its name: equal for two models that are equal in every bit."""
    return tensors.digest(model.arrays())


def differences(record: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """How two records differ in facts on which the last bits of a model depend, in words.

    Empty if the same rows, settings and seed give the same bytes.
    """
    facts = ("device", "card", "backend", "processor", "python")
    pairs = {name: (record.get(name), other.get(name)) for name in facts}
    libraries = record.get("libraries", {}), other.get("libraries", {})
    pairs |= {name: (libraries[0].get(name), libraries[1].get(name)) for name in sorted({*libraries[0], *libraries[1]})}
    return [f"{name} {one or 'unknown'}, now {now or 'unknown'}" for name, (one, now) in pairs.items() if one != now]
