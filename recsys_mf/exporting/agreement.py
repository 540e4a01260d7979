"""Agreement: how much a score orders the items of a user as the model does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.kernels.cpu.prediction import CPU
from recsys_mf.models import Factorization, Model, Posterior
from recsys_mf.prediction.inner import inner_rows
from recsys_mf.prediction.pairs import moments

_MOST_USERS, _FEWEST_USERS = 500, 20
_WORK = 10**9  # terms of predictions that are computed, so that measuring takes seconds and not hours
_TOP = 10
_PAIRS = 1 << 22  # scores that are held at a time

F64 = NDArray[np.float64]


class Agreement(NamedTuple):
    """Means over some users, evenly spaced, each with all items.

    users : how many; top : length of the lists compared
    spearman : rank correlation of the two scores; None if no user has items with different scores
    overlap : share of the top items that both lists have
    """

    users: int
    spearman: float | None
    top: int
    overlap: float


def measure_agreement(model: Model, scores: Factorization) -> Agreement | None:
    """How the scores order the items compared with the predictions of a model before clipping, at an average time.

    For at most 500 users; for fewer, but at least 20, if the model has many items and samples. None if there are no
    users or fewer than two items.
    """
    if not model.n_users or model.n_items < 2:
        return None
    users = _chosen_users(model)
    rows, top = inner_rows(scores), min(_TOP, model.n_items)
    step = max(1, _PAIRS // model.n_items)
    correlations, overlaps = [], []
    for start in range(0, len(users), step):
        part = users[start : start + step]
        exact, exported = _predictions(model, part), rows.of_users(part) @ rows.items.T
        correlations.append(_correlations(exact, exported))
        overlaps.append((_is_top(exact, top) & _is_top(exported, top)).sum(1) / top)
    known = np.concatenate(correlations)
    known = known[~np.isnan(known)]
    spearman = float(known.mean()) if len(known) else None
    return Agreement(len(users), spearman, top, float(np.concatenate(overlaps).mean()))


def _chosen_users(model: Model) -> NDArray[np.int32]:
    """Users whose rankings are compared, as many as can be in reasonable time."""
    terms = 1
    if isinstance(model, Posterior):
        terms = model.n_samples * (1 + model.thresholds.shape[1])
    affordable = max(_FEWEST_USERS, _WORK // (terms * model.n_items))
    n_users = min(_MOST_USERS, affordable, model.n_users)
    return np.linspace(0, model.n_users - 1, n_users).astype(np.int32)


def _predictions(model: Model, users: NDArray[np.int32]) -> NDArray[np.float32]:
    """The predictions of a model for these users and all items, not clipped, [users, items]."""
    items = np.arange(model.n_items, dtype=np.int32)
    pairs = np.repeat(users, len(items)), np.tile(items, len(users))
    return moments(model, *pairs, CPU, with_variances=False)[0].reshape(len(users), len(items))


def _correlations(left: NDArray[np.float32], right: NDArray[np.float32]) -> F64:
    """Spearman's correlation of every row of two matrices; NaN if all entries of a row are equal."""
    from scipy.stats import rankdata

    x, y = (ranks - ranks.mean(1, keepdims=True) for ranks in (rankdata(left, axis=1), rankdata(right, axis=1)))
    spread = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    correlations: F64 = np.divide((x * y).sum(1), spread, out=np.full(len(x), np.nan), where=spread > 0)
    return correlations


def _is_top(scores: NDArray[np.float32], top: int) -> NDArray[np.bool_]:
    """Which entries are among the highest of their row; of equal ones those of lower index."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    is_top = np.zeros(scores.shape, np.bool_)
    np.put_along_axis(is_top, best, True, axis=1)
    return is_top
