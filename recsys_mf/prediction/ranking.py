"""Ranking: the items with the highest scores for users, exactly, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arguments import whole
from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import ConfigError, DataError
from recsys_mf.kernels.backend import PredictionKernels
from recsys_mf.kernels.cpu.prediction import CPU
from recsys_mf.kernels.operands import LevelScores, TopQuery
from recsys_mf.models import Factorization, Model, Posterior
from recsys_mf.prediction.curves import rating_curves
from recsys_mf.prediction.inner import InnerRows, inner_rows, inner_rows_of_sample
from recsys_mf.prediction.intervals import check_probability, normal_quantile
from recsys_mf.prediction.pairs import check_indices, has_intervals, moments, samples_of

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

_PAIRS = 1 << 22  # scores in memory at a time, for a search that needs them
_QUERIES = 1 << 14  # users whose lists are found together


@dataclass(frozen=True)
class Mean:
    """Order by the predicted rating before it is clipped to the range of the ratings."""


@dataclass(frozen=True)
class Lower:
    """Order by m - z √variance, the lower end of the interval of this probability before it is clipped. An item about
    which little is known moves down the list. For an ordinal model m and the variance are those of its distribution of
    levels.
    """

    probability: float = 0.8


@dataclass(frozen=True)
class Draw:
    """Order by one sample of the posterior per user, chosen at random (Thompson sampling), so that uncertain items are
    tried too.

    seed : of the choice of samples. A user's sample depends only on it, not on which other users get lists
    """

    seed: int = 0


Score = Mean | Lower | Draw
"""What items are ordered by."""


class Ranked(NamedTuple):
    """The items int32[b, n] of b users, best first, and their scores float32[b, n]; -1 and -∞ after the last one."""

    items: I32
    scores: F32


def rank_items(
    model: Model,
    users: NDArray[Any],
    count: int,
    *,
    excluded: Csr | None = None,
    among: NDArray[Any] | None = None,
    score: Score = Mean(),
    backend: PredictionKernels = CPU,
) -> Ranked:
    """The `count` best items of every user, dense indices int32[b], by descending score; of items with equal scores,
    the one with the lower index is first.

    users : -1 for an unknown user, who has the prior mean
    excluded : row g has the items, ascending, that are left out for users[g]; None for none
    among : the items to choose from, ascending indices; None for all
    score : what items are ordered by, for a factorisation r̂_ui before it is clipped
    Raises ConfigError for a score that the model does not have, DataError for an index that it does not have and for
    items to choose from that do not ascend.
    """
    check_score(model, score)
    users = check_indices(users, model.n_users, "users")
    chosen = None if among is None else _check_among(among, model.n_items)
    shape = len(users), count
    found = Ranked(np.full(shape, -1, np.int32), np.full(shape, -np.inf, np.float32))
    for search in _searches(model, users, chosen, score, backend):
        for start in range(0, len(search.rows), search.step):
            rows = search.rows[start : start + search.step]
            columns, scores = search.find(users[rows], count, _take_rows(excluded, rows, chosen))
            found.items[rows] = columns if chosen is None else np.append(chosen, np.int32(-1))[columns]
            found.scores[rows] = scores
    return found


class _Search(NamedTuple):
    """How the lists of some users are found: rows int64 into the users, how many at a time, and the search itself."""

    rows: NDArray[np.int64]
    step: int
    find: Callable[[I32, int, Csr | None], tuple[I32, F32]]


def _searches(
    model: Model, users: I32, among: I32 | None, score: Score, backend: PredictionKernels
) -> Iterator[_Search]:
    """The searches for the lists of all users; if scores are inner products, no scores are stored."""
    everyone = np.arange(len(users))

    def by_product(rows: InnerRows) -> Callable[[I32, int, Csr | None], tuple[I32, F32]]:
        table = rows.items if among is None else rows.items[among]
        return lambda users, count, excluded: backend.find_top(rows.of_users(users), table, count, excluded)

    if isinstance(score, Draw) and isinstance(model, Posterior):
        # of all users and the unknown one, whose index -1 is the last
        samples = np.random.default_rng(score.seed).integers(model.n_samples, size=model.n_users + 1)[users]
        for s in np.unique(samples).tolist():
            yield _Search(np.flatnonzero(samples == s), _QUERIES, by_product(inner_rows_of_sample(model, s)))
    elif isinstance(score, Mean) and isinstance(model, Factorization):
        yield _Search(everyone, _QUERIES, by_product(inner_rows(model)))
    elif isinstance(model, Posterior) and model.noise is not None and model.is_ordinal:
        yield _Search(everyone, _QUERIES, _by_levels(model, among, score, backend))
    elif isinstance(model, Posterior) and (model.noise is None or not isinstance(score, Lower)):
        yield _Search(everyone, _QUERIES, _by_samples(model, among, score, backend))
    else:
        items = _all_items(model, among)
        step = max(1, _PAIRS // max(len(items), 1))
        yield _Search(
            everyone, step,
            lambda users, count, excluded: backend.select_top(
                _scores(model, users, items, score, backend), count, excluded
            ),
        )  # fmt: skip


def _by_levels(
    model: Posterior, among: I32 | None, score: Score, backend: PredictionKernels
) -> Callable[[I32, int, Csr | None], tuple[I32, F32]]:
    """The search by the expected level, or the lower end of an interval around it, for an ordinal model with personal
    noise.
    """
    z = normal_quantile(score.probability) if isinstance(score, Lower) else 0.0
    levels = model.scale.levels.astype(np.float64)
    centre = float(levels[0] + levels[-1]) / 2
    counted = LevelScores(model.thresholds, model.noises, levels - centre, (levels - centre) ** 2 if z else None, z)
    items, samples = _all_items(model, among), samples_of(model)

    def find(users: I32, count: int, excluded: Csr | None) -> tuple[I32, F32]:
        columns, scores = backend.find_top_of_levels(samples, TopQuery(users, items, count, excluded), counted)
        return columns, scores + np.float32(centre)

    return find


def _by_samples(
    model: Posterior, among: I32 | None, score: Score, backend: PredictionKernels
) -> Callable[[I32, int, Csr | None], tuple[I32, F32]]:
    """The search by a mean over samples, or by the lower end of an interval around it."""
    z = normal_quantile(score.probability) if isinstance(score, Lower) else 0.0
    curves, added = rating_curves(model, z)
    items, samples = _all_items(model, among), samples_of(model)

    def find(users: I32, count: int, excluded: Csr | None) -> tuple[I32, F32]:
        columns, scores = backend.find_top_of_samples(samples, TopQuery(users, items, count, excluded), curves)
        return columns, scores + np.float32(added)

    return find


def _all_items(model: Model, among: I32 | None) -> I32:
    return np.arange(model.n_items, dtype=np.int32) if among is None else among


def _scores(model: Model, users: I32, items: I32, score: Score, backend: PredictionKernels) -> F32:
    """The score of every user and item, [users, items]."""
    means, variances = moments(
        model,
        np.repeat(users, len(items)),
        np.tile(items, len(users)),
        backend,
        with_variances=isinstance(score, Lower),
    )
    if isinstance(score, Lower) and variances is not None:
        means = (means - normal_quantile(score.probability) * np.sqrt(variances)).astype(np.float32)
    return means.reshape(len(users), len(items))


def check_score(model: Model, score: Score) -> None:
    """Raise ConfigError for a score that the model does not have, or whose probability or seed is out of range."""
    if isinstance(score, Lower):
        check_probability(score.probability)
        if not has_intervals(model):
            fix = "order by the mean, or train a committee with validation rows, or gibbs"
            raise ConfigError("the model has no intervals to order by", seen="a plain factorisation", fix=fix)
    if isinstance(score, Draw):
        whole(score.seed, "seed")
        if isinstance(model, Factorization):
            fix = "order by the mean, or train with --solver gibbs"
            raise ConfigError("the model has no samples to draw from", seen="a factorisation", fix=fix)


def _check_among(among: NDArray[Any], n_items: int) -> I32:
    among = check_indices(among, n_items, "among")
    if (np.diff(among, prepend=np.int32(-1)) <= 0).any():
        fix = "give every item once, in the order of the indices"
        raise DataError("items to choose from do not ascend", where="among", fix=fix)
    return among


def _take_rows(matrix: Csr | None, rows: NDArray[np.int64], among: I32 | None) -> Csr | None:
    """Rows of a matrix, with columns as positions in `among`; entries of other columns are dropped."""
    if matrix is None:
        return None
    taken = matrix.take(rows)
    if among is None:
        return taken
    places = np.searchsorted(among, taken.columns)
    is_there = np.append(among, np.int32(-1))[places] == taken.columns
    return taken._replace(columns=places.astype(np.int32), n_columns=len(among)).keep(is_there)
