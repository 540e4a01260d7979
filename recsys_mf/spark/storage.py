"""Storage: a folder that the driver and all workers can access: mounted, on HDFS or in S3 (`recsys_mf.storage`)."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import ArtifactError, system_errors
from recsys_mf.storage.address import Address, place
from recsys_mf.storage.faults import in_words
from recsys_mf.storage.systems import Opened, opened, written
from recsys_mf.storage.writing import refuse_web

_FIX = "make it writable and visible to all workers, or give another folder as the storage (--storage)"


@dataclass(frozen=True)
class Storage:
    """A folder by its path or URI. It holds arrays as plain bytes; readers know their type and shape."""

    uri: str

    @classmethod
    def new(cls, folder: str) -> Storage:
        """A new folder inside the given one. Raises ArtifactError if it cannot be written to, and ConfigError for an
        invalid address.
        """
        if folder.startswith("file://"):
            folder = unquote(urlsplit(folder).path)
        there = place(folder)
        if isinstance(there, Address):
            with system_errors(ArtifactError, "the storage cannot be used", where=folder, fix=_FIX):
                refuse_web(there)
        parent = str(there) if isinstance(there, Address) else os.path.abspath(there)
        storage = cls(f"{parent.rstrip('/')}/recsys_mf-{uuid.uuid4().hex}")
        storage.put_facts("storage.json", {})
        return storage

    def put(self, name: str, array: NDArray[Any]) -> None:
        """Write an array; a file with its final name is complete."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        with self._opened(name) as (files, path):
            is_s3 = files.type_name == "s3"  # without folders, and a file becomes visible once it is complete
            if not is_s3:
                files.create_dir(os.path.dirname(path), recursive=True)
            with written(files, path, None if is_s3 else f"{path}.part") as stream:
                stream.write(data)

    def get(self, name: str, dtype: Any, rows: slice | None = None, width: int = 1) -> NDArray[Any]:
        """An array [n], or [n, width] for a width above 1; if rows are given, only these are read."""
        size = np.dtype(dtype).itemsize * width
        with self._opened(name) as (files, path), files.open_input_file(path) as file:
            low, high = (0, file.size() // size) if rows is None else (rows.start, rows.stop)
            found: NDArray[Any] = np.frombuffer(file.read_at((high - low) * size, low * size), dtype)
        return found.reshape(-1, width) if width > 1 else found

    def put_table(self, name: str, table: Any) -> None:
        """Write an Arrow table."""
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        self.put(name, np.frombuffer(sink.getvalue(), np.uint8))

    def get_column(self, name: str, column: str) -> Any:
        """A column of an Arrow table, as a chunked array; the others are not read."""
        import pyarrow as pa

        with self._opened(name) as (files, path), files.open_input_file(path) as file:
            field = pa.ipc.open_file(file).schema.get_field_index(column)
            file.seek(0)
            return pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=[field])).read_all().column(0)

    def put_facts(self, name: str, facts: Any) -> None:
        """Write plain values."""
        self.put(name, np.frombuffer(json.dumps(facts).encode(), np.uint8))

    def get_facts(self, name: str) -> Any:
        """Plain values; None if there are none of this name yet."""
        from pyarrow import fs

        with self._opened(name) as (files, path):
            if files.get_file_info(path).type == fs.FileType.NotFound:
                return None
        return json.loads(self.get(name, np.uint8).tobytes())

    def remove(self, name: str = "") -> None:
        """Remove a folder in it, or the whole storage; errors are ignored."""
        with contextlib.suppress(ArtifactError), self._opened(name) as (files, path):
            files.delete_dir(path.rstrip("/"))

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[Opened]:
        """The file system and the path in it of a file; inside, errors of the file system become ArtifactError."""
        from pyarrow import fs

        there = place(f"{self.uri}/{name}")
        with system_errors(ArtifactError, "the storage cannot be used", where=self.uri, fix=_FIX):
            if isinstance(there, Address):
                with in_words(there):
                    yield opened(there)
            else:
                yield Opened(fs.LocalFileSystem(), str(there))
