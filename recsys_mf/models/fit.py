"""Fit: a model and how it was fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from recsys_mf.models.factorization import Factorization
from recsys_mf.models.posterior import Posterior

Model = Factorization | Posterior
"""What a solver gives."""


@dataclass(frozen=True)
class Details:
    """What other modules read from the settings of a solver: the one place that knows their names.

    rank : of the factors; of a truncated SVD the highest; of a compressed posterior the rank that it was reduced to;
        None if the settings have none
    burn_in : sweeps of a sampler that are not kept, 0 for others
    route : how a truncated SVD was computed; None for others
    likelihood : of a sampler; None for others
    compressed : rank that a posterior was reduced to; None if it was not
    epochs : most passes of a run; 0 for the damped biases alone, with factors of zero; None if the settings have none
    """

    rank: int | None
    burn_in: int
    route: str | None
    likelihood: str | None
    compressed: int | None
    epochs: int | None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """The details of the settings of a fit."""
        compressed = settings.get("compressed")
        ranks = settings.get("ranks")
        rank = ranks[-1] if ranks else settings.get("rank")
        return cls(
            rank=rank if compressed is None else compressed,
            burn_in=int(settings.get("burn_in", 0)),
            route=settings.get("route"),
            likelihood=settings.get("likelihood"),
            compressed=compressed,
            epochs=settings.get("epochs"),
        )


@dataclass(frozen=True, eq=False)
class Fit:
    """A model and how it was fitted.

    model : the fitted model
    solver : name of the solver in the table of solvers
    settings : its hyper-parameters as plain values
    history : a mapping per validated step, in order, each with its `stage`, train_rmse (None if not known),
        valid_rmse and seconds; empty if nothing was validated. The steps count, from 1,
        stage "single", `epoch` : the epochs of a single run (of a sampler its sweeps, of a truncated SVD its ranks)
        stage "member", `epoch` : the epochs of one member of a committee, which choose those of all
        stage "committee", `members` : the committee of that many members; these steps choose their number
        stage "update", `epoch` : passes of an update with new ratings, with this `regularisation`
    epochs : passes of the final fit over the ratings, of a committee those of every member; of a sampler its sweeps
    seconds : duration of the final fit; ratings_per_second : ratings visited over that duration
    train_rmse, valid_rmse : errors of the final fit on its training rows, and of the chosen epoch on the
        validation rows (None if none were cut)
    peak_memory : high-water mark of the process after the fit, bytes
    traces : of a sampler, its monitored scalars in the final fit, name -> chain -> sweep, burn-in included
    members : runs that the final fit is the mean of; 1 for a single run
    fold_in_precision : κ of `serving.folding`, chosen on validation rows; None if it was not
    """

    model: Model
    solver: str
    settings: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]
    epochs: int
    seconds: float
    ratings_per_second: float
    train_rmse: float
    valid_rmse: float | None
    peak_memory: int
    traces: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    members: int = 1
    fold_in_precision: float | None = None

    @property
    def details(self) -> Details:
        """What other modules read from the settings."""
        return Details.of(self.settings)

    @property
    def rank(self) -> int:
        """The rank of the settings; the model of a truncated SVD has one more column, for the filling."""
        rank = self.details.rank
        return self.model.rank if rank is None else rank


def as_of_today(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The plain facts of a stored fit, or of a row of a report, in the present form: with `members`, and with a `stage`
    in every row of `history`.

    In the former form `epochs` of a committee, and `epoch` in its history, were numbers of members.
    """
    if "members" in facts:
        return dict(facts)
    settings = facts["settings"]
    members = settings.get("members", 1)
    epochs = settings["epochs"] if members > 1 else facts["epochs"]
    is_committee = "members" in settings and all(row["train_rmse"] is None for row in facts.get("history", ()))
    stage, count = ("committee", "members") if is_committee else ("single", "epoch")
    history = [
        {"stage": stage, count: row["epoch"]} | {key: value for key, value in row.items() if key != "epoch"}
        for row in facts.get("history", ())
    ]
    return {**facts, "members": members, "epochs": epochs} | ({"history": history} if "history" in facts else {})
