"""Joining: a run and a table of ratings become one table, in which the new rows are marked."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import ConfigError, DataError, FoldWarning
from recsys_mf.models import Factorization, FoldedIn, Posterior, RatedPairs
from recsys_mf.prediction import takes_times
from recsys_mf.ratings import Ratings
from recsys_mf.serving.trained import Trained
from recsys_mf.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Joined:
    """The ratings of a run with those of a table, which come last and replace those of the same pair.

    ratings : under the vocabularies of both
    is_new : bool[n], whether the run has not seen the pair, or has another value for it
    changed : how many of the new ratings replace one of the run
    """

    ratings: Ratings
    is_new: NDArray[np.bool_]
    changed: int


_WHERE, _FIX = "the run to continue from", "train again on all ratings"


def _check_rated(run: Trained) -> RatedPairs:
    if run.rated is None:
        raise ConfigError(
            "its training ratings were not kept",
            where=_WHERE,
            seen="--no-keep-rated (keep_rated=False in Python)",
            fix=_FIX,
        )
    return run.rated


def check_side_information(run: Trained) -> None:
    """Raise ConfigError if a model uses side information."""
    if any(run.provenance.get("side_information", {}).values()):
        raise ConfigError("its model uses side information, which a run does not keep", where=_WHERE, fix=_FIX)


def check_start(run: Trained) -> None:
    """Raise ConfigError if a run keeps too little to be continued."""
    _check_rated(run)
    if takes_times(run.model):
        raise ConfigError("its model uses the times of ratings, which a run does not keep", where=_WHERE, fix=_FIX)
    check_side_information(run)
    if is_weighted(run):
        raise ConfigError("it was trained with weights, which a run does not keep", where=_WHERE, fix=_FIX)


def check_unweighted(ratings: Ratings) -> None:
    """Raise DataError if new ratings for a run have weights, which it could not keep."""
    if ratings.weights is not None:
        fix = "leave the weights out, or train again on all ratings"
        raise DataError("ratings with weights cannot be added to a run", where="the new ratings", fix=fix)


def is_weighted(run: Trained) -> bool:
    """Whether a run was trained with weights."""
    return bool(run.provenance.get("weighted"))


def seen_by(run: Trained, ratings: Ratings) -> NDArray[np.bool_]:
    """Which rows of a table are of pairs that the run was trained on, bool[n]. Raises ConfigError as `check_start`."""
    check_start(run)
    assert run.rated is not None
    known = ratings.reindexed(run.user_vocabulary, run.item_vocabulary)
    return run.rated.contains(known.users, known.items)


def join(run: Trained, ratings: Ratings) -> Joined:
    """The table that a run is continued on.

    Raises ConfigError if the run did not keep its training ratings, and DataError when ids are integers on one side and
    strings on the other, and for ratings with weights, which a run does not keep. Warns with FoldWarning if some
    ratings seem to be on another scale.
    """
    check_unweighted(ratings)
    rated = _check_rated(run)
    _warn_of_another_scale(run, ratings)
    users = run.user_vocabulary.union(ratings.user_vocabulary, where="user ids")
    items = run.item_vocabulary.union(ratings.item_vocabulary, where="item ids")
    known = ratings.reindexed(run.user_vocabulary, run.item_vocabulary)
    places = rated.find(known.users, known.items)
    is_known = places >= 0
    is_changed = is_known.copy()
    is_changed[is_known] = rated.values[places[is_known]] != ratings.values[is_known]
    is_new, kept = ~is_known | is_changed, np.ones(len(rated), np.bool_)
    kept[places[is_changed]] = False
    added = ratings.select(is_new).reindexed(users, items)
    new_user, new_item = users.indices(run.user_vocabulary.entries), items.indices(run.item_vocabulary.entries)
    joined = Ratings(
        np.concatenate([new_user[rated.users[kept]], added.users]),
        np.concatenate([new_item[rated.items[kept]], added.items]),
        np.concatenate([rated.values[kept], added.values]),
        None, users, items,
    )  # fmt: skip
    flags = np.arange(len(joined)) >= np.count_nonzero(kept)
    return Joined(joined, flags, int(is_changed.sum()))


def _warn_of_another_scale(run: Trained, ratings: Ratings) -> None:
    """Warn if some ratings are outside the range of the training ratings by more than the width of this range."""
    low, high = run.model.rating_range
    far = np.abs(ratings.values - np.float64(low + high) / 2) > 1.5 * (high - low)
    if far.any():
        seen = ratings.values[int(far.argmax())]
        warnings.warn(
            f"{int(far.sum()):,} of {len(ratings):,} ratings are far outside the range of the training ratings, "
            f"{low:g} to {high:g} (saw {seen:g}); are they on another scale?",
            FoldWarning, stacklevel=5,
        )  # fmt: skip


def align_folded(run: Trained, users: Vocabulary, items: Vocabulary, *, is_new_folded: bool) -> FoldedIn | None:
    """Which users and items of other vocabularies were folded in; None if none was.

    is_new_folded : whether those that the run does not know are folded in now
    """
    earlier = (None, None) if run.folded is None else (run.folded.users, run.folded.items)
    sides = zip((run.user_vocabulary, run.item_vocabulary), (users, items), earlier, strict=True)
    found = []
    for known, ids, folded in sides:
        rows = known.indices(ids.entries)
        before = np.zeros(len(known), np.bool_) if folded is None else folded
        found.append(np.where(rows < 0, is_new_folded, before[rows]))
    return FoldedIn(*found) if any(folded.any() for folded in found) else None


def fingerprint_of_rated(rated: RatedPairs, users: Vocabulary, items: Vocabulary) -> str:
    """The fingerprint of the table of the ratings that a run keeps, in their order."""
    return Ratings(rated.users, rated.items, rated.values, None, users, items).fingerprint


def align_samples(model: Posterior, run: Trained, user_ids: Vocabulary, item_ids: Vocabulary) -> Posterior:
    """A posterior of the run over other vocabularies: rows that it does not know are zero, their prior mean, and the
    scale of their noise is 1.
    """
    rows, columns = run.user_vocabulary.indices(user_ids.entries), run.item_vocabulary.indices(item_ids.entries)
    prior = model.user_prior
    if prior is not None and len(prior.coefficients):
        prior = replace(prior, coefficients=_taken(prior.coefficients, columns))
    users, items = _taken(model.user_rows, rows), _taken(model.item_rows, columns)
    noise = None if model.noise is None else model.noise.taken(rows, columns)
    return replace(model, user_rows=users, item_rows=items, user_prior=prior, noise=noise)


def align(model: Factorization, run: Trained, users: Vocabulary, items: Vocabulary) -> Factorization:
    """A model of the run over other vocabularies: rows that it does not know are zero, with the mean spread."""
    rows = run.user_vocabulary.indices(users.entries)
    columns = run.item_vocabulary.indices(items.entries)
    spread = model.spread
    if spread is not None:
        spread = replace(
            spread,
            user_variance=_taken(spread.user_variance, rows, spread.user_variance.mean()),
            item_variance=_taken(spread.item_variance, columns, spread.item_variance.mean()),
        )
    return replace(
        model,
        user_bias=_taken(model.user_bias, rows),
        item_bias=_taken(model.item_bias, columns),
        user_factors=_taken(model.user_factors, rows),
        item_factors=_taken(model.item_factors, columns),
        spread=spread,
    )


def _taken(table: NDArray[Any], rows: NDArray[np.int32], otherwise: Any = 0.0) -> NDArray[Any]:
    """table[rows], another value if the row is -1."""
    taken = table[rows].copy()
    taken[rows < 0] = otherwise
    return taken


def describe(run: Trained, joined: Joined) -> dict[str, Any]:
    """What was kept of a run, what was added, and how many ratings changed, as plain values."""
    new, ratings = int(joined.is_new.sum()), joined.ratings
    return {
        "kept": {"ratings": len(ratings) - new, "users": len(run.user_vocabulary), "items": len(run.item_vocabulary)},
        "added": {
            "ratings": new - joined.changed,
            "users": ratings.n_users - len(run.user_vocabulary),
            "items": ratings.n_items - len(run.item_vocabulary),
        },
        "changed": {"ratings": joined.changed},
    }
