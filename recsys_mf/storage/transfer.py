"""Transfers: the progress of downloads and uploads, reported to a watcher."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from recsys_mf.storage.address import Address

BLOCK = 1 << 23
"""Bytes that are read and written at a time."""


class Transfer(NamedTuple):
    """The progress of a transfer.

    verb : downloading or uploading
    done, total : bytes; total is None if the server does not say
    """

    verb: str
    address: str
    done: int
    total: int | None


Watch = Callable[[Transfer], None]


def _tell_nobody(transfer: Transfer) -> None:
    """The default of `watched`."""


_WATCH: ContextVar[Watch] = ContextVar("watch", default=_tell_nobody)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Report every transfer inside the block to `watch`, from one thread at a time."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


class Count:
    """The bytes of a transfer by several threads, which end early if one fails."""

    def __init__(self, verb: str, address: Address, total: int | None) -> None:
        self._verb, self._address, self.total, self._done = verb, str(address), total, 0
        self._watch, self._lock = _WATCH.get(), threading.Lock()
        self.stopped = threading.Event()

    def add(self, n: int) -> None:
        """Count n more bytes."""
        with self._lock:
            self._done += n
            self._watch(Transfer(self._verb, self._address, self._done, self.total))

    def set(self, done: int, total: int | None) -> None:
        """Set the bytes so far and in total, as a download from the web reports them."""
        with self._lock:
            self._done, self.total = done, total
            self._watch(Transfer(self._verb, self._address, done, total))
