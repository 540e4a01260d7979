"""Triples of a schedule on a device: all of them permanently or, if the device has no room, some strata after others.

In the latter case a thread of the host gathers the next part in pinned memory and sends it on a separate stream while
the kernels work on the part before. There are two buffers on the host and two on the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_mf.arrays import mapped
from recsys_mf.errors import ResourceError
from recsys_mf.kernels.operands import Part, Triples
from recsys_mf.kernels.torch import memory
from recsys_mf.memory import in_words

_LONGEST_PART = 1 << 26  # triples, if no stratum is longer: larger parts overlap no better and pin memory of the host
_SHARE = 0.5  # of the free memory: factors and temporary arrays need the rest
_DTYPES = (torch.int32, torch.int32, torch.float32, torch.float32)  # of users, items, values and weights


@dataclass(frozen=True, eq=False)
class ResidentTriples:
    """Triples that stay on the device, as a part with all of them."""

    part: Part

    def passes(self) -> Iterator[Part]:
        """All strata at once."""
        yield self.part


@dataclass(frozen=True, eq=False)
class StreamedTriples:
    """Triples of the host, sent to the device in parts of at most `length`.

    parts : of every part, the range of its triples and its bounds, counted from its start
    """

    triples: Triples
    parts: tuple[tuple[slice, Tensor], ...]
    length: int
    device: torch.device
    _buffers: list[_Buffer] = field(default_factory=list)

    def passes(self) -> Iterator[Part]:
        """One part after another; the tensors of a part may be used until the next part is requested."""
        if not self._buffers:
            columns = len(_columns(self.triples))
            self._buffers.extend(_Buffer.empty(self.length, columns, self.device) for _ in range(2))
            if self.device.type == "cuda":  # kernels that had their memory before may still be running
                _stream(self.device).wait_stream(torch.cuda.current_stream(self.device))
        with ThreadPoolExecutor(1) as courier:
            buffers = cycle(self._buffers)
            coming: Future[Part] | None = None
            for triples, bounds in (*self.parts, (None, None)):
                ready = coming.result() if coming is not None else None
                if triples is not None and bounds is not None:
                    coming = courier.submit(next(buffers).filled, self.triples, triples, bounds)
                if ready is not None:
                    yield ready


@dataclass(frozen=True, eq=False)
class _Buffer:
    """Memory for a part on the host and on the device: a tensor per column."""

    host: tuple[Tensor, ...]
    there: tuple[Tensor, ...]

    @classmethod
    def empty(cls, length: int, columns: int, device: torch.device) -> _Buffer:
        cuda = device.type == "cuda"
        host, there = (
            tuple(torch.empty(length, dtype=dtype, **place) for dtype in _DTYPES[:columns])
            for place in ({"pin_memory": cuda}, {"device": device})
        )
        return cls(host, there)

    def filled(self, triples: Triples, part: slice, bounds: Tensor) -> Part:
        """The part, once it has been sent to the device on the stream for triples."""
        size = part.stop - part.start
        for host, column in zip(self.host, _columns(triples), strict=True):
            host[:size].numpy()[:] = column[part]
            mapped.drop(column, part.start, part.stop)
        device = self.there[0].device
        if device.type == "cuda":
            with torch.cuda.stream(_stream(device)):
                self._send(size)
                torch.cuda.current_stream().synchronize()
        else:
            self._send(size)
        return Part(*Triples(*(there[:size] for there in self.there)), bounds)

    def _send(self, size: int) -> None:
        for host, there in zip(self.host, self.there, strict=True):
            there[:size].copy_(host[:size], non_blocking=True)


def _columns(triples: Triples) -> list[Any]:
    """Users, items, values and, if there are any, weights."""
    return [column for column in triples if column is not None]


@cache
def _stream(device: torch.device) -> Any:
    """The stream that triples are sent on."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def room_for_triples(device: torch.device, room: int | None) -> int:
    """Bytes that triples may take: those given, or half of what is free."""
    if room is not None:
        return room
    return int(memory.free(device) * _SHARE) if device.type == "cuda" else 1 << 62


def place(
    triples: Triples, bounds: NDArray[np.int64], device: torch.device, room: int | None
) -> ResidentTriples | StreamedTriples:
    """The triples on the device if they are there already or take at most `room` bytes, by default half of what is
    free; otherwise streamed.

    Raises ResourceError if the device has no room for two buffers of the longest stratum.
    """
    if isinstance(triples.users, Tensor):
        return ResidentTriples(Part(*triples, torch.tensor(bounds, device=device)))
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
    room, columns = room_for_triples(device, room), _columns(triples)
    size = sum(column.itemsize for column in columns)  # bytes of a triple
    if size * len(triples.users) <= room:
        with memory.guarded():
            *there, at = (torch.tensor(np.ascontiguousarray(a), device=device) for a in (*columns, bounds))
            return ResidentTriples(Part(*Triples(*there), at))
    length = min(room // (2 * size), max(_LONGEST_PART, _longest(bounds)))
    parts = tuple(
        (part, torch.tensor(of_part - part.start, device=device)) for part, of_part in _parts(bounds, length, size)
    )
    return StreamedTriples(triples, parts, length, device)


def _edges(bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the strata begin, and where the last ends; for a single stratum, the same of its blocks."""
    edges: NDArray[np.int64] = np.append(bounds[:, 0], bounds[-1, -1]) if len(bounds) > 1 else bounds[0]
    return edges


def _longest(bounds: NDArray[np.int64]) -> int:
    """Triples of the longest of these."""
    return int(np.diff(_edges(bounds)).max())


def _parts(bounds: NDArray[np.int64], length: int, size: int) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Runs of strata, or of the blocks of a single one, of at most `length` triples, with their bounds.

    size : bytes of a triple
    """
    whole, edges = len(bounds) > 1, _edges(bounds)
    longest = _longest(bounds)
    if longest > length:
        needed, there = (in_words(2 * size * triples) for triples in (longest, length))
        fix = "use the device 'cpu', or a card with more memory"
        raise ResourceError(f"a part of the ratings needs {needed} of the card and {there} are free", fix=fix)
    first = 0
    while first < len(edges) - 1:
        last = int(np.searchsorted(edges, edges[first] + length, side="right")) - 1
        of_part = bounds[first:last] if whole else bounds[:, first : last + 1]
        yield slice(int(edges[first]), int(edges[last])), of_part
        first = last
