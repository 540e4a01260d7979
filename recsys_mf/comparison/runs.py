"""Existing runs, compared on the same test rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from recsys_mf.arguments import instance
from recsys_mf.comparison.table import Cells, Comparison, Setup
from recsys_mf.comparison.tested import Facts, Tested, errors_of
from recsys_mf.errors import ConfigError, DataError, IdMismatchWarning, LeakWarning, RecsysWarning
from recsys_mf.evaluation.leakage import describe_mismatch, trained_on
from recsys_mf.kernels import predictor
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run

_PLACE = ("device", "card", "threads", "processor")  # facts of a run on which its seconds depend


def compare_runs(
    runs: Mapping[str, Run],
    test: Ratings | Mapping[str, Ratings],
    *,
    held_out: str = "a table of test ratings",
    device: str = "auto",
    threads: int | None = None,
) -> Comparison:
    """Compare runs on the same test rows, on which none of them was trained.

    runs : name -> run, two or more
    test : the rows under any vocabularies; or name -> the rows for that run, if they were read in different ways, such
        as with times and without
    held_out : how the rows were chosen, in words
    device, threads : where models predict, as in `evaluate`
    Seconds and memory are those that the runs record. Raises ConfigError for fewer than two runs, DataError if the rows
    of two runs differ and if a run was trained on some of them. Warns with LeakWarning if a run does not say whether it
    was, with IdMismatchWarning if over 90 % of the rows have an id that a run does not know, and with RecsysWarning if
    the runs were trained on different machines.
    """
    if len(runs) < 2:
        raise ConfigError("a comparison needs two runs or more", seen=", ".join(runs) or "none", fix="give another")
    tables = {name: test if isinstance(test, Ratings) else test[name] for name in runs}
    first = next(iter(runs))
    cells = Cells(n_splits=1)
    for name, run in runs.items():
        instance(run, name, Run, "give what train returned, or load(directory)")
        _check_same_rows(name, tables[name], first, tables[first])
        cells.add(name, _tested(name, run, tables[name], device, threads), tables[name].weights)
    return cells.compare(_setup(list(runs.values()), tables[first], held_out))


def _setup(runs: list[Run], test: Ratings, held_out: str) -> Setup:
    """What the runs record. Warns with RecsysWarning if their seconds were not measured under the same conditions."""
    records = [run.provenance for run in runs]
    if len({tuple(str(record.get(fact)) for fact in _PLACE) for record in records}) > 1:
        message = "the runs were trained on different machines or numbers of threads: do not compare their seconds"
        warnings.warn(message, RecsysWarning, stacklevel=3)
    return Setup(
        data=records[0].get("data"),
        splits=(held_out,),
        train_ratings=tuple(int(record["train_ratings"]) for record in records),
        test_ratings=(len(test),),
        folds=None,
        seeds=None,
        seed=None,
        device=", ".join(sorted({str(record["device"]) for record in records})),
        threads=None,
        weighted=test.weights is not None,
    )


def _check_same_rows(name: str, rows: Ratings, first: str, others: Ratings) -> None:
    """Raise DataError unless both tables have the same ids, ratings and weights in the same order; times may differ."""
    if len(rows) < 2:
        raise DataError("too few test rows", where=name, seen=len(rows), fix="give at least two")
    if rows is others:
        return
    same = len(rows) == len(others)
    if same:
        known = rows.reindexed(others.user_vocabulary, others.item_vocabulary)
        same = all(
            (one == other).all()
            for one, other in ((known.users, others.users), (known.items, others.items), (known.values, others.values))
        ) and _same_weights(known, others)
    if not same:
        seen = f"{len(rows):,} rows and {len(others):,}" if len(rows) != len(others) else "other rows"
        fix = "give test rows for all of them with --test FILE"
        raise DataError(f"{name} and {first} were tested on different rows", seen=seen, fix=fix)


def _same_weights(one: Ratings, other: Ratings) -> bool:
    if one.weights is None or other.weights is None:
        return one.weights is other.weights
    return bool((one.weights == other.weights).all())


def _tested(name: str, run: Run, rows: Ratings, device: str, threads: int | None) -> Tested:
    pairs = rows.reindexed(run.user_vocabulary, run.item_vocabulary)
    is_own = pairs.fingerprint == run.provenance.get("test_fingerprint")  # separated from its training rows by rule
    count = 0 if is_own else trained_on(run, rows, pairs).count
    if count:
        fix = "give rows that no run was trained on"
        seen = f"{count:,} of {len(pairs):,} rows"
        raise DataError("the run was trained on some of the test rows", where=name, seen=seen, fix=fix)
    said = {
        IdMismatchWarning: describe_mismatch(run, rows, pairs),
        LeakWarning: None if count == 0 else f"{name} does not say whether it was trained on some of the test rows",
    }
    for kind, message in said.items():
        if message:
            warnings.warn(message, kind, stacklevel=3)
    fit = run.fit
    facts = Facts(
        solver=fit.solver,
        settings=dict(fit.settings),
        rank=fit.rank,
        fit_seconds=fit.seconds,
        seconds=None,
        memory=fit.peak_memory or None,
        train_ratings=int(run.provenance["train_ratings"]),
    )
    return Tested(facts, errors_of(fit.model, pairs, predictor(device, threads)))
