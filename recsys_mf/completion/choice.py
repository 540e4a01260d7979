"""Which model fills a matrix best, by entries that are held out from the observed ones.

The first setting of the first method decides whether skewed columns are straightened. Every path of models (one ridge,
rank or λ after another) is then followed on every cut while its error falls, and nearby rows are tried as an addition
to the best normal distribution. The lowest root mean square error over all columns wins, in standard deviations of
their observed entries; an error beyond three counts as three, so that a few extreme entries do not decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from recsys_mf.completion.columns import Columns, find_columns
from recsys_mf.completion.factor_analysis import RANKS, factors_path
from recsys_mf.completion.fitted import Fitted
from recsys_mf.completion.gaussian import Gaussian, gaussian_path
from recsys_mf.completion.neighbours import MOST_DONORS, NEAREST, Donors
from recsys_mf.completion.patterns import F64, Fill, RowModel, rms
from recsys_mf.completion.soft_impute import soft_impute_path
from recsys_mf.errors import DataError

Path = Callable[..., Iterator[RowModel]]
_Fits = list[tuple[Fitted, Fill]]  # per cut, a model and its fill of the cut

METHODS: dict[str, Path] = {"gaussian": gaussian_path, "factors": factors_path, "soft-impute": soft_impute_path}
"""Every method: from a matrix in standard units to models of its rows, one setting after another."""

_HELD_OUT = 0.1  # share of the observed entries in a cut
_ENOUGH, _MOST_CUTS = 500, 8  # entries to hold out in all cuts together, and the most cuts
_ENOUGH_ENTRIES, _ENOUGH_ROWS = 30_000, 10  # observed entries, rows per column that settings are chosen on
_FREE_COVARIANCE = 150  # columns up to which a normal distribution is tried
_MANY_COLUMNS = 10  # columns from which the other methods are tried too
_FAR = 3.0  # larger errors, in standard units, count as this when settings are compared
_PATIENCE = 1  # settings without a lower error after which a path ends
_SHARES = (0.25, 0.5, 0.75, 1.0)  # of what nearby rows add
_ROUGH, _EXACT = 1e-2, 5e-3  # change at which a fit stops, in standard units: to choose, to fill


@dataclass(frozen=True)
class Recipe:
    """How a model is fitted: the step of the path of a method, whether columns are straightened, neighbours."""

    method: str
    step: int
    straightening: bool
    nearest: int = 0
    share: float = 0.0


@dataclass(frozen=True, eq=False)
class Trial:
    """A recipe, its errors on what was held out, and its fit on the first cut.

    errors, deviations : in standard units, all cuts one after another [h]; columns : of those entries [h]
    """

    recipe: Recipe
    start: RowModel
    errors: F64
    deviations: F64
    columns: NDArray[np.intp]

    @property
    def rank(self) -> int | None:
        """Number of factors; None for a free covariance."""
        return self.start.rank

    @property
    def error(self) -> float:
        """Root mean square error in standard units; NaN if only entries of constant columns could be held out."""
        return rms(self.errors)

    @property
    def robust_error(self) -> float:
        """The same with errors beyond 3 taken as 3."""
        return rms(np.minimum(np.abs(self.errors), _FAR))


@dataclass(frozen=True, eq=False)
class _Cut:
    """A [m, n] with some observed entries held out: their places [2, h], their values [h], the units of the columns."""

    A: F64
    places: tuple[NDArray[np.intp], ...]
    truth: F64
    units: Columns

    def scored(self, fitted: Fitted, fill: Fill) -> tuple[F64, F64]:
        """Errors and deviations [h] of what was held out, in standard units, of a fill in the units of the model."""
        fill = fitted.columns.restore(fill)
        j = self.places[1]
        scales = np.where(self.units.deviations > 0, self.units.deviations, np.nan)[j]
        predicted = fitted.columns.means[j] + fitted.columns.deviations[j] * fill.means[self.places]
        deviations = fitted.columns.deviations[j] * np.sqrt(fill.variances[self.places])
        return (predicted - self.truth) / scales, deviations / scales


def choose(A: F64, paths: Mapping[str, Path], rng: np.random.Generator) -> list[Trial]:
    """A trial per method, the best first; that of the normal distribution with nearby rows if they help.

    A : [m, n], NaN where missing, an observed entry in every column
    """
    A = _some_rows(A, rng)
    cuts = list(_cut(A, rng))
    skewed = find_columns(A, straightening=True).straightened > 0
    first, *others = paths
    started = []
    for straightening in sorted({False, skewed}):
        ways = _trials(first, paths[first], cuts, straightening=straightening)
        started.append((next(ways), ways))
    begun, ways = min(started, key=lambda start: start[0][0].robust_error)
    trial, fits = _followed(chain([begun], ways))
    straightening = trial.recipe.straightening
    found = [min([trial, *_neighbour_trials(trial, fits, cuts)], key=lambda trial: trial.robust_error)]
    for name in others:
        found.append(_followed(_trials(name, paths[name], cuts, straightening=straightening))[0])
    return sorted(found, key=lambda trial: trial.robust_error)


def _some_rows(A: F64, rng: np.random.Generator) -> F64:
    """Rows in a random order, no more than a choice needs, with an observed entry in every column."""
    enough = max(_ENOUGH_ENTRIES * len(A) // int((~np.isnan(A)).sum()), _ENOUGH_ROWS * A.shape[1])
    order = rng.permutation(len(A))
    first = (~np.isnan(A[order])).argmax(axis=0)  # row in which a column is first observed
    kept = np.arange(len(A)) < enough
    kept[first] = True
    some: F64 = A[order[kept]]
    return some


def usable_methods(A: F64) -> dict[str, Path]:
    """The methods that a matrix [m, n] is tried with.

    Below 10 columns a free covariance is the best of them; above 150 it takes too long and is replaced by SoftImpute.
    """
    n = A.shape[1]
    paths = {method: path_of(method, A) for method in METHODS}
    if n < _MANY_COLUMNS:
        return {"gaussian": paths["gaussian"]}
    del paths["soft-impute" if n <= _FREE_COVARIANCE else "gaussian"]
    return paths


def path_of(method: str, A: F64, rank: int | None = None) -> Path:
    """The path of a method for a matrix [m, n]: ranks up to a quarter of the columns, or a single one."""
    if method != "factors":
        return METHODS[method]
    most = max(1, min(A.shape[1] // 4, len(A) - 1))
    return partial(factors_path, ranks=(rank,) if rank else tuple(rank for rank in RANKS if rank <= most))


def fit(A: F64, trial: Trial, rng: np.random.Generator) -> Fitted:
    """The model of a trial, fitted to all of A [m, n]."""
    columns = find_columns(A, straightening=trial.recipe.straightening)
    X = columns.standardise(A)
    model = trial.start.refitted(X, tolerance=_EXACT)
    return _with_neighbours(Fitted(columns, model), X, trial.recipe, rng.permutation(len(A)))


def _with_neighbours(fitted: Fitted, X: F64, recipe: Recipe, order: NDArray[np.intp]) -> Fitted:
    """The fitted model with the first rows of X [m, n] in this order as donors, if the recipe uses donors."""
    if not recipe.share or not isinstance(fitted.model, Gaussian):
        return fitted
    rows = X[order[:MOST_DONORS]]
    donors = Donors.of(fitted.model, fitted.model.fill(rows).means, np.isnan(rows))
    return replace(fitted, donors=donors, nearest=recipe.nearest, share=recipe.share)


def _cut(A: F64, rng: np.random.Generator) -> Iterator[_Cut]:
    """Cuts of A; none takes the last observed entry of a row, or the last two of a column.

    Entries of constant columns, which would be filled without an error, are only held out if there are no others.
    Raises DataError if there is nothing that can be held out.
    """
    observed = ~np.isnan(A)
    units = find_columns(A, straightening=False)
    held_out = 0
    for _ in range(_MOST_CUTS):
        held = _held(observed, units.deviations > 0, rng)
        places = np.nonzero(held)
        if not len(places[0]):
            raise DataError(
                "too few observed entries to hold some out", where="A", seen=f"{observed.sum()} observed entries",
                fix="give a matrix with more rows",
            )  # fmt: skip
        yield _Cut(np.where(held, np.nan, A), places, A[places], units)
        held_out += len(places[0])
        if held_out >= _ENOUGH:
            return


def _held(observed: NDArray[np.bool_], varies: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Random entries [m, n] of the columns that vary [n], or of the others if there are none."""
    ranks = np.where(observed, rng.random(observed.shape), np.inf)
    n_held = max(1, round(_HELD_OUT * int(observed.sum())))
    kept = np.zeros_like(observed)
    if ranks.shape[1] > 1:
        kept[np.arange(len(ranks)), ranks.argmin(axis=1)] = True  # one in every row
    rest = np.where(kept, np.inf, ranks)
    for lowest in np.argsort(ranks, axis=0)[:2]:  # and two in every column
        rest[lowest, np.arange(ranks.shape[1])] = np.inf
    if np.isfinite(rest[:, varies]).any():
        rest[:, ~varies] = np.inf
    flat = rest.ravel()
    n_held = min(n_held, int(np.isfinite(flat).sum()))
    held = np.zeros(observed.size, bool)
    held[np.argsort(flat)[:n_held]] = True
    return held.reshape(observed.shape)


