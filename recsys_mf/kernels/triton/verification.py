"""Verification: the first use of Triton's kernels on a card compares each with the reference, at a few awkward shapes.

The results are kept in the cache of Triton's compiled kernels, under a key of everything that could change them: the
card, its driver, the versions of torch, Triton and this package, and the sources of the kernels. Nothing is checked a
second time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
import triton

from recsys_mf import __version__, atomic
from recsys_mf.kernels import cases, oracle
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.oracle import Agreement
from recsys_mf.kernels.torch import memory

OPERATIONS = ("solve", "refine", "multiply", "pair_values", "epoch", "find_top")
"""The operations that Triton does, by their names in the reference."""

_FIRST_RANKS, _RANKS = (50,), (5, 50, 64, 100)  # of the first use, which should not take long; and of a later check
_RECORD = "recsys_mf-verified.json"
_BATCH = 16
_TABLE = 2200  # columns that are searched, more than Triton's kernel must have

Verdicts = Mapping[str, str | None]
"""Operation -> None if it agrees with the reference, else what is wrong."""


def verify(backend: Backend, operations: Collection[str], ranks: Sequence[int]) -> dict[str, str | None]:
    """Compare the operations with the reference at these ranks."""
    verdicts: dict[str, str | None] = dict.fromkeys(operations)
    for operation, what, check in (case for rank in ranks for case in _checks(backend, rank)):
        if operation in verdicts and verdicts[operation] is None:
            verdicts[operation] = _wrong(what, check)
    return verdicts


def read_or_verify(backend: Backend, operations: Collection[str] = OPERATIONS) -> Verdicts:
    """The verdicts on the operations on this card: from the record, or from a check, which is then recorded."""
    record = read_record()
    unknown = [operation for operation in operations if operation not in record]
    if unknown:
        record = {**record, **verify(backend, unknown, _FIRST_RANKS)}
        _write_record(record)
    return {operation: record[operation] for operation in operations}


def verify_again(backend: Backend) -> Verdicts:
    """The verdicts of a check at more ranks, which replace those in the record."""
    verdicts = verify(backend, OPERATIONS, _RANKS)
    _write_record(verdicts)
    return verdicts


def read_record() -> Verdicts:
    """The recorded verdicts for this card and these versions; only operations that were checked."""
    try:
        record = json.loads(_path().read_text())[_key()]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    readable = isinstance(record, dict) and set(record) <= set(OPERATIONS)
    return record if readable and all(wrong is None or isinstance(wrong, str) for wrong in record.values()) else {}


def _checks(backend: Backend, rank: int) -> Iterator[tuple[str, str, Callable[[], Agreement]]]:
    """Operation, shape in words, and the check."""
    words = f"rank {rank}"
    case = partial(cases.make_solve, rank, contexts=True, normals=True)
    yield "solve", words, lambda: oracle.check_solve(backend, case())[0]
    yield "solve", f"{words}, weighted", lambda: oracle.check_solve(backend, case(weighted=True, scaled=True))[0]
    yield "pair_values", words, partial(oracle.check_pair_values, backend, rank, contexts=True)
    yield "refine", words, lambda: oracle.check_refine(backend, rank, 3)[0]
    matrix = cases.make_solve(rank, contexts=False, normals=False).ratings
    yield "multiply", words, partial(oracle.check_multiply, backend, matrix, rank + 1)
    for precision in backend.sgd.precisions:
        check = partial(oracle.check_epoch, backend, rank, _BATCH, precision=precision)
        yield "epoch", f"{words}, {precision}", check
    yield "find_top", words, partial(oracle.check_find_top, backend.make_prediction(), rank, _TABLE)


def _wrong(what: str, check: Callable[[], Agreement]) -> str | None:
    """What is wrong with an operation; None if it agrees."""
    try:
        found = check()
    except Exception as error:  # whatever a compiler or a driver raises
        return f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return None if found.holds else f"{what}: off by {found.worst:.2g}, at most {found.bound:.2g} is rounding"


def _key() -> str:
    """The key of a record: the card, the versions, and a digest of the sources of the kernels."""
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
    """Add verdicts to the record; if the folder cannot be written to, the kernels are checked again next time."""
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
