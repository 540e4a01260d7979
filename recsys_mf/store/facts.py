"""Facts: what run.json must hold, field by field; checked before anything else uses it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from recsys_mf.errors import DataError

Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_FLOAT64


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and value[0] <= value[1]


def _is_history(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, dict)
        and all(_or_null(_is_number)(entry) or (key == "stage" and _is_text(entry)) for key, entry in row.items())
        for row in value
    )


def _are_traces(value: Any) -> bool:
    """Name -> chain -> sweep, as many sweeps in every chain of a name."""
    return isinstance(value, dict) and all(
        isinstance(chains, list)
        and all(isinstance(chain, list) and all(map(_or_null(_is_number), chain)) for chain in chains)
        and len(set(map(len, chains))) == 1
        for chains in value.values()
    )


def _are_counts(*names: str) -> Check:
    return lambda value: isinstance(value, dict) and all(_is_count(value.get(name)) for name in names)


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


_MAX_FLOAT64 = 1.7976931348623157e308

_RUN: Mapping[str, Check] = {
    "parts": _is_mapping,
    "fit": _is_mapping,
    "baselines": _is_mapping,
    "baseline": _is_text,
    "users_fingerprint": _is_text,
    "items_fingerprint": _is_text,
    "provenance": _is_mapping,
}
_PART: Mapping[str, Check] = {"sha256": _is_text, "required": _is_truth}
_FIT: Mapping[str, Check] = {
    "model": _is_mapping,
    "solver": _is_text,
    "settings": _is_mapping,
    "history": _is_history,
    "epochs": _is_count,
    "seconds": _or_null(_is_number),
    "ratings_per_second": _or_null(_is_number),
    "train_rmse": _or_null(_is_number),
    "valid_rmse": _or_null(_is_number),
    "peak_memory": _is_count,
    "traces": _are_traces,
}
_PROVENANCE: Mapping[str, Check] = {
    "split": _is_text,
    "split_seed": _or_null(_is_whole),
    "seed": _is_whole,
    "device": _is_text,
    "threads": _is_count,
    "rating_range": _is_range,
    "train_ratings": _is_count,
    "train_fingerprint": _is_text,
}
_CONTINUED: Mapping[str, Check] = {
    "kept": _are_counts("ratings", "users", "items"),
    "added": _are_counts("ratings", "users", "items"),
    "changed": _are_counts("ratings"),
    "how": _is_text,
    "since_full_fit": _is_count,
}


def check(facts: Mapping[str, Any]) -> None:
    """Raise DataError, naming the field, unless the facts are those of a run."""
    _check(facts, _RUN, "")
    for name, part in facts["parts"].items():
        _check(part, _PART, f"parts, {name[:40]}, ")
        if "bytes" in part and not _is_count(part["bytes"]):
            raise DataError(
                "must be a size in bytes", where=f"field parts, {name[:40]}, bytes", seen=repr(part["bytes"])[:40]
            )
    for label, fit in [("", facts["fit"]), *facts["baselines"].items()]:
        where = f"baselines, {label[:40]}, " if label else "fit, "
        _check(fit, _FIT, where)
        if not _or_null(_is_positive)(fit.get("fold_in_precision")):
            seen = repr(fit["fold_in_precision"])[:40]
            raise DataError("must be a positive number", where=f"field {where}fold_in_precision", seen=seen)
        if fit["traces"] and not _is_count(fit["settings"].get("burn_in")):
            raise DataError("must be a number of sweeps", where=f"field {where}settings, burn_in")
    if facts["baseline"] not in facts["baselines"]:
        raise DataError("must be the label of a baseline", where="field baseline", seen=repr(facts["baseline"])[:40])
    _check(facts["provenance"], _PROVENANCE, "provenance, ")
    if "continued" in facts["provenance"]:
        _check(facts["provenance"]["continued"], _CONTINUED, "provenance, continued, ")


def restored(name: str, value: Any) -> Any:
    """A field of a fit as it was before it was stored: null, for a number that was not finite, becomes NaN."""
    if name in ("seconds", "ratings_per_second", "train_rmse"):
        return _nan_if_null(value)
    if name == "history":
        return tuple(row | {"valid_rmse": _nan_if_null(row["valid_rmse"])} if "valid_rmse" in row else row
                     for row in value)  # fmt: skip
    if name == "traces":
        return {trace: [[*map(_nan_if_null, chain)] for chain in chains] for trace, chains in value.items()}
    return value


def _nan_if_null(value: Any) -> Any:
    return math.nan if value is None else value


def _check(facts: Any, wanted: Mapping[str, Check], where: str) -> None:
    if not isinstance(facts, dict):
        raise DataError("must be a JSON object", where=f"field {where.rstrip(', ')}", seen=repr(facts)[:40])
    for name, holds in wanted.items():
        if name not in facts:
            raise DataError("missing", where=f"field {where}{name}")
        if not holds(facts[name]):
            raise DataError("has a value that is not valid", where=f"field {where}{name}", seen=repr(facts[name])[:40])
