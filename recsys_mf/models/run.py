"""Run: a trained model with the baselines fitted beside it, its vocabularies and how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recsys_mf.kernels import Predictor
from recsys_mf.models.factorization import Factorization
from recsys_mf.models.posterior import Posterior
from recsys_mf.models.rated import RatedPairs
from recsys_mf.vocabulary import Vocabulary

Model = Factorization | Posterior
"""What a solver ends in."""

KNOWN = ("neither", "user", "item", "both")  # indexed by known user + 2 * known item


@dataclass(frozen=True, eq=False)
class Fit:
    """A model and how it was fitted.

    model : the fitted model
    solver : name of the solver in the table of solvers
    settings : its hyper-parameters as plain values
    history : one mapping per epoch of the validated fit: epoch, train_rmse, valid_rmse, seconds
    epochs : number of epochs of the final fit, chosen on validation
    seconds : duration of the final fit; ratings_per_second : ratings visited over that duration
    train_rmse, valid_rmse : errors of the final fit on its training rows, and of the chosen epoch on the
        validation rows (None where none were cut)
    peak_memory : high-water mark of the process after the fit, bytes
    traces : of a sampler, its monitored scalars in the final fit, name -> chain -> sweep, burn-in included
    """

    model: Model
    solver: str
    settings: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]
    epochs: int
    seconds: float
    ratings_per_second: float
    train_rmse: float
    valid_rmse: float | None
    peak_memory: int
    traces: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Run:
    """What `training.train` returns and `store.save` writes.

    fit : the solver's model
    baselines : fits to compare with, by the label their report row carries, e.g. "svd bias"; every one is
        under the same vocabularies
    baseline : label of the baseline that differences are taken from
    user_vocabulary, item_vocabulary : ids of the training rows
    user_counts, item_counts : training ratings of every user and item, int64[m], int64[n]
    provenance : data fingerprint, split rule, seed, device, threads, library versions, as plain values
    rated : the training pairs, or None where they were not kept
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

    @property
    def model(self) -> Model:
        """The trained model, in dense indices."""
        return self.fit.model

    def on(self, engine: Predictor) -> Self:
        """The same run, its model predicting with another engine."""
        return replace(self, fit=replace(self.fit, model=self.model.on(engine)))

    def predict(self, user_ids: Any, item_ids: Any, times: Any = None) -> NDArray[np.float32]:
        """Predicted ratings float32[b] of pairs of ids; unknown ids get the fallback of the model.

        user_ids, item_ids : columns of b ids, integers or strings as in the training table
        times : seconds, int64[b], for a model that was trained with them; without, it takes an average time
        Raises DataError when the ids are of the other kind (integers against strings).
        """
        users = self.user_vocabulary.indices(user_ids, where="pairs, user ids")
        items = self.item_vocabulary.indices(item_ids, where="pairs, item ids")
        return self.model.predict(users, items, None if times is None else np.asarray(times, np.int64))

    def indices(
        self, user_ids: Any, item_ids: Any, *, where: str = "pairs"
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int8]]:
        """Dense indices of pairs of ids, -1 for unknown, and which the model knew: int8[b], an index into KNOWN.

        where : name of the table of pairs, for messages
        """
        users = self.user_vocabulary.indices(user_ids, where=f"{where}, user ids")
        items = self.item_vocabulary.indices(item_ids, where=f"{where}, item ids")
        known = (users >= 0).astype(np.int8) + 2 * (items >= 0).astype(np.int8)
        return users, items, known.astype(np.int8)
