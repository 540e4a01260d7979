"""Recommending: from ids to ranked ids, for a few users in memory or for all of them into a file."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from recsys_mf import memory
from recsys_mf.arguments import choice, whole
from recsys_mf.errors import ConfigError, EmptyListWarning, IdMismatchWarning
from recsys_mf.kernels import predictor
from recsys_mf.loaders.names import note_unnamed, read_names
from recsys_mf.loaders.pairs import read_pairs
from recsys_mf.loaders.writing import TABLES, open_table
from recsys_mf.models import RatedPairs
from recsys_mf.outputs import check_output, written_output
from recsys_mf.prediction.ranking import Draw, Lower, Mean, Ranked, Score, check_score, rank_items
from recsys_mf.ratings import Ratings
from recsys_mf.serving.trained import FOLD_IN, Trained, find_known
from recsys_mf.storage import Place, place

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

I32 = NDArray[np.int32]

SCORES: dict[str, Callable[[], Score]] = {"mean": Mean, "lower": Lower, "draw": Draw}
"""What items can be ordered by, under the names that are typed."""

_USERS, _ENTRIES = 1 << 14, 1 << 22  # limits of a batch that is written: users, and items in all their lists


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """What the lists contain, and where they are computed.

    n : items per list, at least 1; a list is shorter if fewer items are left
    exclude : "rated", the items that the user has rated in the run's training ratings; "none"; or a table of pairs
        (`Ratings`, a path or a frame; ratings are not needed), to leave out in addition to those that the run keeps
    among : ids of the items to choose from; None for all. An id that the run does not have is an error
    titles : a table with a row per item and a column title or name (a path or a frame); None for no titles
    score : "mean", "lower" or "draw", or an object of `prediction.ranking`: Lower(probability), Draw(seed)
    device : "cpu", "cuda" or "auto", which is CUDA if available
    threads : number of CPU threads; None for all available
    """

    n: int = 10
    exclude: Any = "rated"
    among: Any = None
    titles: Any = None
    score: str | Score = "mean"
    device: str = "auto"
    threads: int | None = None


class Recommender:
    """The lists of a run's users: options are checked and tables read once, lists are made on demand."""

    def __init__(self, run: Trained, options: ListOptions = ListOptions()) -> None:
        """Raises ConfigError for an option out of range, for training ratings that the run did not keep, and for a
        score that the model does not have; DataError for a table that does not fit and for unknown items. Warns with
        IdMismatchWarning if the run knows none of the pairs to leave out.
        """
        self.run = run
        self.n = min(whole(options.n, "n", 1), max(1, run.model.n_items))
        self._score = _score(options.score)
        check_score(run.model, self._score)
        self._backend = predictor(options.device, options.threads)
        self._among = _among(run, options.among)
        self._rated = _excluded(run, options.exclude)
        self._titles = None if options.titles is None else read_names(options.titles, "item", run.item_vocabulary)
        self._listed = np.zeros(run.model.n_items, np.bool_)
        self.without = 0  # users whose list was empty so far

    def rank(self, users: I32) -> Ranked:
        """The lists of users, dense indices int32[b]."""
        excluded = () if self._rated is None else tuple(rated.of_users(users) for rated in self._rated)
        return rank_items(
            self.run.model, users, self.n,
            excluded=_joined(excluded), among=self._among, score=self._score, backend=self._backend,
        )  # fmt: skip

    def batch(self, users: I32) -> pa.RecordBatch:
        """The lists as rows: user_id, rank from 1, item_id, title if there are titles, score."""
        import pyarrow as pa

        found = self.rank(users)
        is_item = found.items >= 0
        items = found.items[is_item]
        self._listed[items] = True
        self.without += int((~is_item.any(axis=1)).sum())
        ranks = np.broadcast_to(np.arange(1, self.n + 1, dtype=np.int32), found.items.shape)[is_item]
        columns: dict[str, Any] = {
            "user_id": self.run.user_vocabulary.ids(np.repeat(users, is_item.sum(1))),
            "rank": pa.array(ranks),
            "item_id": self.run.item_vocabulary.ids(items),
        }
        if self._titles is not None:
            columns["title"] = self._titles.take(pa.array(items))
        columns["score"] = pa.array(found.scores[is_item])
        return pa.RecordBatch.from_pydict(columns)

    @cached_property
    def everyone(self) -> I32:
        """All users of the run."""
        return np.arange(len(self.run.user_vocabulary), dtype=np.int32)

    def batches(self, users: I32) -> Iterator[tuple[I32, pa.RecordBatch]]:
        """Users, part by part, and their lists as rows; at least one part."""
        step = min(_USERS, max(1, _ENTRIES // self.n))
        for start in range(0, max(len(users), 1), step):
            part = users[start : start + step]
            yield part, self.batch(part)

    def note_empty(self) -> None:
        """Warn, as an EmptyListWarning, if some of the lists so far are empty."""
        if self.without:
            warnings.warn(f"no items are left for {self.without:,} of the users", EmptyListWarning, stacklevel=4)

    def note_untitled(self) -> None:
        """Warn, as a ReadingNotice, that some of the items listed so far have no title, if titles were given."""
        if self._titles is not None:
            note_unnamed(self._titles, np.flatnonzero(self._listed), "item", self.run.item_vocabulary)


def recommend(run: Trained, user_ids: Any, options: ListOptions) -> pd.DataFrame:
    """The lists of users by their ids, or of all if user_ids is None, a row per item: `Run.recommend`."""
    recommender = Recommender(run, options)
    users = recommender.everyone if user_ids is None else find_known(run, user_ids, "user", advice=FOLD_IN)
    with memory.guarded("recommending", fix="ask for fewer users at a time, or write the lists to a file"):
        lists = cast("pd.DataFrame", recommender.batch(users).to_pandas())
    recommender.note_untitled()
    recommender.note_empty()
    return lists


def recommend_to_file(
    recommender: Recommender,
    users: I32,
    output: str | Place,
    *,
    force: bool = False,
    watch: Callable[[int], None] = lambda users: None,
) -> int:
    """Write the lists of users, dense indices, as rows of a table (.parquet, .csv or .tsv), in bounded memory.

    watch : called with the number of users of every batch
    Returns the number of rows. Raises ConfigError for another suffix and for an output that exists.
    """
    output = place(output)
    check_output(output, "output", TABLES, force=force)
    rows, writer = 0, None
    guard = memory.guarded("recommending", fix="free some memory")
    with guard, written_output(output, force=force) as path, contextlib.ExitStack() as stack:
        for part, batch in recommender.batches(users):
            if writer is None:
                writer = stack.enter_context(contextlib.closing(open_table(path, output.suffix, batch.schema)))
            writer.write_batch(batch)
            rows += len(batch)
            watch(len(part))
    recommender.note_untitled()
    recommender.note_empty()
    return rows


def _score(score: str | Score) -> Score:
    if isinstance(score, Mean | Lower | Draw):
        return score
    return SCORES[choice(score, "score", SCORES)]()


def _among(run: Trained, ids: Any) -> I32 | None:
    return None if ids is None else np.unique(find_known(run, ids, "item", where="among, item ids"))


def _excluded(run: Trained, exclude: Any) -> tuple[RatedPairs, ...] | None:
    """The pairs that are left out, None for none."""
    if isinstance(exclude, str) and exclude == "none":
        return None
    if isinstance(exclude, str) and exclude == "rated":
        if run.rated is None:
            fix = "give a table of ratings to leave out, or 'none'; or train without --no-keep-rated"
            raise ConfigError("the run did not keep its training ratings", where="exclude", seen="'rated'", fix=fix)
        return (run.rated,)
    if isinstance(exclude, str) and exclude.isidentifier() and not os.path.exists(exclude):
        fix = "give 'rated', 'none' or a table of pairs"
        raise ConfigError("neither a choice nor a file", where="exclude", seen=repr(exclude), fix=fix)
    if exclude is None:
        fix = "give 'rated', 'none' or a table of pairs"
        raise ConfigError("neither a choice nor a table", where="exclude", seen="None", fix=fix)
    known = _known_pairs(run, exclude)
    return (known,) if run.rated is None else (run.rated, known)


def _known_pairs(run: Trained, table: Any) -> RatedPairs:
    """The pairs of a table that a run knows, each once."""
    if isinstance(table, Ratings):
        table = table.reindexed(run.user_vocabulary, run.item_vocabulary)
        users, items = table.users, table.items
    else:
        users, items = read_pairs(table, run, where="exclude")
    is_known = (users >= 0) & (items >= 0)
    if len(users) and not is_known.any():
        text = f"exclude: the run does not know both ids of any of the {len(users):,} pairs, so none is left out"
        warnings.warn(text, IdMismatchWarning, stacklevel=2)
    n_items = max(1, len(run.item_vocabulary))
    keys = np.unique(users[is_known].astype(np.int64) * n_items + items[is_known])
    starts = np.searchsorted(keys, np.arange(len(run.user_vocabulary) + 1) * n_items)
    return RatedPairs(starts, (keys % n_items).astype(np.int32), np.ones(len(keys), np.float32))


def _joined(matrices: tuple[Any, ...]) -> Any:
    """The pattern of one or two matrices of the same rows, ascending in every row; None if there is none."""
    if len(matrices) < 2:
        return matrices[0].pattern() if matrices else None
    first, second = matrices
    n = max(first.n_columns, second.n_columns)
    rows = [np.repeat(np.arange(m.n_rows), np.diff(m.starts)) for m in matrices]
    keys = np.unique(np.concatenate([r * n + m.columns for r, m in zip(rows, matrices, strict=True)]))
    starts = np.searchsorted(keys, np.arange(first.n_rows + 1) * n)
    return first._replace(starts=starts, columns=(keys % max(n, 1)).astype(np.int32), values=None, n_columns=n)
