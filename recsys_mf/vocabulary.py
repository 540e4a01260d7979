"""Vocabulary: the ids a file uses for users or items, and the dense indices the arithmetic uses."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import lookup, mapped
from recsys_mf.conversion import Origin, id_column
from recsys_mf.conversion.arrow import plain_numbers
from recsys_mf.conversion.origin import format_value
from recsys_mf.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_SEARCHES = 64  # ids are searched for one by one if there are more known ids than this per id
_TABLE_SLOTS_PER_ID = 16  # a direct table is used if it needs fewer slots per id than this


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Unique ids in ascending order; the position of an id is its dense index.

    entries : Arrow array of int64 or large_string, strictly ascending, no nulls, at most 2^31 - 1 long.

    Ascending order makes the indices independent of the order of the rows that the ids came from.
    Raises DataError when the entries are not strictly ascending or of another type.
    """

    entries: pa.Array

    def __post_init__(self) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.entries.type not in (pa.int64(), pa.large_string()) or self.entries.null_count:
            raise DataError(
                "a vocabulary holds int64 or large_string ids without nulls",
                seen=self.entries.type,
                fix="build it with Vocabulary.encode",
            )
        if len(self) > np.iinfo(np.int32).max:
            raise DataError("too many distinct ids", seen=len(self), fix="stay below 2^31")
        if len(self) > 1 and not pc.all(pc.less(self.entries[:-1], self.entries[1:])).as_py():
            raise DataError("vocabulary ids are not strictly ascending", fix="build it with Vocabulary.encode")

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def is_integer(self) -> bool:
        """True for int64 ids, False for strings."""
        import pyarrow as pa

        return bool(self.entries.type == pa.int64())

    @classmethod
    def encode(cls, ids: Any, *, where: str = "ids") -> tuple[Vocabulary, NDArray[np.int32]]:
        """The vocabulary of a column and the column as dense indices.

        ids : Arrow array or chunked array, NumPy array, pandas Series or sequence, [n]; of the types of
            `conversion.id_column`
        where : name of the column, for messages
        Returns (vocabulary, indices int32[n]). Raises DataError for null ids and ids of another type.
        """
        column = id_column(ids, Origin(where))
        return _encode_integers(cls, column) if _is_integer(column) else _encode_hashed(cls, column)

    def indices(self, ids: Any, *, where: str = "ids") -> NDArray[np.int32]:
        """Dense index of every id, -1 for an id this vocabulary does not hold; int32[n].

        Raises DataError when the ids are integers and the vocabulary holds strings, or the reverse:
        such a column would match nothing.
        """
        plain = _plain_integers(ids) if self._holds_integers else None
        if plain is not None:  # without the detour through Arrow: most requests to a server have only a few ids
            return self._integer_indices(plain)
        column = id_column(ids, Origin(where), "as written" if self._holds_integers and len(self) else "auto")
        if len(column) and len(self) and _is_integer(column) != self.is_integer:
            kinds = ("string", "integer")
            raise DataError(
                f"the ids are {kinds[_is_integer(column)]}s, but the model was trained on {kinds[self.is_integer]} ids",
                where=where,
                seen=format_value(column[0]),
                fix=f"store or read the ids as {kinds[self.is_integer]}s (--ids {kinds[self.is_integer]})",
            )
        if self.is_integer:
            return self._integer_indices(_numpy(column))
        if len(column) * _SEARCHES < len(self):  # hashing all known ids would take longer than searching among them
            return np.array([self._place(text) for text in column.to_pylist()], np.int32)
        import pyarrow.compute as pc

        found = pc.fill_null(pc.index_in(column, value_set=self.entries), -1)
        return np.asarray(_numpy(found), dtype=np.int32)

    def ids(self, indices: NDArray[np.integer[Any]]) -> pa.Array:
        """The ids at the given dense indices (Arrow array, [n]); a negative index gives null."""
        import pyarrow as pa

        indices = np.asarray(indices)
        return self.entries.take(pa.array(indices, mask=indices < 0))

    def restricted(self, keep: NDArray[np.bool_]) -> Vocabulary:
        """The vocabulary of the ids for which keep (bool[len]) is True."""
        import pyarrow as pa

        return Vocabulary(self.entries.filter(pa.array(keep)))

    def union(self, other: Vocabulary, *, where: str = "ids") -> Vocabulary:
        """The vocabulary of the ids of both. Raises DataError if one has integers and the other strings."""
        import pyarrow as pa

        new = other.entries.filter(pa.array(self.indices(other.entries, where=where) < 0))
        return Vocabulary.encode(pa.chunked_array([self.entries, new]), where=where)[0]

    @cached_property
    def _holds_integers(self) -> bool:
        return self.is_integer

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the type and the ids, in order."""
        digest = hashlib.sha256(str(self.entries.type).encode())
        if self.is_integer:
            digest.update(np.ascontiguousarray(self._integers, dtype="<i8").data)
        else:
            for text in self.entries.to_pylist():
                digest.update(text.encode() + b"\0")
        return digest.hexdigest()

    @cached_property
    def _integers(self) -> NDArray[np.int64]:
        return plain_numbers(self.entries)

    @cached_property
    def _span(self) -> int:
        """How many integers there are from the first id to the last."""
        return int(self._integers[-1]) - int(self._integers[0]) + 1

    @cached_property
    def _places(self) -> NDArray[np.int32]:
        """Index of every integer from the first id to the last, -1 if it is not an id; int32[_span]."""
        places = np.full(self._span, -1, np.int32)
        places[self._integers - self._integers[0]] = np.arange(len(self), dtype=np.int32)
        return places

    def _place(self, text: str) -> int:
        """Index of a string, -1 if it is not an id, by bisection: ids are in the order of their code points."""
        place = bisect_left(range(len(self)), text, key=lambda n: self.entries[n].as_py())
        return place if place < len(self) and self.entries[place].as_py() == text else -1

    def _integer_indices(self, values: NDArray[np.int64]) -> NDArray[np.int32]:
        known = self._integers
        if not len(known):
            return np.full(len(values), -1, np.int32)
        if self._span <= _TABLE_SLOTS_PER_ID * max(len(known), len(values)):
            return lookup.positions(values, int(known[0]), self._places)
        place = np.searchsorted(known, values)
        place[place == len(known)] = 0
        return np.where(known[place] == values, place, -1).astype(np.int32)


def _plain_integers(ids: Any) -> NDArray[np.int64] | None:
    """Ids as int64[n] if no conversion is needed: an array of integers that fit, or a list of Python integers."""
    if isinstance(ids, np.ndarray):
        fits = ids.ndim == 1 and not isinstance(ids, np.ma.MaskedArray) and np.can_cast(ids.dtype, np.int64)
        return ids.astype(np.int64, copy=False) if fits and ids.dtype.kind in "iu" else None
    if type(ids) is list and ids and set(map(type, ids)) == {int}:
        try:
            return np.array(ids, np.int64)
        except OverflowError:
            return None
    return None


def _is_integer(column: pa.ChunkedArray) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(column.type))


def _numpy(column: Any) -> NDArray[Any]:
    array: NDArray[Any] = column.to_numpy()
    return array


def _encode_integers(cls: type[Vocabulary], column: pa.ChunkedArray) -> tuple[Vocabulary, NDArray[np.int32]]:
    """Encode by a table with a slot per integer of the range if that is not too wide, else by hashing."""
    import pyarrow as pa

    arrays = [chunk.to_numpy() for chunk in column.chunks]
    chunks = [array[part] for array in arrays for part in mapped.parts(len(array))]
    if not chunks:
        return cls(pa.array([], pa.int64())), np.empty(0, np.int32)
    low, high = lookup.bounds(chunks)
    if high - low >= _TABLE_SLOTS_PER_ID * len(column):
        return _encode_hashed(cls, column.cast(pa.int64()))
    known, indices = lookup.compact(chunks, low, high)
    return cls(pa.array(known, pa.int64())), indices


def _encode_hashed(cls: type[Vocabulary], column: pa.ChunkedArray) -> tuple[Vocabulary, NDArray[np.int32]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    coded = column.dictionary_encode().unify_dictionaries()
    if not len(coded):
        return cls(pa.array([], column.type)), np.empty(0, np.int32)
    dictionary = coded.chunk(0).dictionary
    order = _numpy(pc.sort_indices(dictionary))
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    indices, start = mapped.empty(len(coded), np.int32), 0
    for chunk in coded.chunks:
        indices[start : start + len(chunk)] = rank[chunk.indices.to_numpy()]
        start += len(chunk)
    return cls(dictionary.take(pa.array(order))), indices
