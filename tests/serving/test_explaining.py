"""Explanations: the effects add up to the fold-in prediction, and each moves with its rating."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys_mf.errors import ConfigError, DataError, ReadingNotice
from recsys_mf.models import Factorization
from recsys_mf.ratings import Ratings
from tests.serving.test_folding import NEW, factor_run
from tests.trained import posterior_run


def test_effects_and_base_add_up_to_the_fold_in_prediction() -> None:
    run = factor_run()
    assert run.rated is not None
    user, item = 7, 11
    found = run.explain(user, item)
    assert found.base + found.ratings["effect"].sum() == pytest.approx(found.folded, abs=1e-9)
    assert len(found.ratings) == np.diff(run.rated.starts)[user]
    own = slice(run.rated.starts[user], run.rated.starts[user + 1])
    twin = Ratings.from_ids([NEW] * len(found.ratings), run.rated.items[own], run.rated.values[own], None)
    folded = run.fold_in(twin)
    model = folded.model
    assert isinstance(model, Factorization)
    place = folded.user_vocabulary.indices([NEW])[0]
    predicted = (
        model.mean
        + model.user_bias[place]
        + model.item_bias[item]
        + model.user_factors[place] @ model.item_factors[item]
    )
    assert found.folded == pytest.approx(predicted, rel=1e-3)
    assert found.prediction == pytest.approx(run.predict(user, item), abs=1e-5)


def test_an_effect_is_the_slope_times_how_far_the_rating_is_from_the_usual() -> None:
    run = factor_run()
    assert run.rated is not None
    model = run.model
    assert isinstance(model, Factorization)
    before = run.explain(7, 11)
    row = before.ratings.iloc[0]
    place = int(run.rated.find(np.array([7]), np.array([int(row["item_id"])]))[0])
    values = run.rated.values.copy()
    values[place] += 1
    after = replace(run, rated=replace(run.rated, values=values)).explain(7, 11)
    usual = model.mean + model.item_bias[int(row["item_id"])]
    assert after.folded - before.folded == pytest.approx(row["effect"] / (row["rating"] - usual), rel=1e-4)


def test_the_largest_effects_come_first_and_titles_are_beside_them() -> None:
    run = factor_run()
    names = {"item_id": range(200), "title": [f"film {n}" for n in range(200)]}
    found = run.explain(7, 11, titles=names).ratings
    sizes = found["effect"].abs().to_numpy()
    assert (np.diff(sizes) <= 0).all()
    assert (found["title"] == "film " + found["item_id"].astype(str)).all()
    assert "the model predicts" in str(run.explain(7, 11))


def test_ratings_of_items_without_a_title_are_told() -> None:
    run = factor_run()
    rated = run.explain(7, 11).ratings["item_id"]
    gone = rated.iloc[0]
    names = {"item_id": (rest := rated[rated != gone].tolist()), "title": ["a film"] * len(rest)}
    told = rf"titles: 1 of the {len(rated)} items listed have no title, such as item {gone}"
    with pytest.warns(ReadingNotice, match=told):
        found = run.explain(7, 11, titles=names)
    assert found.ratings["title"].isna().sum() == 1


def test_what_cannot_be_explained_is_refused_in_one_line() -> None:
    run = factor_run()
    with pytest.raises(ConfigError, match="only a factorisation can be explained"):
        posterior_run().explain(5, 100)
    with pytest.raises(ConfigError, match="did not keep its training ratings"):
        replace(run, rated=None).explain(7, 11)
    with pytest.raises(DataError, match="the run has no item with this id"):
        run.explain(7, NEW)
    with pytest.raises(DataError, match="one id at a time"):
        run.explain([7, 8], 11)
