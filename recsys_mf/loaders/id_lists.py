"""Lists of ids: a few that are typed, or a table with a column of them; of the kind that a run has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from recsys_mf.conversion import Ids, Origin, id_column
from recsys_mf.conversion.origin import format_value
from recsys_mf.errors import DataError
from recsys_mf.loaders.opening import open_source
from recsys_mf.loaders.reading import origin
from recsys_mf.loaders.source import Role, Source, is_recognised, recognise_ids
from recsys_mf.loaders.text import TextSource
from recsys_mf.storage import is_address
from recsys_mf.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa


def read_ids(text: str, role: Role, vocabulary: Vocabulary, *, where: str) -> pa.ChunkedArray:
    """The ids of the kind of a vocabulary in a table, each once in order, or in a list such as 17,42.

    text : the name of a file if there is one, as in `read_ratings`, which has a single column or one that is recognised
        as the ids of the role, in a text file with or without a name above it; else ids between commas
    where : the argument, for messages
    Raises DataError for no ids, an id that is not of the kind, and a table without such a column.
    """
    import pyarrow as pa

    if not os.path.exists(text) and not is_address(text):
        ids = [part.strip() for part in text.split(",") if part.strip()]
        if not ids:
            raise DataError(f"no {role} ids", where=where, seen=repr(text), fix="give ids such as 17,42, or a file")
        if not vocabulary.is_integer:
            return id_column(ids, Origin(where), "string").unique()
        try:
            return id_column(ids, Origin(where), "integer").unique()
        except DataError:
            what = "neither integer ids nor the name of a file"
            raise DataError(what, where=where, seen=repr(text), fix=_like_known(vocabulary)) from None
    source = open_source(text)
    if isinstance(source, TextSource):
        source.allow_single_column()
    name = source.names[0] if len(source.names) == 1 else recognise_ids(source, role)
    (column,) = source.read([name], text_columns(source, vocabulary, name))
    if not vocabulary.is_integer and _starts_with_id(source):
        column = pa.chunked_array([pa.array([name], column.type), *column.chunks])
    if not len(column):
        raise DataError(f"no {role} ids", where=source.where, fix="give at least one row")
    return ids_like(column, source, name, vocabulary).unique()


def _starts_with_id(source: Source) -> bool:
    """Whether the name of a text's only column is an id: any text may be one, so only names that are known are not."""
    is_named = isinstance(source, TextSource) and source.header
    return is_named and len(source.names) == 1 and not is_recognised(source.names[0]) and source.names[0] != "id"


def text_columns(source: Source, vocabulary: Vocabulary, name: str) -> list[str]:
    """Which of its column of ids a source reads as text, so that `ids_like` gets them as they are written."""
    return [] if source.typed or vocabulary.is_integer else [name]


def ids_like(column: pa.ChunkedArray, source: Source, name: str, vocabulary: Vocabulary) -> pa.ChunkedArray:
    """A column of ids of a source, in text as a vocabulary has them, else in the types that they have.

    Raises DataError as `id_column` does, and for text that is not an integer if the vocabulary has integers.
    """
    kind: Ids = "auto" if source.typed else "integer" if vocabulary.is_integer else "string"
    try:
        return id_column(column, origin(source, name), kind)
    except DataError as error:
        if kind != "integer":
            raise
        raise DataError(error.what, where=error.where, seen=error.seen, fix=_like_known(vocabulary)) from None


def _like_known(vocabulary: Vocabulary) -> str:
    return f"give integer ids like {format_value(vocabulary.entries[0])}" if len(vocabulary) else "give integer ids"
