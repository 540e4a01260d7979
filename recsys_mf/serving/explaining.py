"""Explaining: which of a user's own ratings move a prediction, and by how much.

With the items fixed, the row of a user is linear in its ratings (`folding`), so a prediction is a sum over them:

    r̂_ui = μ + b_i + y_i · A⁻¹ κ C⁻¹ m + Σ_j y_i · A⁻¹ y_j (r_uj - μ - b_j),    A = Σ_j y_j y_jᵀ + κ C⁻¹

The terms before the sum are the prediction for a user about whom nothing is known; a term of the sum is positive if the
rating raises the prediction. All together are the fold-in prediction before clipping. The prediction of the model is
not the same, since its row was trained together with all others; both are given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_mf.arrays.threads import limit_blas
from recsys_mf.errors import ConfigError, DataError
from recsys_mf.kernels.cpu.prediction import CPU
from recsys_mf.loaders.names import note_unnamed, read_names
from recsys_mf.models import Factorization
from recsys_mf.prediction.pairs import moments
from recsys_mf.serving.folding import precision_of
from recsys_mf.serving.joining import is_weighted
from recsys_mf.serving.population import Population, Rows
from recsys_mf.serving.trained import Trained, find_known, is_single, trained_rows

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why the model predicts a rating of an item for a user; all in rating units, none clipped.

    prediction : the model's; folded : the fold-in prediction, which is base plus the sum of the effects
    base : what is predicted without a rating of the user
    ratings : a pandas frame of the user's ratings by descending size of their effect: item_id, title (with titles),
        rating, effect
    """

    prediction: float
    folded: float
    base: float
    ratings: pd.DataFrame

    def __str__(self) -> str:
        """The predictions in words, and the table of the ratings."""
        said = (
            f"the model predicts {self.prediction:.3f}; from the user's own ratings alone {self.folded:.3f} "
            f"= {self.base:.3f} without them {self.folded - self.base:+.3f} by them"
        )
        return f"{said}\n{self.ratings.to_string(index=False)}"


def explain(run: Trained, user_id: Any, item_id: Any, titles: Any) -> Explanation:
    """The terms of a prediction: `Run.explain`."""
    import pyarrow as pa

    model = run.model
    if not isinstance(model, Factorization):
        fix = "explain a run of sgd or als"
        raise ConfigError("only a factorisation can be explained", seen=f"a model of {run.fit.solver}", fix=fix)
    if is_weighted(run):
        fix = "explain a run that was trained without weights"
        raise ConfigError("the run was trained with weights, which it does not keep", where="the run", fix=fix)
    if run.rated is None:
        fix = "train without --no-keep-rated"
        raise ConfigError("the run did not keep its training ratings", where="the run", fix=fix)
    for name, given in (("user_id", user_id), ("item_id", item_id)):
        if not is_single(given):
            raise DataError("one id at a time is explained", where=name, seen=type(given).__name__, fix="give one id")
    user, item = find_known(run, user_id, "user"), find_known(run, item_id, "item")
    names = None if titles is None else read_names(titles, "item", run.item_vocabulary)
    with limit_blas():
        population = Population.of(Rows.of(model, "user").select(trained_rows(run, "user")))
    own = run.rated.of_users(user)
    Y = np.column_stack([model.item_factors, np.ones(model.n_items)])
    base, effects = model.mean + float(model.item_bias[item[0]]), np.zeros(len(own.columns))
    if population is not None:
        y_i, y, ridge = (
            Y[item[0]],
            Y[own.columns],
            precision_of(run.fit) * population.precision(np.ones(model.rank + 1)),
        )
        influence = np.linalg.solve(y.T @ y + ridge, y_i)  # A⁻¹ y_i
        base += float(influence @ ridge @ population.mean)
        effects = (y @ influence) * (own.values - model.mean - model.item_bias[own.columns])
    order = np.argsort(-np.abs(effects), kind="stable")
    columns: dict[str, Any] = {"item_id": run.item_vocabulary.ids(own.columns[order])}
    if names is not None:
        note_unnamed(names, own.columns, "item", run.item_vocabulary)
        columns["title"] = names.take(pa.array(own.columns[order]))
    columns |= {"rating": own.values[order], "effect": effects[order]}
    predicted = float(moments(model, user, item, CPU, with_variances=False)[0][0])
    return Explanation(predicted, base + float(effects.sum()), base, pa.table(columns).to_pandas())
