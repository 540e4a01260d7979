"""Training: the one epoch loop. Validate, stop early, fit again on all of train, with the baselines beside it."""

from __future__ import annotations

import math
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from recsys_mf import __version__, columns, memory, splits
from recsys_mf.arguments import fraction, instance, whole
from recsys_mf.errors import ConfigError, DataError, LeakWarning
from recsys_mf.evaluation.convergence import FEWEST_DRAWS, effective_sample_size
from recsys_mf.kernels import Kernels, available_threads, predictor, select
from recsys_mf.loaders import from_frame, read_ratings
from recsys_mf.models import Factorization, Fit, Model, Posterior, RatedPairs, Run
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import SOLVERS, Biases, Epoch, Mean, Solver, TruncatedSvd
from recsys_mf.solvers.truncated_svd import FILLINGS
from recsys_mf.splits import Split
from recsys_mf.vocabulary import Vocabulary

BASELINE = "svd bias"
"""Label of the baseline that reports take differences from."""

_LIBRARIES = ("numpy", "numba", "scipy", "torch")


@dataclass(frozen=True)
class Progress:
    """One epoch, as told to whoever watches.

    label : the model being fitted, as its report row names it
    stage : "member" while the epochs of a committee's members are chosen, "validate" while the epochs (for a
        committee, the members) are chosen, "fit" in the fit on all of train
    epoch, n_epochs : this epoch and the most there can be
    train_rmse, valid_rmse : in rating units, None where not known
    ratings_per_second : ratings visited over the seconds of the epoch
    noise, ess : of a sampler, the standard deviation of a rating about its prediction, and the least effective sample
        size of its monitored scalars; None for others, and before it can be told
    """

    label: str
    stage: str
    epoch: int
    n_epochs: int
    train_rmse: float | None
    valid_rmse: float | None
    ratings_per_second: float
    noise: float | None = None
    ess: float | None = None


Watcher = Callable[[Progress], None]
History = tuple[dict[str, Any], ...]


def baselines(ranks: tuple[int, ...] | None = None, route: str = "auto") -> dict[str, Solver]:
    """The solvers every report shows beside the model: the mean, damped biases, the truncated SVD by filling.

    ranks : ranks that the truncated SVD tries (its default where None); route : how it is computed
    """
    settings: dict[str, Any] = {"route": route} | ({} if ranks is None else {"ranks": ranks})
    svds = {f"svd {filling}": TruncatedSvd(filling=filling, **settings) for filling in FILLINGS}
    return {"mean": Mean(), "bias": Biases(), **svds}


