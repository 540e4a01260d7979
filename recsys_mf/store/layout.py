"""Layout: the names in a run directory, and the text of run.json with its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from recsys_mf import strict_json
from recsys_mf.models import Factorization, Model, Posterior

FORMAT, VERSION = "recsys_mf run", 4

FACTS = "run.json"
MODEL, BASELINES = "model.safetensors", "baselines.safetensors"
USERS, ITEMS = "users.parquet", "items.parquet"
RATED, REPORT = "rated.parquet", "report.json"

FOLDED = "folded"
"""The column of users or items that were folded in."""

REQUIRED = (MODEL, BASELINES, USERS, ITEMS)
OPTIONAL = (RATED, REPORT)
WRITTEN = (FACTS, *REQUIRED, *OPTIONAL)
"""All file names that `save` ever writes; it may remove only these."""

MODELS: dict[str, type[Model]] = {kind.kind: kind for kind in (Factorization, Posterior)}
"""Classes of models by their kind in run.json."""


def sealed(facts: Mapping[str, Any]) -> bytes:
    """The text of run.json: the facts, and as the last field the SHA-256 of all text before it."""
    head = strict_json.to_text(dict(facts)).removesuffix("\n}").encode()
    return head + _seal(head)


def is_sealed(text: bytes) -> bool:
    """Whether a text is exactly as `sealed` returned it."""
    head = text[: -len(_seal(b""))]
    return text == head + _seal(head)


def _seal(head: bytes) -> bytes:
    return f',\n  "digest": "{hashlib.sha256(head).hexdigest()}"\n}}\n'.encode()
