"""Names: a table with a row for every item (or user) that says what to call it, such as the titles of films."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arguments import is_path
from recsys_mf.conversion.arrow import as_text, decoded, is_text
from recsys_mf.conversion.origin import format_value
from recsys_mf.errors import DataError, ReadingNotice
from recsys_mf.loaders.frames import FrameSource
from recsys_mf.loaders.id_lists import ids_like
from recsys_mf.loaders.opening import open_source
from recsys_mf.loaders.reading import origin
from recsys_mf.loaders.source import Role, Source, recognise_ids, single_column
from recsys_mf.loaders.words import listed
from recsys_mf.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

_NAMES = ("title", "name", "label")  # ends of a column's name, in this order


def read_names(table: Any, role: Role, vocabulary: Vocabulary) -> pa.Array:
    """The name of every id of a vocabulary, large_string[n], null for one that the table does not have.

    table : a path as in `read_ratings`, or a table in memory as in `from_frame`, with a column of ids and a column
        called title, name or label, else the first whose name ends in one of these: movie_title
    role : "user" or "item": whose ids and names the table has
    Raises DataError for a table without these columns, a null id, an id that occurs twice, names that are not text, and
    a table that has none of the ids.
    """
    import pyarrow as pa

    source: Source = open_source(table) if is_path(table) else FrameSource(table, "titles")
    key, name = recognise_ids(source, role), _recognise_name(source)
    ids, names = source.read([key, name], [name, key])
    place = origin(source, key)
    places = vocabulary.indices(ids_like(ids, source, key, vocabulary), where=place.where)
    names = decoded(names)
    if not is_text(names.type):
        raise DataError("names must be text", where=origin(source, name).where, seen=names.type, fix="store text")
    known = np.flatnonzero(places >= 0)
    if not len(known):
        fix = f"give the table of the {role}s of this model"
        raise DataError(f"the model has none of these {role}s", where=place.where, seen=f"{len(places)} ids", fix=fix)
    rows = np.full(len(vocabulary), -1)
    rows[places[known]] = known
    if (rows >= 0).sum() < len(known):
        later = known[rows[places[known]] != known][0]
        seen = f"{vocabulary.entries[int(places[later])].as_py()!r} in {source.place(int(later))} and again"
        raise DataError("id occurs twice", where=place.where, seen=seen, fix="give one row per id")
    texts = as_text(names, origin(source, name)).combine_chunks()
    return texts.take(pa.array(rows, mask=rows < 0))


def check_names(table: Any, role: Role) -> None:
    """Raise what `read_names` would raise about the columns of a table, before its ids are needed."""
    source: Source = open_source(table) if is_path(table) else FrameSource(table, "titles")
    recognise_ids(source, role)
    _recognise_name(source)


def note_unnamed(names: pa.Array, rows: NDArray[np.integer[Any]], role: Role, vocabulary: Vocabulary) -> None:
    """Warn, as a ReadingNotice, if some of the rows listed to a user have no name.

    names : what `read_names` returned; rows : distinct dense indices
    """
    missing = rows[names.is_null().to_numpy(zero_copy_only=False)[rows]]
    if len(missing):
        example = format_value(vocabulary.entries[int(missing[0])])
        text = f"titles: {len(missing):,} of the {len(rows):,} {role}s listed have no title, such as {role} {example}"
        warnings.warn(text, ReadingNotice, stacklevel=2)


def _recognise_name(source: Source) -> str:
    plain = [re.sub(r"[_\-\s.]|:.*", "", name.lower()) for name in source.names]
    for wanted in _NAMES:
        ends = [wanted] if wanted in plain else [end for end in plain if end.endswith(wanted)]
        if ends:
            return single_column(source, source.names[plain.index(ends[0])])
    raise DataError(
        "no column is recognised as the names", where=source.where, seen=f"columns {listed(source.names)}",
        fix="call it title or name",
    )  # fmt: skip
