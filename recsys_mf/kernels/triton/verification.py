"""Verification: the first use of Triton's kernels on a card compares each with the reference, at a few awkward shapes.

What was found is kept beside Triton's compiled kernels, under everything that could change it: the card, its driver,
the versions of torch, Triton and this package, and the sources of the kernels. Nothing is checked a second time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
import triton

from recsys_mf import __version__, atomic
from recsys_mf.kernels import oracle
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.oracle import Agreement
from recsys_mf.kernels.torch import memory

OPERATIONS = ("solve", "refine", "multiply", "pair_values", "epoch")
"""The operations that Triton does, by their names in the reference."""

_RANKS = (5, 64)
_RECORD = "recsys_mf-verified.json"
_BATCH = 16

Verdicts = Mapping[str, str | None]
"""Operation -> None if it agrees with the reference, else what is wrong."""


def verify(backend: Backend) -> dict[str, str | None]:
    """Run every operation beside the reference."""
    verdicts: dict[str, str | None] = dict.fromkeys(OPERATIONS)
    for operation, what, check in _checks(backend):
        if verdicts[operation] is None:
            verdicts[operation] = _wrong(what, check)
    return verdicts


def read_or_verify(backend: Backend) -> Verdicts:
    """What is recorded of the card that is here, else what a check finds, which is recorded."""
    record = read_record()
    return verify_again(backend) if record is None else record


def verify_again(backend: Backend) -> Verdicts:
    """What a check finds, which takes the place of what is recorded."""
    verdicts = verify(backend)
    _write_record(verdicts)
    return verdicts


def read_record() -> Verdicts | None:
    """What is recorded of the card that is here; None if nothing is, or not of these versions."""
    try:
        record = json.loads(_path().read_text())[_key()]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    complete = isinstance(record, dict) and set(record) == set(OPERATIONS)
    return record if complete and all(wrong is None or isinstance(wrong, str) for wrong in record.values()) else None


def _checks(backend: Backend) -> Iterator[tuple[str, str, Callable[[], Agreement]]]:
    """Operation, shape in words, and the check."""
    for rank in _RANKS:
        words = f"rank {rank}"
        for both in (False, True):
            case = partial(oracle.make_solve, rank, contexts=both, normals=both, shrinkage=not both)
            yield "solve", words, lambda case=case: oracle.check_solve(backend, case())[0]  # type: ignore[misc]
            yield "pair_values", words, partial(oracle.check_pair_values, backend, rank, contexts=both)
        yield "refine", words, lambda rank=rank: oracle.check_refine(backend, rank, 3)[0]  # type: ignore[misc]
        matrix = oracle.make_solve(rank, contexts=False, normals=False).ratings
        yield "multiply", words, partial(oracle.check_multiply, backend, matrix, rank + 1)
        for precision in backend.sgd.precisions:
            check = partial(oracle.check_epoch, backend, rank, _BATCH, precision=precision)
            yield "epoch", f"{words}, {precision}", check


def _wrong(what: str, check: Callable[[], Agreement]) -> str | None:
    """What is wrong with an operation; None if it agrees."""
    try:
        found = check()
    except Exception as error:  # whatever a compiler or a driver raises
        return f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return None if found.holds else f"{what}: off by {found.worst:.2g}, at most {found.bound:.2g} is rounding"


def _key() -> str:
    """What a record is of, in words."""
    card = memory.card() if torch.cuda.is_available() else {"card": "none"}
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        sources.update(path.read_bytes())
    versions = {"torch": torch.__version__, "triton": triton.__version__, "recsys_mf": __version__}
    return json.dumps(card | versions | {"kernels": sources.hexdigest()[:16]}, sort_keys=True)


def _path() -> Path:
    """The file of the record: in Triton's cache, whose folder TRITON_CACHE_DIR or TRITON_HOME moves."""
    given = os.environ.get("TRITON_CACHE_DIR")
    if given:
        return Path(given) / _RECORD
    return Path(os.environ.get("TRITON_HOME") or Path.home()) / ".triton" / "cache" / _RECORD


def _write_record(verdicts: Verdicts) -> None:
    """Add to the record what was found; without a folder to write in it is found again next time."""
    path = _path()
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError):
        before = {}
    records = (before if isinstance(before, dict) else {}) | {_key(): dict(verdicts)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.written_file(path, replace=True) as aside:
            aside.write_text(json.dumps(records, indent=1))
    except OSError:
        return