def train(
    data: Split | Any,
    solver: Solver | type[Solver] | str = "sgd",
    *,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    validation: float = 0.1,
    compared_with: Mapping[str, Solver] | None = None,
    start: Run | None = None,
    compress: int | None = None,
    watch: Watcher = lambda progress: None,
) -> Run:
    """Fit the solver and the baselines on split.train and return them as a Run; split.test is not looked at.

    data : a Split, of which this fits on the train part; or Ratings, a pandas or Arrow table or the path of a file, of
        which all rows are trained on, as of `hold_out(ratings, 0)`
    solver : a Solver with its settings, or with their defaults its class or its name
    seed : of every random draw, a whole number from 0
    validation : fraction of split.train cut off (by the split's rule) to choose the number of epochs or the
        rank; every model is then fitted again on all of split.train. 0 runs every epoch of the settings.
        Not used where split.valid is given: that part is validated on, and never trained on.
    compared_with : baselines by label, `baselines()` by default; must hold the truncated SVD `BASELINE`
    start : run to continue from: rows it knows start where it ended, and all epochs of the settings are run,
        since validation rows would not be new to it
    compress : rank of the plain factorisation that takes the place of a posterior (`Posterior.compress`)
    watch : called after every epoch
    Raises SolveError when the fit diverges, ConfigError for an argument of another type or out of range and for a
    start or side information that the solver cannot take, ResourceError before what would not fit in memory.
    Warns with LeakWarning when the start was trained on other rows than split.train and there is a test part.
    """
    split, solver = _as_split(data), _as_solver(solver)
    seed, validation = whole(seed, "seed"), fraction(validation, "validation")
    compress = None if compress is None else whole(compress, "compress", 1)
    kernels = select(device, None if threads is None else whole(threads, "threads", 1))
    inner = _validated(split, validation, seed)
    known = split.train.user_vocabulary, split.train.item_vocabulary
    if start is not None:
        instance(start, "start", Run, "give what train returned, or load(directory)")
    given = None if start is None else _aligned(start, solver, *known)
    if start is not None and split.test is not None:
        _warn_of_leak(start, split)
    others = baselines() if compared_with is None else _as_baselines(compared_with)
    if BASELINE not in others:
        raise ConfigError(f"the baselines lack '{BASELINE}'", seen=", ".join(others), fix="add it")

    def fitted(label: str, method: Solver, given: Factorization | None = None) -> Fit:
        task = _Task(label, method, split.train, inner, seed, kernels, watch)
        return task.fit() if given is None else task.fit_from(given)

    if not solver.takes_features and (split.train.user_features or split.train.item_features):
        fix = "leave it out, or use a solver that takes it: gibbs"
        raise ConfigError(f"solver '{solver.name}' makes no use of side information", fix=fix)
    for method in (*others.values(), solver):
        method.resolved(split.train, kernels)  # raises for what the table or the device does not bear
    if compress is not None and not solver.samples_posterior:
        fix = "leave it out, or use a solver that samples: gibbs"
        raise ConfigError(f"solver '{solver.name}' gives no posterior to compress", where="--compress", fix=fix)
    what = f"training '{solver.name}' on {split.train.n_users:,} users and {split.train.n_items:,} items"
    fix = "lower the rank, give --memory (columns in files) or train on another machine"
    if kernels.device == "cpu":
        methods = (*others.values(), solver)
        memory.require(_needed(methods, split.train, inner, kernels, compress), what, fix=fix)
    with memory.guarded(what, fix=fix):
        fits = {label: fitted(label, method) for label, method in others.items()}
        fit = fitted(solver.name, solver, given)
        if compress is not None:
            fit = _compressed(fit, compress, split.train, device)
    return Run(
        fit=fit,
        baselines=fits,
        baseline=BASELINE,
        user_vocabulary=known[0],
        item_vocabulary=known[1],
        user_counts=split.train.user_counts,
        item_counts=split.train.item_counts,
        provenance=_provenance(split, seed, kernels, threads),
        rated=RatedPairs.of(split.train),
    )


def _needed(
    methods: Iterable[Solver], train: Ratings, inner: Split | None, kernels: Kernels, compress: int | None
) -> int:
    """Bytes that fitting these one after another takes at most, where every model is kept."""
    in_files = columns.is_mapped(train.users)
    kept = 0 if inner is None or in_files else 16 * len(train)  # the validated part of train
    most = kept
    for method in methods:
        found = method.resolved(train, kernels).footprint(train)
        validated = 0 if inner is None or method.samples_posterior else found.model
        most, kept = max(most, kept + validated + found.working), kept + found.model
    if compress is not None:
        rows = train.n_users + train.n_items
        rank = min(compress, train.n_users, train.n_items)
        wide = rank + method.resolved(train, kernels).settings()["rank"]
        most = max(most, kept + 8 * rows * (wide + 3 * rank) + 48 * wide * wide)
    return most


def _as_split(data: Any) -> Split:
    """The data as a split; a table without one has all of its rows in train."""
    if isinstance(data, Split):
        for part in (data.valid, data.test):
            if part is not None and not len(part):
                raise DataError("a part of the split is empty", where="split", fix="leave it out (None), or give rows")
        return data
    if isinstance(data, str | os.PathLike):
        data = read_ratings(os.fspath(data))
    elif hasattr(data, "columns") or hasattr(data, "column_names"):
        data = from_frame(data)
    fix = "give a Split, Ratings, a table or a path; of a matrix, from_matrix(A)"
    return splits.hold_out(instance(data, "data", Ratings, fix), 0)


def _as_solver(solver: Any) -> Solver:
    if isinstance(solver, str):
        solver = SOLVERS[solver]
    if isinstance(solver, type) and issubclass(solver, Solver):
        solver = solver()
    return instance(solver, "solver", Solver, f"give one of {', '.join(SOLVERS)}, or SOLVERS[name](...)")


