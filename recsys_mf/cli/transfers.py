"""Transfers on stderr: a bar per download or upload on a terminal, else a line every ten seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import click

from recsys_mf.errors import printable
from recsys_mf.storage.transfer import Transfer

_INTERVAL = 10.0  # seconds between two lines
_SHORT = 0.5  # seconds after which a transfer is worth a bar


class Transfers:
    """Watches transfers of the command; silent under --quiet."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._bar: Any = None
        self._current: tuple[str, str] | None = None
        self._began = self._told = 0.0

    def __call__(self, transfer: Transfer) -> None:
        """Show the progress of a transfer."""
        if (transfer.verb, transfer.address) != self._current:
            self._close()
            self._current = transfer.verb, transfer.address
            self._began = self._told = self._clock()
        if _is_quiet():
            return
        now = self._clock()
        if sys.stderr.isatty():
            if self._bar is None and now >= self._began + _SHORT:
                self._bar = _opened(transfer)
            if self._bar is not None:
                self._bar.update(transfer.done - self._bar.n)
                if transfer.done == transfer.total:
                    self._close()
        elif now >= self._told + _INTERVAL:
            self._told = now
            click.echo(printable(_line(transfer)), err=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


def _is_quiet() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.params.get("quiet"))


def _opened(transfer: Transfer) -> Any:
    from tqdm import tqdm

    name = printable(f"{transfer.verb} {transfer.address}", 60)
    return tqdm(desc=name, total=transfer.total, unit="B", unit_scale=True, file=sys.stderr, leave=False)


def _line(transfer: Transfer) -> str:
    from recsys_mf import memory

    done = memory.in_words(transfer.done)
    total = "" if transfer.total is None else f" of {memory.in_words(transfer.total)}"
    return f"{transfer.verb} {transfer.address}: {done}{total}"
