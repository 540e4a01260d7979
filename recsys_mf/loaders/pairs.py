"""Pairs: ids and times of a table to be predicted, batch by batch, read like the model's training table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys_mf.conversion import Ids, id_column, time_seconds
from recsys_mf.loaders.reading import Vocabularies, kinds_of_ids, origin
from recsys_mf.loaders.source import Columns, Source

if TYPE_CHECKING:
    import pyarrow as pa


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
