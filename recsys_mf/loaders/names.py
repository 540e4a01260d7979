"""Names: a table with a row for every item (or user) that says what to call it, such as the titles of films."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_mf.arguments import is_path
from recsys_mf.conversion import Ids, id_column
from recsys_mf.conversion.arrow import as_text, is_text
from recsys_mf.errors import DataError
from recsys_mf.loaders.frames import FrameSource
from recsys_mf.loaders.opening import open_source
from recsys_mf.loaders.reading import origin
from recsys_mf.loaders.source import Role, Source, recognise_ids
from recsys_mf.loaders.words import listed
from recsys_mf.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

_NAMES = ("title", "name", "label")  # ends of a column's name, the first that is there is taken


def read_names(table: Any, role: Role, vocabulary: Vocabulary) -> pa.Array:
    """The name of every id of a vocabulary, large_string[n], null for one that the table does not have.

    table : a path as in `read_ratings`, or a table in memory as in `from_frame`, with a column of ids and a column
        called title, name or label, or one whose name ends so: movie_title
    role : "user" or "item", whose ids those of the table are
    Raises DataError for a table without these columns, a null id, an id that occurs twice, names that are not text, and
    a table that has none of the ids.
    """
    import pyarrow as pa

    source: Source = open_source(table) if is_path(table) else FrameSource(table)
    key, name = recognise_ids(source, role, None), _recognise_name(source)
    kind: Ids = "integer" if vocabulary.is_integer and not source.typed else "auto" if source.typed else "string"
    ids, names = source.read([key, name], [name] if kind == "integer" else [key, name])
    place = origin(source, key)
    places = vocabulary.indices(id_column(ids, place, kind), where=place.where)
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


def _recognise_name(source: Source) -> str:
    plain = {re.sub(r"[_\-\s.]|:.*", "", name.lower()): name for name in reversed(source.names)}
    for wanted in _NAMES:
        found = plain.get(wanted) or next((name for end, name in plain.items() if end.endswith(wanted)), None)
        if found is not None:
            return found
    raise DataError(
        "no column is recognised as the names", where=source.where, seen=f"columns {listed(source.names)}",
        fix="call it title or name",
    )  # fmt: skip
