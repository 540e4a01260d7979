"""A binary file transformed block by block while it is read."""

from __future__ import annotations

import io
from typing import Any

_BLOCK = 1 << 20


class Transformed(io.RawIOBase):
    """The blocks of a file, changed by `_transformed`, as a file."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._waiting, self._ended = b"", False

    def _transformed(self, block: bytes) -> bytes:
        """The bytes to return after this block was read; the last block is empty."""
        raise NotImplementedError

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes."""
        while not self._waiting and not self._ended:
            block = self._file.read(_BLOCK)
            self._ended = not block
            self._waiting = self._transformed(block)
        count = min(len(buffer), len(self._waiting))
        buffer[:count], self._waiting = self._waiting[:count], self._waiting[count:]
        return count

    def close(self) -> None:
        """Close this file and the one it reads."""
        self._file.close()
        super().close()
