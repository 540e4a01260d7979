"""Comparing: from ratings and candidates to a Comparison, as `recsys-mf compare` does."""

from __future__ import annotations

import os
from typing import Any

from recsys_mf.arguments import is_path
from recsys_mf.comparison.candidates import as_candidates
from recsys_mf.comparison.keeping import KeptFits
from recsys_mf.comparison.plan import Plan
from recsys_mf.comparison.running import ComparisonStatus, ComparisonWatcher, run_plan
from recsys_mf.comparison.table import Cells, Comparison, Setup
from recsys_mf.kernels import select
from recsys_mf.ratings import Ratings
from recsys_mf.storage import on_this_machine
from recsys_mf.training import as_ratings


def _ignore(status: ComparisonStatus) -> None:
    """The default of `watch`."""


def compare(
    ratings: Any,
    candidates: Any,
    *,
    state: str | os.PathLike[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    watch: ComparisonWatcher = _ignore,
    **plan: Any,
) -> Comparison:
    """Fit candidates on the same splits and compare their errors on the same held-out rows.

    ratings : the path of a table, a table in memory or Ratings
    candidates : a list of solvers, each a Solver, its class or its name, or a dict of name: solver. Settings that are
        not given are chosen on validation rows, as in `train`
    state : folder in which fits are kept, so that the same call continues after an interruption (the fit in progress
        from a state at most a minute old) and makes only the fits of new candidates; None to keep none
    device, threads : as in `train`
    watch : called with a `ComparisonStatus` before and after every fit, and after every epoch
    plan : fields of `Plan`: folds=None, seeds=1, hold_out=0.1, by="random", test=None (a path or a table),
        validation=0.1, seed=0, split_seed=None

        compare("ratings.parquet", ["sgd", SOLVERS["als"](rank=16)], folds=5)

    On a single split, differences of RMSE have intervals by the paired bootstrap of the test rows; over several splits,
    by the corrected resampled t-test. A candidate is called worse if this is significant after Holm's correction
    (`differences`).
    Raises ConfigError for fewer than two candidates, two that are the same and a plan that is out of range,
    ArtifactError for a state that cannot be used, and what `train` raises, with the name of the candidate. Warns with
    IdMismatchWarning if over 90 % of the rows of a test table have unknown ids.
    """
    table = as_ratings(ratings)
    if plan.get("test") is not None:
        test = plan["test"]
        plan["test"] = as_ratings(test, **({"like": table} if is_path(test) else {}))
    made = Plan(candidates=as_candidates(candidates), **plan)
    name = str(ratings) if is_path(ratings) else None
    return compare_by_plan(made, table, name=name, state=state, device=device, threads=threads, watch=watch)


def compare_by_plan(
    plan: Plan,
    ratings: Ratings,
    *,
    name: str | None = None,
    state: str | os.PathLike[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    watch: ComparisonWatcher = _ignore,
) -> Comparison:
    """`compare` by a plan.

    name : of the table, for the heading
    """
    backend = select(device, threads)
    kept = None if state is None else KeptFits(on_this_machine(state, "state"), plan, backend)
    cells = Cells(plan.n_splits)
    sizes: dict[int, tuple[str, int, int]] = {}
    for trial, split, tested in run_plan(plan, ratings, backend, kept, watch):
        assert split.test is not None
        cells.add(trial.candidate.name, tested, split.test.weights)
        sizes[trial.split] = split.rule, len(split.train), len(tested.errors)
    rules, trained, held_out = zip(*sizes.values(), strict=True)
    setup = Setup(
        data=name,
        splits=rules,
        train_ratings=trained,
        test_ratings=held_out,
        folds=plan.folds,
        seeds=plan.seeds,
        seed=plan.seed,
        device=backend.device.name,
        threads=backend.device.threads,
        weighted=(ratings if plan.test is None else plan.test).weights is not None,
        fingerprint=ratings.fingerprint,
    )
    return cells.compare(setup)
