"""Storage: a folder that the driver and all workers see, through pyarrow's file systems: mounted, on HDFS or S3."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import ArtifactError

_FIX = "make it writable and visible to all workers, or give another folder as the storage (--storage)"


@dataclass(frozen=True)
class Storage:
    """A folder by its path or URI. What is in it are arrays of plain bytes, whose type and shape the reader knows."""

    uri: str

    @classmethod
    def new(cls, folder: str) -> Storage:
        """A folder of a new name in this one, which is made. Raises ArtifactError if nothing can be written there."""
        parent = folder if "://" in folder else os.path.abspath(folder)
        storage = cls(f"{parent.rstrip('/')}/recsys_mf-{uuid.uuid4().hex}")
        with _named(parent):
            files, path = storage._opened()
            files.create_dir(path, recursive=True)
        return storage

    def put(self, name: str, array: NDArray[Any]) -> None:
        """Write an array; a file that is there by its name is complete."""
        files, path = self._opened()
        with _named(self.uri):
            files.create_dir(os.path.dirname(f"{path}/{name}"), recursive=True)
            with files.open_output_stream(f"{path}/{name}.part") as file:
                file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            files.move(f"{path}/{name}.part", f"{path}/{name}")

    def get(self, name: str, dtype: Any, rows: slice | None = None, width: int = 1) -> NDArray[Any]:
        """An array [n], or [n, width] for a width above 1; or those of its rows, read alone."""
        files, path = self._opened()
        size = np.dtype(dtype).itemsize * width
        with _named(self.uri), files.open_input_file(f"{path}/{name}") as file:
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

        files, path = self._opened()
        with _named(self.uri), files.open_input_file(f"{path}/{name}") as file:
            place = pa.ipc.open_file(file).schema.get_field_index(column)
            file.seek(0)
            return pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=[place])).read_all().column(0)

    def put_facts(self, name: str, facts: Any) -> None:
        """Write plain values."""
        self.put(name, np.frombuffer(json.dumps(facts).encode(), np.uint8))

    def get_facts(self, name: str) -> Any:
        """Plain values; None if there are none of this name yet."""
        from pyarrow import fs

        files, path = self._opened()
        if files.get_file_info(f"{path}/{name}").type == fs.FileType.NotFound:
            return None
        return json.loads(self.get(name, np.uint8).tobytes())

    def remove(self, name: str = "") -> None:
        """Remove a folder in it, or all of it, as far as that can be done."""
        files, path = self._opened()
        with contextlib.suppress(OSError):
            files.delete_dir(f"{path}/{name}".rstrip("/"))

    def _opened(self) -> tuple[Any, str]:
        """The file system and the path in it."""
        import pyarrow as pa
        from pyarrow import fs

        try:
            files, path = fs.FileSystem.from_uri(self.uri)
        except (pa.ArrowInvalid, OSError) as error:
            seen = str(error).splitlines()[0]
            raise ArtifactError("is no storage that can be opened", where=self.uri, seen=seen, fix=_FIX) from error
        return files, path


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """Turns errors of a file system into an ArtifactError."""
    try:
        yield
    except OSError as error:
        seen = error.strerror or str(error).splitlines()[0]
        raise ArtifactError("the storage cannot be used", where=where, seen=seen, fix=_FIX) from error
