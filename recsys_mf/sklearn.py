"""Estimators of scikit-learn: `RatingRegressor` predicts ratings of (user, item) rows, `MatrixCompleter` fills missing
entries. Both are thin wrappers of `training.train` and `completion.complete`. Needs `pip install
recsys_mf[sklearn]`.

    cross_val_score(RatingRegressor("als", rank=16), frame[["user_id", "item_id"]], frame["rating"])
    make_pipeline(MatrixCompleter(), StandardScaler(), Ridge())

Wrong data and settings raise a ValueError, as scikit-learn expects, with the message of this package.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

try:
    from sklearn.base import BaseEstimator, OneToOneFeatureMixin, RegressorMixin, TransformerMixin
    from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d, validate_data
except ModuleNotFoundError as error:
    what = "recsys_mf.sklearn needs scikit-learn; install it with `pip install recsys_mf[sklearn]`"
    raise ModuleNotFoundError(what, name=error.name) from error

from recsys_mf.arguments import choice
from recsys_mf.completion import complete
from recsys_mf.duplicates import Duplicates
from recsys_mf.errors import ConfigError, ConstantColumnWarning, DataError, EmptyRowWarning
from recsys_mf.prediction import takes_times
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import SOLVERS
from recsys_mf.training import BASELINE, baselines, train


class RatingRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts the rating of every row of X, by a solver of this package.

    X : a frame or array with two columns, user ids and item ids (integers or strings), in this order; an optional
        third one has times in seconds, which `gibbs` uses
    y : the ratings
    solver : its name
    seed, threads : as in `training.train`
    duplicates : as in `read_ratings`: what to do with rows of the same user and item
    settings : those of the solver, by keyword; `get_params` lists all of them, so that a search can vary each

    After `fit`: run_ : the Run. A row with an unknown user or item is predicted from what is known of the other.
    """

    def __init__(
        self,
        solver: str = "sgd",
        *,
        seed: int = 0,
        threads: int | None = None,
        duplicates: Duplicates = "error",
        **settings: Any,
    ) -> None:
        self.solver, self.seed, self.threads, self.duplicates = solver, seed, threads, duplicates
        self.settings = settings

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, and all settings of the solver."""
        own = {name: getattr(self, name) for name in ("solver", "seed", "threads", "duplicates")}
        return own | _defaults(self.solver) | self.settings

    def set_params(self, **parameters: Any) -> Self:
        """Change parameters or settings. Raises ValueError for a name that is neither."""
        solver = parameters.get("solver", self.solver)
        if solver is not self.solver:  # settings of another solver mean nothing here
            kept = {name: value for name, value in self.settings.items() if name in _defaults(solver)}
            self.solver, self.settings = solver, kept
        known = self.get_params()
        for name, value in parameters.items():
            if name not in known:
                raise ValueError(f"invalid parameter {name!r} for RatingRegressor with the solver {solver!r}")
            if name in ("solver", "seed", "threads", "duplicates"):
                setattr(self, name, value)
            else:
                self.settings = {**self.settings, name: value}
        return self

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on the rows of X with the ratings y; sample_weight [n] : how much each counts, above 0."""
        validate_data(self, X, skip_check_array=True)
        columns = _columns(X, least=2)
        if y is None:
            raise ValueError("RatingRegressor requires y to be passed, but the target y is None")
        values = column_or_1d(check_array(y, ensure_2d=False, dtype=np.float64, input_name="y"), warn=True)
        weights = None if sample_weight is None else np.asarray(sample_weight)
        with _value_errors():
            solver = choice(self.solver, "solver", SOLVERS, "unknown solver")
            users, items, times = (*columns, None)[:3]
            ratings = Ratings.from_ids(
                users, items, values, times, weights=weights, duplicates=self.duplicates, where="X"
            )
            only = {BASELINE: baselines()[BASELINE]}
            self.run_ = train(
                ratings, solver, seed=self.seed, threads=self.threads, compared_with=only, **self.settings
            )
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """The predicted ratings of the rows of X, [n]."""
        check_is_fitted(self)
        users, items, times = (*_columns(X), None)[:3]
        validate_data(self, X, reset=False, skip_check_array=True)
        times = times if takes_times(self.run_.model) else None  # as in the fit
        with _value_errors():
            return cast(NDArray[np.float64], self.run_.predict(users, items, times).astype(np.float64))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.categorical = True
        return tags


class MatrixCompleter(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Fills the missing entries (NaN) of X with their expected values, by a model of its rows.

    method, rank, seed : as in `completion.complete`

    After `fit`: completion_ : the Completion of the training rows, which also has the standard deviations of the filled
    entries and the errors expected per column. `transform` fills other rows by the same model.
    """

    def __init__(self, method: str = "auto", *, rank: int | None = None, seed: int = 0) -> None:
        self.method, self.rank, self.seed = method, rank, seed

    def fit(self, X: Any, y: None = None) -> Self:
        """Fit the model to the rows of X."""
        self.fit_transform(X)
        return self

    def fit_transform(self, X: Any, y: None = None, **parameters: Any) -> NDArray[np.float64]:
        """Fit the model to the rows of X, and fill them."""
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=2)
        with _value_errors():
            self.completion_ = _completed(X, self.method, self.rank, self.seed)
        return cast(NDArray[np.float64], self.completion_.filled)

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Other rows, with missing entries filled."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        with _value_errors():
            return cast(NDArray[np.float64], self.completion_.transform(X).filled)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _completed(X: NDArray[np.float64], method: str, rank: int | None, seed: int) -> Any:
    """The completion of X. If nothing is missing, a row without entries is added, so that later rows can be filled."""
    if np.isnan(X).any():
        return complete(X, method, rank=rank, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyRowWarning)
        warnings.simplefilter("ignore", ConstantColumnWarning)
        done = complete(np.vstack([X, np.full(X.shape[1], np.nan)]), method, rank=rank, seed=seed)
    return dataclasses.replace(done, filled=done.filled[:-1], deviations=done.deviations[:-1])


def _defaults(solver: Any) -> dict[str, Any]:
    """The settings of a solver with their defaults; none if there is no such solver."""
    is_known = isinstance(solver, str) and solver in SOLVERS
    return {field.name: field.default for field in dataclasses.fields(SOLVERS[solver])} if is_known else {}


def _columns(X: Any, *, least: int = 1) -> list[Any]:
    """The columns of X: users, items and perhaps times. Raises ValueError unless 2 or 3 columns have enough rows."""
    if hasattr(X, "iloc"):
        columns = [X.iloc[:, number] for number in range(X.shape[1])]
    else:
        columns = list(check_array(X, dtype=None, ensure_min_samples=least).T)
        columns = [np.array(column.tolist()) if column.dtype == object else column for column in columns]
    if len(columns) not in (2, 3):
        raise ValueError(f"X has {len(columns)} feature(s), but RatingRegressor expects users, items and perhaps times")
    return columns


@contextlib.contextmanager
def _value_errors() -> Iterator[None]:
    """Turn an error of data or settings into a ValueError."""
    try:
        yield
    except (DataError, ConfigError) as error:
        raise ValueError(str(error)) from error
