"""The trainer: a solver and its baselines, fitted on the training part of a split."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from recsys_mf import splits
from recsys_mf.arguments import fraction, instance, is_path, whole
from recsys_mf.errors import ConfigError, DataError
from recsys_mf.evaluation import validation_report
from recsys_mf.kernels import select
from recsys_mf.kernels.backend import Backend
from recsys_mf.loaders import from_frame, read_ratings
from recsys_mf.models import RatedPairs
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.sharing import computed_once
from recsys_mf.solvers import SOLVERS, Biases, Mean, Solver, TruncatedSvd
from recsys_mf.solvers.truncated_svd import FILLINGS
from recsys_mf.splits import Split
from recsys_mf.training import provenance
from recsys_mf.training.checkpoint import EVERY, Checkpoint, opened
from recsys_mf.training.continuing import continued
from recsys_mf.training.epochs import Watcher
from recsys_mf.training.fitting import Fitting, compress_fit, fit_all
from recsys_mf.training.preparing import check_features, check_weights, enough_room, kept_steps
from recsys_mf.training.selection import Validated
from recsys_mf.training.validation import cut_parts

BASELINE = "svd bias"
"""Label of the baseline that reports take differences from."""


def baselines(ranks: tuple[int, ...] | None = None, route: str = "auto") -> dict[str, Solver]:
    """The solvers that every report shows next to the model: the mean, damped biases, the truncated SVD by filling.

    ranks : ranks that the truncated SVD tries (its default if None); route : how it is computed
    """
    settings: dict[str, Any] = {"route": route} | ({} if ranks is None else {"ranks": ranks})
    svds = {f"svd {filling}": TruncatedSvd(filling=filling, **settings) for filling in FILLINGS}
    return {"mean": Mean(), "bias": Biases(), **svds}


def train(  # noqa: PLR0913
    data: Split | Any,
    solver: Solver | type[Solver] | str = "sgd",
    *,
    seed: int = 0,
    device: str | Backend = "auto",
    threads: int | None = None,
    validation: float = 0.1,
    compared_with: Mapping[str, Solver] | None = None,
    start: Run | None = None,
    compress: int | None = None,
    watch: Watcher = lambda progress: None,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    every: float = EVERY,
    validated: Validated | None = None,
    **settings: Any,
) -> Run:
    """Fit the solver and the baselines on split.train and return them as a Run; split.test is not used.

    data : a Split, to train on its train part; or Ratings, a pandas or Arrow table or the path of a file, to train on
        all of its rows, as with `hold_out(ratings, 0)`
    solver : its name or its class, with settings by keyword (`train("ratings.parquet", "gibbs", rank=32)`); or a
        Solver, which has its settings
    seed : of every random draw, a whole number from 0
    validation : fraction of split.train cut off (by the split's rule) to choose the number of epochs or the
        rank; every model is then fitted again on all of split.train. 0 runs every epoch of the settings.
        Not used if split.valid is given: those rows are then used for validation, and never for training.
    compared_with : baselines by label, `baselines()` by default; must hold the truncated SVD `BASELINE`
    start : run to continue from, with the ratings of split.train that it has not seen (`continued`). The solver must be
        that of the run, whose settings stay; compared_with and compress must be left out
    compress : rank of the plain factorisation that replaces a posterior (`solvers.compression.compress`)
    watch : called after every epoch
    checkpoint : folder that keeps the training while it runs: if the process is ended, the same call continues and
        returns the same run, byte for byte. The folder is removed when the training is done; that of a `Checkpoint`
        stays until its `remove` is called, e.g. after the run was saved
    every : seconds between two states in the checkpoint; not used if `checkpoint` is a `Checkpoint`
    validated : what `validate_alone` returned for the same solver, split and seed, so that it is not done again
    Raises SolveError when the fit diverges, ConfigError for an argument of another type or out of range, for a start
    that cannot be continued and for side information or weights that the solver cannot take, ResourceError if the
    fits would not fit in memory, and what `Checkpoint` raises. Warns with LeakWarning when the start was trained on
    pairs of split.test, and as `Checkpoint` does.
    """
    split, solver = _as_split(data), as_solver(solver, settings)
    split.train.check_known(where="split.train")
    seed, validation = whole(seed, "seed"), fraction(validation, "validation")
    compress = None if compress is None else whole(compress, "compress", 1)
    threads = None if threads is None else whole(threads, "threads", 1)
    if start is not None:
        _check_continued(start, solver, compared_with, compress)
        with opened(checkpoint, every) as kept:
            fit_facts = provenance.of_fit(solver, {}, seed=seed, start=start, compress=None) if kept else {}
            backend = select(device, threads)
            with kept_steps(kept, split, validation, fit_facts, backend) as steps:
                run = continued(start, split, backend, seed=seed, validation=validation, watch=watch, steps=steps)
        return _reported(run)
    backend = select(device, threads)
    known = split.train.user_vocabulary, split.train.item_vocabulary
    others = baselines() if compared_with is None else _as_baselines(compared_with)
    parts = cut_parts(split, validation, seed, [*others.values(), solver])
    if BASELINE not in others:
        raise ConfigError(f"the baselines lack '{BASELINE}'", seen=", ".join(others), fix="add it")

    check_features(solver, split.train)
    check_weights(solver, split.train)
    for method in (*others.values(), solver):
        method.resolved(split.train, backend)  # raises for settings that do not suit the table or the device
    if compress is not None and not solver.samples_posterior:
        fix = "leave it out, or use a solver that samples: gibbs"
        raise ConfigError(f"solver '{solver.name}' has no posterior to compress", where="compress", fix=fix)
    fit_facts = provenance.of_fit(solver, others, seed=seed, start=None, compress=compress)
    with (
        opened(checkpoint, every) as kept,
        kept_steps(kept, split, validation, fit_facts, backend) as steps,
        enough_room((*others.values(), solver), split.train, parts, backend, compress),
        computed_once(split.train, *(part.train for part in parts)),
    ):

        def fitting(label: str, method: Solver) -> Fitting:
            return Fitting(label, method, split.train, parts, seed, backend, watch, steps)

        fits = fit_all([fitting(label, method) for label, method in others.items()])
        fit = fitting(solver.name, solver).fit(validated)
        if compress is not None:
            fit = compress_fit(fit, compress, split.train, backend)
    run = Run(
        fit=fit,
        baselines=fits,
        baseline=BASELINE,
        user_vocabulary=known[0],
        item_vocabulary=known[1],
        user_counts=split.train.user_counts,
        item_counts=split.train.item_counts,
        provenance=provenance.of_rows(split, validation) | fit_facts | provenance.of_machine(backend),
        rated=RatedPairs.of(split.train),
    )
    return _reported(run)


def _reported(run: Run) -> Run:
    """The run with the report of its validation errors."""
    return replace(run, report=validation_report(run))


def _as_split(data: Any) -> Split:
    """The data as a split; a table without one has all of its rows in train."""
    if isinstance(data, Split):
        for part in (data.valid, data.test):
            if part is not None and not len(part):
                raise DataError("a part of the split is empty", where="split", fix="leave it out (None), or give rows")
        return data
    return splits.hold_out(as_ratings(data), 0)


def as_ratings(data: Any, **reading: Any) -> Ratings:
    """Ratings as they are; a path read as by `read_ratings`, a table in memory as by `from_frame`.

    reading : keywords of these two
    """
    if is_path(data):
        return read_ratings(os.fspath(data), **reading)
    if not isinstance(data, Ratings) and (hasattr(data, "columns") or hasattr(data, "column_names")):
        return from_frame(data, **reading)
    fix = "give a Split, Ratings, a table or a path; for a matrix, from_matrix(A)"
    return instance(data, "data", Ratings, fix)


def as_solver(solver: Any, settings: Mapping[str, Any] | None = None) -> Solver:
    """A Solver as it is; a name or a class with these settings. Raises ConfigError for anything else."""
    settings = settings or {}
    if isinstance(solver, str):
        solver = SOLVERS[solver]
    if isinstance(solver, type) and issubclass(solver, Solver):
        solver = solver(**settings)
    elif settings:
        fix = "give them to the solver: SOLVERS[name](…)"
        what = "a Solver object has its settings already"
        raise ConfigError(what, where="train", seen=", ".join(settings), fix=fix)
    return instance(solver, "solver", Solver, f"give one of {', '.join(SOLVERS)}, or SOLVERS[name](...)")


def _as_baselines(given: Any) -> dict[str, Solver]:
    fix = "give a dict of label: solver, as baselines() does"
    items = instance(given, "compared_with", dict, fix).items()
    return {str(label): as_solver(solver) for label, solver in items}


def _check_continued(start: Run, solver: Solver, compared_with: object, compress: object) -> None:
    """Raise ConfigError for arguments of `train` that have no effect when a run is continued."""
    instance(start, "start", Run, "give what train returned, or load(directory)")
    if solver.name != start.fit.solver:
        fix = f"continue it with '{start.fit.solver}', or train without it"
        raise ConfigError("the run to continue from is of another solver", seen=solver.name, fix=fix)
    for name, value in (("compared_with", compared_with), ("compress", compress)):
        if value is not None:
            raise ConfigError("has no effect when a run is continued", where=name, seen=value, fix="leave it out")
