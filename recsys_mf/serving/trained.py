"""Trained: what serving needs of a run, and the rows of given ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_mf.conversion.origin import format_value
from recsys_mf.errors import DataError
from recsys_mf.models import Fit, FoldedIn, Model, RatedPairs
from recsys_mf.vocabulary import Vocabulary

I32 = NDArray[np.int32]
Side = Literal["user", "item"]
SIDES: tuple[Side, ...] = ("user", "item")
FOLD_IN = "if the user is new, give its ratings: --ratings FILE (run.fold_in(ratings) in Python)"


class Trained(Protocol):
    """The part of a `Run` that this package uses."""

    @property
    def fit(self) -> Fit: ...
    @property
    def baselines(self) -> Mapping[str, Fit]: ...
    @property
    def model(self) -> Model: ...
    @property
    def user_vocabulary(self) -> Vocabulary: ...
    @property
    def item_vocabulary(self) -> Vocabulary: ...
    @property
    def user_counts(self) -> NDArray[np.int64]: ...
    @property
    def rated(self) -> RatedPairs | None: ...
    @property
    def folded(self) -> FoldedIn | None: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...


def vocabulary_of(run: Trained, side: Side) -> Vocabulary:
    """The ids of one side."""
    return run.user_vocabulary if side == "user" else run.item_vocabulary


def trained_rows(run: Trained, side: Side) -> NDArray[np.bool_]:
    """Which rows of a side were trained, not folded in; all of them if every trained one was forgotten."""
    everyone = np.ones(len(vocabulary_of(run, side)), np.bool_)
    if run.folded is None:
        return everyone
    trained = ~(run.folded.users if side == "user" else run.folded.items)
    return trained if trained.any() else everyone


def find_known(run: Trained, ids: Any, side: Side, *, where: str | None = None, advice: str = "") -> I32:
    """Dense indices int32[b] of a column of ids, of a set of them in any order, or of a single id.

    where : name of the ids, for messages; advice : what else to do about an unknown id
    Raises DataError for no ids, for one that the run does not have, and for strings if the run has integers or the
    reverse.
    """
    vocabulary, where = vocabulary_of(run, side), where or f"{side} ids"
    column = as_column(ids, where)
    if not len(column):
        raise DataError(f"no {side} ids", where=where, seen="an empty list", fix="give at least one id")
    found = vocabulary.indices(column, where=where)
    unknown = np.flatnonzero(found < 0)
    if len(unknown):
        more = "" if len(unknown) == 1 else f" and {len(unknown) - 1:,} more"
        example = f"the run has ids like {format_value(vocabulary.entries[0])}" if len(vocabulary) else "it has none"
        fix = f"{example}; {advice}" if advice else example
        first = np.asarray(column, object)[unknown[0]]
        what = f"the run has no {side} with this id"
        raise DataError(what, where=where, seen=f"{format_value(first)}{more}", fix=fix)
    return found


def as_column(ids: Any, where: str) -> Any:
    """A column of ids, a set of them, or a single one, as a column. Raises DataError for an iterator.

    where : name of the ids, for messages
    """
    if isinstance(ids, Iterator):
        seen, fix = type(ids).__name__, "give a list: list(ids)"
        raise DataError("an iterator is not a column of ids", where=where, seen=seen, fix=fix)
    return [_item(ids)] if is_single(ids) else list(ids) if isinstance(ids, Set) else ids


def _item(single: Any) -> Any:
    """A single id as a Python object: in NumPy and torch it may be an array without dimensions."""
    return single.item() if getattr(single, "ndim", None) == 0 and hasattr(single, "item") else single


def is_single(ids: Any) -> bool:
    """Whether the argument is a single id, not a column of ids."""
    return isinstance(ids, str | bytes) or not hasattr(ids, "__len__") or getattr(ids, "ndim", 1) == 0
