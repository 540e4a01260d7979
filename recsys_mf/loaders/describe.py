"""What a person wants to know of a rating table before training on it, faults included."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import DataError
from recsys_mf.kernels import layout
from recsys_mf.loaders.opening import open_source
from recsys_mf.loaders.reading import checked_ids, time_seconds, wanted
from recsys_mf.loaders.source import Ids, Source, recognise
from recsys_mf.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class Description:
    """Facts of a table.

    columns : which column was taken for user, item, rating, time (None: there is none)
    rows : all of them; the facts below are of the rows with both ids and a finite rating, `usable_rows`
    nulls : null users, items and ratings; not_finite : ratings that are NaN or infinite
    duplicates : rows whose (user, item) pair stands in an earlier row
    user_ids, item_ids : "integer" or "string"
    density : distinct pairs / (users · items)
    scale : smallest, largest, mean and standard deviation of the ratings; levels : how many distinct ratings
    time_range : first and last time, ISO 8601 in UTC, None without times
    user_degrees, item_degrees : ratings a user (an item) at the PERCENTILES
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


def describe(
    path: str | Path,
    *,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    time_column: str | None = None,
    ids: Ids = "auto",
    encoding: str | None = None,
) -> Description:
    """Facts of the table at a path, which may have faults that `read_ratings` refuses.

    path, …_column, ids, encoding : as in `read_ratings`
    Raises DataError for a file that cannot be read, a missing column, ratings that are no numbers, and a table
    without a usable row.
    """
    import pyarrow as pa

    source = open_source(path, encoding)
    given = {"user": user_column, "item": item_column, "rating": rating_column, "time": time_column}
    named = recognise(source, given)
    name = named.rating or ""
    both = [named.user, named.item]
    raw_columns = source.read(wanted(named), both if ids == "string" else [], both if ids == "auto" else [])
    table = pa.table(dict(zip(wanted(named), raw_columns, strict=True)))
    if not (pa.types.is_integer(table[name].type) or pa.types.is_floating(table[name].type)):
        kind = table[name].type
        where = f"{source.where}, column {name}"
        raise DataError("ratings are not numbers", where=where, seen=f"type {kind}", fix="give numbers")
    raw = table[name].cast(pa.float64()).to_numpy()  # a null becomes NaN
    present = ~(table[named.user].is_null().to_numpy() | table[named.item].is_null().to_numpy())
    usable = present & np.isfinite(raw)
    if not usable.any():
        raise DataError("no usable ratings in the table", where=source.where, seen=f"{len(table)} rows", fix="give one")
    kept = table.filter(pa.array(usable))
    values = raw[usable]
    user_vocabulary, users = Vocabulary.encode(checked_ids(source, named.user, kept[named.user], ids))
    item_vocabulary, items = Vocabulary.encode(checked_ids(source, named.item, kept[named.item], ids))
    duplicates, _, _ = layout.first_duplicate(users, items, len(user_vocabulary), len(item_vocabulary))
    roles: dict[str, str] = {"user": named.user, "item": named.item, "rating": name}
    return Description(
        source=source.where,
        columns={**roles, "time": named.time},
        rows=len(table),
        usable_rows=len(kept),
        nulls={role: table[column].null_count for role, column in roles.items()},
        not_finite=int((~np.isfinite(raw)).sum()) - table[name].null_count,
        duplicates=duplicates,
        user_ids=_kind(user_vocabulary),
        item_ids=_kind(item_vocabulary),
        users=len(user_vocabulary),
        items=len(item_vocabulary),
        density=(len(kept) - duplicates) / len(user_vocabulary) / len(item_vocabulary),
        scale={
            "lowest": float(values.min()),
            "highest": float(values.max()),
            "mean": float(values.mean()),
            "standard_deviation": float(values.std()),
        },
        levels=len(np.unique(values)),
        time_range=_time_range(source, named.time, table),
        user_degrees=_percentiles(users),
        item_degrees=_percentiles(items),
    )


def _kind(vocabulary: Vocabulary) -> str:
    return "integer" if vocabulary.is_integer else "string"


def _time_range(source: Source, name: str | None, table: pa.Table) -> tuple[str, str] | None:
    seconds = np.empty(0) if name is None else time_seconds(source, name, table[name].drop_null())
    if not len(seconds):
        return None
    first, last = (str(np.datetime64(int(end), "s")) + "Z" for end in (seconds.min(), seconds.max()))
    return first, last


def _percentiles(indices: NDArray[np.int32]) -> dict[int, float]:
    degrees: NDArray[Any] = np.percentile(np.bincount(indices), PERCENTILES)
    return dict(zip(PERCENTILES, degrees.tolist(), strict=True))
