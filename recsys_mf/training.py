"""Training: the one epoch loop. Validate, stop early, fit again on all of train, with the baselines beside it."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from recsys_mf import continuing, memory, provenance, splits
from recsys_mf.arguments import fraction, instance, whole
from recsys_mf.arrays import mapped
from recsys_mf.errors import ConfigError, DataError, LeakWarning, SolveError
from recsys_mf.evaluation.convergence import FEWEST_DRAWS, effective_sample_size
from recsys_mf.kernels import select
from recsys_mf.kernels.backend import Backend
from recsys_mf.loaders import from_frame, read_ratings
from recsys_mf.models import Factorization, Fit, Posterior, RatedPairs
from recsys_mf.prediction import rmse as rmse
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.solvers import SOLVERS, Biases, Epoch, Mean, Solver, TruncatedSvd
from recsys_mf.solvers.compression import compress
from recsys_mf.solvers.search import is_better, searched
from recsys_mf.solvers.spread import calibrated, calibrated_as
from recsys_mf.solvers.truncated_svd import FILLINGS
from recsys_mf.solvers.updating import update
from recsys_mf.splits import Split

BASELINE = "svd bias"
"""Label of the baseline that reports take differences from."""


@dataclass(frozen=True)
class Progress:
    """One epoch, as told to whoever watches.

    label : the model being fitted, as its report row names it
    stage : "search" while settings are chosen, "member" while the epochs of a committee's members are, "validate"
        while the epochs (for a committee, the members) are, "fit" in the fit on all of train
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
    start : run to continue from, with the ratings of split.train that it has not seen (`continued`). The solver must be
        that of the run, whose settings stay; compared_with and compress must be left out
    compress : rank of the plain factorisation that takes the place of a posterior (`Posterior.compress`)
    watch : called after every epoch
    Raises SolveError when the fit diverges, ConfigError for an argument of another type or out of range, for a start
    that cannot be continued and for side information that the solver cannot take, ResourceError before what would not
    fit in memory. Warns with LeakWarning when the start was trained on pairs of split.test.
    """
    split, solver = _as_split(data), _as_solver(solver)
    split.train.check_known(where="split.train")
    seed, validation = whole(seed, "seed"), fraction(validation, "validation")
    compress = None if compress is None else whole(compress, "compress", 1)
    threads = None if threads is None else whole(threads, "threads", 1)
    if start is not None:
        _check_continued(start, solver, compared_with, compress)
        return continued(
            start, split, seed=seed, device=device, threads=threads, validation=validation, watch=watch
        )  # fmt: skip
    backend = select(device, threads)
    parts = _parted(split, validation, seed)
    known = split.train.user_vocabulary, split.train.item_vocabulary
    others = baselines() if compared_with is None else _as_baselines(compared_with)
    if BASELINE not in others:
        raise ConfigError(f"the baselines lack '{BASELINE}'", seen=", ".join(others), fix="add it")

    def fitted(label: str, method: Solver) -> Fit:
        return _Task(label, method, split.train, parts, seed, backend, watch).fit()

    if not solver.takes_features and (split.train.user_features or split.train.item_features):
        fix = "leave it out, or use a solver that takes it: gibbs"
        raise ConfigError(f"solver '{solver.name}' makes no use of side information", fix=fix)
    for method in (*others.values(), solver):
        method.resolved(split.train, backend)  # raises for what the table or the device does not bear
    if compress is not None and not solver.samples_posterior:
        fix = "leave it out, or use a solver that samples: gibbs"
        raise ConfigError(f"solver '{solver.name}' gives no posterior to compress", where="--compress", fix=fix)
    what = f"training '{solver.name}' on {split.train.n_users:,} users and {split.train.n_items:,} items"
    fix = "lower the rank, give --memory (columns in files) or train on another machine"
    if backend.device.name == "cpu":
        methods = (*others.values(), solver)
        memory.require(_needed(methods, split.train, parts, backend, compress), what, fix=fix)
    with memory.guarded(what, fix=fix):
        fits = {label: fitted(label, method) for label, method in others.items()}
        fit = fitted(solver.name, solver)
        if compress is not None:
            fit = _compressed(fit, compress, split.train, backend)
    return Run(
        fit=fit,
        baselines=fits,
        baseline=BASELINE,
        user_vocabulary=known[0],
        item_vocabulary=known[1],
        user_counts=split.train.user_counts,
        item_counts=split.train.item_counts,
        provenance=provenance.of_rows(split, validation)
        | provenance.of_fit(solver, others, seed=seed, start=None, compress=compress)
        | provenance.of_machine(backend),
        rated=RatedPairs.of(split.train),
    )


def _needed(
    methods: Iterable[Solver], train: Ratings, parts: tuple[Split, ...], backend: Backend, compress: int | None
) -> int:
    """Bytes that fitting these one after another takes at most, where every model is kept."""
    in_files = mapped.is_mapped(train.users)
    kept = 0 if in_files else 16 * len(train) * len(parts)  # the validated parts of train
    most = kept
    for method in methods:
        found = method.resolved(train, backend).footprint(train)
        validated = 0 if not parts or method.samples_posterior else found.model
        most, kept = max(most, kept + validated + found.working), kept + found.model
    if compress is not None:
        rows = train.n_users + train.n_items
        rank = min(compress, train.n_users, train.n_items)
        wide = rank + method.resolved(train, backend).settings()["rank"]
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


@dataclass(frozen=True, eq=False)
class _Validated:
    """A solver stopped where validation has it, and what it reached there.

    model : the model of the first part at that epoch, of a committee; None for others
    """

    solver: Solver
    history: History
    error: float
    model: Factorization | Posterior | None


@dataclass(frozen=True)
class _Task:
    """One model to fit: what validation chooses on the parts of train, then that on all of train.

    parts : splits of train into rows to train and to validate on; several of a small table, whose errors are pooled
    """

    label: str
    solver: Solver
    train: Ratings
    parts: tuple[Split, ...]
    seed: int
    backend: Backend
    watch: Watcher

    def fit(self) -> Fit:
        """Choose on validation where there is a validation part, then fit."""
        _compile(self.solver, self.backend)
        solver = self.solver.resolved(self.train, self.backend)
        if not self.parts:
            return self._final(solver.chosen(None), (), None)
        found = self._selected(solver)
        fit = self._final(found.solver, found.history, found.error)
        valid = self.parts[0].valid
        if isinstance(fit.model, Factorization) and isinstance(found.model, Factorization) and valid is not None:
            fit = replace(fit, model=calibrated(fit.model, found.model, valid))
        return fit

    def _selected(self, solver: Solver) -> _Validated:
        """The best on validation of a committee, one of its members alone, and the plainest model of the solver."""
        solver, alone = self._searched(solver)
        member = solver.alone()
        if member is None:
            found = [alone or self._validated(solver, "validate")]
        else:
            alone = alone or self._validated(member, "member")
            found = [alone]
            for committee in solver.with_member(alone.solver):
                found.append(self._validated(committee, "validate"))
                if found[-1].error <= alone.error:
                    break
            found.reverse()  # of equals a committee, since it has intervals
        plainest = solver.plainest()
        if plainest is not None:
            found.append(self._validated(plainest, "member"))
        best = min(found, key=lambda validated: validated.error)
        if alone is None or best.solver.alone() is None:
            return replace(best, history=_staged(best.history, "single"))
        return replace(best, history=_staged(alone.history, "member") + _committee(best.history))

    def _searched(self, solver: Solver) -> tuple[Solver, _Validated | None]:
        """The solver with what validation finds best for its open settings; and a single run of it, where one was made.

        Of a large table the search sees some users only; what it finds must prove itself on all of them.
        """
        axes = self.solver.axes()
        if not axes:
            return solver, None
        few = tuple(_with_fewer_users(part, self.seed) for part in self.parts)
        found: dict[Solver, _Validated] = {}

        def error_of(candidate: Solver, parts: tuple[Split, ...] = few) -> float:
            try:
                validated = self._validated(candidate.alone() or candidate, "search", parts)
            except SolveError:
                return math.inf
            if parts is self.parts:
                found[candidate] = validated
            return validated.error

        if all(part is whole for part, whole in zip(few, self.parts, strict=True)):
            few = self.parts
            validated = sum(len(part.valid) for part in few if part.valid is not None)
            cautious = validated < _FEWEST_VALIDATED
            best = searched(solver, axes, lambda candidate: error_of(candidate, self.parts), cautious=cautious)
        else:
            best = searched(solver, axes, error_of)
            if best != solver and not is_better(error_of(best, self.parts), error_of(solver, self.parts)):
                best = solver
        return best, found.get(best)

    def _validated(self, solver: Solver, stage: str, parts: tuple[Split, ...] | None = None) -> _Validated:
        """Run the solver on the parts, epoch by epoch, and stop it at the best."""
        history: list[dict[str, Any]] = []
        best: Factorization | Posterior | None = None
        is_committee = solver.alone() is not None
        for row, epoch in self._validated_epochs(solver, parts or self.parts, stage):
            history.append(row)
            if is_committee and row["valid_rmse"] == min(row["valid_rmse"] for row in history):
                best = epoch.model()
        chosen = history[solver.best([row["valid_rmse"] for row in history]) - 1]
        return _Validated(solver.chosen(chosen), tuple(history), chosen["valid_rmse"], best)

    def _validated_epochs(
        self, solver: Solver, parts: tuple[Split, ...], stage: str
    ) -> Iterator[tuple[dict[str, Any], Epoch]]:
        """Epoch after epoch on all parts, with their pooled error; the Epoch itself is that of the first part."""
        tables = [part.valid for part in parts if part.valid is not None]
        solvers = [solver.for_part(part.train) for part in parts]
        errors_of = [_RunningError(table, solver.burn_ins(), self.backend) for table in tables]
        errors: list[float] = []
        traces = _Traces(solver)
        runs = (self._timed(one, part.train) for one, part in zip(solvers, parts, strict=True))
        for steps in zip(*runs, strict=False):  # the ranks of a truncated SVD end with the smallest part
            (epoch, _), seconds = steps[0], sum(taken for _, taken in steps)
            pooled = _pooled([of(step) for of, (step, _) in zip(errors_of, steps, strict=True)], tables)
            burn_in = min(pooled, key=pooled.__getitem__)
            errors.append(pooled[burn_in])
            if math.isnan(errors[-1]):
                raise SolveError(
                    f"{solver.name} predicts what is no number in epoch {epoch.number}", fix="use milder settings"
                )
            traces.add(epoch)
            self._tell(stage, solver, epoch, seconds, errors[-1], traces)
            row = {"epoch": epoch.number, "train_rmse": epoch.train_rmse, "valid_rmse": errors[-1], "seconds": seconds}
            yield row | ({} if burn_in is None else {"burn_in": burn_in}), epoch
            if solver.finished(errors):
                return

    def _final(
        self,
        solver: Solver,
        history: History,
        valid_rmse: float | None,
    ) -> Fit:
        total, visits, traces = 0.0, 0, _Traces(solver)
        for epoch, seconds in self._timed(solver, self.train):
            total, visits = total + seconds, visits + epoch.visits
            traces.add(epoch)
            self._tell("fit", solver, epoch, seconds, None, traces)
        model, epochs = epoch.model(), epoch.number
        del epoch  # and with it what it keeps on the device
        settings = solver.resolved(self.train, self.backend).settings()
        members = settings.get("members", 1)
        return Fit(
            model=model,
            solver=solver.name,
            settings=settings,
            history=history,
            epochs=epochs if members == 1 else settings["epochs"],
            members=members,
            seconds=total,
            ratings_per_second=visits / max(total, 1e-9),
            train_rmse=rmse(model, self.train, self.backend.make_prediction()),
            valid_rmse=valid_rmse,
            peak_memory=memory.peak(),
            traces=traces.plain(),
        )

    def _timed(self, solver: Solver, train: Ratings) -> Iterator[tuple[Epoch, float]]:
        rng = np.random.default_rng([self.seed, _FIT])
        return _timed(solver.run(train, rng=rng, backend=self.backend), self.backend)

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


def _staged(history: History, stage: str) -> History:
    """The validated epochs as a run keeps them (`Fit.history`)."""
    return tuple({"stage": stage, **row} for row in history)


def _committee(history: History) -> History:
    """The same of a growing committee, each of whose epochs is a member more."""
    return tuple(
        {"stage": "committee", "members": row["epoch"]} | {key: value for key, value in row.items() if key != "epoch"}
        for row in history
    )


def _timed(epochs: Iterator[Epoch], backend: Backend) -> Iterator[tuple[Epoch, float]]:
    """Epochs with the seconds that each took; what the caller does between them is not counted."""
    while True:
        began = time.perf_counter()
        # A BLAS thread that has done its part waits busily for more, on a core that the kernels then lack.
        with _libraries().limit(limits=1, user_api="blas"), backend.device.guard():
            epoch = next(epochs, None)
        mapped.rest()
        if epoch is None:
            return
        yield epoch, time.perf_counter() - began


@cache
def _libraries() -> ThreadpoolController:
    """The libraries with threads of their own; to look for them takes milliseconds."""
    return ThreadpoolController()


def continued(
    start: Run,
    split: Split,
    *,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    validation: float = 0.1,
    watch: Watcher = lambda progress: None,
) -> Run:
    """The run with the ratings of split.train taken up; split.test is not looked at.

    Ratings of pairs that the run was trained on replace the old ones; all its other ratings, users and items stay.
    Where at most 1 % of all ratings came since the last full fit and the model is that of `sgd` or `als`, it is updated
    (`solvers.updating`): the strength of the update and its passes are chosen on a fraction of the new ratings, and
    baselines stay as they are. Else every model is fitted again, to the ratings of the run and the new ones, with the
    settings that were chosen for the run.

    validation : fraction of the new ratings to choose an update on; 0 makes a default one
    Raises ConfigError for a run that cannot be continued, DataError when ids are integers on one side and strings on
    the other. Warns with LeakWarning when the run was trained on pairs of split.test.
    """
    joined = continuing.join(start, split.train)
    if split.test is not None:
        _warn_of_leak(start, split.test)
    backend = select(device, threads)
    users, items = joined.ratings.user_vocabulary, joined.ratings.item_vocabulary
    earlier = start.provenance.get("continued", {}).get("since_full_fit", 0)
    since = earlier + int(joined.is_new.sum())

    def aligned(fit: Fit) -> Fit:
        assert isinstance(fit.model, Factorization)
        return replace(fit, model=continuing.align(fit.model, start, users, items))

    def again(label: str, fit: Fit) -> Fit:
        return _fitted_again(_Task(label, solver_of(fit), joined.ratings, (), seed, backend, watch), fit)

    if since <= MAX_UPDATED_SHARE * len(joined.ratings) and continuing.is_updatable(start):
        how = "updated"
        fits = {label: aligned(fit) for label, fit in start.baselines.items()}
        fit = _updated(aligned(start.fit), joined, validation, seed, backend, watch)
    else:
        how, since = "fitted again", 0
        fits = {label: again(label, fit) for label, fit in start.baselines.items()}
        fit = again(start.fit.solver, start.fit)
    facts = continuing.describe(start, joined) | {"how": how, "since_full_fit": since}
    return Run(
        fit=fit,
        baselines=fits,
        baseline=start.baseline,
        user_vocabulary=users,
        item_vocabulary=items,
        user_counts=joined.ratings.user_counts,
        item_counts=joined.ratings.item_counts,
        provenance=provenance.of_rows(replace(split, train=joined.ratings), validation)
        | provenance.of_fit(
            solver_of(start.fit),
            {label: solver_of(fit) for label, fit in start.baselines.items()},
            seed=seed,
            start=start,
            compress=start.fit.details.compressed,
        )
        | provenance.of_machine(backend)
        | {"continued": facts},
        rated=RatedPairs.of(joined.ratings),
    )


MAX_UPDATED_SHARE = 0.01


def _updated(
    fit: Fit, joined: continuing.Joined, validation: float, seed: int, backend: Backend, watch: Watcher
) -> Fit:  # fmt: skip
    """The fit, whose model is over the vocabularies of the joined ratings, updated by the new ones."""
    model = fit.model
    assert isinstance(model, Factorization)
    if not joined.is_new.any():
        return fit
    steps = continuing.choose_update(model, joined, validation, np.random.default_rng([seed, _VALIDATION]), backend)
    best = continuing.best_of(steps)
    total, visits = 0.0, 0
    epochs = update(model, joined.ratings, joined.is_new, best.regularisation, backend)
    for epoch, seconds in islice(_timed(epochs, backend), best.epoch):
        total, visits = total + seconds, visits + epoch.visits
        rate = epoch.visits / max(seconds, 1e-9)
        watch(Progress(fit.solver, "fit", epoch.number, best.epoch, None, None, rate))
    updated = epoch.model()
    assert isinstance(updated, Factorization)
    return replace(
        fit,
        model=updated,
        history=tuple({"stage": "update", **asdict(step)} for step in steps),
        seconds=total,
        ratings_per_second=visits / max(total, 1e-9),
        train_rmse=rmse(updated, joined.ratings, backend.make_prediction()),
        valid_rmse=best.valid_rmse,
        peak_memory=memory.peak(),
    )


def solver_of(fit: Fit) -> Solver:
    """The solver with the settings that a fit has, chosen ones included."""
    kind = SOLVERS[fit.solver]
    return kind(**{field.name: fit.settings[field.name] for field in fields(kind) if field.name in fit.settings})


def _fitted_again(task: _Task, old: Fit) -> Fit:
    """The fit of a task, kept as the old fit was: cut to a rank, its spread calibrated."""
    fit = task.fit()
    if old.details.compressed is not None:
        return _compressed(fit, old.details.compressed, task.train, task.backend)
    if isinstance(old.model, Factorization) and isinstance(fit.model, Factorization):
        return replace(fit, model=calibrated_as(fit.model, old.model))
    return fit


def _check_continued(start: Run, solver: Solver, compared_with: object, compress: object) -> None:
    """Raise ConfigError for arguments of `train` that say nothing when a run is continued."""
    instance(start, "start", Run, "give what train returned, or load(directory)")
    if solver.name != start.fit.solver:
        fix = f"continue it with '{start.fit.solver}', or train without it"
        raise ConfigError("the run to continue from is of another solver", seen=solver.name, fix=fix)
    for name, value in (("compared_with", compared_with), ("compress", compress)):
        if value is not None:
            raise ConfigError("a run is continued as it is", where=name, seen=value, fix="leave it out")


def _warn_of_leak(start: Run, test: Ratings) -> None:
    """Warn where the run to continue from was trained on pairs that are tested."""
    seen = int(continuing.seen_by(start, test).sum())
    if seen:
        message = (
            f"the run to continue from was trained on {seen:,} of the {len(test):,} test pairs: "
            "the error reported may be too low"
        )
        warnings.warn(message, LeakWarning, stacklevel=4)


class _Traces:
    """The monitored scalars of a sampler, sweep after sweep."""

    def __init__(self, solver: Solver) -> None:
        self._burn_in = next(iter(solver.burn_ins()), 0)
        self._sweeps: list[Mapping[str, tuple[float, ...]]] = []
        self.ess: float | None = None

    def add(self, epoch: Epoch) -> None:
        """Take up the scalars of a sweep; now and then compute how many draws they are worth."""
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


def _compressed(fit: Fit, rank: int, train: Ratings, backend: Backend) -> Fit:
    """The fit with its posterior as a plain factorisation."""
    assert isinstance(fit.model, Posterior)
    model = compress(fit.model, rank, train)
    error = rmse(model, train, backend.make_prediction())
    kept = min(rank, model.n_users, model.n_items)
    return replace(fit, model=model, settings={**fit.settings, "compressed": kept}, train_rmse=error)


_VALIDATION, _FIT, _SEARCH = 1, 2, 3  # what a stream of random numbers derived from the seed is for


class _RunningError:
    """RMSE of epoch after epoch on the same table, on the device; of draws of a posterior that of their running mean.

    burn_ins : the mean is taken from each of these on, and the one of lowest error counts
    """

    def __init__(self, ratings: Ratings, burn_ins: tuple[int, ...], backend: Backend) -> None:
        self._ratings, self._backend = ratings, backend
        pairs = ratings.users, ratings.items, ratings.times, ratings.values
        self._parts = [
            tuple(None if column is None else backend.device.put(column[part]) for column in pairs)
            for part in mapped.parts(len(ratings))
        ]
        self._totals: dict[int, list[Any]] = {burn_in: [] for burn_in in burn_ins}

    def __call__(self, epoch: Epoch) -> dict[int | None, float]:
        """The error by the burn-in that gives it, None where the epoch's model is no mean over draws."""
        if epoch.predict is None:
            return {None: rmse(epoch.model(), self._ratings, self._backend.make_prediction())}
        predictions = [epoch.predict(users, items, times) for users, items, times, _ in self._parts]
        if not epoch.is_draw:
            return {None: self._rmse(predictions)}
        errors: dict[int | None, float] = {min(self._totals): self._rmse(predictions)}  # of the draw alone
        for burn_in, totals in self._totals.items():
            if epoch.number > burn_in:
                xp = self._backend.device.xp
                wide = [xp.asarray(predicted, dtype=xp.float64) for predicted in predictions]
                totals[:] = [total + more for total, more in zip(totals, wide, strict=True)] if totals else wide
                errors[burn_in] = self._rmse([total / (epoch.number - burn_in) for total in totals])
        return errors

    def _rmse(self, predictions: list[Any]) -> float:
        xp, total = self._backend.device.xp, 0.0
        for predicted, (*_, values) in zip(predictions, self._parts, strict=True):
            total += float(xp.sum(xp.square(xp.asarray(predicted, dtype=xp.float64) - values)))
        mapped.rest()
        return math.sqrt(total / len(self._ratings))


