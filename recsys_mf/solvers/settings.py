"""Settings: the fields of a solver, with their default, help and range; what people type for them, checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypeVar

from recsys_mf import arguments
from recsys_mf.errors import ConfigError, nearest

Auto = Literal["auto"]
"""A number that is not given but chosen: on validation rows, or by the size of the table."""

AUTO: Auto = "auto"
N = TypeVar("N", int, float)


class Between(NamedTuple):
    """The range of a number in a search of settings: low to high, on a logarithmic or a linear scale.

    needs_times : searched only if ratings have times
    """

    low: float
    high: float
    is_log: bool = True
    needs_times: bool = False


class Among(NamedTuple):
    """The choices that a search of settings tries.

    needs_times : searched only if ratings have times
    """

    values: tuple[str, ...]
    needs_times: bool = False


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
"""The name of a setting in other packages, in lower case -> its names here; the first that the solver has is meant."""


def require_settings(solver: Any, names: Iterable[str]) -> None:
    """Raise ConfigError for a name that is not a setting of this class of solvers, naming the nearest."""
    own = [field.name for field in dataclasses.fields(solver)]
    for name in names:
        if name not in own:
            fix = nearest(name, own, SYNONYMS) if own else "it has none"
            raise ConfigError(f"solver '{solver.name}' has no setting '{name}'", fix=fix)


def setting(
    default: Any, text: str, *, low: float = 0, high: float | None = None, choices: tuple[str, ...] = (),
    kind: type | None = None, search: Between | Among | None = None,
) -> Any:  # fmt: skip
    """A field of a solver: its default, its help text, and its valid range or choices.

    high : by default no limit: any finite number, or up to `arguments.MAX_WHOLE` for whole numbers
    kind : the type of a number whose default is "auto"; the setting can then be "auto" or such a number
    search : the values that `tuning` tries; None for a setting that is not searched because it does not change the
        error, is chosen on validation rows anyway, or only trades time for a lower error
    """
    kind = kind or type(default)
    if high is None:
        high = float("inf") if kind is float else arguments.MAX_WHOLE
    metadata = {"help": text, "low": low, "high": high, "choices": choices, "kind": kind, "search": search}
    return dataclasses.field(default=default, metadata=metadata)


def figure(value: N | Auto) -> N:
    """The number of a setting that may be "auto", once it is resolved."""
    assert not isinstance(value, str), "a setting of a running solver is still auto"
    return value


_EXPECTED = {int: "a whole number", float: "a number", tuple: "whole numbers with commas between"}


def check_setting(field: dataclasses.Field[Any], value: Any) -> Any:
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
        bounds = f"{low:g} or more" if high in (float("inf"), arguments.MAX_WHOLE) else f"{low:g} to {high:g}"
        raise ConfigError("setting out of range", where=field.name, seen=value, fix=f"give {bounds}")
    return tuple(int(v) for v in values) if kind is tuple else kind(value)


def parse_setting(field: dataclasses.Field[Any], text: str) -> Any:
    """The value of a setting that was given as text. Raises ConfigError if the text is of another type."""
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
