"""Sharing: results about a table that are computed once while a context is open, for all who ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
COMPUTED, GROUPED = "_computed", "_grouped"  # the two kinds of results: attributes of the table, dicts by key


def computed_once(*tables: object) -> AbstractContextManager[None]:
    """A context in which the results of `Ratings.once` for these tables are kept, so that solvers share them."""
    return _keeping(COMPUTED, tables)


def grouped_once(*tables: object) -> AbstractContextManager[None]:
    """A context in which these tables are grouped by user and by item only once; this takes 16 bytes per rating."""
    return _keeping(GROUPED, tables)


def shared(table: object, kind: str, key: Any, compute: Callable[[], T]) -> T:
    """The result of `compute`; inside a context for the table and the kind, the one kept for this key."""
    kept = table.__dict__.get(kind)
    if kept is None:
        return compute()
    if key not in kept:
        kept[key] = compute()
    found: T = kept[key]
    return found


@contextmanager
def _keeping(kind: str, tables: tuple[object, ...]) -> Iterator[None]:
    own = []
    for table in tables:
        if kind not in table.__dict__:  # by a context around this one
            table.__dict__[kind] = {}
            own.append(table)
    try:
        yield
    finally:
        for table in own:
            del table.__dict__[kind]