def _as_baselines(given: Any) -> dict[str, Solver]:
    fix = "give a dict of label: solver, as baselines() does"
    items = instance(given, "compared_with", dict, fix).items()
    return {str(label): _as_solver(solver) for label, solver in items}


@dataclass(frozen=True)
class _Task:
    """One model to fit: validated epochs on the inner split, then the chosen number of epochs on all of train."""

    label: str
    solver: Solver
    train: Ratings
    inner: Split | None
    seed: int
    kernels: Kernels
    watch: Watcher

    def fit(self) -> Fit:
        """Choose the epochs on validation where there is a validation part, then fit."""
        _compile(self.solver, self.kernels)
        solver = self.solver.resolved(self.train, self.kernels)
        if self.inner is None:
            return self._final(solver.chosen(None), (), None)
        member = solver.alone()
        if member is not None:
            best = self._best(member, self.inner, "member")[1]
            solver = solver.with_member(member.stopped_at(best["epoch"]))
        history, best, last = self._best(solver, self.inner, "validate")
        validated = None if member is None else last.model()
        del last  # and with it what a sampler has kept
        fit = self._final(solver.chosen(best), history, best["valid_rmse"])
        if isinstance(fit.model, Factorization) and isinstance(validated, Factorization):
            assert self.inner.valid is not None
            fit = replace(fit, model=fit.model.calibrated_by(validated, self.inner.valid))
        return fit

    def fit_from(self, start: Factorization) -> Fit:
        """Run all epochs of the settings on all of train from a given model."""
        _compile(self.solver, self.kernels)
        return self._final(self.solver.continued(), (), None, start)

    def _best(self, solver: Solver, inner: Split, stage: str) -> tuple[History, dict[str, Any], Epoch]:
        """The validated epochs of a solver, the best of them, and the last."""
        history = []
        for row, epoch in self._validated_epochs(solver, inner, stage):
            history.append(row)
            last = epoch
        return tuple(history), history[solver.best([row["valid_rmse"] for row in history]) - 1], last

    def _validated_epochs(self, solver: Solver, inner: Split, stage: str) -> Iterator[tuple[dict[str, Any], Epoch]]:
        assert inner.valid is not None
        error_of = _RunningError(inner.valid, solver.burn_ins(), self.kernels)
        errors: list[float] = []
        traces = _Traces(solver)
        for epoch, seconds in self._timed(solver, inner.train, None):
            error, burn_in = error_of(epoch)
            errors.append(error)
            traces.add(epoch)
            self._tell(stage, solver, epoch, seconds, errors[-1], traces)
            yield (
                {
                    "epoch": epoch.number,
                    "train_rmse": epoch.train_rmse,
                    "valid_rmse": error,
                    "seconds": seconds,
                }
                | ({} if burn_in is None else {"burn_in": burn_in}),
                epoch,
            )
            if solver.finished(errors):
                return

    def _final(
        self,
        solver: Solver,
        history: History,
        valid_rmse: float | None,
        start: Factorization | None = None,
    ) -> Fit:
        total, visits, traces = 0.0, 0, _Traces(solver)
        for epoch, seconds in self._timed(solver, self.train, start):
            total, visits = total + seconds, visits + epoch.visits
            traces.add(epoch)
            self._tell("fit", solver, epoch, seconds, None, traces)
        model, epochs = epoch.model(), epoch.number
        del epoch  # and with it what it keeps on the device
        return Fit(
            model=model,
            solver=solver.name,
            settings=solver.resolved(self.train, self.kernels).settings(),
            history=history,
            epochs=epochs,
            seconds=total,
            ratings_per_second=visits / max(total, 1e-9),
            train_rmse=rmse(model.on(predictor(self.kernels.device)), self.train),
            valid_rmse=valid_rmse,
            peak_memory=memory.peak(),
            traces=traces.plain(),
        )

    def _timed(self, solver: Solver, train: Ratings, start: Factorization | None) -> Iterator[tuple[Epoch, float]]:
        """The solver's epochs with the seconds that each took; what the caller does between them is not counted."""
        rng = np.random.default_rng([self.seed, _FIT])
        epochs = solver.run(train, rng=rng, kernels=self.kernels, start=start)
        libraries = ThreadpoolController()
        while True:
            began = time.perf_counter()
            # A BLAS thread that has done its part waits busily for more, on a core that the kernels then lack.
            with libraries.limit(limits=1, user_api="blas"), self.kernels.guarded():
                epoch = next(epochs, None)
            columns.rest()
            if epoch is None:
                return
            yield epoch, time.perf_counter() - began

    def _tell(
        self, stage: str, solver: Solver, epoch: Epoch, seconds: float, valid_rmse: float | None, traces: _Traces
    ) -> None:
        rate = epoch.visits / max(seconds, 1e-9)
        self.watch(
            Progress(
                self.label, stage, epoch.number, solver.n_epochs, epoch.train_rmse, valid_rmse, rate,
                traces.noise(), traces.ess,
            )
        )  # fmt: skip


