"""Diagnostics: the data of the pictures in a report, as a few numbers per bin and not per test row.

Of training: the errors on validation rows per step, and the traces of a sampler. Of the test rows: predictions by the
rating that was given, residuals, how well intervals and probabilities of ratings are calibrated, errors by item.
Here every test row counts the same, whatever its weight.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import mapped, sorting
from recsys_mf.evaluation.calibration import find_shares, transform_bounds
from recsys_mf.evaluation.metrics import find_errors
from recsys_mf.loaders.names import read_names
from recsys_mf.models import Model, Posterior
from recsys_mf.prediction import Predictions
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.vocabulary import Vocabulary

F64 = NDArray[np.float64]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the predictions at a rating."""

PROBABILITIES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Of the intervals whose coverage is measured."""

_MOST_LEVELS = 20  # distinct ratings that have a bin each
_BINS = 10  # of ratings, if there are more distinct ones
_RESIDUAL_BINS = 60
_TAIL = 0.001  # share of residuals that the outermost bins take in
_PROBABILITY_BINS = 20
_LISTED = 8  # items with the least and with the largest error
_FEWEST = (10, 5, 2)  # test ratings that a listed item must have: the first of these that leaves enough items


@dataclass(frozen=True)
class AtRating:
    """Predictions of the test rows whose rating is in a bin.

    rating : the mean of these ratings; quantiles : of the predictions, at QUANTILES
    """

    label: str
    n_pairs: int
    rating: float
    mean: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often ratings were given, by the probability that the model had predicted; over all levels of the scale.

    predicted, observed : float64[b], means over a bin of probabilities; counts : int64[b], (row, level) pairs in it
    """

    predicted: F64
    observed: F64
    counts: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Items:
    """Items with at least `fewest` test ratings: the k with the smallest error, then the k with the largest.

    vocabulary : of the run; items int64[2k] : dense indices, in the order of the errors
    counts, means, predicted, errors [2k] : test ratings, their mean, the mean of their predictions, the RMSE
    titles : of these items, None where there is none
    """

    fewest: int
    n_items: int
    vocabulary: Vocabulary
    items: NDArray[np.int64]
    counts: NDArray[np.int64]
    means: F64
    predicted: F64
    errors: F64
    titles: Sequence[str | None] | None = None


@dataclass(frozen=True, eq=False)
class OnTest:
    """Diagnostics of the trained model on the test rows.

    residual_edges float64[b + 1], residual_counts int64[b] : of r̂ - r; the outermost bins hold all beyond them
    coverage : share of ratings inside the central interval of each of PROBABILITIES, by the probability integral
        transform; None for a model without intervals
    reliability : None for a model without probabilities of ratings
    items : None if too few items have several test ratings
    """

    by_rating: tuple[AtRating, ...]
    residual_edges: F64
    residual_counts: NDArray[np.int64]
    coverage: tuple[float, ...] | None
    reliability: Reliability | None
    items: Items | None


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """Diagnostics of a run.

    histories : label of a row of the report -> `Fit.history`
    traces, burn_in : of the trained model, as in `Fit`
    record : the provenance of the run
    """

    histories: Mapping[str, Sequence[Mapping[str, Any]]]
    traces: Mapping[str, Sequence[Sequence[float]]]
    burn_in: int
    record: Mapping[str, Any]
    on_test: OnTest | None = field(default=None)


def diagnose_training(run: Run, label: str) -> Diagnostics:
    """The diagnostics of the training of a run; label : of its model in the report."""
    histories = {name: fit.history for name, fit in {**run.baselines, label: run.fit}.items()}
    return Diagnostics(histories, run.fit.traces, run.fit.details.burn_in, run.provenance)


def diagnose_test(model: Model, predicted: Predictions, pairs: Ratings) -> OnTest:
    """The diagnostics of predictions of the test rows, and of their intervals if the model has them.

    pairs : the test rows under any vocabularies
    """
    errors = find_errors(predicted.values, pairs.values)
    edges, counts = _residuals(errors)
    return OnTest(
        _by_rating(pairs.values, predicted.values),
        edges,
        counts,
        _coverage(model, predicted, pairs.values),
        _reliability(model, predicted, pairs.values),
        _items(pairs, predicted.values, errors),
    )


