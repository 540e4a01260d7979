"""One column of a table of features as sparse numbers: standardised numbers, or an indicator for every category."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.conversion import decoded
from recsys_mf.conversion.arrow import as_text
from recsys_mf.loaders.reading import origin
from recsys_mf.loaders.source import Source
from recsys_mf.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

SEPARATOR = "|"
"""Between the values of a text column that may hold several: Action|Comedy."""


class Block(NamedTuple):
    """The features from one column of a table: entries in the order of rows, then columns."""

    names: tuple[str, ...]
    rows: NDArray[np.int32]  # [z] rows of the table
    columns: NDArray[np.int32]  # [z] in [0, len(names))
    values: NDArray[np.float32]  # [z]
    left_out: str | None  # what of the column was left out, and why


class Members(NamedTuple):
    """The values of a column that holds none, one or several in a row."""

    rows: NDArray[np.int32]  # [n] ascending
    values: pa.Array  # [n] integers or large_string, no nulls
    nouns: str  # what they are called


def feature_block(source: Source, name: str, column: pa.ChunkedArray) -> Block:
    """The features of a column, by its type; nulls give no entries.

    Numbers, truth values, dates and times: one feature of mean 0 and deviation 1 over the rows that have it.
    Text, dictionaries, lists of texts or integers: a feature for every value that two rows or more hold, 1/√count
    in a row that holds `count` of them. Raises DataError for a number that is not finite.
    """
    import pyarrow as pa

    if column.null_count == len(column):
        return _without(name, "no values")
    kind = column.type
    if not pa.types.is_dictionary(kind):
        column = decoded(column)
    if _is_text(column.type):
        column = as_text(column, origin(source, name))
    if pa.types.is_dictionary(kind):
        members = _members(_decoded(column))
    elif (numbers := _numbers(source, column)) is not None:
        return _standardised(source, name, column, numbers)
    else:
        members = _members(column)
    return _without(name, f"values of type {kind}") if members is None else _indicators(name, members, len(column))


def _without(name: str, reason: str) -> Block:
    nothing = np.empty(0, np.int32)
    return Block((), nothing, nothing, np.empty(0, np.float32), f"{name}: {reason}")


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _numbers(source: Source, column: pa.ChunkedArray) -> NDArray[np.float64] | None:
    """The values that are not null, float64, of a column of numbers or times; None for another column.

    Times are in the unit of the column, which standardising cancels.
    """
    import pyarrow as pa

    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_time(kind) or pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif _is_text(kind) and not source.typed:  # a text file, read unchanged
        try:
            column = column.cast(pa.float64())
        except pa.ArrowInvalid:
            return None
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return None
    return np.asarray(column.drop_null().to_numpy(), dtype=np.float64)


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of categories as integers or text; unchanged if Arrow cannot write them as text."""
    import pyarrow as pa

    kind = column.type.value_type
    try:
        return column.cast(kind if pa.types.is_integer(kind) else pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column


def _standardised(source: Source, name: str, column: pa.ChunkedArray, numbers: NDArray[np.float64]) -> Block:
    rows = np.flatnonzero(column.is_valid().to_numpy()).astype(np.int32)
    if not np.isfinite(numbers).all():
        row = int(rows[np.flatnonzero(~np.isfinite(numbers))[0]])
        raise origin(source, name).fault_in(
            column, row, "feature is not finite", "give a finite number, or leave it empty"
        )
    shifted = numbers / 2 - numbers[0] / 2  # halves, so that the difference of huge numbers is finite
    largest = np.abs(shifted).max()
    if largest == 0:
        return _without(name, f"constant ({column[int(rows[0])].as_py()})")
    shifted /= largest
    shifted -= shifted.mean()
    values = (shifted / shifted.std()).astype(np.float32)
    return Block((name,), rows, np.zeros(len(rows), np.int32), values, None)


def _members(column: pa.ChunkedArray) -> Members | None:
    """The values of a column of texts, integers or lists of either, row by row; None for another column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    listed = _is_list(column.type)
    kind = column.type.value_type if listed else column.type
    kind = kind.value_type if listed and pa.types.is_dictionary(kind) else kind
    if not (_is_text(kind) or pa.types.is_integer(kind)):
        return None
    if not listed and _is_text(kind):
        column = column.cast(pa.large_string())
        if pc.any(pc.match_substring(column, SEPARATOR)).as_py():
            column, listed = pc.split_pattern(column, SEPARATOR), True
    rows = np.flatnonzero(column.is_valid().to_numpy()).astype(np.int32)
    values = column.drop_null().combine_chunks()
    if listed:
        rows, values = rows[pc.list_parent_indices(values).to_numpy()], pc.list_flatten(values)
    if listed or pa.types.is_uint64(kind):  # integers beyond int64 are treated as text
        values = values.cast(pa.large_string() if _is_text(kind) or pa.types.is_uint64(kind) else kind)
        rows, values = rows[values.is_valid().to_numpy(zero_copy_only=False)], values.drop_null()
    return Members(rows, values, "values" if listed else "categories")


def _indicators(name: str, members: Members, n_rows: int) -> Block:
    """A feature for every value that two rows or more hold: 1/√count in a row that holds `count` of them."""
    import pyarrow as pa

    known, codes, occurrences = _coded(members.values)
    n_known = int((occurrences > 0).sum())
    if not n_known:
        return _without(name, "no values")
    often = occurrences > 1  # a value that occurs once is not in two rows, so it need not be sorted
    vocabulary, places = Vocabulary.encode(known.filter(pa.array(often)))
    column_of = np.full(len(known), -1, np.int32)
    column_of[often] = places
    rows, columns = _pairs(members.rows, column_of[codes])
    holders = np.bincount(columns, minlength=len(vocabulary))
    shared = holders > 1
    if not shared.all():
        kept = shared[columns]
        rows, columns = rows[kept], (np.cumsum(shared, dtype=np.int32) - np.int32(1))[columns[kept]]
    texts = vocabulary.restricted(shared).entries.to_pylist()
    reason = _occur_once(n_known - len(texts), n_known, members.nouns)
    if len(texts) == 1 and len(rows) == n_rows:
        return _without(name, f"constant ({texts[0]})" + (f", {reason}" if reason else ""))
    weights = (1 / np.sqrt(np.maximum(np.bincount(rows, minlength=n_rows), 1))).astype(np.float32)
    names = tuple(f"{name}={text}" for text in texts)
    return Block(names, rows, columns, weights[rows], reason and f"{name}: {reason}")


def _coded(values: pa.Array) -> tuple[pa.Array, NDArray[np.int32], NDArray[np.int64]]:
    """The distinct values, which of them each value is, and how often each occurs.

    Blanks around a text do not count, and a text of blanks alone is not a value: it occurs 0 times.
    """
    import pyarrow.compute as pc

    coded = values.dictionary_encode()
    known, codes = coded.dictionary, coded.indices.to_numpy()
    if not _is_text(known.type):
        return known, codes, np.bincount(codes, minlength=len(known))
    trimmed = pc.utf8_trim_whitespace(known).dictionary_encode()
    known, codes = trimmed.dictionary, trimmed.indices.to_numpy()[codes]
    occurrences = np.bincount(codes, minlength=len(known))
    blank = pc.index(known, "").as_py()
    if blank >= 0:
        occurrences[blank] = 0
    return known, codes, occurrences


def _pairs(rows: NDArray[np.int32], columns: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The pairs with a column that is not -1, each once, by row, then column."""
    pairs = rows.astype(np.int64) << 32
    pairs |= columns
    pairs = pairs[columns >= 0]
    pairs.sort()
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    return (pairs >> 32).astype(np.int32), (pairs & (2**32 - 1)).astype(np.int32)


def _occur_once(count: int, of: int, nouns: str) -> str | None:
    """How many values were left out because only one row holds them: they say nothing about other rows."""
    if count == of:
        return f"all {of:,} {nouns} occur once" if of > 1 else "its only value occurs once"
    return f"{count:,} of {of:,} {nouns} {'occurs' if count == 1 else 'occur'} once" if count else None