class _Traces:
    """The monitored scalars of a sampler, sweep after sweep."""

    def __init__(self, solver: Solver) -> None:
        self._burn_in = next(iter(solver.burn_ins()), 0)
        self._sweeps: list[Mapping[str, tuple[float, ...]]] = []
        self.ess: float | None = None

    def add(self, epoch: Epoch) -> None:
        """Take up the scalars of a sweep; now and then reckon anew how many draws they are worth."""
        if not epoch.monitored:
            return
        self._sweeps.append(epoch.monitored)
        if epoch.number % _SWEEPS_BETWEEN == 0 and epoch.number - self._burn_in >= FEWEST_DRAWS:
            kept = (np.array(chains)[:, self._burn_in :] for chains in self.plain().values())
            self.ess = min(effective_sample_size(draws) for draws in kept)

    def noise(self) -> float | None:
        """The mean over chains of the scalar "noise" in the last sweep."""
        return float(np.mean(self._sweeps[-1]["noise"])) if self._sweeps else None

    def plain(self) -> dict[str, list[list[float]]]:
        """Name -> chain -> sweep."""
        names = self._sweeps[0] if self._sweeps else ()
        return {name: np.array([sweep[name] for sweep in self._sweeps]).T.tolist() for name in names}


_SWEEPS_BETWEEN = 10


def _compressed(fit: Fit, rank: int, train: Ratings, device: str) -> Fit:
    """The fit with its posterior as a plain factorisation."""
    assert isinstance(fit.model, Posterior)
    model = fit.model.compress(rank, train)
    error = rmse(model.on(predictor(device)), train)
    return replace(
        fit,
        model=model,
        settings={**fit.settings, "compressed": min(rank, model.n_users, model.n_items)},
        train_rmse=error,
    )


_VALIDATION, _FIT = 1, 2  # what a stream of random numbers derived from the seed is for


def rmse(model: Model, ratings: Ratings) -> float:
    """Root mean squared error of the model on all rows of a table, in rating units, summed in float64."""
    total = 0.0
    for part in columns.parts(len(ratings)):
        times = None if ratings.times is None else ratings.times[part]
        errors = model.predict(ratings.users[part], ratings.items[part], times) - ratings.values[part].astype(float)
        total += float(errors @ errors)
    columns.rest()
    return math.sqrt(total / len(ratings))


class _RunningError:
    """RMSE of epoch after epoch on the same table, on the device; of draws of a posterior that of their running mean.

    burn_ins : the mean is taken from each of these on, and the one of lowest error counts
    """

    def __init__(self, ratings: Ratings, burn_ins: tuple[int, ...], kernels: Kernels) -> None:
        self._ratings, self._kernels = ratings, kernels
        pairs = ratings.users, ratings.items, ratings.times, ratings.values
        self._parts = [
            tuple(None if column is None else kernels.put(column[part]) for column in pairs)
            for part in columns.parts(len(ratings))
        ]
        self._totals: dict[int, list[Any]] = {burn_in: [] for burn_in in burn_ins}

    def __call__(self, epoch: Epoch) -> tuple[float, int | None]:
        """The error, and the burn-in that gives it."""
        if epoch.predict is None:
            return rmse(epoch.model().on(predictor(self._kernels.device)), self._ratings), None
        predictions = [epoch.predict(users, items, times) for users, items, times, _ in self._parts]
        errors = {min(self._totals, default=0): self._rmse(predictions)}
        if not epoch.is_draw:
            return errors[0], None
        for burn_in, totals in self._totals.items():
            if epoch.number > burn_in:
                xp = self._kernels.xp
                wide = [xp.asarray(predicted, dtype=xp.float64) for predicted in predictions]
                totals[:] = [total + more for total, more in zip(totals, wide, strict=True)] if totals else wide
                errors[burn_in] = self._rmse([total / (epoch.number - burn_in) for total in totals])
        best = min(errors, key=errors.__getitem__)
        return errors[best], best

    def _rmse(self, predictions: list[Any]) -> float:
        xp, total = self._kernels.xp, 0.0
        for predicted, (*_, values) in zip(predictions, self._parts, strict=True):
            total += float(xp.sum(xp.square(xp.asarray(predicted, dtype=xp.float64) - values)))
        columns.rest()
        return math.sqrt(total / len(self._ratings))


