"""What the parts of a run hold: fits, baselines, vocabularies and rated pairs, checked while they are parsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf import memory
from recsys_mf.conversion.arrow import plain_numbers
from recsys_mf.errors import ArtifactError, DataError
from recsys_mf.models import Fit, FoldedIn, RatedPairs
from recsys_mf.models.fit import as_of_today
from recsys_mf.store import facts as checks
from recsys_mf.store.files import AGAIN, Files, reading, short
from recsys_mf.store.layout import FOLDED, MODELS, RATED
from recsys_mf.vocabulary import Vocabulary

# Bytes that a part may always take, and the largest ratio of compression for ids beyond that.
_ROOM, _RATIO = 1 << 26, 1000


def fit_of(entry: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Fit:
    """The fit that `saving.described_fit` described, with the arrays of its model. Raises ArtifactError, DataError."""
    described = entry["model"]
    kind = described.get("kind")
    if not isinstance(kind, str) or kind not in MODELS:
        raise ArtifactError(
            "this release does not know this kind of model", seen=short(kind), fix=f"it reads: {', '.join(MODELS)}"
        )
    entry = as_of_today(entry)
    rest = {
        field.name: checks.restored(field.name, entry[field.name])
        for field in fields(Fit)
        if field.name != "model" and (field.name in entry or not _has_default(field))
    }
    return Fit(model=MODELS[kind].from_parts(arrays, described), **rest)


def _has_default(field: Any) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def baselines_of(
    entries: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], shape: tuple[int, int]
) -> dict[str, Fit]:
    arrays: dict[str, dict[str, NDArray[Any]]] = {label: {} for label in entries}
    for path, array in tensors.items():
        label, _, name = path.rpartition("/")
        if label not in arrays:
            raise DataError("an array does not belong to a baseline", where=short(path))
        arrays[label][name] = array
    fits = {label: fit_of(entry, arrays[label]) for label, entry in entries.items()}
    for label, fit in fits.items():
        found = fit.model.n_users, fit.model.n_items
        if found != shape:
            raise DataError("shape does not match", where=short(label), seen=f"{found}, but {shape} for the model")
    return fits


class StoredSide(NamedTuple):
    """The users or the items of a run: ids, training ratings int64[n], and which were folded in, bool[n]."""

    vocabulary: Vocabulary
    counts: NDArray[np.int64]
    folded: NDArray[np.bool_]


def side_of(data: Files, name: str, rows: int, fingerprint: str) -> StoredSide:
    """The side in a file. Raises ArtifactError unless its ids have this fingerprint."""
    import pyarrow as pa

    with reading(data.directory / name):
        types = {"id": (pa.int64(), pa.dictionary(pa.int32(), pa.string())), "ratings": (pa.int64(),)}
        table = _table(data.read(name), types, rows=rows, values=rows, optional={FOLDED: (pa.bool_(),)})
        counts = None if table["ratings"].null_count else plain_numbers(table["ratings"]).copy()
        if counts is None or (counts < 0).any():
            raise DataError("a count is null or negative", where="ratings")
        vocabulary = Vocabulary(_expanded(table["id"]))
        if vocabulary.fingerprint != fingerprint:
            where, seen = str(data.directory / name), f"{vocabulary.fingerprint[:12]}…"
            raise ArtifactError("the ids are not those of the run", where=where, seen=seen, fix=AGAIN)
        return StoredSide(vocabulary, counts, _flags(table, FOLDED))


def folded_of(users: StoredSide, items: StoredSide) -> FoldedIn | None:
    """Which users and items were folded in; None if none was."""
    if not (users.folded.any() or items.folded.any()):
        return None
    return FoldedIn(users.folded, items.folded)


def _flags(table: Any, name: str) -> NDArray[np.bool_]:
    """A column of truth values, False if there is no such column."""
    if name not in table.column_names:
        return np.zeros(len(table), np.bool_)
    if table[name].null_count:
        raise DataError("null", where=name)
    flags: NDArray[np.bool_] = table[name].to_numpy().copy()
    return flags


def rated_of(data: Files, shape: tuple[int, int]) -> RatedPairs:
    """The training ratings; the file stores every item as its step from the item before it of the same user."""
    import pyarrow as pa

    with reading(data.directory / RATED):
        n_users, n_items = shape
        types = {"steps": (pa.large_list(pa.int32()),), "ratings": (pa.large_list(pa.float32()),)}
        table = _table(data.read(RATED), types, rows=n_users, values=n_users * (n_items + 1))
        starts, steps = _lists(table, "steps")
        rating_starts, values = _lists(table, "ratings")
        if not np.array_equal(starts, rating_starts):
            raise DataError("there are not as many ratings as items", where="ratings")
        if (steps < 1).any():
            raise DataError("the items are not in ascending order", where="steps")
        total = np.cumsum(steps, dtype=np.int64)
        base = np.append(0, total)[starts[:-1]]  # of every user
        items = total - np.repeat(base, np.diff(starts)) - 1
        if len(items) and items.max() >= n_items:
            raise DataError("an item index is out of range", where="steps", seen=int(items.max()))
        return RatedPairs(starts, items.astype(np.int32), values)


def _lists(table: Any, name: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """A column of lists as the starts of the lists, and their values one after another."""
    import pyarrow as pa

    lists = table[name].combine_chunks()
    lists = lists if isinstance(lists, pa.Array) else pa.concat_arrays(lists.chunks)
    values, starts = lists.flatten(), plain_numbers(lists.offsets)
    if lists.null_count or values.null_count:
        raise DataError("null", where=name)
    return (starts - starts[0]).astype(np.int64), plain_numbers(values)


def _table(
    data: bytes,
    types: Mapping[str, tuple[Any, ...]],
    *,
    rows: int,
    values: int,
    optional: Mapping[str, tuple[Any, ...]] | None = None,
) -> Any:
    """The columns of a Parquet part, read only if its footer does not claim more than is possible.

    Texts are read as indices into a dictionary, so that one long text cannot be repeated many times in memory.
    rows : of the table; values : the largest possible number of values in a column
    optional : types of columns that may be missing
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [name for name, allowed in types.items() if any(map(pa.types.is_dictionary, allowed))]
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts)
    schema = file.schema_arrow
    types = {**types, **{name: allowed for name, allowed in (optional or {}).items() if name in schema.names}}
    for name, allowed in types.items():
        found = schema.field(name).type if name in schema.names else "none"
        if found not in allowed:
            raise DataError("the column has an unexpected type", where=name, seen=short(str(found)))
    # The metadata of single columns are not read: with a damaged footer, pyarrow would end the process.
    groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
    if not file.metadata.num_rows == rows == sum(group.num_rows for group in groups):
        raise DataError("shape does not match", seen=f"{file.metadata.num_rows:,} rows", fix=f"the model has {rows:,}")
    has_text = any(pa.types.is_dictionary(schema.field(name).type) for name in types)
    most = _RATIO * len(data) if has_text else 16 * values * len(types)  # an integer takes 8, and 8 in a dictionary
    needed = sum(group.total_byte_size for group in groups)
    if not 0 <= needed <= max(_ROOM, most):
        raise DataError("the column claims too many bytes", seen=f"{needed:,} bytes from {len(data):,}")
    if needed > _ROOM:
        memory.require(2 * needed, f"{', '.join(types)} of the run", fix="free some memory")
    return file.read(columns=list(types))


def _expanded(ids: Any) -> Any:
    """A column of integers, or of a dictionary of texts that each occur once, as one array."""
    import pyarrow as pa

    chunks = []
    for chunk in ids.chunks:
        if pa.types.is_dictionary(ids.type):
            if chunk.null_count or len(np.unique(plain_numbers(chunk.indices))) < len(chunk):
                raise DataError("an id is null or occurs twice", where="id")
            chunks.append(chunk.dictionary.cast(pa.large_string()).take(chunk.indices))
        else:
            chunks.append(chunk)
    kind = pa.large_string() if pa.types.is_dictionary(ids.type) else ids.type
    return pa.concat_arrays(chunks) if chunks else pa.array([], kind)
