"""Lists of ids: a few that are typed, or a table with a column of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from recsys_mf.conversion import Ids, Origin, id_column
from recsys_mf.errors import DataError
from recsys_mf.loaders.opening import open_source
from recsys_mf.loaders.reading import origin
from recsys_mf.loaders.source import Role, recognise_ids
from recsys_mf.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa


def read_ids(text: str, role: Role, vocabulary: Vocabulary, *, where: str) -> pa.ChunkedArray:
    """The ids of the kind of a vocabulary in a table, each once in order, or in a list such as 17,42.

    text : the name of a file if there is one, as in `read_ratings`, which has a single column or one that is recognised
        as the ids of the role; else ids between commas
    where : the argument, for messages
    Raises DataError for no ids, an id that is not of the kind, and a table without such a column.
    """
    kind: Ids = "integer" if vocabulary.is_integer else "string"
    if not os.path.exists(text):
        ids = [part.strip() for part in text.split(",") if part.strip()]
        if not ids:
            raise DataError(f"no {role} ids", where=where, seen=repr(text), fix="give ids such as 17,42, or a file")
        return id_column(ids, Origin(where), kind).unique()
    source = open_source(text)
    name = source.names[0] if len(source.names) == 1 else recognise_ids(source, role, None)
    (column,) = source.read([name], [name] if kind == "string" else [])
    if not len(column):
        raise DataError(f"no {role} ids", where=source.where, fix="give at least one row")
    return id_column(column, origin(source, name), "auto" if source.typed else kind).unique()