def _pooled(errors: Sequence[dict[int | None, float]], tables: Sequence[Ratings]) -> dict[int | None, float]:
    """Root mean squared error over the rows of all tables, from those of each, by burn-in."""
    rows = sum(len(table) for table in tables)
    return {
        burn_in: math.sqrt(sum(len(table) * of[burn_in] ** 2 for of, table in zip(errors, tables, strict=True)) / rows)
        if len(errors) > 1
        else errors[0][burn_in]
        for burn_in in errors[0]
    }


def _parted(split: Split, validation: float, seed: int) -> tuple[Split, ...]:
    """Parts of train to choose on: the validation rows given, or cut by the rule of the split, or none.

    Few rows say little: of a small table cuts are made until their validation rows are _FEWEST_VALIDATED together.
    """
    if split.valid is not None:
        return (split,)
    if validation == 0:
        return ()
    parts: list[Split] = []
    for cut in range(1 if split.by == "time" else _TRIES):
        derived = int(np.random.SeedSequence([seed, _VALIDATION, *([cut] if cut else [])]).generate_state(1)[0])
        try:
            parts.append(splits.with_validation(split, validation, derived))
        except DataError:
            continue
        validated = sum(len(part.valid) for part in parts if part.valid is not None)
        if validated >= _FEWEST_VALIDATED or len(parts) == _MOST_CUTS:
            break
    if not parts:
        raise DataError(
            f"{len(split.train):,} ratings are too few to cut {validation:.3g} of them off for validation",
            where="validation", fix="give --validation 0 (validation=0 in Python), or more ratings",
        )  # fmt: skip
    return tuple(parts)


_FEWEST_VALIDATED, _MOST_CUTS, _TRIES = 1000, 5, 50


def _with_fewer_users(part: Split, seed: int) -> Split:
    """The part with the rows of some users, about _SEARCHED of them to train on; itself where it has not many more."""
    share = _SEARCHED / len(part.train)
    if share > 0.5 or part.valid is None:
        return part
    kept = np.random.default_rng([seed, _SEARCH]).random(part.train.n_users) < share
    train = part.train.select(kept[part.train.users])
    valid = part.valid.select((part.valid.users >= 0) & kept[part.valid.users])
    if not (len(train) and len(valid)):
        return part
    train = train.restricted()
    valid = valid.reindexed(train.user_vocabulary, train.item_vocabulary)
    return replace(part, train=train, test=None, valid=valid)


_SEARCHED = 20_000


def _compile(solver: Solver, backend: Backend) -> None:
    """One epoch on a tiny table, so that the compilation of the kernels is in no measured second."""
    ids = np.arange(4)
    tiny = Ratings.from_ids(np.repeat(ids, 4), np.tile(ids, 4), np.arange(16) % 5)
    next(solver.rehearsal().run(tiny, rng=np.random.default_rng(0), backend=backend)).model()