def _validated(split: Split, validation: float, seed: int) -> Split | None:
    if split.valid is not None:
        return split
    if validation == 0:
        return None
    derived = int(np.random.SeedSequence([seed, _VALIDATION]).generate_state(1)[0])
    try:
        return splits.with_validation(split, validation, derived)
    except DataError as error:
        raise DataError(
            f"{len(split.train):,} ratings are too few to cut {validation:.3g} of them off for validation",
            where="validation", seen=error.seen, fix="give --validation 0 (validation=0 in Python), or more ratings",
        ) from error  # fmt: skip


def _compile(solver: Solver, kernels: Kernels) -> None:
    """One epoch on a tiny table, so that the compilation of the kernels is in no measured second."""
    ids = np.arange(4)
    tiny = Ratings.from_ids(np.repeat(ids, 4), np.tile(ids, 4), np.arange(16) % 5)
    next(solver.rehearsal().run(tiny, rng=np.random.default_rng(0), kernels=kernels)).model()


def _aligned(start: Run, solver: Solver, users: Vocabulary, items: Vocabulary) -> Factorization:
    """The model of a run over other vocabularies: rows it does not know are zero."""
    if not solver.takes_start:
        raise ConfigError(f"solver '{solver.name}' cannot continue from a run", fix="use 'sgd' or 'als'")
    model = start.model
    if not isinstance(model, Factorization):
        fix = "continue from a run of 'sgd' or 'als'"
        raise ConfigError("the run to continue from is no plain factorisation", seen=start.fit.solver, fix=fix)
    wanted = solver.settings()["rank"]
    if start.model.rank != wanted:
        raise ConfigError(
            "the run to continue from has another rank", seen=start.model.rank, fix=f"train it with rank {wanted}"
        )
    rows = start.user_vocabulary.indices(users.entries, where="user ids")
    columns = start.item_vocabulary.indices(items.entries, where="item ids")
    return replace(
        model,
        user_bias=_taken(model.user_bias, rows),
        item_bias=_taken(model.item_bias, columns),
        user_factors=_taken(model.user_factors, rows),
        item_factors=_taken(model.item_factors, columns),
    )


def _warn_of_leak(start: Run, split: Split) -> None:
    """Warn unless the run to continue from was trained on the very rows of this split."""
    if start.provenance["train_fingerprint"] != split.train.fingerprint:
        message = (
            f"the run to continue from was trained on other rows ({start.provenance['split']}, seed "
            f"{start.provenance['split_seed']}) and may have trained on ratings that are held out now: "
            "the error reported may be too low"
        )
        warnings.warn(message, LeakWarning, stacklevel=3)


def _taken(table: Any, rows: Any) -> Any:
    """table[rows], zero where the row is -1."""
    taken = table[rows].copy()
    taken[rows < 0] = 0
    return taken


def _provenance(split: Split, seed: int, kernels: Kernels, threads: int | None) -> dict[str, Any]:
    low, high = split.train.rating_range
    sides = {"user": split.train.user_features, "item": split.train.item_features}
    return {
        "side_information": {side: list(features.names) for side, features in sides.items() if features is not None},
        "split": split.rule,
        "split_seed": split.seed,
        "seed": seed,
        **kernels.facts(),
        "threads": threads or available_threads(),
        "train_ratings": len(split.train),
        "train_fingerprint": split.train.fingerprint,
        "rating_range": [low, high],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {"recsys_mf": __version__} | {name: metadata.version(name) for name in _LIBRARIES},
    }
