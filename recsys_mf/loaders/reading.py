"""From a source to Ratings: recognise the columns, check each, encode the ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.mapped import release_pages
from recsys_mf.conversion import IDS, Ids, Kind, Origin, id_column, rating_values, rating_weights, time_seconds
from recsys_mf.duplicates import Duplicates
from recsys_mf.errors import ConfigError, DataError, nearest
from recsys_mf.loaders.opening import open_source
from recsys_mf.loaders.source import ColumnNames, Columns, Source, name_columns, recognise
from recsys_mf.ratings import Ratings
from recsys_mf.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa


class Vocabularies(Protocol):
    """A run or ratings: the ids of another table are read as integers or strings like theirs."""

    @property
    def user_vocabulary(self) -> Vocabulary: ...

    @property
    def item_vocabulary(self) -> Vocabulary: ...


def read_ratings(
    path: str | Path,
    *,
    ids: Ids = "auto",
    duplicates: Duplicates = "error",
    like: Vocabularies | None = None,
    encoding: str | None = None,
    **columns: Unpack[ColumnNames],
) -> Ratings:
    """Ratings from a table on disk.

    path : Parquet, text (CSV and similar, MovieLens, LIBMF, the Netflix Prize) or JSON lines: a file, compressed or
        not, a folder of part files, a hive-partitioned tree of Parquet, a glob, a pipe, "-" for standard input, or the
        address of one (s3://, hdfs://, https://)
    columns : user_column, item_column, rating_column and time_column, names of the columns; by default recognised
        (user_id, userId, user; item_id, movieId, movie_id, item; rating, score, value; timestamp, time, date; those
        of Amazon, Yelp, Goodreads and Book-Crossing). The time column is optional, and "none" leaves it out.
        weight_column, how much each rating counts: one of weight 2 as much as two. Read only if it is named
    ids : "integer" or "string" to read them as such; "auto" takes the type of the table, as in `conversion.id_column`;
        in text tables, ids are integers if every one is written like an integer: 0042 and +12 are text
    duplicates : if a (user, item) pair occurs more than once: "error"; "last", which keeps the newest row by time, or
        the last row if there are no times; or "mean", which averages
    like : the run or the training table that these ratings go with: "auto" then reads ids of the same kind
    encoding : of text and JSON, under its Python name; by default detected: UTF-8, UTF-16, UTF-32, else Windows-1252

    Valid times, ratings and weights: `conversion.time_seconds`, `rating_values` and `rating_weights`. A ReadingNotice
    says if something is read in a special way. Raises DataError naming the file, column, row (counted from 0) and value
    for: a missing column, a null id, a null, infinite, NaN or non-numeric rating or weight, a weight of 0 or below, an
    empty table, duplicate pairs, and a file that cannot be read.
    """
    given = name_columns(cast(dict[str, str | None], columns))
    return assembled(open_source(path, encoding), given, ids=ids, duplicates=duplicates, like=like)


def assembled(
    source: Source,
    given: Mapping[str, str | None],
    *,
    ids: Ids,
    duplicates: Duplicates,
    like: Vocabularies | None = None,
) -> Ratings:
    """Ratings from a source. The columns are read one at a time, so that only one is raw in memory.

    given : as in `recognise`; ids, duplicates, like : as in `read_ratings`
    """
    columns = recognise(source, given)
    kinds = kinds_of_ids(source, ids, like)
    raw = read_columns(source, columns, kinds)
    user_vocabulary, users = _encoded(source, columns.user, next(raw), kinds[0])
    item_vocabulary, items = _encoded(source, columns.item, next(raw), kinds[1])
    values = rating_values(next(raw), origin(source, columns.rating or ""))
    release_pages()
    times = None if columns.time is None else time_seconds(next(raw), origin(source, columns.time))[0]
    weights = None if columns.weight is None else rating_weights(next(raw), origin(source, columns.weight))
    _release_unused()
    table = Ratings(users, items, values, times, user_vocabulary, item_vocabulary, weights=weights)
    release_pages()
    return table.without_duplicates(duplicates, where=source.where)


def kinds_of_ids(source: Source, ids: Ids, like: Vocabularies | None = None) -> tuple[Kind, Kind]:
    """How the user and the item ids of a source are read: as asked, else as in `like`.

    Strings of a source with types are not read as integers unless asked, and neither is 0042 of a text table. Raises
    ConfigError for an unknown kind.
    """
    if ids not in IDS:
        raise ConfigError("unknown kind of ids", where="ids", seen=ids, fix=nearest(str(ids), IDS))
    if ids != "auto" or like is None:
        return ids, ids
    users, items = (kind_like(source, v) for v in (like.user_vocabulary, like.item_vocabulary))
    return users, items


def kind_like(source: Source, vocabulary: Vocabulary) -> Kind:
    """How ids of a source are read beside those of a vocabulary: a text table as they are written in it."""
    if vocabulary.is_integer:
        return "auto" if source.typed else "as written"
    return "string"


def read_columns(source: Source, columns: Columns, kinds: tuple[Kind, Kind]) -> Iterator[pa.ChunkedArray]:
    """The columns of users, items, ratings, times and weights that the table has, one after another."""
    names = [getattr(columns, role) for role in ("user", "item", "rating", "time", "weight")]
    names = [name for name in names if name]
    texts, ids = (
        [name for name, kind in zip(names[:2], kinds, strict=True) if kind in wanted]
        for wanted in (("string",), ("auto", "as written"))
    )
    return source.read(names, texts, ids)


def origin(source: Source, name: str) -> Origin:
    """Where a column of a source comes from, for messages."""
    return Origin(f"{source.where}, column {name}", source.place, source.typed)


def _encoded(source: Source, name: str, column: pa.ChunkedArray, ids: Kind) -> tuple[Vocabulary, NDArray[np.int32]]:
    if not len(column):
        raise DataError("no ratings in the table", where=source.where, fix="give at least one row")
    place = origin(source, name)
    encoded = Vocabulary.encode(id_column(column, place, ids), where=place.where)
    release_pages()
    return encoded


def _release_unused() -> None:
    """Return the memory that Arrow keeps of freed columns to the system."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
