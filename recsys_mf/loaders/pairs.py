"""Pairs: ids and times of a table without ratings, whole or batch by batch, read like the model's training table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arguments import is_path
from recsys_mf.conversion import Ids, id_column, time_seconds
from recsys_mf.loaders.frames import FrameSource
from recsys_mf.loaders.id_lists import ids_like
from recsys_mf.loaders.opening import open_source
from recsys_mf.loaders.reading import Vocabularies, kinds_of_ids, origin, read_columns
from recsys_mf.loaders.source import Columns, Source, recognise

if TYPE_CHECKING:
    import pyarrow as pa


def read_pairs(table: Any, like: Vocabularies, *, where: str = "frame") -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Dense indices of the users and of the items of a table with a row per pair, int32[n] each, -1 for unknown.

    table : a path as in `read_ratings`, or a table in memory as in `from_frame`; its ratings are not read
    where : the argument, for messages about a table in memory
    Raises DataError for a null id, for strings if the vocabulary has integers, and for a table without the two columns.
    """
    source: Source = open_source(table) if is_path(table) else FrameSource(table, where)
    columns = replace(recognise(source, {}, rated=False), rating=None, time=None)
    kinds = kinds_of_ids(source, "auto", like)
    names, vocabularies = (columns.user, columns.item), (like.user_vocabulary, like.item_vocabulary)
    read = zip(names, vocabularies, read_columns(source, columns, kinds), strict=True)
    users, items = (
        vocabulary.indices(ids_like(ids, source, name, vocabulary), where=f"{source.where}, column {name}")
        for name, vocabulary, ids in read
    )
    return users, items


class PairReader:
    """Reads the columns of batches of one table. Decisions from the first batch (unit of times) hold for all.

    ids, like : as in `read_ratings`; like is the run that predicts
    timed : whether times are read, if there are any
    """

    def __init__(self, source: Source, columns: Columns, ids: Ids, like: Vocabularies, *, timed: bool) -> None:
        self.where = source.where
        self._kinds = kinds_of_ids(source, ids, like)
        self._ids = columns.user, columns.item
        self._time = columns.time if timed else None
        self._origins = {name: origin(source, name) for name in (*self._ids, *filter(None, [self._time]))}
        self._unit: str | None = None

    def ids(self, batch: pa.RecordBatch, start: int) -> list[pa.ChunkedArray]:
        """The user and the item ids of a batch, which starts at a row of the table."""
        return [
            id_column(batch.column(name), self._origins[name].from_row(start), kind)
            for name, kind in zip(self._ids, self._kinds, strict=True)
        ]

    def with_ids(self, batch: pa.RecordBatch, ids: list[pa.ChunkedArray]) -> pa.RecordBatch:
        """The batch with its ids as they were read; ids from a text file get the types of the model."""
        for name, column in zip(self._ids, ids, strict=True):
            place = batch.schema.get_field_index(name)
            batch = batch.set_column(place, name, column.combine_chunks())
        return batch

    def times(self, batch: pa.RecordBatch, start: int) -> NDArray[np.int64] | None:
        """Its times in seconds, or None if they are not read."""
        if self._time is None:
            return None
        place = self._origins[self._time].from_row(start)
        seconds, self._unit = time_seconds(batch.column(self._time), place, self._unit)
        return seconds
