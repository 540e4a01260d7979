"""The estimators of scikit-learn: they pass its checks and work in its tools."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn")

import joblib
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

import recsys_mf
from recsys_mf.sklearn import MatrixCompleter, RatingRegressor
from recsys_mf.training import BASELINE, baselines
from tests.trained import small_table

WIDE = "it fits tables of four and more columns; ratings have two, users and items, and perhaps times"
FORBIDDEN = {
    "check_no_attributes_set_in_init": "the settings of all solvers cannot be in one signature: they are kept together",
    "check_n_features_in_after_fitting": WIDE,
    "check_estimators_dtypes": WIDE,
    "check_dtype_object": WIDE,
    "check_regressors_train": WIDE,
    "check_regressor_data_not_an_array": WIDE,
    "check_regressors_no_decision_function": WIDE,
    "check_regressors_int": WIDE,
    "check_sample_weight_equivalence_on_dense_data": WIDE,
    "check_all_zero_sample_weights_error": WIDE,  # from scikit-learn 1.9
    "check_positive_only_tag_during_fit": "it fits fractions; ids are whole numbers or texts",
}
"""The checks that `RatingRegressor` cannot pass, with the reason: they forbid what it is for."""


def table() -> tuple[pd.DataFrame, pd.Series]:
    frame = small_table().to_frame()
    return frame[["user_id", "item_id"]], frame["rating"]


def holed(rows: int = 60) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    A = rng.standard_normal((rows, 1)) * [1.0, 2.0, -1.0] + 0.1 * rng.standard_normal((rows, 3))
    A[rng.random(A.shape) < 0.1] = np.nan
    return A


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "failing"), [(RatingRegressor("bias", duplicates="mean"), FORBIDDEN), (MatrixCompleter(), {})]
)
def test_it_passes_the_checks_of_scikit_learn(estimator: Any, failing: dict[str, str]) -> None:
    results = check_estimator(estimator, expected_failed_checks=failing, on_fail="raise", on_skip=None)
    status = {result["check_name"]: result["status"] for result in results}
    assert {name for name, said in status.items() if said == "xfail"} == failing.keys() & status.keys()


def test_a_regressor_predicts_what_the_run_predicts() -> None:
    X, y = table()
    model = RatingRegressor("als", rank=3, epochs=4, seed=5).fit(X, y)
    frame = X.assign(rating=y)
    only = {BASELINE: baselines()[BASELINE]}
    run = recsys_mf.train(frame, "als", rank=3, epochs=4, seed=5, compared_with=only)
    assert model.predict(X).tolist() == run.predict(X["user_id"], X["item_id"]).tolist()


def test_ids_may_be_texts_in_a_frame_or_an_array_of_objects() -> None:
    frame = small_table(strings=True).to_frame()
    X, y = frame[["user_id", "item_id"]], frame["rating"]
    from_frame = RatingRegressor("bias").fit(X, y).predict(X)
    from_array = RatingRegressor("bias").fit(X.to_numpy(object), y).predict(X.to_numpy(object))
    assert from_frame.tolist() == from_array.tolist()


def test_parameters_are_those_of_the_solver_and_are_cloned() -> None:
    model = RatingRegressor("als", rank=3)
    assert model.get_params()["rank"] == 3
    assert "members" in model.get_params()
    assert clone(model).get_params() == model.get_params()
    model.set_params(solver="gibbs", sweeps=12)
    assert (model.get_params()["sweeps"], model.get_params()["rank"]) == (12, 3)
    with pytest.raises(ValueError, match=r"invalid parameter 'cg_steps' for RatingRegressor with the solver 'gibbs'"):
        model.set_params(cg_steps=3)


def test_times_are_a_third_column() -> None:
    frame = small_table().to_frame()
    X = frame[["user_id", "item_id", "timestamp"]]
    model = RatingRegressor("gibbs", rank=2, sweeps=12, burn_in=4).fit(X, frame["rating"])
    predicted = model.predict(X)
    assert predicted.shape == (len(X),)
    for times in (X["timestamp"].astype(float), pd.to_datetime(X["timestamp"], unit="s")):
        assert model.predict(X.assign(timestamp=times)).tobytes() == predicted.tobytes()
    run = model.run_
    single = [int(X["user_id"].iloc[0])], [int(X["item_id"].iloc[0])]
    moment = pd.to_datetime(X["timestamp"].iloc[0], unit="s")
    for time in (moment, moment.isoformat(), np.datetime64(moment), float(X["timestamp"].iloc[0])):
        assert run.predict(*single, times=time).tolist() == run.predict(*single, times=[time]).tolist()


@pytest.mark.slow
def test_cross_validation_and_a_search_on_two_processes_in_a_pipeline() -> None:
    X, y = table()
    folds = KFold(3, shuffle=True, random_state=0)
    scores = cross_val_score(RatingRegressor("bias"), X, y, cv=folds, error_score="raise")
    assert scores.mean() > 0.5
    pipeline = make_pipeline(FunctionTransformer(), RatingRegressor("als", epochs=3, members=1))
    search = GridSearchCV(pipeline, {"ratingregressor__rank": [1, 4]}, cv=folds, n_jobs=2, error_score="raise")
    search.fit(X, y)
    assert search.best_estimator_[-1].run_.model.rank == search.best_params_["ratingregressor__rank"]


@pytest.mark.parametrize("kind", ["regressor", "completer"])
def test_joblib_keeps_what_was_fitted(kind: str) -> None:
    X, y = table()
    model: Any = (
        RatingRegressor("als", rank=2, epochs=3).fit(X, y) if kind == "regressor" else MatrixCompleter().fit(holed())
    )
    stream = io.BytesIO()
    joblib.dump(model, stream)
    again = joblib.load(stream)
    if kind == "regressor":
        assert again.predict(X).tolist() == model.predict(X).tolist()
    else:
        assert again.transform(holed()).tolist() == model.transform(holed()).tolist()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (RatingRegressor("nmf"), r"^solver: unknown solver \(saw 'nmf'\); choose one of: sgd"),
        (RatingRegressor("als", k=3), r"^solver 'als' has no setting 'k'; did you mean 'rank'\?"),
        (RatingRegressor("als", rank=-3), r"^rank: setting out of range \(saw -3\)"),
    ],
)
def test_wrong_settings_are_value_errors_in_the_words_of_the_package(model: RatingRegressor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        model.fit(*table())


def test_wrong_data_are_value_errors_in_the_words_of_the_package() -> None:
    X, y = table()
    with pytest.raises(ValueError, match=r"^X: 1 duplicate \(user, item\) pair"):
        RatingRegressor("bias").fit(pd.concat([X, X[:1]]), [*y, 3.0])
    with pytest.raises(
        ValueError, match=r"^X has 1 feature\(s\), but RatingRegressor expects users, items and perhaps"
    ):
        RatingRegressor("bias").fit(X[["user_id"]], y)


def test_a_completer_fills_as_complete_does() -> None:
    A = holed()
    done = recsys_mf.complete(A)
    assert MatrixCompleter().fit_transform(A).tolist() == done.filled.tolist()
    assert MatrixCompleter().fit(A).transform(A[:5]).tolist() == done.transform(A[:5]).filled.tolist()


def test_a_completer_that_saw_no_gap_fills_later_rows() -> None:
    A = np.random.default_rng(0).standard_normal((60, 1)) * [1.0, 2.0]
    completer = MatrixCompleter().fit(A)
    assert completer.transform(A).tolist() == A.tolist()
    assert completer.transform([[1.0, np.nan]])[0, 1] == pytest.approx(2, abs=0.2)


def test_a_completer_keeps_the_names_of_columns_and_is_a_step_of_a_pipeline() -> None:
    frame = pd.DataFrame(holed(), columns=["a", "b", "c"])
    completer = MatrixCompleter().set_output(transform="pandas")
    filled = completer.fit_transform(frame)
    assert list(filled.columns) == ["a", "b", "c"] == completer.get_feature_names_out().tolist()
    assert not filled.isna().any().any()
    X, y = frame[["a", "b"]], np.arange(len(frame), dtype=float)
    assert make_pipeline(MatrixCompleter(), LinearRegression()).fit(X, y).predict(X).shape == (len(frame),)


def test_sample_weights_are_the_weights_of_ratings() -> None:
    X, y = table()
    weights = np.exp(np.random.default_rng(0).standard_normal(len(y)))
    plain, weighted, common = (
        RatingRegressor("bias").fit(X, y, sample_weight=of).predict(X) for of in (None, weights, np.full(len(y), 1.0))
    )
    np.testing.assert_allclose(common, plain, rtol=1e-5)
    assert np.abs(weighted - plain).max() > 0.01
    with pytest.raises(ValueError, match=r"X, weights, row 0: weight is 0 \(saw 0.0\); leave the row out"):
        RatingRegressor("bias").fit(X, y, sample_weight=np.zeros(len(y)))
