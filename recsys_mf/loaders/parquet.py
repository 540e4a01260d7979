"""Parquet: a file, a folder of part files, a hive-partitioned tree or a glob of files."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from recsys_mf.arrays.cores import available_threads
from recsys_mf.arrays.threads import side_by_side
from recsys_mf.conversion import Origin
from recsys_mf.errors import DataError
from recsys_mf.loaders.parts import is_companion
from recsys_mf.loaders.unify import unified, unified_type

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_BATCH = 1 << 18  # rows
_NULL_KEY = "__HIVE_DEFAULT_PARTITION__"
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(?P<fraction>\.[0-9]+)?")


@dataclass(frozen=True)
class _Part:
    """A file of a table.

    path : of its bytes; where : its name, for messages
    metadata : of the file; schema : of its columns
    keys : values of the hive keys in its path, None for a null
    """

    path: str
    where: str
    metadata: pq.FileMetaData
    schema: pa.Schema
    keys: dict[str, Any]

    @property
    def n_rows(self) -> int:
        return int(self.metadata.num_rows)

    def has(self, name: str) -> bool:
        return name in self.keys or name in self.schema.names

    def type_of(self, name: str) -> pa.DataType:
        """The type of a column, or of the values of a hive key; a column of the file takes precedence."""
        import pyarrow as pa

        places = self.schema.get_all_field_indices(name)
        return self.schema.field(places[0]).type if places else pa.scalar(self.keys[name]).type


class ParquetSource:
    """A Parquet table on disk; parts are read in the order of their paths, hidden and `_` files are left out.

    The types of a column may differ between parts if one type can hold all values (`unify`). A hive key (year=2020
    in a path) is a column: of integers or numbers if all its values are, else of text.

    path : of the table; where : its name for messages, if the path is that of a copy
    """

    typed = True

    def __init__(self, path: str, where: str | None = None) -> None:
        self._path, self.where = path, path if where is None else where

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Columns of any part, those of hive keys last."""
        parts = self._parts
        first = list(parts[0].schema.names)  # a name may occur twice
        later = dict.fromkeys(name for part in parts for name in (*part.schema.names, *part.keys))
        return (*first, *(name for name in later if name not in first))

    def read(
        self, names: Sequence[str], texts: Sequence[str] = (), ids: Sequence[str] = ()
    ) -> Iterator[pa.ChunkedArray]:
        """One column at a time.

        texts : columns that may hold integers in one part and text in another: they are read as text
        """
        for name in names:
            yield self._column(name, as_text=name in texts)  # held by no name here, so that the caller can free it

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All columns, batch by batch, each in the one type of its parts."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {name: self._type(name) for name in dict.fromkeys(self.names)}
        for part in self._parts:
            with _errors_of(part.where), pq.ParquetFile(part.path) as file:
                for batch in file.iter_batches(batch_size=_BATCH):
                    columns = [
                        self._array(part, batch, name, kinds[name], self.names[:index].count(name))
                        for index, name in enumerate(self.names)
                    ]
                    yield pa.RecordBatch.from_arrays(columns, names=list(self.names))

    def place(self, row: int) -> str:
        """The part file and the row in it, or the row if there is only one file."""
        before = 0
        for part in self._parts:
            if len(self._parts) > 1 and row < before + part.n_rows:
                return f"{part.where}, row {row - before}"
            before += part.n_rows
        return f"row {row}"

    def _array(self, part: _Part, batch: pa.RecordBatch, name: str, kind: pa.DataType, earlier: int) -> pa.Array:
        """A column of a batch, in the type of all parts; nulls if the part does not have it.

        earlier : how many columns with the same name come before it
        """
        import pyarrow as pa

        places = batch.schema.get_all_field_indices(name)
        if earlier < len(places):
            array = batch.column(places[earlier])
        else:
            array = _repeated(part.keys.get(name), len(batch), kind)
        return unified([pa.chunked_array([array])], kind, [part.where], self._origin(name)).combine_chunks()

    def _type(self, name: str, *, as_text: bool = False) -> pa.DataType:
        parts = [part for part in self._parts if part.has(name)]
        kinds = [part.type_of(name) for part in parts]
        return unified_type(kinds, [part.where for part in parts], self._origin(name), as_text=as_text)

    def _origin(self, name: str) -> Origin:
        return Origin(f"{self.where}, column {name}", self.place)

    def _column(self, name: str, *, as_text: bool) -> pa.ChunkedArray:
        for part in self._parts:
            if not part.has(name):
                fix = "add it there, leave the file out, or give another column"
                raise DataError(f"no column '{name}' in this part", where=part.where, fix=fix)
        kind = self._type(name, as_text=as_text)
        if all(name in part.schema.names and part.type_of(name) == kind for part in self._parts):
            return self._scanned(self._parts, name, kind)
        columns = [
            self._scanned([part], name, part.type_of(name)) if name in part.schema.names
            else _chunked(_repeated(part.keys[name], part.n_rows, part.type_of(name)))
            for part in self._parts
        ]  # fmt: skip
        return unified(columns, kind, [part.where for part in self._parts], self._origin(name))

    def _scanned(self, parts: Sequence[_Part], name: str, kind: pa.DataType) -> pa.ChunkedArray:
        """A column of parts that all have this type."""
        import pyarrow as pa

        for part in parts:
            if len(part.schema.get_all_field_indices(name)) > 1:
                raise DataError("two columns of the same name", where=part.where, seen=repr(name), fix="rename one")
        groups = [(part, group) for part in parts for group in range(part.metadata.num_row_groups)]
        found: list[Any] = [None] * len(groups)

        def read(index: int, part: _Part, group: int) -> None:
            with _errors_of(part.where), _opened(part) as file:
                found[index] = file.read_row_group(group, columns=[name], use_threads=False).column(name)

        tasks = [(index, *group) for index, group in enumerate(groups)]
        side_by_side(read, tasks, available_threads())
        return pa.chunked_array([chunk for column in found for chunk in column.chunks], kind)

    @cached_property
    def _parts(self) -> list[_Part]:
        """The files, in the order of their paths."""
        import pyarrow.parquet as pq

        parts = []
        paths = _paths(self._path)
        if not paths:
            raise DataError(
                "no Parquet files in the folder", where=self.where, fix="give the folder that holds the part files"
            )
        keys = _typed_keys([_keys(path, self._path) for path in paths])
        for path, own in zip(paths, keys, strict=True):
            where = path if self._path == self.where else path.replace(self._path, self.where, 1)
            with _errors_of(where), pq.ParquetFile(path) as file:
                parts.append(_Part(path, where, file.metadata, file.schema_arrow, own))
        return parts