def name_items(diagnostics: Diagnostics, titles: Any) -> Diagnostics:
    """The diagnostics with the titles of the items that are listed; arguments and errors as in `Report.name_items`."""
    on_test = diagnostics.on_test
    if on_test is None or on_test.items is None:
        return diagnostics
    names = read_names(titles, "item", on_test.items.vocabulary)
    items = replace(on_test.items, titles=names.take(on_test.items.items).to_pylist())
    return replace(diagnostics, on_test=replace(on_test, items=items))


def _by_rating(values: NDArray[np.float32], predictions: NDArray[np.float32]) -> tuple[AtRating, ...]:
    levels = np.unique(np.concatenate([np.unique(values[part]) for part in mapped.parts(len(values))]))
    labels = [f"{level:g}" for level in levels.tolist()]
    edges = levels[1:]
    if len(levels) > _MOST_LEVELS:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1]))
        ends = [values.min(), *edges, values.max()]
        labels = [f"{low:.3g} to {high:.3g}" for low, high in itertools.pairwise(ends)]
    numbers = np.searchsorted(edges, values, side="right").astype(np.int8)
    found = []
    for number, label in enumerate(labels):
        rows = numbers == number
        if rows.any():
            at, given = predictions[rows].astype(np.float64), float(values[rows].mean(dtype=np.float64))
            quantiles = tuple(np.quantile(at, QUANTILES).tolist())
            found.append(AtRating(label, len(at), given, at.mean(), quantiles))
    return tuple(found)


def _residuals(errors: F64) -> tuple[F64, NDArray[np.int64]]:
    reach = float(np.quantile(np.abs(errors), 1 - _TAIL)) or 1.0
    counts, edges = np.histogram(np.clip(errors, -reach, reach), _RESIDUAL_BINS, (-reach, reach))
    return edges, counts


def _coverage(model: Model, predicted: Predictions, values: NDArray[np.float32]) -> tuple[float, ...] | None:
    bounds = transform_bounds(model, predicted, values)
    return (
        None
        if bounds is None
        else tuple(float(find_shares(*bounds, probability).mean()) for probability in PROBABILITIES)
    )


def _reliability(model: Model, predicted: Predictions, values: NDArray[np.float32]) -> Reliability | None:
    if predicted.distribution is None or not isinstance(model, Posterior):
        return None
    p = predicted.distribution
    bins = np.minimum((p * _PROBABILITY_BINS).astype(np.int64), _PROBABILITY_BINS - 1).ravel()
    given = (model.scale.levels[None, :] == values[:, None]).ravel()
    counts = np.bincount(bins, minlength=_PROBABILITY_BINS)
    sums, hits = (np.bincount(bins, of, _PROBABILITY_BINS) for of in (p.ravel(), given))
    some = counts > 0
    return Reliability(sums[some] / counts[some], hits[some] / counts[some], counts[some])


def _items(pairs: Ratings, predictions: NDArray[np.float32], errors: F64) -> Items | None:
    known = pairs.items >= 0
    items, n = pairs.items[known], pairs.n_items
    counts = sorting.sums(items, n, None).astype(np.int64)
    for fewest in _FEWEST:
        rows = np.flatnonzero(counts >= fewest)
        if len(rows) >= 2 * _LISTED:
            break
    k = min(_LISTED, len(rows) // 2)
    if k == 0:
        return None
    sums = (sorting.sums(items, n, of[known])[rows] for of in (pairs.values, predictions, errors**2))
    means, predicted, squares = (total / counts[rows] for total in sums)
    order = np.argsort(squares, kind="stable")
    order = np.concatenate([order[:k], order[-k:]])
    chosen = rows[order].astype(np.int64)
    predicted, errors_of = predicted[order], np.sqrt(squares[order])
    return Items(fewest, len(rows), pairs.item_vocabulary, chosen, counts[chosen], means[order], predicted, errors_of)
