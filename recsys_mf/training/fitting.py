"""Fitting: one model, chosen on validation rows, then fitted on all of train."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys_mf import memory
from recsys_mf.errors import SolveError
from recsys_mf.kernels.backend import Backend
from recsys_mf.models import Factorization, Fit, Posterior
from recsys_mf.prediction import rmse
from recsys_mf.ratings import Ratings
from recsys_mf.serving.folding import choose_precision
from recsys_mf.sharing import grouped_once
from recsys_mf.solvers import Epoch, Solver
from recsys_mf.solvers.compression import compress
from recsys_mf.solvers.search import is_better, searched
from recsys_mf.solvers.spread import calibrated
from recsys_mf.solvers.state import State
from recsys_mf.splits import Split
from recsys_mf.store.parts import fit_of
from recsys_mf.store.saving import described_fit
from recsys_mf.training.epochs import Progress, Watcher, compile_kernels, time_epochs
from recsys_mf.training.selection import EpochSelection, History, Validated, choose_best
from recsys_mf.training.step_state import StepState, Work
from recsys_mf.training.steps import Steps, unkept
from recsys_mf.training.traces import Traces
from recsys_mf.training.validation import FIT, FOLD, MIN_VALIDATED, RunningError, pool_errors, take_fewer_users


@dataclass(frozen=True)
class Fitting:
    """One model to fit: settings are chosen by validation on parts of train, then used for the fit on all of train.

    parts : splits of train into rows to train and to validate on; several for a small table, with their errors pooled
    steps : how the steps of the training are kept (`checkpoint`)
    """

    label: str
    solver: Solver
    train: Ratings
    parts: tuple[Split, ...]
    seed: int
    backend: Backend
    watch: Watcher
    steps: Steps = unkept

    def fit(self, validated: Validated | None = None) -> Fit:
        """Choose on validation if there is a validation part, then fit.

        validated : what `validate` returned, if it was called before
        """
        if not self.parts:
            compile_kernels(self.solver, self.backend)
            solver = self.solver.resolved(self.train, self.backend)
            return self._final(solver.selection().choose(None), (), None)
        found = validated or self.validate()
        fit = self._final(found.solver, found.history, found.error, found.run)
        valid = self.parts[0].valid
        if isinstance(fit.model, Factorization) and isinstance(found.model, Factorization) and valid is not None:
            fit = replace(fit, model=calibrated(fit.model, found.model, valid))
            if found.solver.takes_updates:
                rng = np.random.default_rng([self.seed, FOLD])
                precision = choose_precision(found.model, self.parts[0].train, valid, rng, self.backend)
                fit = replace(fit, fold_in_precision=precision)
        return fit

    def validate(self) -> Validated:
        """What validation chooses, with its error; the part of `fit` before the fit on all of train."""
        compile_kernels(self.solver, self.backend)
        return self._selected(self.solver.resolved(self.train, self.backend))

    def _selected(self, solver: Solver) -> Validated:
        """The best on validation of a committee, one of its members alone, and the plainest model of the solver."""
        solver, alone = self._searched(solver)
        choices = solver.selection()
        member = choices.member
        if member is None:
            found = [alone or self._validated(solver, "validate")]
        else:
            alone = alone or self._validated(member, "member")
            found = [alone]
            for committee in choices.committees(alone.solver):
                found.append(self._validated(committee, "validate"))
                if found[-1].error <= alone.error:
                    break
            found.reverse()  # if errors are equal, a committee wins, since it has intervals
        plainest = choices.plainest()
        if plainest is not None:
            found.append(self._validated(plainest, "member"))
        return choose_best(found, alone)

    def _searched(self, solver: Solver) -> tuple[Solver, Validated | None]:
        """The solver with its open settings at their best values on validation; and a single run, if one was made.

        For a large table, the search uses only some of the users; its result must then also be better on all of them.
        """
        axes = self.solver.selection().axes
        if not axes:
            return solver, None
        few = tuple(take_fewer_users(part, self.seed) for part in self.parts)
        found: dict[Solver, Validated] = {}

        def error_of(candidate: Solver, parts: tuple[Split, ...] = few) -> float:
            try:
                validated = self._validated(candidate.selection().member or candidate, "search", parts)
            except SolveError:
                return math.inf
            if parts is self.parts:
                found[candidate] = validated
            return validated.error

        if all(part is whole for part, whole in zip(few, self.parts, strict=True)):
            few = self.parts
            validated = sum(len(part.valid) for part in few if part.valid is not None)
            cautious = validated < MIN_VALIDATED
            best = searched(solver, axes, lambda candidate: error_of(candidate, self.parts), cautious=cautious)
        else:
            best = searched(solver, axes, error_of)
            if best != solver and not is_better(error_of(best, self.parts), error_of(solver, self.parts)):
                best = solver
        return best, found.get(best)

    def _validated(self, solver: Solver, stage: str, parts: tuple[Split, ...] | None = None) -> Validated:
        """Run the solver on all parts side by side, epoch after epoch, until validation says that it is finished."""
        parts = parts or self.parts
        if solver.joins:
            parts = tuple(map(self._under_all_ids, parts))
        step = self.steps(self.label, stage, solver, parts)
        if (kept := step.result()) is not None:
            return Validated.of_state(kept, type(solver))
        tables = [part.valid for part in parts if part.valid is not None]
        errors_of = [RunningError(table, solver.selection().burn_ins, self.backend) for table in tables]
        selection, traces = EpochSelection(solver, sum(map(len, tables))), Traces(solver)
        step_state = StepState(step, {"selection": selection, "traces": traces, **_numbered("errors", errors_of)})
        runs = [
            self._timed(solver.for_part(part.train), part.train, step_state, index if len(parts) > 1 else None)
            for index, part in enumerate(parts)
        ]
        for steps in zip(*runs, strict=False):  # the ranks of a truncated SVD end with the smallest part
            (epoch, _), seconds = steps[0], sum(taken for _, taken in steps)
            errors = pool_errors([of(step) for of, (step, _) in zip(errors_of, steps, strict=True)], tables)
            error = selection.add(epoch, seconds, errors)
            traces.add(epoch)
            self._tell(stage, solver, epoch, seconds, error, traces)
            if selection.is_finished:
                break
            step_state.offer([epoch for epoch, _ in steps])
        joined = None
        if solver.joins and epoch.state is not None and solver.for_part(parts[0].train) == solver:
            joined = State.joined({"run": epoch.state(), "traces": traces.state()})
        found = selection.choose(joined)
        step.finish(found.state)
        return found

    def _under_all_ids(self, part: Split) -> Split:
        """The part under the vocabularies of all of train."""
        ids = self.train.user_vocabulary, self.train.item_vocabulary
        return replace(part, train=part.train.reindexed(*ids), valid=part.valid and part.valid.reindexed(*ids))

    def _final(
        self,
        solver: Solver,
        history: History,
        valid_rmse: float | None,
        joined: State | None = None,
    ) -> Fit:
        """The fit on all of train.

        joined : the run that was validated (`Validated.run`), to continue from
        """
        step = self.steps(self.label, "fit", solver, ())
        if (kept := step.result()) is not None:
            return fit_of(kept.facts, kept.arrays)
        work, traces = Work(), Traces(solver)
        step_state = StepState(step, {"work": work, "traces": traces})
        if joined is not None and not step_state.goes_on:
            steps = self._joined(solver, joined, traces)
        else:
            steps = self._timed(solver, self.train, step_state)
        for epoch, seconds in steps:
            work.add(epoch, seconds)
            traces.add(epoch)
            self._tell("fit", solver, epoch, seconds, None, traces)
            step_state.offer([epoch])
        model, epochs = epoch.model(), epoch.number
        del epoch  # and with it what it keeps on the device
        settings = solver.resolved(self.train, self.backend).settings()
        members = settings.get("members", 1)
        fit = Fit(
            model=model,
            solver=solver.name,
            settings=settings,
            history=history,
            epochs=epochs if members == 1 else settings["epochs"],
            members=members,
            seconds=work.seconds,
            ratings_per_second=work.visits / max(work.seconds, 1e-9),
            train_rmse=rmse(model, self.train, self.backend.make_prediction()),
            valid_rmse=valid_rmse,
            peak_memory=memory.peak(),
            traces=traces.plain(),
        )
        step.finish(lambda: State(described_fit(fit), fit.model.arrays()))
        return fit

    def _joined(self, solver: Solver, joined: State, traces: Traces) -> Iterator[tuple[Epoch, float]]:
        """The epochs after those of the validated run, with their seconds."""
        run, watched = joined.part("run"), joined.part("traces")
        assert run is not None
        assert watched is not None
        traces.restore(watched)
        rng = np.random.default_rng([self.seed, FIT])
        return time_epochs(solver.run_joined(run, self.train, rng=rng, backend=self.backend), self.backend)

    def _timed(
        self, solver: Solver, train: Ratings, step_state: StepState, part: int | None = None
    ) -> Iterator[tuple[Epoch, float]]:
        """The epochs that are still to be run, with their seconds.

        part : number of the run, if several are side by side
        """
        rng = np.random.default_rng([self.seed, FIT])
        if not step_state.is_kept:
            return time_epochs(solver.run(train, rng=rng, backend=self.backend), self.backend)
        steps = solver.run_from(step_state.run(part or 0), train, rng=rng, backend=self.backend)
        on_pause = step_state.pause if part is None else step_state.pass_by
        return time_epochs(steps, self.backend, on_pause, step_state.seconds)

    def _tell(
        self, stage: str, solver: Solver, epoch: Epoch, seconds: float, valid_rmse: float | None, traces: Traces
    ) -> None:
        rate = epoch.visits / max(seconds, 1e-9)
        self.watch(
            Progress(
                self.label, stage, epoch.number, solver.n_epochs, epoch.train_rmse, valid_rmse, rate,
                traces.noise(), traces.ess,
            )
        )  # fmt: skip


def _numbered(name: str, parts: Sequence[Any]) -> dict[str, Any]:
    return {f"{name} {index}": part for index, part in enumerate(parts)}


def fit_all(fittings: Sequence[Fitting]) -> dict[str, Fit]:
    """Fit one model or more to one table, and return them by label: first all are validated, then all are fitted, so
    that the ratings of each table are grouped only once.
    """
    validated: list[Validated | None] = [None] * len(fittings)
    if fittings[0].parts:
        with grouped_once(*(part.train for part in fittings[0].parts)):
            validated = [fitting.validate() for fitting in fittings]
    with grouped_once(fittings[0].train):
        return {fitting.label: fitting.fit(found) for fitting, found in zip(fittings, validated, strict=True)}


def compress_fit(fit: Fit, rank: int, train: Ratings, backend: Backend) -> Fit:
    """The fit with its posterior as a plain factorisation."""
    assert isinstance(fit.model, Posterior)
    model = compress(fit.model, rank, train)
    error = rmse(model, train, backend.make_prediction())
    kept = min(rank, model.n_users, model.n_items)
    return replace(fit, model=model, settings={**fit.settings, "compressed": kept}, train_rmse=error)