def _trials(method: str, path: Path, cuts: Sequence[_Cut], *, straightening: bool) -> Iterator[tuple[Trial, _Fits]]:
    """A trial per setting of a path, and its fits."""
    units = [find_columns(cut.A, straightening=straightening) for cut in cuts]
    tables = [columns.standardise(cut.A) for cut, columns in zip(cuts, units, strict=True)]
    paths = [path(X, tolerance=_ROUGH) for X in tables]
    for step, models in enumerate(zip(*paths, strict=True)):
        fits = [Fitted(columns, model) for columns, model in zip(units, models, strict=True)]
        found = [(fitted, model.fill(X)) for fitted, model, X in zip(fits, models, tables, strict=True)]
        yield _trial(Recipe(method, step, straightening), cuts, found), found


def _followed(trials: Iterator[tuple[Trial, _Fits]]) -> tuple[Trial, _Fits]:
    """The best trial of a path, which ends when its error stops falling, and its fits."""
    best, fits = next(trials)
    for trial, now in trials:
        if trial.robust_error < best.robust_error:
            best, fits = trial, now
        elif trial.recipe.step - best.recipe.step >= _PATIENCE:
            break
    return best, fits


def _neighbour_trials(trial: Trial, fits: _Fits, cuts: Sequence[_Cut]) -> Iterator[Trial]:
    """The trial with neighbours, for a normal distribution of two columns or more."""
    if trial.recipe.method != "gaussian" or cuts[0].A.shape[1] < 2:
        return
    moves = []
    for (fitted, fill), cut in zip(fits, cuts, strict=True):
        assert isinstance(fitted.model, Gaussian)
        few = slice(MOST_DONORS)
        donors = Donors.of(fitted.model, fill.means[few], np.isnan(cut.A[few]))
        held = np.zeros(cut.A.shape, bool)
        held[cut.places] = True
        moves.append(donors.corrections(fill, held, NEAREST))
    for nearest, moves_of_cuts in zip(NEAREST, zip(*moves, strict=True), strict=True):
        for share in _SHARES:
            moved = [
                (fitted, fill._replace(means=fill.means + share * move))
                for (fitted, fill), move in zip(fits, moves_of_cuts, strict=True)
            ]
            yield _trial(replace(trial.recipe, nearest=nearest, share=share), cuts, moved)


def _trial(recipe: Recipe, cuts: Sequence[_Cut], fits: _Fits) -> Trial:
    """The errors of fills of the cuts, in the units of their models."""
    scores = [cut.scored(fitted, fill) for cut, (fitted, fill) in zip(cuts, fits, strict=True)]
    errors, deviations = zip(*scores, strict=True)
    columns = np.concatenate([cut.places[1] for cut in cuts])
    return Trial(recipe, fits[0][0].model, np.concatenate(errors), np.concatenate(deviations), columns)
