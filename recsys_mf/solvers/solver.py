"""Solver: what every method of finding a model has in common.

A solver is a frozen dataclass of its hyper-parameters. A field made with `setting` carries its default, its help
and its valid range; that one place feeds the checks, the command line, `recsys-mf solvers` and the stored run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import numpy as np

from recsys_mf import arguments
from recsys_mf.errors import ConfigError, nearest
from recsys_mf.kernels.backend import Backend
from recsys_mf.models import Model
from recsys_mf.ratings import Ratings

Auto = Literal["auto"]
"""A number that is not given but chosen: on validation rows, or by the size of the table."""

AUTO: Auto = "auto"
N = TypeVar("N", int, float)


@dataclass(frozen=True, eq=False)
class Epoch:
    """One step of a fit that could be its last.

    number : 1 for the first
    visits : ratings visited (a rating visited from the user's side and from the item's counts twice)
    train_rmse : RMSE met on the training ratings while the epoch ran, in rating units; None if not known
    model : builds the model as it stands; to be called before the next epoch is asked for
    predict : what the model, or of a sampler the draw of this epoch alone, predicts for pairs (users, items, times),
        arrays of the backend, times None where there are none; None where the model says as fast
    is_draw : whether the model is the mean over the draws of the epochs
    monitored : of a sampler, scalars by name, one a chain
    """

    number: int
    visits: int
    train_rmse: float | None
    model: Callable[[], Model]
    predict: Callable[[Any, Any, Any], Any] | None = None
    is_draw: bool = False
    monitored: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)


class Footprint(NamedTuple):
    """Memory of a fit on the host beside the table, bytes.

    working : the most that is held at a time, the model included
    model : what the model keeps
    """

    working: int
    model: int


@dataclass(frozen=True)
class Solver:
    """Hyper-parameters of one method, and the method. Raises ConfigError for a setting out of its range.

    name : its key in the table of solvers
    takes_updates : True where new ratings can move the model (`updating`)
    samples_posterior : True where the model is a Posterior
    takes_features : True where `run` makes use of side information in train
    takes_times : True where `run` makes use of the times of ratings
    patience : epochs without a better validation error after which training stops; None to see them all
    """

    name: ClassVar[str]
    takes_updates: ClassVar[bool] = False
    samples_posterior: ClassVar[bool] = False
    takes_features: ClassVar[bool] = False
    takes_times: ClassVar[bool] = False
    patience: ClassVar[int | None] = None

    def __new__(cls, *values: Any, **settings: Any) -> Self:
        """Raises ConfigError for a setting that the solver does not have, before the settings are set."""
        names = [field.name for field in dataclasses.fields(cls)]
        if len(values) > len(names):
            what, fix = f"solver '{cls.name}' has {len(names)} settings", "give them by name"
            raise ConfigError(what, seen=f"{len(values)} values", fix=fix)
        _require_settings(cls, settings)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))

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

    @property
    def n_epochs(self) -> int:
        """The number of epochs that `run` yields."""
        return 1

    def stopped_at(self, epoch: int) -> Self:
        """The solver that ends where this one is after `epoch` epochs."""
        return self

    def footprint(self, train: Ratings) -> Footprint:
        """What a fit takes of memory, for a solver as `resolved`. Tests hold it to what is measured."""
        return Footprint(32 * (train.n_users + train.n_items), 8 * (train.n_users + train.n_items))

    def burn_ins(self) -> tuple[int, ...]:
        """Of a sampler, the lengths of burn-in that validation chooses among, ascending; the first without it."""
        return ()

    def chosen(self, best: Mapping[str, Any] | None) -> Self:
        """With what validation chose: `epoch` and, of a sampler, `burn_in`; None where there was no validation."""
        return self if best is None else self.stopped_at(best["epoch"])

    def finished(self, errors: Sequence[float]) -> bool:
        """Whether no further epoch is worth while after these validation errors, one an epoch.

        They have not been lower for `patience` epochs, and are not on their way down.
        """
        if self.patience is None or len(errors) <= self.patience:
            return False
        since = len(errors) - 1 - int(np.argmin(errors))
        return since >= self.patience and errors[-1] >= min(errors[-1 - self.patience : -1])

    def best(self, errors: Sequence[float]) -> int:
        """The epoch to end at, by the validation errors of all: the one of lowest error."""
        return int(np.argmin(errors)) + 1

    def axes(self) -> dict[str, tuple[float, ...]]:
        """Of every setting that validation rows choose among values, those values, ascending (`search`)."""
        return {}

    def alone(self) -> Self | None:
        """For a committee, one member, whose epochs are to be chosen first; None for other solvers."""
        return None

    def with_member(self, member: Solver) -> Sequence[Self]:
        """Committees of members, whose epochs were chosen for one `alone`: one to try, then others should it be worse
        than that member."""
        raise NotImplementedError

    def plainest(self) -> Self | None:
        """The simplest model that the solver can end in, should validation find none better; None where it has none."""
        return None

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
        _require_settings(cls, texts)
        fields = {field.name: field for field in dataclasses.fields(cls)}
        return cls(**{key: _parsed(fields[key], text) for key, text in texts.items()})


SYNONYMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("k", "f", "d", "dim", "factors", "n_factors", "num_factors", "nfactors", "n_components", "latent_dim",
         "embedding_dim", "no_components", "num_latent", "embedding_size", "latent_factors"),
        ("rank", "ranks"),
    ),
    **dict.fromkeys(("lr", "eta", "gamma", "step", "learn_rate", "lr_all", "step_size"), ("learning_rate",)),
    **dict.fromkeys(
        ("lambda", "lambda_", "lam", "reg", "reg_all", "regularization", "reg_param", "regparam", "l2", "l2_reg",
         "weight_decay", "alpha", "damping", "shrinkage", "reg_u", "reg_i"),
        ("regularisation", "user_damping"),
    ),
    **dict.fromkeys(("bias_regularization", "reg_bu", "reg_bi", "bias_reg"), ("bias_regularisation",)),
    **dict.fromkeys(("lr_bu", "lr_bi", "bias_lr"), ("bias_learning_rate",)),
    **dict.fromkeys(
        ("n_epochs", "num_epochs", "epoch", "epochs", "iterations", "n_iter", "n_iters", "niter", "niters", "num_iters",
         "max_iter", "maxiter", "num_iterations", "iters", "steps", "passes", "sweeps", "nsims", "n_sweeps", "draws"),
        ("epochs", "sweeps"),
    ),
    **dict.fromkeys(("burnin", "warmup", "tune", "n_burnin"), ("burn_in",)),
    **dict.fromkeys(("n_samples", "nsamples", "num_samples"), ("samples",)),
    **dict.fromkeys(("n_chains", "num_chains"), ("chains",)),
    **dict.fromkeys(("init_std", "init_std_dev", "init_scale", "stdev"), ("initial_scale",)),
    **dict.fromkeys(("lr_decay", "decay_rate"), ("decay",)),
    **dict.fromkeys(("ensemble", "n_models", "n_members", "bagging"), ("members",)),
}  # fmt: skip
"""What other packages call a setting, in lower case, and which of ours it is: the first that the solver has."""


def _require_settings(solver: type[Solver], names: Iterable[str]) -> None:
    """Raise ConfigError for a name that is no setting of the solver, with the nearest."""
    own = [field.name for field in dataclasses.fields(solver)]
    for name in names:
        if name not in own:
            fix = nearest(name, own, SYNONYMS) if own else "it has none"
            raise ConfigError(f"solver '{solver.name}' has no setting '{name}'", fix=fix)


def setting(
    default: Any, text: str, *, low: float = 0, high: float | None = None, choices: tuple[str, ...] = (),
    kind: type | None = None,
) -> Any:  # fmt: skip
    """A field of a solver: its default, its help text, and its valid range or choices.

    high : by default the most there is: any finite number, or of whole numbers `arguments.MOST`
    kind : of a number whose default is "auto", its type; "auto" is then a value of the setting beside the numbers
    """
    kind = kind or type(default)
    if high is None:
        high = float("inf") if kind is float else arguments.MOST
    metadata = {"help": text, "low": low, "high": high, "choices": choices, "kind": kind}
    return dataclasses.field(default=default, metadata=metadata)


def figure(value: N | Auto) -> N:
    """The number of a setting that may be "auto", once it is resolved."""
    assert not isinstance(value, str), "an open setting of a solver that runs"
    return value


_EXPECTED = {int: "a whole number", float: "a number", tuple: "whole numbers with commas between"}


def _checked(field: dataclasses.Field[Any], value: Any) -> Any:
    """The value as the type of the default: int, float, str or a tuple of int."""
    low, high, choices = (field.metadata[key] for key in ("low", "high", "choices"))
    if choices:
        return arguments.choice(value, field.name, choices)
    kind: Any = field.metadata["kind"]
    if _is_auto(field, value):
        return value
    values = tuple(value) if kind is tuple and isinstance(value, tuple | list) else (value,)
    if not all(arguments.is_number(v, whole=kind is not float) for v in values):
        raise _of_another_type(field, value)
    if not values or not all(low <= v <= high and arguments.is_finite(v) for v in values):
        bounds = f"{low:g} or more" if high in (float("inf"), arguments.MOST) else f"{low:g} to {high:g}"
        raise ConfigError("setting out of range", where=field.name, seen=value, fix=f"give {bounds}")
    return tuple(int(v) for v in values) if kind is tuple else kind(value)


def _parsed(field: dataclasses.Field[Any], text: str) -> Any:
    kind: Any = field.metadata["kind"]
    if _is_auto(field, text):
        return text
    try:
        if kind is tuple:
            return tuple(int(part) for part in text.split(","))
        return kind(text)
    except ValueError:
        raise _of_another_type(field, text) from None


def _is_auto(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether the setting is left open by this value."""
    return isinstance(value, str) and value == AUTO == field.default


def _of_another_type(field: dataclasses.Field[Any], value: Any) -> ConfigError:
    fix = f"give {_EXPECTED[field.metadata['kind']]}" + (f" or {AUTO}" if field.default == AUTO else "")
    return ConfigError("setting of another type", where=field.name, seen=arguments.format_argument(value), fix=fix)
