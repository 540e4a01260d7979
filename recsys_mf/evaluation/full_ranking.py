"""Full ranking: the protocol by which the recommendations of models are judged on test ratings.

Every user with a relevant test rating gets a list, unknown users too. The candidates are all items with a training
rating, never a sample of them, except those that the user rated in training. A relevant test item that is not a
candidate is a miss: it is in no list, but counts in R. Lists are in the order of predicted ratings before they are
clipped; if these are equal, the item with the lower id comes first. The figures are those of `ranking`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arguments import format_argument, is_finite, is_number, whole
from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import ConfigError, DataError
from recsys_mf.evaluation import ranking
from recsys_mf.evaluation.ranking import FIGURES, Figure
from recsys_mf.evaluation.report import Ranking
from recsys_mf.kernels.backend import PredictionKernels
from recsys_mf.models import Model, RatedPairs
from recsys_mf.prediction.ranking import rank_items
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run

USUAL_RELEVANT = 4.0
"""The lowest rating that is relevant if none is given, provided that the ratings go up to it."""

_USERS = 4096  # users whose lists are made at a time
_ENTRIES = 1 << 22  # of these lists, at most, if they are long


@dataclass(frozen=True)
class Top:
    """How a ranking is judged.

    n : items of a list
    relevant : the lowest rating of a relevant item; None for USUAL_RELEVANT, provided that the ratings go up to it
    """

    n: int
    relevant: float | None = None


def check_arguments(count: int | None, relevant: float | None) -> None:
    """Raise ConfigError for a number of items or a threshold that no table can have."""
    if count is None:
        if relevant is not None:
            fix = "leave it out, or give --ranking N (ranking=N)"
            raise ConfigError("has no effect without a ranking", where="relevant", seen=relevant, fix=fix)
        return
    whole(count, "ranking", 1)
    if relevant is not None and not (is_number(relevant) and is_finite(relevant)):
        raise ConfigError(
            "not a finite number",
            where="relevant",
            seen=format_argument(relevant),
            fix="give the lowest rating that is relevant",
        )


def least_relevant(count: int, relevant: float | None, *, n_items: int, rating_range: tuple[float, float]) -> float:
    """The lowest rating that is relevant, as the float32 that ratings are compared with.

    count : N
    relevant : as it was given; None for USUAL_RELEVANT
    n_items, rating_range : number of items with a training rating; lowest and highest training rating
    Raises ConfigError for more items than there are, for a threshold outside the range, and if none is given and the
    ratings do not reach USUAL_RELEVANT.
    """
    check_arguments(count, relevant)
    whole(count, "ranking", 1, n_items)
    low, high = rating_range
    if relevant is None and high < USUAL_RELEVANT:
        raise ConfigError(
            "which ratings are relevant is not known", where="relevant", seen=f"ratings from {low:g} to {high:g}",
            fix="give --relevant, the lowest rating that is relevant",
        )  # fmt: skip
    with np.errstate(over="ignore"):
        least = float(np.float32(USUAL_RELEVANT if relevant is None else relevant))
    if not low <= least <= high:
        fix = f"give a rating from {low:g} to {high:g}"
        raise ConfigError("outside the range of the ratings", where="relevant", seen=format_argument(relevant), fix=fix)
    return least


def require_relevant(values: NDArray[np.float32], least: float) -> None:
    """Raise DataError unless one of the test ratings is relevant; values : those that the model is not trained on."""
    if not (values >= np.float32(least)).any():
        seen = f"{len(values):,} test ratings, the highest {values.max():g}" if len(values) else "training rows only"
        fix = "lower --relevant or give more test ratings"
        raise DataError(f"no test rating is at least {least:g}, so there is nothing to rank", seen=seen, fix=fix)


@dataclass(frozen=True, eq=False)
class RankingTask:
    """For whom items are ranked, and which of them are relevant: the same for every model of a run.

    run : with its training pairs
    users : int32[b], of the models of the run, -1 for unknown
    relevant : row g has the relevant items of users[g] that the run knows, ascending
    n_relevant : int64[b], all relevant test ratings of users[g]
    candidates : int32[c], items with a training rating, ascending
    rule : the facts of the task for a report
    """

    run: Run
    users: NDArray[np.int32]
    relevant: Csr
    n_relevant: NDArray[np.int64]
    candidates: NDArray[np.int32]
    rule: Ranking

    @classmethod
    def of(cls, run: Run, test: Ratings, pairs: Ratings, top: Top) -> RankingTask:
        """The task of a test table.

        test, pairs : the table under its own vocabularies, and under those of the run
        top : N and the lowest rating that is relevant
        Raises what `least_relevant` and `require_relevant` raise, ConfigError if the run does not have its training
        pairs, DataError for test rows that have lost their user ids.
        """
        rated, candidates = _rated(run), np.flatnonzero(run.item_counts).astype(np.int32)
        low, high = run.provenance["rating_range"]
        least = least_relevant(top.n, top.relevant, n_items=len(candidates), rating_range=(low, high))
        _require_ids(test)
        is_new = ~rated.contains(pairs.users, pairs.items)
        require_relevant(test.values[is_new], least)
        rows = is_new & (test.values >= np.float32(least))
        _, first, numbers = np.unique(test.users[rows], return_index=True, return_inverse=True)
        users, items = pairs.users[rows][first], pairs.items[rows]
        rule = Ranking(
            count=int(top.n), relevant=least, n_users=len(users), unknown_users=_untrained(run.user_counts, users),
            n_relevant=len(items), unknown_items=_untrained(run.item_counts, items), n_candidates=len(candidates),
        )  # fmt: skip
        known = items >= 0
        by_user = _by_row(numbers[known], items[known], len(users), len(run.item_vocabulary))
        return cls(run, users, by_user, np.bincount(numbers), candidates, rule)

    def scored(self, model: Model, backend: PredictionKernels) -> dict[str, Figure]:
        """The figures of the lists of a model, by their names in `ranking.FIGURES`, then coverage and novelty."""
        rated, n_items = _rated(self.run), len(self.run.item_vocabulary)
        among = None if len(self.candidates) == n_items else self.candidates
        shown, values = np.zeros(n_items, np.int64), np.empty((len(FIGURES), len(self.users)))
        for part in self._parts():
            items, _ = rank_items(
                model, self.users[part], self.rule.count,
                excluded=rated.of_users(self.users[part]).pattern(), among=among, backend=backend,
            )  # fmt: skip
            shown += np.bincount(items[items >= 0], minlength=n_items)
            hits = ranking.find_hits(items, self.relevant.take(np.arange(part.start, part.stop)))
            for place, figure in enumerate(FIGURES.values()):
                values[place, part] = figure(hits, self.n_relevant[part])
        figures = {name: Figure.mean(of_users) for name, of_users in zip(FIGURES, values, strict=True)}
        figures["coverage"] = Figure(ranking.coverage(shown, self.candidates))
        surprise = ranking.novelty(shown, self.run.item_counts, int((self.run.user_counts > 0).sum()))
        return figures if surprise is None else figures | {"novelty": Figure(surprise)}

    def _parts(self) -> Iterator[slice]:
        step = max(1, min(_USERS, _ENTRIES // self.rule.count))
        for start in range(0, len(self.users), step):
            yield slice(start, min(start + step, len(self.users)))


def _rated(run: Run) -> RatedPairs:
    """The training pairs of a run. Raises ConfigError if it does not have them."""
    if run.rated is None:
        raise ConfigError(
            "the run does not keep its training ratings, so what its users have rated cannot be left out",
            where="ranking", fix="leave the ranking out, or train again without --no-keep-rated",
        )  # fmt: skip
    return run.rated


def _require_ids(test: Ratings) -> None:
    lost = int((test.users < 0).sum())
    if lost:
        fix = "give the table as it was read, e.g. split.test_as_read"
        raise DataError("unknown users without ids cannot be told apart", where="test", seen=f"{lost:,} rows", fix=fix)


def _untrained(counts: NDArray[np.int64], indices: NDArray[np.int32]) -> int:
    """How many of these users or items have no training rating; index -1 reads the appended zero."""
    return int((np.append(counts, 0)[indices] == 0).sum())


def _by_row(rows: NDArray[np.int64], columns: NDArray[np.int32], n_rows: int, n_columns: int) -> Csr:
    """The matrix with an entry at each of these places, columns ascending within a row."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_rows))])
    return Csr(starts, columns[np.lexsort((columns, rows))], None, n_columns)
