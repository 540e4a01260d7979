"""Leakage: which held-out pairs a model was trained on, and whether they fit its ids."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys_mf import splits
from recsys_mf.loaders.reading import Vocabularies
from recsys_mf.mismatch import UnknownIds
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run


@dataclass(frozen=True, eq=False)
class Trained:
    """Which of some pairs a run was trained on.

    count : how many, None if not known; which : bool[n], None if it is not known for each pair
    """

    count: int | None
    which: NDArray[np.bool_] | None


def trained_on(run: Run, test: Ratings, pairs: Ratings) -> Trained:
    """Which pairs of a table the run was trained on, by the pairs that it keeps, else by its recorded fingerprints.

    pairs : the pairs of test, under the vocabularies of the run
    """
    if test.fingerprint == run.provenance.get("test_fingerprint"):  # its own test part: separated from train by rule
        return Trained(0, None)
    if run.rated is not None:
        which = run.rated.contains(pairs.users, pairs.items)
        return Trained(int(which.sum()), which)
    timeless = replace(test, times=None)  # as it is read for a solver that takes no times
    fingerprints = {splits.fingerprint_as_read(table) for table in (test, timeless)}
    if run.provenance["train_fingerprint"] in fingerprints:
        return Trained(len(test), None)
    source = run.provenance.get("split_rule", {})
    if source.get("fingerprint") in fingerprints:
        return Trained(int(run.provenance["train_ratings"]), None)
    return Trained(0 if source.get("test_fingerprint") in fingerprints else None, None)


def describe_leak(trained: Trained, n_pairs: int) -> str | None:
    """The warning that the model was trained on some pairs; None if it was not, or this is not known."""
    if not trained.count:
        return None
    rest = (
        ""
        if trained.which is None or trained.count == n_pairs
        else "; only the error of the other pairs, shown below, is held out"
    )
    return (
        f"the model was trained on {trained.count:,} of these {n_pairs:,} pairs ({trained.count / n_pairs:.1%}): "
        f"their error says nothing about new ratings{rest}"
    )


def describe_mismatch(known: Vocabularies, test: Ratings, pairs: Ratings) -> str | None:
    """The warning that nearly all pairs are unknown, with an example; else None.

    known : a run, or its training ratings; pairs : the pairs of test under its vocabularies
    """
    unknown = UnknownIds(known.user_vocabulary, known.item_vocabulary)
    unknown.add(
        pairs.users,
        pairs.items,
        lambda rows: test.user_vocabulary.ids(test.users[rows]),
        lambda rows: test.item_vocabulary.ids(test.items[rows]),
    )
    return unknown.message("the test table", "test pairs")
