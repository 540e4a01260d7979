"""Identity: what the results of a training depend on, to know whether a checkpoint belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys_mf.splits import Split
from recsys_mf.training import provenance

_SCALARS = ("solver", "seed", "validation", "compress")
_OTHERS = {
    "valid_fingerprint": "validation rows",
    "features": "side information",
    "start": "run to continue from",
    "baselines": "baselines",
}  # key -> what messages call it
_DECISIVE = ("train_fingerprint", "split_rule", "settings", *_SCALARS, *_OTHERS)
_MACHINE = ("device", "card", "backend", "processor", "python", "libraries")


def identity_of(record: Mapping[str, Any], split: Split) -> dict[str, Any]:
    """The part of a record (`provenance`) that results depend on; the number of threads is not part of it.

    split : the rows to train on
    """
    facts = {name: record[name] for name in _DECISIVE if name in record}
    rule = {name: value for name, value in record["split_rule"].items() if not name.startswith("test")}
    given = None if split.valid is None else split.valid.fingerprint
    machine = {name: record[name] for name in _MACHINE if name in record}
    return facts | {"split_rule": rule, "valid_fingerprint": given, "machine": machine}


def describe_differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How two identities differ, in words; empty if they do not."""
    found = _of_rows(stored, now)
    found += [_changed(name, stored, now) for name in _SCALARS if stored[name] != now[name]]
    if stored["solver"] == now["solver"]:
        settings = stored["settings"], now["settings"]
        names = sorted({*settings[0], *settings[1]})
        found += [_changed(name, *settings) for name in names if settings[0].get(name) != settings[1].get(name)]
    found += [f"other {name}" for key, name in _OTHERS.items() if stored[key] != now[key]]
    return "; ".join([*found, *provenance.differences(stored["machine"], now["machine"])])


def _of_rows(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    rules = stored["split_rule"], now["split_rule"]
    tables = [rule.get("fingerprint") or facts["train_fingerprint"]
              for rule, facts in zip(rules, (stored, now), strict=True)]  # fmt: skip
    if tables[0] != tables[1]:
        return ["other ratings"]
    names = [name for name in sorted({*rules[0], *rules[1]}) if rules[0].get(name) != rules[1].get(name)]
    found = [f"split {_changed(name, *rules)}" for name in names]
    is_same = stored["train_fingerprint"] == now["train_fingerprint"]
    return found if found or is_same else ["other training rows"]


def _changed(name: str, stored: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return f"{name} {_in_words(stored.get(name))}, now {_in_words(now.get(name))}"


def _in_words(value: Any) -> str:
    return "none" if value is None else str(value)
