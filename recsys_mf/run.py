"""Run: a trained model with its baselines, its vocabularies and the record of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arguments import whole
from recsys_mf.errors import ConfigError
from recsys_mf.models import Fit, FoldedIn, Model, RatedPairs
from recsys_mf.serving.trained import as_column, is_single
from recsys_mf.vocabulary import Vocabulary

KNOWN = ("neither", "user", "item", "both")  # indexed by known user + 2 * known item


@dataclass(frozen=True, eq=False)
class Run:
    """What `training.train` returns and `store.save` writes.

    fit : the solver's model
    baselines : fits to compare with, by the label of their row in the report, e.g. "svd bias"; all under the same
        vocabularies
    baseline : label of the baseline that differences are taken from
    user_vocabulary, item_vocabulary : ids of the training rows
    user_counts, item_counts : training ratings of every user and item, int64[m], int64[n]
    provenance : everything needed to repeat the run, as plain values: `recsys_mf.training.provenance` lists the keys
    rated : the training pairs, or None if they were not kept
    folded : which users and items were folded in, or None if none was
    report : an evaluation.Report: after `train`, of the errors on the validation rows; after `Experiment.run`, of those
        on the held-out rows; None for a run that was loaded
    """

    fit: Fit
    baselines: Mapping[str, Fit]
    baseline: str
    user_vocabulary: Vocabulary
    item_vocabulary: Vocabulary
    user_counts: NDArray[np.int64]
    item_counts: NDArray[np.int64]
    provenance: Mapping[str, Any]
    rated: RatedPairs | None = None
    folded: FoldedIn | None = None
    report: Any = None

    def __repr__(self) -> str:
        """In a line, without its arrays."""
        sizes = f"{len(self.user_vocabulary):,} users, {len(self.item_vocabulary):,} items"
        return f"Run({self.fit.solver}, rank {self.fit.rank}, {sizes}, {int(self.user_counts.sum()):,} ratings)"

    @property
    def model(self) -> Model:
        """The trained model, in dense indices."""
        return self.fit.model

    def predict(self, user_ids: Any, item_ids: Any = None, times: Any = None) -> Any:
        """Predicted ratings float32[b] of pairs of ids; unknown ids get the fallback of the model.

        user_ids, item_ids : columns of b ids, integers or strings as in the training table; or a single id, which is
            paired with every id of the other column. For two single ids the result is a float
        times : as in `conversion.time_seconds`, [b] or one for all pairs, for a model that was trained with them;
            without times it uses an average time
        Raises DataError if the ids are strings and the training ids integers or the reverse, and for columns of
        different lengths; ConfigError for a single argument, and for times if the model was trained without them.
        """
        from recsys_mf.prediction import predict, takes_times

        if (
            times is None and _is_column(user_ids) and _is_column(item_ids)
        ):  # the fast path, for the few pairs of a request to a server
            users = self.user_vocabulary.indices(user_ids, where="pairs, user ids")
            return predict(self.model, users, self.item_vocabulary.indices(item_ids, where="pairs, item ids")).values
        if item_ids is None:
            fix = (
                "write run.predict(user_ids, item_ids), or for a table run.predict(table['user_id'], table['item_id'])"
            )
            raise ConfigError("a prediction needs users and items", seen=f"one {type(user_ids).__name__}", fix=fix)
        if times is not None and not takes_times(self.model):
            fix = "leave times out, or train with gibbs and times"
            raise ConfigError("the model was trained without times", where="times", seen=type(times).__name__, fix=fix)
        given = (user_ids, item_ids)
        single = [is_single(ids) for ids in given]
        columns = [as_column(ids, f"pairs, {side} ids") for ids, side in zip(given, ("user", "item"), strict=True)]
        length = next((len(ids) for ids, alone in zip(columns, single, strict=True) if not alone), 1)
        users, items = (
            np.repeat(vocabulary.indices(ids, where=f"pairs, {side} ids"), length if alone else 1)
            for vocabulary, ids, alone, side in zip(
                (self.user_vocabulary, self.item_vocabulary), columns, single, ("user", "item"), strict=True
            )
        )
        predictions = predict(self.model, users, items, None if times is None else _seconds(times, length)).values
        return float(predictions[0]) if all(single) else predictions

    def recommend(
        self,
        user_ids: Any = None,
        n: int = 10,
        *,
        exclude: Any = "rated",
        among: Any = None,
        titles: Any = None,
        score: Any = "mean",
    ) -> Any:
        """The n best items of users, exactly, as a pandas frame: user_id, rank, item_id, title (with titles), score.

        user_ids : a column of ids, or a single id; None for all users of the run
        exclude : "rated" leaves out the items that the user rated in training; "none"; or a table of ratings, to leave
            out its pairs in addition to those of the training ratings
        among : ids of the items to choose from; None for all
        titles : a table of the items with a column title or name (a path or a frame)
        score : what items are ordered by: "mean", the predicted rating before it is clipped to the scale; "lower", the
            lower end of its 80 % interval; "draw", one sample of the posterior per user (Thompson sampling); or an
            object of `prediction.ranking`. Items with equal scores are in the order of their ids
        Warns with EmptyListWarning if nothing is left for some users. Raises DataError for an id that the run does not
        know: give a new user's ratings to `fold_in`. Raises
        ConfigError if the run did not keep its ratings, and for a score that the model does not have.
        """
        from recsys_mf.serving.recommending import ListOptions, recommend

        options = ListOptions(n=n, exclude=exclude, among=among, titles=titles, score=score)
        return recommend(self, user_ids, options)

    def similar(self, ids: Any, n: int = 10, *, side: Any = "item", titles: Any = None) -> Any:
        """The n items (or users) most similar to each of the given ones, as a pandas frame: the id, rank, the similar
        id, title (with titles), and the cosine of their factors (`prediction.similarity`).

        ids : a column of ids, or a single id; side : "item" or "user"; titles : as in `recommend`
        Raises DataError for an id that the run does not know.
        """
        from recsys_mf.serving.similar import list_similar

        return list_similar(self, ids, n, side, titles)

    def explain(self, user_id: Any, item_id: Any, *, titles: Any = None) -> Any:
        """Which of the user's own ratings move the prediction of an item, and by how much (`serving.explaining`).

        titles : as in `recommend`
        Returns an Explanation: prediction, folded, base, and ratings, a pandas frame with the effect of every rating;
        print it to read it. Raises DataError for an unknown id, ConfigError for a run that did not keep its ratings and
        for a model that is sampled.
        """
        from recsys_mf.serving.explaining import explain

        return explain(self, user_id, item_id, titles)

    def fold_in(self, ratings: Any, *, side: Any = "user", seed: int = 0) -> Run:
        """The run with new users added and known users updated, by one row solve each; everything else stays.

        ratings : a table of ratings (`Ratings`, a path or a frame), which may hold new users and known ones; a new
            rating of a pair replaces the old one
        side : "user", or "item" to add and update items, the users fixed
        seed : of the draws of rows of a sampled model
        Their rows, biases and intervals are computed as in `serving.folding`; so are those of the baselines. The other
        side learns nothing from these ratings: from time to time train again, or continue with train(…, start=run).
        Rows that were folded in before do not take part, so the order of new users does not matter; a user of the
        training table takes part with its row, which is the new one if it was updated.
        Warns with FoldWarning if some ratings are not used, because the model does not know their items, and if some
        are far outside the range of the training ratings. Raises DataError if the model knows none of the items,
        ConfigError for a run that did not keep its training ratings and for a model with times or side information.
        """
        from recsys_mf.kernels import select
        from recsys_mf.serving.folding import fold_in

        rng = np.random.default_rng(whole(seed, "seed"))
        return fold_in(self, ratings, side, rng, select("cpu"))

    def forget(self, user_ids: Any) -> Run:
        """The run without these users: their rows, ids and ratings are gone, everything else is the same bit for bit.

        user_ids : a column of ids, or a single id
        For users that were folded in, this undoes exactly what was added, also if others were folded in since. For
        users of the training table, the factors and biases of items still depend on their ratings; a FoldWarning says
        so. Raises DataError for an id that the run does not know, ConfigError if no user would be left.
        """
        from recsys_mf.serving.forgetting import forget

        return forget(self, user_ids)

    def indices(
        self, user_ids: Any, item_ids: Any, *, where: str = "pairs"
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int8]]:
        """Dense indices of pairs of ids, -1 for unknown, and which ids the model knows: int8[b], an index into KNOWN.

        where : name of the table of pairs, for messages
        """
        users = self.user_vocabulary.indices(user_ids, where=f"{where}, user ids")
        items = self.item_vocabulary.indices(item_ids, where=f"{where}, item ids")
        known = (users >= 0).astype(np.int8) + 2 * (items >= 0).astype(np.int8)
        return users, items, known.astype(np.int8)


def _is_column(ids: Any) -> bool:
    """Whether the argument is certainly a column of ids."""
    return type(ids) is list or (type(ids) is np.ndarray and ids.ndim == 1)


def _seconds(times: Any, length: int) -> NDArray[np.int64]:
    """The times of this many pairs as seconds; a single time is used for all."""
    from recsys_mf.conversion import Origin, time_seconds

    if np.ndim(times):
        return time_seconds(times, Origin("times"))[0]
    one = times.item() if isinstance(times, np.ndarray) else times
    return np.repeat(time_seconds([one], Origin("times"))[0], length)
