"""What a report calls its models."""

from __future__ import annotations

_NAMES = {
    "svd zero": "SVD, zero fill",
    "svd mean": "SVD, mean fill",
    "svd item-mean": "SVD, item-mean fill",
    "svd bias": "SVD, bias fill",
}
"""How a report shows the labels of the usual baselines."""


def shown_name(label: str, best: str | None) -> str:
    """The model as a report shows it, with a mark if it is the best."""
    return f"{_NAMES.get(label, label)} *" if label == best else _NAMES.get(label, label)
