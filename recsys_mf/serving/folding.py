"""Folding in: new users, or users with new ratings, get their row by one row solve with the items fixed; or vice versa.

    x_u = argmin Σ_j (r_uj - μ - b_j - x · y_j)² + κ (x - m)ᵀ C⁻¹ (x - m),    x_u = (p_u, b_u), y_j = (q_j, 1)

m and C are the mean and the covariance of the rows of the users that the model was trained on. They make a prior for
one more user in the coordinates of the model, whichever solver made it. Users that were folded in do not count, so that
the result does not depend on who was folded in before; a trained user that was updated counts with its new row. κ is
chosen in training on validation rows (`choose_precision`). It takes the place of the variance of a rating about its
prediction, but is smaller, because rows that were shrunk in training vary less than the true ones. For a posterior, a
row is drawn for every sample (`sampled_rows`).
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arguments import choice, is_path
from recsys_mf.arrays import sorting
from recsys_mf.arrays.csr import Csr, find_entries
from recsys_mf.arrays.threads import limit_blas
from recsys_mf.conversion.origin import format_value
from recsys_mf.errors import ConfigError, DataError, FoldWarning
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import GaussianPrior, Regressors
from recsys_mf.loaders import from_frame, read_ratings
from recsys_mf.models import Factorization, Fit, Posterior, RatedPairs
from recsys_mf.prediction import takes_times
from recsys_mf.ratings import Ratings
from recsys_mf.serving import joining
from recsys_mf.serving.joining import Joined
from recsys_mf.serving.population import Population, Rows
from recsys_mf.serving.sampled_rows import NewRatings, draw_rows
from recsys_mf.serving.trained import SIDES, Side, Trained, trained_rows, vocabulary_of

F32 = NDArray[np.float32]
R = TypeVar("R", bound=Trained)

_RELATIVE = 0.6  # κ in units of the squared validation error, if it was not chosen
_MIN_ERROR = 1e-6  # of a fit without errors, in units of the range of the ratings
_TRIED = (0.3, 0.45, 0.6, 0.85, 1.3)  # in these units
_SHARES = (0.1, 1.0)  # of the ratings of a validation user, that rows are solved from
_MAX_WIDTHS = 1e9  # of the range of the training ratings: how far from its middle a new rating may be
_MAX_CHOSEN_ON = 300  # validation users


def solve_rows(
    model: Factorization, side: Side, ratings: Csr, precision: float, backend: Backend, population: Population | None
) -> F32:
    """The rows x float32[rows, k + 1] of users (or items) with these ratings, given the rows of the other side.

    ratings : a row per user, its columns the items it rated, in rating units
    precision : κ
    population : of the side; None for a model with only zero rows, for which these rows are zero too
    """
    width = model.rank + 1
    if population is None:
        return np.zeros((ratings.n_rows, width), np.float32)
    # Ratings in units of √κ and factors in units of their deviations, so that no scale is too large for float32.
    unit = np.sqrt(precision)
    units = np.append(population.deviations[:-1], unit)
    other = Rows.of(model, "item" if side == "user" else "user").stacked() * (np.append(units[:-1], 1) / unit)
    centred = ratings._replace(values=((ratings.values.astype(np.float64) - model.mean) / unit).astype(np.float32))
    means = np.tile(population.mean / units, (ratings.n_rows, 1))
    put = backend.device.put
    prior = GaussianPrior(*(put(array.astype(np.float32)) for array in (population.precision(units), means)))
    regressors = Regressors(put(other.astype(np.float32)))
    X, _ = backend.rows.solve(centred.to(put), regressors, prior, 1.0, None)
    return cast(F32, (backend.device.get(X) * units).astype(np.float32))


def precision_of(fit: Fit) -> float:
    """κ of a fit: what was chosen in training, else in proportion to its squared error on validation or train."""
    if fit.fold_in_precision is not None:
        return fit.fold_in_precision
    error = fit.train_rmse if fit.valid_rmse is None else fit.valid_rmse
    low, high = fit.model.rating_range
    return _RELATIVE * max(error, _MIN_ERROR * (high - low) or 1.0) ** 2


def choose_precision(
    model: Factorization, train: Ratings, valid: Ratings, rng: np.random.Generator, backend: Backend
) -> float | None:
    """κ with the lowest error on the validation rows of some users, when their rows are solved from a few of their
    training rows and from all of them; None if no user has both. Weights are not used, as in a fold-in.

    model : fitted to train; valid : under its vocabularies
    """
    known = valid.select((valid.users >= 0) & (valid.items >= 0))
    users = np.flatnonzero((known.user_counts > 0) & (train.user_counts > 0))
    if not len(users):
        return None
    users = np.sort(rng.permutation(users)[:_MAX_CHOSEN_ON])
    is_chosen = np.zeros(train.n_users, np.bool_)
    is_chosen[users] = True
    rated, wanted = (RatedPairs.of(table.select(is_chosen[table.users])).of_users(users) for table in (train, known))
    population = Population.of(Rows.of(model, "user"))
    pairs = np.repeat(np.arange(len(users)), np.diff(wanted.starts))
    table = Rows.of(model, "item").stacked()[wanted.columns].astype(np.float64)
    parts = [rated.keep(rng.random(len(rated.columns)) < share) for share in _SHARES]

    def error(part: Csr, precision: float) -> float:
        X = solve_rows(model, "user", part, precision, backend, population).astype(np.float64)[pairs]
        values = model.mean + X[:, -1] + table[:, -1] + np.einsum("jf,jf->j", X[:, :-1], table[:, :-1])
        return float(np.sqrt(np.mean((np.clip(values, *model.rating_range) - wanted.values) ** 2)))

    scale = float(np.var(known.values, dtype=np.float64)) or 1.0
    scale = min(scale, error(parts[-1], scale) ** 2) or scale
    candidates = [scale * relative for relative in _TRIED]
    return min(candidates, key=lambda precision: sum(error(part, precision) for part in parts))


def fold_in(run: R, ratings: Any, side: str, rng: np.random.Generator, backend: Backend) -> R:
    """The run with the users (or items) of a table of ratings added or updated: `Run.fold_in`."""
    side = cast(Side, choice(side, "side", SIDES))
    joining.check_side_information(run)
    given = _as_ratings(run, ratings)
    joining.check_unweighted(given)
    known = _of_known_others(run, given, side)
    _refuse_beyond_scale(run, known)
    joined = joining.join(run, known)
    if joining.is_weighted(run):
        _require_new(run, known, side, "the model was trained with weights")
    table = joined.ratings
    touched, rows, entries = _touched_rows(joined, side)
    times = _times(run, known, joined, side)

    def folded(fit: Fit) -> Fit:
        vocabularies = table.user_vocabulary, table.item_vocabulary
        if isinstance(fit.model, Posterior):
            samples = joining.align_samples(fit.model, run, *vocabularies)
            bins = fit.model.scale.bins.indices(None if times is None else times[entries])
            of_trained = _only_trained(samples, run, side, table)
            drawn, factors = draw_rows(of_trained, side, NewRatings(rows, bins), rng, backend)
            model = _with_draws(samples, side, touched, drawn)
            if model.noise is not None and factors is not None:
                model = replace(model, noise=model.noise.with_factors(side, touched, factors))
            return replace(fit, model=model)
        aligned = joining.align(fit.model, run, *vocabularies)
        population = Population.of(Rows.of(fit.model, side).select(trained_rows(run, side)))
        X = solve_rows(aligned, side, rows, precision_of(fit), backend, population)
        return replace(fit, model=_replaced(aligned, side, touched, X))

    continued = run.provenance.get("continued", {})
    facts = joining.describe(run, joined) | {
        "how": "folded in",
        "since_full_fit": continued.get("since_full_fit", 0) + int(joined.is_new.sum()),
    }
    with limit_blas():
        fit, baselines = folded(run.fit), {label: folded(fit) for label, fit in run.baselines.items()}
    rated = RatedPairs.of(table)
    fingerprint = joining.fingerprint_of_rated(rated, table.user_vocabulary, table.item_vocabulary)
    changes: dict[str, Any] = {
        "fit": fit,
        "baselines": baselines,
        "user_vocabulary": table.user_vocabulary,
        "item_vocabulary": table.item_vocabulary,
        "user_counts": table.user_counts,
        "item_counts": table.item_counts,
        "provenance": dict(run.provenance)
        | {"continued": facts, "train_ratings": len(table), "train_fingerprint": fingerprint},
        "rated": rated,
        "folded": joining.align_folded(run, table.user_vocabulary, table.item_vocabulary, is_new_folded=True),
        "report": None,
    }
    return replace(run, **changes)  # type: ignore[type-var]  # a Run


def _touched_rows(joined: Joined, side: Side) -> tuple[NDArray[np.int64], Csr, NDArray[np.int64]]:
    """The users (or items) with a new rating, all their ratings by row, and the places of these in the table."""
    table = joined.ratings
    own, others = (table.users, table.items) if side == "user" else (table.items, table.users)
    n_own, n_others = (table.n_users, table.n_items) if side == "user" else (table.n_items, table.n_users)
    starts, order = sorting.group(own, n_own)
    touched = np.unique(own[joined.is_new]).astype(np.int64)
    begins, places = find_entries(starts, touched)
    entries = order[places]
    return touched, Csr(begins, others[entries], table.values[entries], n_others), entries


def _only_trained(samples: Posterior, run: Trained, side: Side, table: Ratings) -> Posterior:
    """The samples, with rows of zero for users (or items) that are not trained, which a prior leaves out.

    samples : over the vocabularies of the table
    """
    vocabulary = table.user_vocabulary if side == "user" else table.item_vocabulary
    known, trained = vocabulary_of(run, side).indices(vocabulary.entries), trained_rows(run, side)
    untrained = np.flatnonzero((known >= 0) & ~trained[known])
    return _with_draws(samples, side, untrained, np.int16(0)) if len(untrained) else samples


def _times(run: Trained, given: Ratings, joined: Joined, side: Side) -> NDArray[np.int64] | None:
    """The times of the rows of the joined table, for a model that takes them: only those of new users (or items), since
    a run does not keep times. None for another model, and for ratings without times, which count at an average time.
    """
    if not takes_times(run.model):
        return None
    _require_new(run, given, side, "the model uses times")
    if given.times is None:
        return None
    return np.concatenate([np.zeros(len(joined.ratings) - len(given), np.int64), given.times])


def _require_new(run: Trained, given: Ratings, side: Side, why: str) -> None:
    """Raise ConfigError if a user (or item) of the ratings is in the run, which did not keep all about its ratings."""
    vocabulary = run.user_vocabulary if side == "user" else run.item_vocabulary
    theirs = given.user_vocabulary if side == "user" else given.item_vocabulary
    known = np.flatnonzero(vocabulary.indices(theirs.entries) >= 0)
    if len(known):
        what = f"new ratings of a known {side} cannot be folded in: {why}, which a run does not keep"
        seen, fix = f"{format_value(theirs.entries[int(known[0])])}", f"give new {side}s only, or train again"
        raise ConfigError(what, where=f"{side} ids", seen=seen, fix=fix)


def _as_ratings(run: Trained, ratings: Any) -> Ratings:
    if isinstance(ratings, Ratings):
        return ratings
    return (read_ratings if is_path(ratings) else from_frame)(ratings, like=run, duplicates="last")


def _of_known_others(run: Trained, ratings: Ratings, side: Side) -> Ratings:
    """The ratings with an item (or user) that the model knows; a warning says how many are not used."""
    known = ratings.reindexed(run.user_vocabulary, run.item_vocabulary)
    others = known.items if side == "user" else known.users
    usable, word = others >= 0, "item" if side == "user" else "user"
    if not usable.any():
        fix = f"give ratings with ids of {word}s that it was trained on, or train again"
        raise DataError(f"the model knows no {word} of these ratings", seen=f"{len(ratings):,} ratings", fix=fix)
    if not usable.all():
        count = int((~usable).sum())
        warnings.warn(
            f"{count:,} of {len(ratings):,} ratings are of {word}s that the model does not know; they were not used",
            FoldWarning, stacklevel=4,
        )  # fmt: skip
    return ratings.select(usable).restricted()


def _refuse_beyond_scale(run: Trained, ratings: Ratings) -> None:
    """Raise DataError for a rating too far from the training ratings to be computed with."""
    low, high = run.model.rating_range
    width = (high - low) or max(abs(low), abs(high), 1.0)
    far = np.abs(ratings.values - np.float64(low + high) / 2) > _MAX_WIDTHS * width
    if far.any():
        row = int(far.argmax())
        user, item = (
            format_value(vocabulary.entries[int(indices[row])])
            for vocabulary, indices in (
                (ratings.user_vocabulary, ratings.users),
                (ratings.item_vocabulary, ratings.items),
            )
        )
        seen, fix = f"{ratings.values[row]:g} of user {user}, item {item}", f"give ratings from {low:g} to {high:g}"
        raise DataError("a rating is too large to be folded in", where="the new ratings", seen=seen, fix=fix)


def _replaced(model: Factorization, side: Side, rows: NDArray[np.int64], X: F32) -> Factorization:
    """The model with other rows of a side."""
    factors, bias = (array.copy() for array in Rows.of(model, side))
    factors[rows], bias[rows] = X[:, :-1], X[:, -1]
    if side == "user":
        return replace(model, user_factors=factors, user_bias=bias)
    return replace(model, item_factors=factors, item_bias=bias)


def _with_draws(
    model: Posterior, side: Side, rows: NDArray[np.int64], drawn: NDArray[np.int16] | np.int16
) -> Posterior:
    """The model with other rows of a side."""
    table = (model.user_rows if side == "user" else model.item_rows).copy()
    table[rows] = drawn
    return replace(model, user_rows=table) if side == "user" else replace(model, item_rows=table)
