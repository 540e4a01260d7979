"""Protocol: what every method of finding a model has in common.

A solver is a frozen dataclass of its hyper-parameters. A field made with `settings.setting` carries its default, its
help and its valid range; that one place feeds the checks, the command line, `recsys-mf solvers` and the stored run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

import numpy as np

from recsys_mf.errors import ConfigError
from recsys_mf.kernels.backend import Backend
from recsys_mf.models import Model
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.selection import Selection
from recsys_mf.solvers.settings import check_setting, parse_setting, require_settings
from recsys_mf.solvers.state import State

Predictor: TypeAlias = Callable[[Any, Any, Any], Any]
"""The predictions for pairs (users, items, times), arrays of the backend; times is None if there are none."""


@dataclass(frozen=True, eq=False)
class Epoch:
    """One step of a fit that could be its last.

    number : 1 for the first
    visits : ratings visited (a rating visited from the user's side and from the item's counts twice)
    train_rmse : RMSE on the training ratings, measured while the epoch ran, in rating units; None if not known
    model : builds the model after this epoch; must be called before the next epoch is requested
    predictor : makes the predictor of the model (for a sampler, of the draw of this epoch alone); must be called before
        the next epoch is requested; None if the model itself predicts as fast
    is_draw : whether the model is the mean over the draws of the epochs
    monitored : for a sampler, scalars by name, one per chain
    state : builds the state of the run; must be called before the next epoch is requested; None if the run ends here,
        or cannot continue in another process (`Solver.resumes`)
    """

    number: int
    visits: int
    train_rmse: float | None
    model: Callable[[], Model]
    predictor: Callable[[], Predictor] | None = None
    is_draw: bool = False
    monitored: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    state: Callable[[], State] | None = None


@dataclass(frozen=True, eq=False)
class Pause:
    """A point inside a long epoch where its state can be saved: between two epochs of a member of a committee."""

    state: Callable[[], State]


class Footprint(NamedTuple):
    """Memory of a fit on the host in addition to the table, bytes.

    working : the most that is held at a time, including the model
    model : what the model keeps
    columns : the part of working in columns as long as the table, which are in files if the table is
    """

    working: int
    model: int
    columns: int = 0


@dataclass(frozen=True)
class Solver:
    """Hyper-parameters of one method, and the method. Raises ConfigError for a setting out of its range.

    name : its key in the table of solvers
    takes_updates : True if new ratings can move the model (`updating`)
    samples_posterior : True if the model is a Posterior
    takes_features : True if `run` uses side information in train
    takes_times : True if `run` uses the times of ratings
    takes_weights : True if weights of ratings reach all of `run`
    resumes : True if another process can continue from a `State` of a run (`run_from`)
    """

    name: ClassVar[str]
    takes_updates: ClassVar[bool] = False
    samples_posterior: ClassVar[bool] = False
    takes_features: ClassVar[bool] = False
    takes_times: ClassVar[bool] = False
    takes_weights: ClassVar[bool] = True
    resumes: ClassVar[bool] = False

    def __new__(cls, *values: Any, **settings: Any) -> Self:
        """Raises ConfigError for a setting that the solver does not have, before the settings are set."""
        names = [field.name for field in dataclasses.fields(cls)]
        if len(values) > len(names):
            what, fix = f"solver '{cls.name}' has {len(names)} settings", "give them by name"
            raise ConfigError(what, seen=f"{len(values)} values", fix=fix)
        require_settings(cls, settings)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, check_setting(field, getattr(self, field.name)))

    def run(
        self,
        train: Ratings,
        *,
        rng: np.random.Generator,
        backend: Backend,
    ) -> Iterator[Epoch]:
        """Fit: yield one Epoch after another, `n_epochs` in all.

        train : ratings whose vocabularies are their own
        rng : the only source of randomness
        backend : the backend that does the arithmetic
        Raises SolveError when the fit diverges.
        """
        raise NotImplementedError

    def run_from(
        self, start: State | None, train: Ratings, *, rng: np.random.Generator, backend: Backend
    ) -> Iterator[Epoch | Pause]:
        """The epochs of `run` after one of its states, at least one, the same byte for byte; all if start is None.

        start : a state of a run of the same solver on the same table and kind of device, with the same generator
        Also yields a Pause wherever a state can be saved inside an epoch. A solver that does not resume has no states,
        and runs from the beginning.
        """
        return self.run(train, rng=rng, backend=backend)

    @property
    def joins(self) -> bool:
        """Whether the fit on all of train continues the run that was validated (`run_joined`)."""
        return False

    def apart(self) -> Self:
        """This solver with a separate run for the fit on all of train."""
        return self

    def run_joined(
        self, start: State, train: Ratings, *, rng: np.random.Generator, backend: Backend
    ) -> Iterator[Epoch]:
        """The epochs that continue a run on some of the rows of train, now on all of them; for a solver that joins.

        start : a state of that run, under the vocabularies of train
        """
        raise NotImplementedError

    @property
    def n_epochs(self) -> int:
        """The number of epochs that `run` yields."""
        return 1

    def stopped_at(self, epoch: int) -> Self:
        """The solver that ends in the state of this one after `epoch` epochs."""
        return self

    def footprint(self, train: Ratings) -> Footprint:
        """The memory that a fit needs, for a solver as `resolved`. Tests compare it with measurements."""
        return Footprint(32 * (train.n_users + train.n_items), 8 * (train.n_users + train.n_items))

    def selection(self) -> Selection[Self]:
        """What validation rows choose about this solver."""
        return Selection(self)

    def resolved(self, train: Ratings, backend: Backend) -> Self:
        """The solver as it runs on this table and backend: with what a setting "auto" stands for."""
        return self

    def for_part(self, part: Ratings) -> Self:
        """The solver, resolved on a table, as it runs on some of that table's rows."""
        return self

    def rehearsal(self) -> Self:
        """A solver that runs the same kernels as this one on a table of 4 by 4."""
        return self.stopped_at(1)

    def settings(self) -> dict[str, Any]:
        """The hyper-parameters as plain values, for reports and run.json."""
        plain = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> Self:
        """The solver with settings given as text, as `-p rank=64` gives them.

        Raises ConfigError for a name it does not have (naming the nearest) and a value of another type.
        """
        require_settings(cls, texts)
        fields = {field.name: field for field in dataclasses.fields(cls)}
        return cls(**{key: parse_setting(fields[key], text) for key, text in texts.items()})
