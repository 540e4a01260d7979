"""Training: the one epoch loop. Validate, stop early, fit again on all of train, with the baselines beside it."""

from __future__ import annotations

import math
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from recsys_mf import __version__, columns, memory, splits
from recsys_mf.errors import ConfigError, DataError, LeakWarning, SolveError
from recsys_mf.evaluation.convergence import FEWEST_DRAWS, effective_sample_size
from recsys_mf.kernels import Kernels, available_threads, predictor, select
from recsys_mf.models import Factorization, Fit, Model, Posterior, RatedPairs, Run
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import Biases, Epoch, Mean, Solver, TruncatedSvd
from recsys_mf.solvers.search import is_better, searched
from recsys_mf.solvers.solver import AUTO
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
    split: Split,
    solver: Solver,
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

    validation : fraction of split.train cut off (by the split's rule) to choose the number of epochs or the
        rank; every model is then fitted again on all of split.train. 0 runs every epoch of the settings.
        Not used where split.valid is given: that part is validated on, and never trained on.
    compared_with : baselines by label, `baselines()` by default; must hold the truncated SVD `BASELINE`
    start : run to continue from: rows it knows start where it ended, and all epochs of the settings are run,
        since validation rows would not be new to it
    compress : rank of the plain factorisation that takes the place of a posterior (`Posterior.compress`)
    watch : called after every epoch
    Raises SolveError when the fit diverges, ConfigError for a start or side information that the solver cannot take.
    Warns with LeakWarning when the start was trained on other rows than split.train and there is a test part.
    """
    kernels = select(device, threads)
    parts = _validated(split, validation, seed)
    known = split.train.user_vocabulary, split.train.item_vocabulary
    given = None if start is None else _aligned(start, solver, *known)
    if start is not None and split.test is not None:
        _warn_of_leak(start, split)
    others = baselines() if compared_with is None else compared_with
    if BASELINE not in others:
        raise ConfigError(f"the baselines lack '{BASELINE}'", seen=", ".join(others), fix="add it")

    def fitted(label: str, method: Solver, given: Factorization | None = None) -> Fit:
        task = _Task(label, method, split.train, parts, seed, kernels, watch)
        return task.fit() if given is None else task.fit_from(given)

    if not solver.takes_features and (split.train.user_features or split.train.item_features):
        fix = "leave it out, or use a solver that takes it: gibbs"
        raise ConfigError(f"solver '{solver.name}' makes no use of side information", fix=fix)
    for method in (*others.values(), solver):
        method.resolved(split.train, kernels)  # raises for what the table or the device does not bear
    if compress is not None and not solver.samples_posterior:
        fix = "leave it out, or use a solver that samples: gibbs"
        raise ConfigError(f"solver '{solver.name}' gives no posterior to compress", where="--compress", fix=fix)
    fits = {label: fitted(label, method) for label, method in others.items()}
    fit = fitted(solver.name, solver, given)
    return Run(
        fit=fit if compress is None else _compressed(fit, compress, split.train, device),
        baselines=fits,
        baseline=BASELINE,
        user_vocabulary=known[0],
        item_vocabulary=known[1],
        user_counts=split.train.user_counts,
        item_counts=split.train.item_counts,
        provenance=_provenance(split, seed, kernels, threads),
        rated=RatedPairs.of(split.train),
    )


@dataclass(frozen=True, eq=False)
class _Validated:
    """A solver stopped where validation has it, and what it reached there.

    model : the model of the first part at that epoch, of a committee; None for others
    """

    solver: Solver
    history: History
    error: float
    model: Model | None


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
    kernels: Kernels
    watch: Watcher

    def fit(self) -> Fit:
        """Choose on validation where there is a validation part, then fit."""
        _compile(self.solver, self.kernels)
        solver = self.solver.resolved(self.train, self.kernels)
        if not self.parts:
            return self._final(solver.chosen(None), (), None)
        found = self._selected(solver)
        fit = self._final(found.solver, found.history, found.error)
        valid = self.parts[0].valid
        if isinstance(fit.model, Factorization) and isinstance(found.model, Factorization) and valid is not None:
            fit = replace(fit, model=fit.model.calibrated_by(found.model, valid))
        return fit

    def fit_from(self, start: Factorization) -> Fit:
        """Run all epochs of the settings on all of train from a given model."""
        _compile(self.solver, self.kernels)
        return self._final(self.solver.continued(start), (), None, start)

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
        return min(found, key=lambda validated: validated.error)

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
            best = searched(solver, axes, lambda candidate: error_of(candidate, self.parts))
        else:
            best = searched(solver, axes, error_of)
            if best != solver and not is_better(error_of(best, self.parts), error_of(solver, self.parts)):
                best = solver
        return best, found.get(best)

    def _validated(self, solver: Solver, stage: str, parts: tuple[Split, ...] | None = None) -> _Validated:
        """Run the solver on the parts, epoch by epoch, and stop it at the best."""
        history: list[dict[str, Any]] = []
        best: Model | None = None
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
        errors_of = [_RunningError(table, solver.burn_ins(), self.kernels) for table in tables]
        errors: list[float] = []
        traces = _Traces(solver)
        runs = (self._timed(one, part.train, None) for one, part in zip(solvers, parts, strict=True))
        for steps in zip(*runs, strict=True):
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
    return replace(fit, model=model, settings={**fit.settings, "compressed": rank}, train_rmse=error)


_VALIDATION, _FIT, _SEARCH = 1, 2, 3  # what a stream of random numbers derived from the seed is for


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

    def __call__(self, epoch: Epoch) -> dict[int | None, float]:
        """The error by the burn-in that gives it, None where the epoch's model is no mean over draws."""
        if epoch.predict is None:
            return {None: rmse(epoch.model().on(predictor(self._kernels.device)), self._ratings)}
        predictions = [epoch.predict(users, items, times) for users, items, times, _ in self._parts]
        if not epoch.is_draw:
            return {None: self._rmse(predictions)}
        errors: dict[int | None, float] = {min(self._totals): self._rmse(predictions)}  # of the draw alone
        for burn_in, totals in self._totals.items():
            if epoch.number > burn_in:
                xp = self._kernels.xp
                wide = [xp.asarray(predicted, dtype=xp.float64) for predicted in predictions]
                totals[:] = [total + more for total, more in zip(totals, wide, strict=True)] if totals else wide
                errors[burn_in] = self._rmse([total / (epoch.number - burn_in) for total in totals])
        return errors

    def _rmse(self, predictions: list[Any]) -> float:
        xp, total = self._kernels.xp, 0.0
        for predicted, (*_, values) in zip(predictions, self._parts, strict=True):
            total += float(xp.sum(xp.square(xp.asarray(predicted, dtype=xp.float64) - values)))
        columns.rest()
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


def _validated(split: Split, validation: float, seed: int) -> tuple[Split, ...]:
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
            "too few ratings to cut validation rows from", seen=f"{len(split.train)} ratings to train on",
            fix="set validation to 0 (--validation 0), or to a larger part",
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


_SEARCHED = 30_000


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
    if wanted not in (AUTO, start.model.rank):
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
