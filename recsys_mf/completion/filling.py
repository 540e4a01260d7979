"""complete: a matrix with its missing entries filled, each with a standard deviation, and an estimate of the error."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf import arguments
from recsys_mf.arrays.threads import limit_blas
from recsys_mf.completion.choice import METHODS, Path, Trial, choose, fit, path_of, usable_methods
from recsys_mf.completion.containers import Matrix, read_matrix
from recsys_mf.completion.fitted import Fitted
from recsys_mf.completion.patterns import F64, rms
from recsys_mf.conversion.origin import format_value
from recsys_mf.drawing import Drawable
from recsys_mf.errors import ConfigError, ConstantColumnWarning, DataError, EmptyRowWarning, ReadingNotice

_PRIOR_ENTRIES = 5.0  # entries with the error of all columns that are added to the held-out ones of a column


@dataclass(frozen=True)
class Tried:
    """A method and its error on entries that were held out, in standard deviations of the columns.

    rank : number of factors; None for a free covariance
    straightened : whether skewed columns were straightened first
    neighbour_share : share of the mean residual of near rows that was added; 0 for none
    """

    method: str
    rank: int | None
    straightened: bool
    neighbour_share: float
    error: float


@dataclass(frozen=True)
class ColumnError:
    """The expected error of the filled entries of a column.

    missing : how many entries were filled
    standardised, error : root mean square error in standard deviations of the column, and in its units; NaN, which is
        unknown, if all observed entries are equal
    """

    name: str
    missing: int
    standardised: float
    error: float


@dataclass(frozen=True, eq=False)
class Completion(Drawable):
    """A matrix with its missing entries filled, and the model that filled them.

    filled : of the type of the matrix that was given; its observed entries are kept. Float types shorter than float64
        become float64 (in a frame, column by column) if a filled value is beyond them
    deviations : of the same type, the standard deviation of every filled entry in the units of its column; 0 where
        observed, NaN where it is unknown because all observed entries of the column are equal
    method, rank : what was chosen; rank is None for a free covariance
    error : root mean square error on held-out entries, in standard deviations of the columns; NaN if only entries of
        constant columns could be held out
    column_errors : the same per column, shrunk towards the error of all columns if few entries were held out
    tried : every method with its error, the best first
    held_out_ratios : errors of the held-out entries divided by their deviations, float64[h]
    If nothing was missing, method, rank, error and held_out_ratios are None, and nothing was tried.
    `plot("methods")` draws a picture (`pictures` has their names), `save_html` and `save_plots` write all of them.
    """

    filled: Any
    deviations: Any
    method: str | None
    rank: int | None
    error: float | None
    column_errors: tuple[ColumnError, ...]
    tried: tuple[Tried, ...]
    _names: tuple[str, ...]
    _fitted: Fitted | None
    held_out_ratios: NDArray[np.float64] | None = None

    def transform(self, rows: Any) -> Completion:
        """Other rows [m, n] of the same columns, filled with this model without a new fit; in a frame, columns may be
        in any order, and columns without names are taken in the order of the fitted ones.

        Raises DataError for other columns, and ConfigError if the model was not fitted because nothing was missing.
        """
        matrix = read_matrix(rows, where="rows").ordered(self._names)
        if self._fitted is None:
            fix = "complete a matrix with missing entries"
            raise ConfigError("there is no model: nothing was missing in the matrix", where="transform", fix=fix)
        filled, deviations = _filled(matrix, self._fitted)
        _warn(matrix, self._fitted)
        return replace(self, filled=filled, deviations=deviations)


def complete(A: Any, method: str = "auto", *, rank: int | None = None, seed: int = 0) -> Completion:
    """A [m, n] with every missing entry replaced by its expected value, each with a standard deviation.

    A : a NumPy array, torch tensor or pandas frame of numbers; NaN, NA and None are missing. Results have the same
        type; integers and truth values become floats
    method : one of
        gaussian : rows are drawn from a normal distribution (`gaussian`), plus what near rows add (`neighbours`)
        factors : the same with few factors and noise as covariance (`factor_analysis`), for many columns
        soft-impute : the matrix of least nuclear norm near the observed entries (`soft_impute`)
        auto : the one with the lowest error on observed entries that are held out
    rank : number of factors; implies the method `factors`; by default chosen on the same entries
    seed : of the entries that are held out; the same seed gives the same result

    Columns are standardised, and skewed ones straightened if that lowers the error (`columns`). A row in which nothing
    is observed gets the values expected of any row, about the means of the columns, with an EmptyRowWarning. A column
    whose observed entries are all equal is filled with this value; what the deviation of such an entry is cannot be
    estimated, so it is NaN, with a ConstantColumnWarning.

    Raises DataError for another type or shape, infinite entries, integers that float64 cannot hold, a column without
    observed entries, two columns of one name, and too few observed entries to hold some out; ConfigError for a method
    or rank that does not exist.
    """
    arguments.choice(method, "method", ["auto", *METHODS], "unknown method")
    matrix = A if isinstance(A, Matrix) else read_matrix(A, where="A")
    paths = _paths(matrix.values, method, rank)
    rng = np.random.default_rng(arguments.whole(seed, "seed"))
    missing = np.isnan(matrix.values)
    _check_columns(matrix, missing)
    if not missing.any():
        warnings.warn(ReadingNotice("nothing is missing: the matrix is returned as it is"), stacklevel=2)
        filled, deviations = matrix.fill(matrix.values), matrix.like(np.zeros_like(matrix.values))
        return Completion(filled, deviations, None, None, None, (), (), matrix.names, None)
    values = matrix.values[~missing.all(axis=1)]
    with limit_blas():
        trials = choose(values, paths, rng)
        best = trials[0]
        fitted = replace(fit(values, best, rng), calibration=_calibration(best))
        filled, deviations = _filled(matrix, fitted)
    _warn(matrix, fitted)
    tried = tuple(_tried(trial) for trial in trials)
    errors = _column_errors(matrix, missing, best, fitted)
    return Completion(
        filled,
        deviations,
        best.recipe.method,
        best.rank,
        best.error,
        errors,
        tried,
        matrix.names,
        fitted,
        _ratios(best, fitted),
    )


def _paths(A: F64, method: str, rank: int | None) -> dict[str, Path]:
    """The paths of models to choose from."""
    if rank is not None:
        if method not in ("auto", "factors"):
            raise ConfigError(f"the method {method} takes no rank", where="rank", seen=rank, fix="leave it out")
        most = min(A.shape)
        return {"factors": path_of("factors", A, arguments.whole(rank, "rank", 1, most))}
    return usable_methods(A) if method == "auto" else {method: path_of(method, A)}


def _check_columns(matrix: Matrix, missing: NDArray[np.bool_]) -> None:
    """Raise DataError if nothing is observed in the matrix or in a column."""
    if missing.all():
        raise DataError(
            "nothing is observed", where=matrix.where, seen=f"{missing.shape[0]} x {missing.shape[1]} missing entries",
            fix="give a matrix with numbers in it",
        )  # fmt: skip
    empty = np.flatnonzero(missing.all(axis=0))
    if len(empty):
        where = f"{matrix.where}, column {matrix.names[empty[0]]}"
        seen = f"{len(empty)} such columns" if len(empty) > 1 else f"{len(missing)} missing entries"
        raise DataError("nothing is observed in this column", where=where, seen=seen, fix="leave it out")


def _warn(matrix: Matrix, fitted: Fitted) -> None:
    """Warn of the missing entries that the matrix says little about: in rows and columns without information."""
    missing = np.isnan(matrix.values)
    if n_empty := int(missing.all(axis=1).sum()):
        warnings.warn(EmptyRowWarning(_empty_rows(matrix, missing, n_empty)), stacklevel=3)
    constant = np.flatnonzero(missing.any(axis=0) & (fitted.columns.deviations == 0))
    if len(constant):
        warnings.warn(ConstantColumnWarning(_constant_columns(matrix, constant, fitted)), stacklevel=3)


def _constant_columns(matrix: Matrix, constant: NDArray[np.intp], fitted: Fitted) -> str:
    name, what = matrix.names[constant[0]], "all observed entries are equal"
    if len(constant) > 1:
        how = "filled with this value; their deviations are unknown (NaN)"
        return f"{matrix.where}: {what} in {len(constant):,} columns, e.g. {name}: {how}"
    value = format_value(float(fitted.columns.means[constant[0]]))
    how = "filled with this value; its deviation is unknown (NaN)"
    return f"{matrix.where}, column {name}: {what} ({value}): {how}"


def _empty_rows(matrix: Matrix, missing: NDArray[np.bool_], n_empty: int) -> str:
    first = matrix.row_name(int(missing.all(axis=1).argmax()))
    what = (
        f"nothing is observed in {first}" if n_empty == 1 else f"nothing is observed in {n_empty:,} rows, e.g. {first}"
    )
    how = "filled with the values expected of any row; their deviations are those of the columns"
    return f"{matrix.where}: {what}: {how}"


def _filled(matrix: Matrix, fitted: Fitted) -> tuple[Any, Any]:
    """The matrix filled, and the deviations, in its own container."""
    filled, deviations = fitted.fill(matrix.values)
    return matrix.fill(filled), matrix.like(deviations)


def _calibration(trial: Trial) -> float:
    """The factor by which deviations must be multiplied to match the held-out errors."""
    known = trial.deviations > 0
    return rms(trial.errors[known] / trial.deviations[known]) if known.any() else 1.0


def _ratios(trial: Trial, fitted: Fitted) -> NDArray[np.float64]:
    """Errors of the held-out entries divided by their calibrated deviations."""
    known = trial.deviations > 0
    ratios: NDArray[np.float64] = trial.errors[known] / (fitted.calibration * trial.deviations[known])
    return ratios


def _tried(trial: Trial) -> Tried:
    recipe = trial.recipe
    return Tried(recipe.method, trial.rank, recipe.straightening, recipe.share, trial.error)


def _column_errors(matrix: Matrix, missing: NDArray[np.bool_], trial: Trial, fitted: Fitted) -> tuple[ColumnError, ...]:
    """Per column √((Σ e² + 5 E²) / (h + 5)) over its h held-out entries, with E the error of all columns.

    NaN for constant columns.
    """
    n = len(matrix.names)
    held_out = np.bincount(trial.columns, minlength=n)
    squares = np.bincount(trial.columns, trial.errors**2, n)
    errors = np.sqrt((squares + _PRIOR_ENTRIES * trial.error**2) / (held_out + _PRIOR_ENTRIES))
    deviations = fitted.columns.deviations
    errors[deviations == 0] = np.nan
    counts = missing.sum(axis=0)
    return tuple(
        ColumnError(matrix.names[j], int(counts[j]), float(errors[j]), float(errors[j] * deviations[j]))
        for j in range(n)
    )
