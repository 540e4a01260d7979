"""Candidates: solvers with settings under short names, given one by one or as a grid of solvers and settings."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys_mf.arguments import instance
from recsys_mf.errors import ConfigError
from recsys_mf.run import Run
from recsys_mf.solvers import SOLVERS, Solver
from recsys_mf.solvers.settings import require_settings
from recsys_mf.training import as_solver

RANKS = ("rank", "ranks")
"""The names that the rank of a solver can have among its settings."""


@dataclass(frozen=True)
class Candidate:
    """A solver with its settings, and its name in tables."""

    name: str
    solver: Solver


def as_candidates(given: Any) -> tuple[Candidate, ...]:
    """Candidates from a mapping of names to solvers, or from a list of solvers, which are named by their settings.

    A solver is a Solver, or its class or its name for the default settings.
    """
    if isinstance(given, Mapping):
        return tuple(Candidate(str(name), as_solver(solver)) for name, solver in given.items())
    fix = "give a list of solvers, such as ['sgd', SOLVERS['als'](rank=16)], or a dict of name: solver"
    if isinstance(given, str | Solver | Run) or not hasattr(given, "__iter__"):
        raise ConfigError("not a list of candidates", where="candidates", seen=type(given).__name__, fix=fix)
    solvers = [one.solver if isinstance(one, Candidate) else as_solver(one) for one in given]
    return tuple(Candidate(name_of(solver), solver) for solver in solvers)


def check_candidates(candidates: Sequence[Candidate]) -> None:
    """Raise ConfigError for fewer than two candidates, and for two with the same name or the same solver."""
    if len(candidates) < 2:
        seen = ", ".join(candidate.name for candidate in candidates) or "none"
        fix = "give more solvers or more ranks"
        raise ConfigError("a comparison needs two candidates or more", where="candidates", seen=seen, fix=fix)
    for one, other in itertools.combinations(candidates, 2):
        instance(one.solver, one.name, Solver, "give SOLVERS[name](...)")
        if one.name == other.name or one.solver == other.solver:
            seen = one.name if one.name == other.name else f"{one.name} and {other.name}"
            raise ConfigError("two candidates are the same", where="candidates", seen=seen, fix="leave one of them out")


def name_of(solver: Solver) -> str:
    """The solver with its settings that are not the default ones: "sgd rank 16, members 1"."""
    usual, parts = type(solver)().settings(), []
    for key, value in solver.settings().items():
        if value != usual[key]:
            shown = "/".join(map(str, value)) if isinstance(value, list) else value
            parts.append(f"{'rank' if key in RANKS else key} {shown}")
    return f"{solver.name} {', '.join(parts)}".strip()


def grid(
    solvers: Sequence[str], ranks: Sequence[str] = (), settings: Mapping[tuple[str, str], str] | None = None
) -> tuple[Candidate, ...]:
    """All combinations of solvers and values of their settings, as they are typed.

    solvers : names in SOLVERS
    ranks : of every solver; empty for the ranks that they choose
    settings : (solver, setting) -> values with commas between, each of which makes a candidate; if the setting itself
        is a list of numbers, they are one value
    Raises ConfigError for a solver, setting or value that does not exist, for ranks of a solver that has none, and for
    a setting of a solver that is not among these.
    """
    settings = settings or {}
    for solver, name in settings:
        if solver not in solvers:
            fix = f"write it as SOLVER.NAME=VALUE, with one of {', '.join(solvers)}"
            raise ConfigError("a setting of no candidate", where="-p", seen=f"{solver}.{name}", fix=fix)
    made = (one for solver in solvers for one in _combinations(solver, ranks, settings))
    return as_candidates(list(made))


def _combinations(solver: str, ranks: Sequence[str], settings: Mapping[tuple[str, str], str]) -> Iterator[Solver]:
    kind = SOLVERS[solver]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    axes: dict[str, list[str]] = {}
    if ranks:
        axes[_rank_of(kind)] = list(ranks)
    for (owner, name), text in settings.items():
        if owner == solver:
            require_settings(kind, [name])
            if name in axes:
                fix = "give ranks by --ranks or by -p"
                raise ConfigError("given twice", where=f"setting {solver}.{name}", fix=fix)
            is_list = fields[name].metadata["kind"] is tuple
            axes[name] = [text] if is_list else [part.strip() for part in text.split(",")]
    for values in itertools.product(*axes.values()):
        yield kind.from_texts(dict(zip(axes, values, strict=True)))


def _rank_of(kind: type[Solver]) -> str:
    """The setting that is the rank of a solver. Raises ConfigError if it has none."""
    found = [field.name for field in dataclasses.fields(kind) if field.name in RANKS]
    if not found:
        fix = "leave it out, or give the ranks of the others by -p: -p sgd.rank=16,32"
        raise ConfigError(f"solver '{kind.name}' has no rank", where="--ranks", fix=fix)
    return found[0]
