"""Facts about a rating table that help before training on it, including its faults."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import lookup
from recsys_mf.conversion import Ids, Kind, Origin, decoded, filled, id_column, is_weight, rating_numbers, time_seconds
from recsys_mf.errors import DataError, ReadingNotice
from recsys_mf.loaders.opening import open_source
from recsys_mf.loaders.reading import kinds_of_ids, origin, read_columns
from recsys_mf.loaders.source import ColumnNames, Source, name_columns, recognise
from recsys_mf.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class Description:
    """Facts of a table.

    columns : the column used for user, item, rating, time and weight (None: there is none)
    rows : all of them; the facts below are about the rows with both ids and a finite rating, `usable_rows`
    nulls : null users, items and ratings, and null times and weights if there are such columns
    not_finite : ratings that are NaN, infinite or beyond float32
    weights : smallest, largest and mean weight of the rows with a valid weight, and the number of rows with an invalid
        or null one; None without a column of weights
    duplicates : rows whose (user, item) pair occurs in an earlier row
    user_ids, item_ids : "integer" or "string"
    density : distinct pairs / (users · items)
    scale : smallest, largest, mean and standard deviation of the ratings; levels : how many distinct ratings
    time_range : first and last time, ISO 8601 in UTC; None if there are no readable times
    user_degrees, item_degrees : ratings per user (per item) at the PERCENTILES
    """

    source: str
    columns: dict[str, str | None]
    rows: int
    usable_rows: int
    nulls: dict[str, int]
    not_finite: int
    duplicates: int
    user_ids: str
    item_ids: str
    users: int
    items: int
    density: float
    scale: dict[str, float]
    levels: int
    time_range: tuple[str, str] | None
    user_degrees: dict[int, float]
    item_degrees: dict[int, float]
    weights: dict[str, float] | None = None


def describe(
    path: str | Path, *, ids: Ids = "auto", encoding: str | None = None, **columns: Unpack[ColumnNames]
) -> Description:
    """Facts of the table at a path, which may have faults that `read_ratings` refuses.

    path, ids, encoding, columns : as in `read_ratings`
    Rows without an id or a finite rating are counted and left out; the others are read as `read_ratings` reads them.
    Raises DataError for a file that cannot be read, a missing column, ratings that are not numbers, ids that cannot be
    read, and a table without a usable row. Times that cannot be read give a ReadingNotice.
    """
    given = name_columns(cast(dict[str, str | None], columns))
    return described(open_source(path, encoding), given, ids=ids)


def described(source: Source, given: Mapping[str, str | None], *, ids: Ids) -> Description:
    """Facts of a source: its columns are converted as `reading.assembled` does, after its faulty rows are left out.

    given : as in `recognise`; ids : as in `read_ratings`
    """
    named = recognise(source, given)
    kinds = kinds_of_ids(source, ids)
    raw = map(decoded, read_columns(source, named, kinds))
    users, items, ratings = next(raw), next(raw), next(raw)
    rating = named.rating or ""
    values = filled(rating_numbers(ratings, origin(source, rating)), np.float64)  # a null becomes NaN
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(np.float32))
    missing = {"user": _missing(users), "item": _missing(items), "rating": ratings.is_null().to_numpy()}
    times = None if named.time is None else next(raw)
    if times is not None:
        missing["time"] = _missing(times)
    weights = None if named.weight is None else next(raw)
    if weights is not None:
        missing["weight"] = weights.is_null().to_numpy()
    rows = np.flatnonzero(finite & ~missing["user"] & ~missing["item"])
    if not len(rows):
        seen = f"{len(values)} rows"
        raise DataError(
            "no usable ratings in the table", where=source.where, seen=seen, fix="give a row with both ids and a rating"
        )
    user_vocabulary, user_indices = _encoded(source, named.user, users, rows, kinds[0])
    item_vocabulary, item_indices = _encoded(source, named.item, items, rows, kinds[1])
    shape = len(user_vocabulary), len(item_vocabulary)
    duplicates, _, _ = lookup.first_duplicate(user_indices, item_indices, *shape)
    usable = values[rows]
    return Description(
        source=source.where,
        columns={"user": named.user, "item": named.item, "rating": rating, "time": named.time, "weight": named.weight},
        rows=len(values),
        usable_rows=len(rows),
        nulls={role: int(rows.sum()) for role, rows in missing.items()},
        not_finite=int((~finite & ~missing["rating"]).sum()),
        duplicates=duplicates,
        user_ids=_kind(user_vocabulary),
        item_ids=_kind(item_vocabulary),
        users=shape[0],
        items=shape[1],
        density=(len(rows) - duplicates) / shape[0] / shape[1],
        scale={
            "lowest": float(usable.min()),
            "highest": float(usable.max()),
            "mean": float(usable.mean()),
            "standard_deviation": float(usable.std()),
        },
        levels=len(np.unique(usable)),
        time_range=_time_range(source, named.time, times, rows, missing.get("time")),
        user_degrees=_percentiles(user_indices),
        item_degrees=_percentiles(item_indices),
        weights=None if weights is None else _weights(weights, rows, origin(source, named.weight or "")),
    )


def _missing(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which values of a decoded column are missing: null or NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
    flags: NDArray[np.bool_] = pc.is_null(column, nan_is_null=True).to_numpy()
    return flags


def _encoded(
    source: Source, name: str, column: pa.ChunkedArray, rows: NDArray[np.int64], ids: Kind
) -> tuple[Vocabulary, NDArray[np.int32]]:
    """The ids in these rows, as `reading.assembled` encodes them."""
    import pyarrow as pa

    place = origin(source, name).of_rows(rows)
    return Vocabulary.encode(id_column(column.take(pa.array(rows)), place, ids), where=place.where)


def _weights(column: pa.ChunkedArray, rows: NDArray[np.int64], place: Origin) -> dict[str, float]:
    """Facts of the weights in these rows."""
    weights = filled(rating_numbers(column, place, "weight"), np.float64)[rows]  # a null becomes NaN
    with np.errstate(over="ignore", under="ignore"):
        valid = weights[is_weight(weights.astype(np.float32))]
    facts = {"not_valid": float(len(weights) - len(valid))}
    if len(valid):
        facts |= {"lowest": float(valid.min()), "highest": float(valid.max()), "mean": float(valid.mean())}
    return facts


def _kind(vocabulary: Vocabulary) -> str:
    return "integer" if vocabulary.is_integer else "string"


def _time_range(
    source: Source,
    name: str | None,
    times: pa.ChunkedArray | None,
    rows: NDArray[np.int64],
    missing: NDArray[np.bool_] | None,
) -> tuple[str, str] | None:
    """First and last time of the rows that have one. Warns of times that cannot be read: a solver may not need them."""
    import pyarrow as pa

    if name is None or times is None or missing is None:
        return None
    rows = rows[~missing[rows]]
    try:
        seconds, _ = time_seconds(times.take(pa.array(rows)), origin(source, name).of_rows(rows))
    except DataError as error:
        warnings.warn(str(error), ReadingNotice, stacklevel=3)
        return None
    if not len(seconds):
        return None
    first, last = (str(np.datetime64(int(end), "s")) + "Z" for end in (seconds.min(), seconds.max()))
    return first, last


def _percentiles(indices: NDArray[np.int32]) -> dict[int, float]:
    degrees: NDArray[Any] = np.percentile(np.bincount(indices), PERCENTILES)
    return dict(zip(PERCENTILES, degrees.tolist(), strict=True))
