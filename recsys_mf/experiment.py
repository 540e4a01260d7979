"""Experiment: the data, the part of it that is held out, a solver and its baselines; from tables to a report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from recsys_mf import splits
from recsys_mf.arguments import is_path
from recsys_mf.errors import ConfigError, DataError
from recsys_mf.evaluation import FoldReport, Report, evaluate, summarise_folds, validation_report
from recsys_mf.evaluation.full_ranking import Top, check_arguments, least_relevant, require_relevant
from recsys_mf.evaluation.predictions import PredictedRows, join_folds, predict_rows
from recsys_mf.features import Features
from recsys_mf.kernels import select
from recsys_mf.kernels.backend import Backend
from recsys_mf.loaders import read_features
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.serving.joining import seen_by
from recsys_mf.solvers import Solver
from recsys_mf.splits import By, Split
from recsys_mf.training import EVERY, Checkpoint, Validated, Watcher, as_ratings, train
from recsys_mf.training.checkpoint import opened

Record = Mapping[str, Any]


class Outcome(NamedTuple):
    """The results of an experiment.

    run : the model with its baselines; after cross-validation, the model of all ratings
    report : errors on the held-out ratings, or their means over the folds; if nothing was held out, errors on the
        validation rows
    predictions : the held-out rows with their predictions, if requested
    """

    run: Run
    report: Report | FoldReport
    predictions: PredictedRows | None


def _read_nothing(role: str, found: Ratings | Features) -> None:
    """The default of `on_read`."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What a caller adds to an experiment.

    on_read : called with the role (ratings, test, user_features, item_features) of a table that was read, and the table
    record : called with the provenance of a run; returns the provenance to keep
    """

    on_read: Callable[[str, Any], None] = _read_nothing
    record: Callable[[Record], Record] = dict


NO_HOOKS = Hooks()


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """Which solver is trained on which ratings, and which ratings are held out to measure its error.

    ratings : the path of a table, a table in memory or Ratings
    solver : a Solver with its settings; or its class or name, for the default settings
    test : a table of test ratings; None to hold out a part of the ratings
    hold_out, by, split_seed : how that part is chosen (`splits.hold_out`); a fraction of 0 holds out none.
        If split_seed is None, `seed` is used
    folds : number of folds to cross-validate on, before the fit on all ratings
    validation, seed, baselines, compress, start : as in `train`, where baselines are `compared_with`
    user_features, item_features : the path of a table of side information, or Features; feature_columns : its columns
        to use, None for all
    reading : keywords of `read_ratings` for the tables that are paths
    ranking, relevant : N and the lowest rating that is relevant, as in `evaluate`; checked before anything is trained
    """

    ratings: Any
    solver: Solver | type[Solver] | str = "sgd"
    test: Any = None
    hold_out: float = 0.1
    by: By = "random"
    split_seed: int | None = None
    folds: int | None = None
    validation: float = 0.1
    seed: int = 0
    baselines: Mapping[str, Solver] | None = None
    compress: int | None = None
    start: Run | None = None
    user_features: Any = None
    item_features: Any = None
    feature_columns: Sequence[str] | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    ranking: int | None = None
    relevant: float | None = None

    def __post_init__(self) -> None:
        if self.test is not None and self.folds is not None:
            raise ConfigError("folds and a test table exclude each other", where="folds", fix="leave one of them out")
        if self.feature_columns is not None and self.user_features is None and self.item_features is None:
            raise ConfigError(
                "there is no table to take these columns from", where="feature_columns",
                seen=",".join(self.feature_columns),
                fix="give --user-features or --item-features (user_features=, item_features= in Python)",
            )  # fmt: skip
        check_arguments(self.ranking, self.relevant)
        if self.ranking is not None and not (self.hold_out or self.test is not None or self.folds is not None):
            fix = "hold ratings out, or give --test or --folds (test=, folds= in Python)"
            seen = "--hold-out 0 (hold_out=0 in Python)"
            raise ConfigError("there are no test ratings to rank for", where="ranking", seen=seen, fix=fix)

    @property
    def _top(self) -> Top | None:
        return None if self.ranking is None else Top(self.ranking, self.relevant)

    def run(
        self,
        *,
        device: str | Backend = "auto",
        threads: int | None = None,
        watch: Watcher = lambda progress: None,
        keep_predictions: bool = False,
        hooks: Hooks = NO_HOOKS,
        checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
        every: float = EVERY,
    ) -> Outcome:
        """Read, split, train and evaluate.

        device, threads, watch : as in `train`
        keep_predictions : return the held-out rows with their predictions
        hooks : called with every table that is read and with the record
        checkpoint, every : as in `train`; the checkpoint keeps the training of every fold
        Raises what `read_ratings`, `train` and `evaluate` raise.
        """
        if is_path(checkpoint):
            with opened(checkpoint, every) as kept:
                return self.run(
                    device=device, threads=threads, watch=watch, keep_predictions=keep_predictions, hooks=hooks,
                    checkpoint=kept,
                )  # fmt: skip

        def finished(split: Split) -> Outcome:
            return self.run_on(
                split, select(device, threads), watch=watch, keep_predictions=keep_predictions, record=hooks.record,
                checkpoint=checkpoint,
            )  # fmt: skip

        if self.folds is None:
            return finished(self.split(hooks.on_read))
        table = self._read(hooks.on_read)
        if self.ranking is not None:
            for split in splits.k_folds(table, self.folds, self._split_seed):
                self._check_ranking(split)
        reports: list[Report] = []
        predicted: list[PredictedRows] = []
        for split in splits.k_folds(table, self.folds, self._split_seed):
            _, report, rows = finished(split)
            assert isinstance(report, Report)
            reports.append(report)
            predicted += [] if rows is None else [rows]
        run = finished(splits.hold_out(table, 0, self._split_seed)).run
        numbers = splits.fold_numbers(len(table), self.folds, self._split_seed)
        joined = join_folds(table, numbers, predicted) if predicted else None
        return _outcome(run, replace(summarise_folds(reports), final=run.report), joined)

    def split(self, on_read: Callable[[str, Any], None] = _read_nothing) -> Split:
        """Read and split the ratings; not for folds. Raises what `run` raises before it trains."""
        split = self._split(self._read(on_read), on_read)
        self._check_ranking(split)
        return split

    def run_on(
        self,
        split: Split,
        backend: Backend,
        *,
        watch: Watcher = lambda progress: None,
        keep_predictions: bool = False,
        record: Callable[[Record], Record] = dict,
        validated: Validated | None = None,
        checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    ) -> Outcome:
        """Train and evaluate on a split of the ratings, as `run` does; validated, checkpoint : as in `train`."""
        run = train(
            split, self.solver, seed=self.seed, device=backend, validation=self.validation,
            compared_with=self.baselines, start=self.start, compress=self.compress, watch=watch,
            validated=validated, checkpoint=checkpoint,
        )  # fmt: skip
        run = replace(run, provenance=record(run.provenance))
        run = replace(run, report=validation_report(run))
        if split.test_as_read is None:
            return _outcome(run, run.report, None)
        report = evaluate(run, split.test_as_read, device=backend, ranking=self._top)
        rows = predict_rows(run, split.test_as_read, device=backend) if keep_predictions else None
        return _outcome(run, report, rows)

    def test_rows(self, on_read: Callable[[str, Any], None] = _read_nothing) -> Ratings | None:
        """The rows that `run` holds out, as they were read; None with folds, and if it holds out none.

        on_read : as in `Hooks`
        Raises what `run` raises before it trains.
        """
        if self.folds is not None:
            return None
        return self._split(self._read(on_read), on_read).test_as_read

    @property
    def _split_seed(self) -> int:
        return self.seed if self.split_seed is None else self.split_seed

    def _read(self, on_read: Callable[[str, Any], None]) -> Ratings:
        """The ratings with their side information."""
        table = as_ratings(self.ratings, **(self.reading if is_path(self.ratings) else {}))
        on_read("ratings", table)
        found: dict[str, Features] = {}
        reading = {key: self.reading[key] for key in ("ids", "encoding") if key in self.reading}
        for side, given in (("user", self.user_features), ("item", self.item_features)):
            if given is not None:
                columns = None if self.feature_columns is None else list(self.feature_columns)
                features = given
                if is_path(given):
                    features = read_features(given, role=side, columns=columns, **reading)  # type: ignore[arg-type]
                on_read(f"{side}_features", features)
                found[f"{side}s"] = features
        return table.with_features(**found) if found else table

    def _split(self, table: Ratings, on_read: Callable[[str, Any], None]) -> Split:
        """The split; if a run is continued, only ratings that it has not seen are held out."""
        if self.test is None:
            among = None if self.start is None or not self.hold_out else ~seen_by(self.start, table)
            if among is not None and not among.any():
                what = "the run to continue from has all pairs of this table already, so none can be held out"
                fix = "give new ratings, or --hold-out 0 if some of these have changed"
                raise DataError(what, seen=f"{len(table):,} ratings", fix=fix)
            return splits.hold_out(table, self.hold_out, self._split_seed, by=self.by, among=among)
        named = is_path(self.test)
        test = as_ratings(self.test, **({"like": table, **self.reading} if named else {}))
        on_read("test", test)
        return splits.given(table, test, rule=f"the pairs of {self.test if named else 'a table in memory'}")

    def _check_ranking(self, split: Split) -> None:
        """Raise what `evaluate` would raise after the training."""
        if self.ranking is None or split.test is None:
            return
        items, (low, high) = split.train.item_vocabulary, split.train.rating_range
        if self.start is not None:
            items = items.union(self.start.item_vocabulary)
            ranges = (low, high), self.start.provenance["rating_range"]
            low, high = min(least for least, _ in ranges), max(most for _, most in ranges)
        least = least_relevant(self.ranking, self.relevant, n_items=len(items), rating_range=(low, high))
        require_relevant(split.test.values, least)


def _outcome(run: Run, report: Any, predictions: PredictedRows | None) -> Outcome:
    return Outcome(replace(run, report=report), report, predictions)
