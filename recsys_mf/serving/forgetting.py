"""Forgetting: a run without some of its users."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import ConfigError, FoldWarning
from recsys_mf.models import Factorization, Fit, FoldedIn, Model, RatedPairs
from recsys_mf.serving.joining import fingerprint_of_rated
from recsys_mf.serving.trained import Trained, find_known

R = TypeVar("R", bound=Trained)


def forget(run: R, user_ids: Any) -> R:
    """The run without these users: `Run.forget`."""
    users = np.unique(find_known(run, user_ids, "user"))
    kept = np.ones(len(run.user_vocabulary), np.bool_)
    kept[users] = False
    if not kept.any():
        fix = "delete the run"
        raise ConfigError("a run cannot forget all of its users", where="user ids", seen=f"{len(users):,}", fix=fix)
    changes: dict[str, Any] = {
        "fit": _without(run.fit, kept),
        "baselines": {label: _without(fit, kept) for label, fit in run.baselines.items()},
        "user_vocabulary": run.user_vocabulary.restricted(kept),
        "folded": _folded(run.folded, kept),
        "report": None,
    }
    before, facts = dict(run.provenance), {"users": len(users)}
    changes["user_counts"] = run.user_counts[kept]
    facts["ratings"] = int(run.user_counts[users].sum())
    if run.rated is not None:
        rated = _rated_by(run.rated, kept)
        changes |= {
            "rated": rated,
            "item_counts": np.bincount(rated.items, minlength=len(run.item_vocabulary)).astype(np.int64),
        }
        before["train_ratings"] = len(rated)
        before["train_fingerprint"] = fingerprint_of_rated(rated, changes["user_vocabulary"], run.item_vocabulary)
    earlier = before.get("forgotten", {"users": 0, "ratings": 0})
    changes["provenance"] = before | {"forgotten": {name: earlier[name] + facts[name] for name in facts}}
    warnings.warn(
        f"users forgotten: {facts['users']:,}, with their rows, their ids and {facts['ratings']:,} ratings. "
        "What stays: if the items were trained on some of these ratings, the factors and biases of the items still "
        "reflect them; to remove that too, train again without them",
        FoldWarning, stacklevel=3,
    )  # fmt: skip
    return replace(run, **changes)  # type: ignore[type-var]  # a Run


def _without(fit: Fit, kept: NDArray[np.bool_]) -> Fit:
    return replace(fit, model=_restricted(fit.model, kept))


def _restricted(model: Model, kept: NDArray[np.bool_]) -> Model:
    """The model with some of its users, whose rows do not change in any bit."""
    if not isinstance(model, Factorization):
        noise = model.noise
        if noise is not None:
            noise = noise.taken(kept, np.ones(model.n_items, np.bool_))
        return replace(model, user_rows=model.user_rows[kept], noise=noise)
    spread = model.spread
    if spread is not None:
        spread = replace(spread, user_variance=spread.user_variance[kept])
    return replace(model, user_bias=model.user_bias[kept], user_factors=model.user_factors[kept], spread=spread)


def _folded(folded: FoldedIn | None, kept: NDArray[np.bool_]) -> FoldedIn | None:
    if folded is None:
        return None
    users = folded.users[kept]
    return FoldedIn(users, folded.items) if users.any() or folded.items.any() else None


def _rated_by(rated: RatedPairs, kept: NDArray[np.bool_]) -> RatedPairs:
    lengths = np.diff(rated.starts)
    rows = np.repeat(kept, lengths)
    starts = np.concatenate([[0], np.cumsum(lengths[kept])]).astype(np.int64)
    return RatedPairs(starts, rated.items[rows], rated.values[rows])
