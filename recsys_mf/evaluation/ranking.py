"""Figures of recommendation lists: NDCG, recall, precision, MAP, MRR, hit rate, coverage and novelty at N.

For one user with a list of N items, best first, and R relevant items, let h_k be 1 if the item at place k of the list
is relevant, else 0, and H_k = h_1 + … + h_k. A list may be shorter than N; its missing places have h_k = 0.

    NDCG      Σ_k h_k / log₂(k + 1), divided by its maximum Σ_{k ≤ min(N, R)} 1 / log₂(k + 1)
    recall    H_N / R
    precision H_N / N
    MAP       the mean over users of  Σ_k h_k (H_k / k) / R
    MRR       the mean over users of  1 / k for the smallest k with h_k = 1, and 0 if there is none
    hit rate  1 if H_N > 0, else 0

These are the measures ndcg_cut, recall, P, map_cut, recip_rank (of the first N) and success of trec_eval, so MAP is
divided by R and not by min(N, R): with more than N relevant items it stays below 1, and so does recall. ranx and
ir-measures compute the same. (Järvelin, Kekäläinen: Cumulated gain-based evaluation of IR techniques, 2002; for MRR
Voorhees: The TREC-8 question answering track report, 1999.)

A mean over u users whose figures have the standard deviation s has the standard error s / √u.

Over all lists together:

    coverage  the share of the candidate items that are in any list
    novelty   the mean over all entries of all lists of -log₂(the share of users who rated the item)

(Herlocker et al.: Evaluating collaborative filtering recommender systems, 2004; Vargas, Castells: Rank and relevance in
novelty and diversity metrics for recommender systems, 2011.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import sorting
from recsys_mf.arrays.csr import Csr

Vector = NDArray[np.float64]
Hits = NDArray[np.bool_]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Figure:
    """A figure of the lists of one model.

    standard_error : of a mean over two users or more; None for a single user, and for a figure that is not a mean
    """

    value: float
    standard_error: float | None = None

    @classmethod
    def mean(cls, values: Vector) -> Figure:
        """The mean of float64[u], the figures of users."""
        error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
        return cls(float(values.mean()), error)


def find_hits(items: NDArray[np.int32], relevant: Csr) -> Hits:
    """Which entries of lists are relevant, bool[b, N].

    items : int32[b, N], -1 where a list has ended
    relevant : row g has the relevant items of list g, ascending
    """
    rows = np.repeat(np.arange(len(items), dtype=np.int32), items.shape[1])
    places = sorting.find_pairs(relevant.starts, relevant.columns, rows, items.ravel())
    return (places >= 0).reshape(items.shape)


def ndcg(hits: Hits, n_relevant: Counts) -> Vector:
    """Normalised discounted cumulated gain of every list, float64[b].

    hits : bool[b, N]; n_relevant : int64[b], R >= 1 of every user, also of items that cannot be in a list
    """
    n = hits.shape[1]
    discounts = 1 / np.log2(np.arange(2, n + 2))
    best = np.cumsum(discounts)
    gained: Vector = (hits @ discounts) / best[np.minimum(n, n_relevant) - 1]
    return gained


def recall(hits: Hits, n_relevant: Counts) -> Vector:
    """Share of the relevant items that are in the list; arguments as in `ndcg`."""
    found: Vector = hits.sum(axis=1) / n_relevant
    return found


def precision(hits: Hits, n_relevant: Counts) -> Vector:
    """Share of the N places that have a relevant item; arguments as in `ndcg`."""
    found: Vector = hits.mean(axis=1, dtype=np.float64)
    return found


def average_precision(hits: Hits, n_relevant: Counts) -> Vector:
    """Σ_k h_k (H_k / k) / R; arguments as in `ndcg`."""
    precisions = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    found: Vector = (hits * precisions).sum(axis=1) / n_relevant
    return found


def reciprocal_rank(hits: Hits, n_relevant: Counts) -> Vector:
    """1 / place of the first relevant item, 0 if there is none; arguments as in `ndcg`."""
    found: Vector = hits.any(axis=1) / (hits.argmax(axis=1) + 1.0)
    return found


def hit_rate(hits: Hits, n_relevant: Counts) -> Vector:
    """1 if a relevant item is in the list, else 0; arguments as in `ndcg`."""
    return np.where(hits.any(axis=1), 1.0, 0.0)


FIGURES: dict[str, Callable[[Hits, Counts], Vector]] = {
    "ndcg": ndcg,
    "recall": recall,
    "precision": precision,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "hit_rate": hit_rate,
}
"""Every mean over users by its name in a report, in the order of its columns; coverage and novelty follow."""


def coverage(shown: Counts, candidates: NDArray[Any]) -> float:
    """Share of the candidates (indices [c], c >= 1) that are in any list.

    shown : int64[n], the number of lists that have each item
    """
    return float((shown[candidates] > 0).mean())


def novelty(shown: Counts, raters: Counts, n_users: int) -> float | None:
    """Mean of -log₂(raters / n_users) over the entries of all lists; None if all lists are empty.

    shown : int64[n], the number of lists that have each item
    raters : int64[n], the number of users who rated each item, at least 1 for the items in a list
    n_users : the number of all users
    """
    entries = np.flatnonzero(shown)
    if not len(entries):
        return None
    surprises = -np.log2(raters[entries] / n_users)
    return float(np.average(surprises, weights=shown[entries]))
