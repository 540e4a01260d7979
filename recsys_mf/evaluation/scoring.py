"""Scoring: from a run and a table of ratings to a Report.

Every pair is scored. A pair with an id that the training rows lack gets the model's fallback and counts in the
fallback share, so a model cannot win by answering only the easy pairs. If nothing was held out, the report has
only the validation error, and says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arguments import instance, whole
from recsys_mf.arrays import sorting
from recsys_mf.errors import DataError, IdMismatchWarning, LeakWarning
from recsys_mf.evaluation.calibration import PROBABILITY, Calibration, calibration, inside
from recsys_mf.evaluation.convergence import MIN_DRAWS, Summary, summarise
from recsys_mf.evaluation.diagnostics import OnTest, diagnose_test, diagnose_training
from recsys_mf.evaluation.full_ranking import RankingTask, Top, check_arguments
from recsys_mf.evaluation.leakage import Trained, describe_leak, describe_mismatch, trained_on
from recsys_mf.evaluation.metrics import METRICS, Estimate, PairedBootstrap, Scored, find_errors
from recsys_mf.evaluation.ranking import Figure
from recsys_mf.evaluation.report import SEGMENTS, Coverage, HeldOut, Report, Row, Segment, require_svd
from recsys_mf.kernels import predictor
from recsys_mf.kernels.backend import Backend, PredictionKernels
from recsys_mf.kernels.cpu.prediction import CPU
from recsys_mf.models import Fit, Model, Posterior
from recsys_mf.prediction import Predictions, has_intervals, predict
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run

_SEGMENT_STARTS = (1, 5, 20, 100, 500)  # least training ratings of SEGMENTS[1:]


def evaluate(
    run: Run,
    test: Ratings,
    *,
    seed: int = 0,
    held_out: str | None = None,
    device: str | Backend = "auto",
    threads: int | None = None,
    ranking: int | Top | None = None,
) -> Report:
    """Score every model of a run on all pairs of a table.

    test : any table of at least two ratings, under any vocabularies; its weights, if it has any, are those of errors.
        Give the table as it was read if there is one, e.g. `Split.test_as_read`: a `Split.test` no longer has its
        unknown ids.
    seed : of the paired bootstrap
    held_out : how the pairs were chosen, in words, if not by the run's own split
    device : where models predict: "cpu", "cuda" or "auto", which is CUDA if available
    threads : number of CPU threads to predict on; None for all available
    ranking : N, or Top(N, relevant=4), to report figures of the N items that every model recommends to every user
        (`full_ranking`); the table must have the ids of its users, as `Split.test_as_read` has
    Pairs that the run was trained on are counted: the report does not call their error held-out.
    Raises DataError when ids are integers on one side and strings on the other, ConfigError when the run has no
    truncated-SVD baseline, DeviceError if CUDA is not available, and what `RankingTask.of` raises. Warns with
    IdMismatchWarning when over 90 % of pairs have an unknown id, with LeakWarning when the run was trained on some of
    the pairs.
    """
    instance(run, "run", Run, "give what train returned, or load(directory)")
    instance(test, "test", Ratings, "give a split's test part, read_ratings(path) or from_frame(table)")
    seed = whole(seed, "seed")
    fits = _labelled(run)
    require_svd(run.baseline, {label: fit.solver for label, fit in fits.items()})
    if len(test) < 2:
        raise DataError("too few test pairs", where="test", seen=len(test), fix="give at least two")
    top = ranking if isinstance(ranking, Top) or ranking is None else Top(ranking)
    if top is not None:
        check_arguments(top.n, top.relevant)
    pairs = test.reindexed(run.user_vocabulary, run.item_vocabulary)
    task = None if top is None else RankingTask.of(run, test, pairs, top)
    trained = trained_on(run, test, pairs)
    said = {IdMismatchWarning: describe_mismatch(run, test, pairs), LeakWarning: describe_leak(trained, len(pairs))}
    for kind, message in said.items():
        if message:
            warnings.warn(message, kind, stacklevel=2)
    weights = None if pairs.weights is None else pairs.weights.astype(np.float64)
    bootstrap = PairedBootstrap(len(pairs), np.random.default_rng(seed), weights)
    scorer = _Scorer(run, pairs, trained.which, bootstrap, (device, threads), task)
    *others, trained_label = fits
    scores = {label: scorer.scored(fits[label]) for label in others}
    scores[trained_label] = scorer.scored(run.fit, diagnosed=True)
    baseline = scores[run.baseline]
    rows = (_row(label, fit, scores[label], None if label == run.baseline else baseline) for label, fit in fits.items())
    diagnostics = replace(diagnose_training(run, trained_label), on_test=scores[trained_label].on_test)
    given = {} if held_out is None else {"split": held_out, "split_seed": None}
    return Report(
        rows=tuple(rows),
        held_out=_held_out(run, pairs, trained, seed),
        warnings=tuple(message for message in said.values() if message),
        ranking=None if task is None else task.rule,
        diagnostics=diagnostics,
        **_shared(run) | given,
    )


def validation_report(run: Run) -> Report:
    """The report of a run without a test part: validation errors, which also chose the settings."""
    fits = _labelled(run)
    rows = tuple(_row(label, fit, None, None) for label, fit in fits.items())
    diagnostics = diagnose_training(run, list(fits)[-1])
    return Report(rows=rows, held_out=None, warnings=(), diagnostics=diagnostics, **_shared(run))


@dataclass(frozen=True, eq=False)
class _ScoredFit:
    metrics: Mapping[str, Scored]
    coverage: Coverage | None
    calibration: Calibration | None
    segments: Mapping[tuple[str, str], tuple[int, float]]  # (side, training ratings) -> pairs, RMSE
    ranking: Mapping[str, Figure]
    on_test: OnTest | None


class _Scorer:
    """Scores model after model on the same pairs, segments, resamples and, if there are any, users to rank for."""

    def __init__(
        self,
        run: Run,
        pairs: Ratings,
        trained: NDArray[np.bool_] | None,
        bootstrap: PairedBootstrap,
        place: tuple[str | Backend, int | None],
        task: RankingTask | None,
    ) -> None:
        self._pairs, self._bootstrap, self._place, self._task = pairs, bootstrap, place, task
        self._segments: dict[str, tuple[tuple[str, ...], NDArray[np.int8]]] = {
            "user": (SEGMENTS, _segment_numbers(run.user_counts, pairs.users)),
            "item": (SEGMENTS, _segment_numbers(run.item_counts, pairs.items)),
        }
        if trained is not None and trained.any() and not trained.all():
            self._segments["pair"] = ("0", "1"), trained.astype(np.int8)

    def scored(self, fit: Fit, *, diagnosed: bool = False) -> _ScoredFit:
        """The scores of a fit; diagnosed : whether to add the data of the pictures."""
        backend = predictor(*self._place)
        predicted = predict_ratings(fit.model, self._pairs, backend)
        errors = find_errors(predicted.values, self._pairs.values)
        metrics = {name: self._bootstrap.score(metric, errors) for name, metric in METRICS.items()}
        return _ScoredFit(
            metrics,
            coverage(fit.model, predicted, self._pairs.values),
            calibration(fit.model, predicted, self._pairs),
            dict(self._segment_errors(errors)),
            {} if self._task is None else self._task.scored(fit.model, backend),
            diagnose_test(fit.model, predicted, self._pairs) if diagnosed else None,
        )

    def _segment_errors(self, errors: NDArray[np.float64]) -> Iterator[tuple[tuple[str, str], tuple[int, float]]]:
        weights = self._bootstrap.weights
        squares = errors**2 if weights is None else weights * errors**2
        for side, (labels, numbers) in self._segments.items():
            counts = sorting.sums(numbers, len(labels), None)
            totals = counts if weights is None else sorting.sums(numbers, len(labels), weights)
            sums = sorting.sums(numbers, len(labels), squares)
            for index in np.flatnonzero(counts).tolist():
                yield (side, labels[index]), (int(counts[index]), float(np.sqrt(sums[index] / totals[index])))


def predict_ratings(model: Model, pairs: Ratings, backend: PredictionKernels = CPU) -> Predictions:
    """All predictions of a model for the pairs of a table, with intervals of PROBABILITY.

    backend : a new one for every model, so that the model's tables on the device are freed with it
    """
    probability = PROBABILITY if has_intervals(model) else None
    ordinal = isinstance(model, Posterior) and model.is_ordinal
    where = pairs.users, pairs.items, pairs.times
    return predict(model, *where, probability=probability, distribution=ordinal, backend=backend)


def coverage(model: Model, predicted: Predictions, values: NDArray[np.float32]) -> Coverage | None:
    """Share of the ratings inside the intervals predicted with PROBABILITY; None if the model has no intervals."""
    if predicted.lower is None or predicted.upper is None:
        return None
    covered, pit = inside(model, predicted, values)
    return Coverage(PROBABILITY, float(covered.mean()), float(pit.mean()))


def _segment_numbers(counts: NDArray[np.int64], indices: NDArray[np.int32]) -> NDArray[np.int8]:
    """Index into SEGMENTS of every pair, from the training ratings of its user or item; -1 is unknown."""
    numbers = np.searchsorted(_SEGMENT_STARTS, np.append(counts, 0), side="right").astype(np.int8)
    return numbers[indices]  # index -1 reads the appended zero


def _row(label: str, fit: Fit, scored: _ScoredFit | None, baseline: _ScoredFit | None) -> Row:
    """The row of a fit; scored None in a validation report, baseline None in the baseline row itself."""
    scores: dict[str, Estimate] = {}
    differences: dict[str, Estimate] = {}
    segments: tuple[Segment, ...] = ()
    if scored is not None:
        reference = (baseline or scored).segments
        scores = {name: score.estimate for name, score in scored.metrics.items()}
        segments = tuple(Segment(*key, *value, reference[key][1]) for key, value in scored.segments.items())
    if scored is not None and baseline is not None:
        differences = {name: score.minus(baseline.metrics[name]) for name, score in scored.metrics.items()}
    return Row(
        label=label,
        solver=fit.solver,
        settings=dict(fit.settings),
        rank=fit.rank,
        epochs=fit.epochs,
        members=fit.members,
        fit_seconds=fit.seconds,
        ratings_per_second=fit.ratings_per_second,
        peak_memory_bytes=fit.peak_memory,
        train_rmse=fit.train_rmse,
        valid_rmse=fit.valid_rmse,
        scores=scores,
        differences=differences,
        segments=segments,
        coverage=None if scored is None else scored.coverage,
        calibration=None if scored is None else scored.calibration,
        convergence=convergence(fit),
        ranking={} if scored is None else scored.ranking,
    )


def convergence(fit: Fit) -> tuple[Summary, ...]:
    """Convergence of the chains of a sampler; empty if there are too few sweeps to judge it."""
    burn_in = fit.details.burn_in
    kept = {name: np.array(chains)[:, burn_in:] for name, chains in fit.traces.items()}
    enough = {name: draws for name, draws in kept.items() if draws.shape[1] >= MIN_DRAWS}
    return summarise(enough)


def _labelled(run: Run) -> dict[str, Fit]:
    """Fits by row label: the baselines, then the trained model under the name of its solver."""
    label = run.fit.solver if run.fit.solver not in run.baselines else f"{run.fit.solver} (trained)"
    return {**run.baselines, label: run.fit}


def _held_out(run: Run, pairs: Ratings, trained: Trained, seed: int) -> HeldOut:
    # An id with only side information is known, but it has no training rating either.
    no_user, no_item = (
        np.append(counts, 0)[indices] == 0
        for counts, indices in ((run.user_counts, pairs.users), (run.item_counts, pairs.items))
    )
    return HeldOut(
        n_pairs=len(pairs),
        unknown_user_pairs=int(no_user.sum()),
        unknown_item_pairs=int(no_item.sum()),
        unknown_both_pairs=int((no_user & no_item).sum()),
        fallback_share=float((no_user | no_item).mean()),
        bootstrap_seed=seed,
        trained_pairs=trained.count,
        weighted=pairs.weights is not None,
    )


def _shared(run: Run) -> dict[str, Any]:
    """The fields of a report that come from its run."""
    low, high = run.provenance["rating_range"]
    taken = ("split", "split_seed", "seed", "threads", "train_ratings", "train_fingerprint")
    facts = [run.provenance[name] for name in ("card", "kernels") if name in run.provenance]
    device = run.provenance["device"]
    return {
        "baseline": run.baseline,
        "data": run.provenance.get("data"),
        "rating_range": (low, high),
        "device": f"{device} ({', '.join(facts)})" if facts else device,
        "continued": run.provenance.get("continued"),
        "weighted": bool(run.provenance.get("weighted")),
        "asked_epochs": run.provenance.get("settings", {}).get("epochs"),
        **{name: run.provenance[name] for name in taken},
    }
