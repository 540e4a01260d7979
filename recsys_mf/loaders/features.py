"""From a table with a row for every user (or item) to Features: recognise the ids, encode each other column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays import sorting
from recsys_mf.conversion import Ids, id_column
from recsys_mf.errors import ConfigError, DataError, nearest
from recsys_mf.features import Features
from recsys_mf.loaders.feature_columns import Block, feature_block
from recsys_mf.loaders.frames import FrameSource
from recsys_mf.loaders.opening import open_source
from recsys_mf.loaders.reading import kinds_of_ids, origin
from recsys_mf.loaders.source import ROLES, Role, Source, recognise_ids
from recsys_mf.loaders.text import TextSource
from recsys_mf.vocabulary import Vocabulary

_ROW_LABELS = re.compile(r"__index_level_\d+__")  # what pandas adds to a file if its index has no name


def read_features(
    path: str | Path,
    *,
    role: Role,
    id_column: str | None = None,
    columns: Sequence[str] | None = None,
    ids: Ids = "auto",
    encoding: str | None = None,
) -> Features:
    """Features from a table on disk with a row for every user or item.

    path : as in `read_ratings`; a text table starts with a line of column names
    role : "user" or "item": whose ids and features the table has
    id_column : by default recognised (user_id, userId, user, or item_id, movieId, movie_id, item; else id)
    columns : the feature columns; by default all except the ids
    ids, encoding : as in `read_ratings`

    What a column becomes depends on its type:

    - numbers, truth values, dates and times: one feature, shifted and scaled to mean 0 and deviation 1 over the ids
      that have it; a null is the mean. Store numbers that mean categories as text.
    - text and dictionaries (categories): a feature for every category, 1 if an id is in it
    - lists of texts or integers, and text with "|" in some value (Action|Comedy): a feature for every value,
      1/√count for an id that has `count` of them; a value repeated in the same row does not count

    Uninformative parts are left out, and `Features.left_out` names them: constant columns, categories and values of a
    single id, columns of other types. Raises DataError naming the file, column, row (counted from 0) and value for:
    a missing column, a null id, an id that occurs twice, a number that is NaN or infinite (nulls are allowed: an
    empty field, NaN in a pandas frame), an empty table, a table with no feature left, and a file that cannot be read.
    """
    source = open_source(path, encoding)
    if isinstance(source, TextSource) and not source.header:
        raise DataError(
            "the first line does not hold column names",
            where=source.where,
            seen=f"values in the first line, {len(source.names)} columns",
            fix=f"put a line of names above it, e.g. {role}_id and a name per other column",
        )
    return _assembled(source, role, id_column, columns, ids)


def features_from_frame(
    frame: Any,
    *,
    role: Role,
    id_column: str | None = None,
    columns: Sequence[str] | None = None,
    ids: Ids = "auto",
) -> Features:
    """Features from a pandas or Arrow table with a row for every user or item; all else as in `read_features`."""
    return _assembled(FrameSource(frame), role, id_column, columns, ids)


def _assembled(source: Source, role: Role, id_name: str | None, columns: Sequence[str] | None, ids: Ids) -> Features:
    """Features from a source: the columns are taken one at a time, in the order of the table or of `columns`."""
    if role not in ROLES:
        raise ConfigError("unknown role", where="role", seen=role, fix=nearest(role, ROLES))
    kinds_of_ids(source, ids)
    id_name = recognise_ids(source, role, id_name, named=True)
    picked, key = _picked(source, id_name, columns), [id_name]
    raw = source.read([id_name, *picked], key if ids == "string" else [], key if ids == "auto" else [])
    vocabulary, places = _encoded(source, id_name, next(raw), ids)
    blocks = [feature_block(source, name, column) for name, column in zip(picked, raw, strict=True)]
    labels = (name for name in source.names if _ROW_LABELS.fullmatch(name) and name not in (id_name, *picked))
    left_out = (
        *(f"{name}: row labels of a pandas frame" for name in labels),
        *(block.left_out for block in blocks if block.left_out),
    )
    if not any(block.names for block in blocks):
        raise DataError("no feature is left", where=source.where, seen="; ".join(left_out), fix="give other columns")
    return _joined(vocabulary, places, blocks, left_out)


def _picked(source: Source, id_column: str, columns: Sequence[str] | None) -> list[str]:
    """The columns that are features, each once."""
    repeated = next((name for name in source.names if source.names.count(name) > 1), None)
    if repeated is not None:
        raise DataError("two columns of the same name", where=source.where, seen=repr(repeated), fix="rename one")
    others = [name for name in source.names if name != id_column]
    if not others or (columns is not None and not columns):
        seen = f"columns {', '.join(source.names)}" if columns is None or columns else "no columns chosen"
        raise DataError("no feature column", where=source.where, seen=seen, fix="give at least one besides the ids")
    for name in columns or ():
        if name not in others:
            raise DataError(f"no feature column '{name}'", where=source.where, fix=nearest(name, others))
    return list(dict.fromkeys(columns)) if columns else [name for name in others if not _ROW_LABELS.fullmatch(name)]


def _encoded(source: Source, name: str, column: Any, ids: Ids) -> tuple[Vocabulary, NDArray[np.int32]]:
    """The vocabulary, and the index of every row in it. Raises DataError if two rows have the same id."""
    if not len(column):
        raise DataError("no rows in the table", where=source.where, fix="give at least one row")
    where = f"{source.where}, column {name}"
    vocabulary, places = Vocabulary.encode(id_column(column, origin(source, name), ids), where=where)
    if len(vocabulary) < len(places):
        _, firsts, inverse = np.unique(places, return_index=True, return_inverse=True)
        later = int(np.flatnonzero(firsts[inverse] < np.arange(len(places)))[0])
        earlier = int(firsts[inverse[later]])
        seen = (
            f"{vocabulary.entries[int(places[later])].as_py()!r} in {source.place(earlier)} and {source.place(later)}"
        )
        raise DataError("id occurs twice", where=where, seen=seen, fix="give one row per id")
    return vocabulary, places


def _joined(
    vocabulary: Vocabulary, places: NDArray[np.int32], blocks: list[Block], left_out: tuple[str, ...]
) -> Features:
    """The blocks side by side, their rows in the order of the vocabulary."""
    names = tuple(name for block in blocks for name in block.names)
    before = np.cumsum([0, *(len(block.names) for block in blocks)], dtype=np.int32)
    columns = np.concatenate([block.columns + shift for block, shift in zip(blocks, before[:-1], strict=True)])
    values = np.concatenate([block.values for block in blocks])
    starts, order = sorting.group(np.concatenate([places[block.rows] for block in blocks]), len(vocabulary))
    return Features(vocabulary, names, starts, columns[order], values[order], left_out)
