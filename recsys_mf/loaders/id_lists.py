"""Lists of ids: typed with commas between, or a column of a table; read as integers or strings, like those of a run."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from recsys_mf.conversion import Origin, id_column
from recsys_mf.conversion.origin import format_value
from recsys_mf.errors import DataError
from recsys_mf.loaders.opening import open_source
from recsys_mf.loaders.reading import kind_like, origin
from recsys_mf.loaders.source import Role, Source, is_recognised, recognise_ids
from recsys_mf.loaders.text import TextSource
from recsys_mf.storage import is_address
from recsys_mf.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa


_DIGITS = re.compile(r"[+-]?[0-9]+")


def read_ids(text: str, role: Role, vocabulary: Vocabulary, *, where: str) -> pa.ChunkedArray:
    """The ids in a table or in a list such as 17,42, each once, in order; integers or strings, like a vocabulary.

    text : a path as in `read_ratings`, if there is such a file: its only column, or the one that is recognised as the
        ids of the role, is read; in a text file, a line of names is optional. Otherwise ids with commas between
    where : the argument, for messages
    Raises DataError for no ids, an id that is not an integer if the vocabulary has integers, and a table without such a
    column.
    """
    import pyarrow as pa

    if not os.path.exists(text) and not is_address(text):
        ids = [part.strip() for part in text.split(",") if part.strip()]
        if not ids:
            raise DataError(f"no {role} ids", where=where, seen=repr(text), fix="give ids such as 17,42, or a file")
        if not vocabulary.is_integer:
            return id_column(ids, Origin(where), "string").unique()
        if not all(_DIGITS.fullmatch(part) for part in ids):
            what = "neither integer ids nor the name of a file"
            raise DataError(what, where=where, seen=repr(text), fix=_like_known(vocabulary))
        try:
            return id_column(ids, Origin(where, typed=False), "as written").unique()
        except DataError as error:
            raise DataError(error.what, where=where, seen=error.seen, fix=_like_known(vocabulary)) from None
    source = open_source(text)
    if isinstance(source, TextSource):
        source.allow_single_column()
    name = source.names[0] if len(source.names) == 1 else recognise_ids(source, role)
    (column,) = source.read([name], [name])  # as it is written
    if not vocabulary.is_integer and _starts_with_id(source):
        column = pa.chunked_array([pa.array([name], column.type), *column.chunks])
    if not len(column):
        raise DataError(f"no {role} ids", where=source.where, fix="give at least one row")
    return ids_like(column, source, name, vocabulary).unique()


def _starts_with_id(source: Source) -> bool:
    """Whether the first line of a text with one column is an id, not a name: any text except the recognised names."""
    is_named = isinstance(source, TextSource) and source.header
    return is_named and len(source.names) == 1 and not is_recognised(source.names[0]) and source.names[0] != "id"


def ids_like(column: pa.ChunkedArray, source: Source, name: str, vocabulary: Vocabulary) -> pa.ChunkedArray:
    """The ids of a column: of a text file as the vocabulary has them, integers or strings; otherwise with their type.

    column : of a text file as it is written, or as integers if every id is written like one
    Raises DataError as `id_column` does, and for text that is not an integer if the vocabulary has integers.
    """
    kind = kind_like(source, vocabulary)
    try:
        return id_column(column, origin(source, name), kind)
    except DataError as error:
        if kind != "as written":
            raise
        raise DataError(error.what, where=error.where, seen=error.seen, fix=_like_known(vocabulary)) from None


def _like_known(vocabulary: Vocabulary) -> str:
    return f"give integer ids like {format_value(vocabulary.entries[0])}" if len(vocabulary) else "give integer ids"