def _opened(part: _Part) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    return pq.ParquetFile(part.path, metadata=part.metadata)


def _chunked(array: pa.Array) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.chunked_array([array])


def _repeated(value: Any, length: int, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    return pa.nulls(length, kind) if value is None else pa.repeat(pa.scalar(value), length)


def _paths(where: str) -> list[str]:
    """The files of a path that is a file, a folder or a glob."""
    from pyarrow import fs

    path = Path(where)
    if path.is_file():
        return [where]
    if not path.is_dir():
        return sorted(found for found in glob.glob(where, recursive=True) if Path(found).is_file())
    found = fs.LocalFileSystem().get_file_info(fs.FileSelector(where, recursive=True))
    files = (info.path for info in found if info.type == fs.FileType.File)
    shown = (file for file in files if not any(map(_is_hidden, Path(file).relative_to(path).parts)))
    return sorted(file for file in shown if not is_companion(Path(file).name))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_")) and "=" not in name


def _keys(path: str, where: str) -> dict[str, str]:
    """The hive keys and their texts in a path, below the folder that was given."""
    folder = Path(path).parent
    if Path(where).is_file():
        return {}
    parts = folder.relative_to(where).parts if Path(where).is_dir() else folder.parts
    return {unquote(name): unquote(value) for name, mark, value in (part.partition("=") for part in parts) if mark}


def _typed_keys(texts: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Hive keys of all parts with the types of their values."""
    names = dict.fromkeys(name for own in texts for name in own)
    kinds = {name: _kind([own[name] for own in texts if name in own]) for name in names}
    return [{name: None if text == _NULL_KEY else kinds[name](text) for name, text in own.items()} for own in texts]


def _kind(texts: list[str]) -> type[int] | type[float] | type[str]:
    """The narrowest type whose values are written like all these texts: 05 is not an integer."""
    numbers = [_NUMBER.fullmatch(text) for text in texts if text != _NULL_KEY]
    if not all(numbers):
        return str
    if any(number["fraction"] for number in numbers if number):
        return float
    return int if all(abs(int(number[0])) < 2**63 for number in numbers if number) else str


class _errors_of:  # noqa: N801 (reads as a statement)
    """Turns Arrow's errors about a damaged file into a DataError."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import pyarrow as pa

        if isinstance(error, pa.ArrowException | OSError):
            reason = str(error).splitlines()[0].rsplit(": ", 1)[-1]
            raise DataError(
                "cannot be read as Parquet: truncated, damaged or of another format",
                where=self._where,
                seen=reason[:100],
                fix="write or download it again",
            ) from error
