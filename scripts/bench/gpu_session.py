"""Session: the sizes that gpu.py measures at, its clock, and the rows that its parts hand over.

A part is a function of a Session. What it measures it hands over a row at a time, so that all before an end that comes
too soon is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

Figures = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """The size of a table."""

    n_ratings: int
    n_users: int
    n_items: int


@dataclass(frozen=True)
class Plan:
    """The sizes of a run.

    tables : by name; ranks : the lower and the higher that are timed; turns : measurements that a median is of
    check_ranks, check_table : of the comparisons with the reference; repeat_table : of the test that runs agree
    copy_bytes, matrix : of the copy and the side of the products that give the card's limits
    epochs : of whole fits, by solver; samples : sweeps of a sampler on real data
    """

    tables: Mapping[str, Shape]
    ranks: tuple[int, int]
    check_ranks: tuple[int, ...]
    check_table: tuple[int, int]
    repeat_table: Shape
    turns: int
    copy_bytes: int
    matrix: int
    held_out: int
    epochs: Mapping[str, int]
    samples: int
    svd_rank: int


FULL = Plan(
    tables={
        "1 M": Shape(1_000_000, 6_000, 3_700),
        "10 M": Shape(10_000_000, 70_000, 10_000),
        "25 M": Shape(25_000_000, 162_000, 59_000),
        "100 M": Shape(100_000_000, 480_000, 100_000),
    },
    ranks=(64, 128),
    check_ranks=(8, 64, 128, 200),
    check_table=(200, 120),
    repeat_table=Shape(300_000, 3_000, 2_000),
    turns=5,
    copy_bytes=2 << 30,
    matrix=8192,
    held_out=250_000,
    epochs={"sgd": 6, "als": 4, "gibbs": 3, "gibbs both": 3},
    samples=100,
    svd_rank=16,
)

REHEARSAL = Plan(
    tables={
        "1 M": Shape(60, 10, 8),
        "10 M": Shape(40, 4, 3),
        "25 M": Shape(80, 6, 5),
        "100 M": Shape(260, 20, 15),
    },
    ranks=(4, 6),
    check_ranks=(6,),
    check_table=(7, 6),
    repeat_table=Shape(260, 20, 15),
    turns=1,
    copy_bytes=1 << 20,
    matrix=64,
    held_out=40,
    epochs={"sgd": 2, "als": 2, "gibbs": 2, "gibbs both": 2},
    samples=2,
    svd_rank=2,
)


@dataclass(frozen=True)
class Settings:
    """What a run was asked for: ends : by `time.time()`; limits : those of the card that earlier parts measured."""

    rehearsal: bool
    data: Path | None
    ends: float
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """The sizes."""
        return REHEARSAL if self.rehearsal else FULL


@dataclass(frozen=True)
class Row:
    """What was measured: figures by name with their unit, or why there are none."""

    part: str
    table: str
    name: str
    figures: Figures
    failure: str = ""


class Session:
    """The card, the clock and the way of rows to the program; `part` is the part that runs."""

    def __init__(self, settings: Settings, send: Callable[[Row], None]) -> None:
        self.settings, self.plan = settings, settings.plan
        self.limits = dict(settings.limits)
        self.part = ""
        self._send = send

    @cached_property
    def device(self) -> str:
        """Torch's name of it: the CPU stands in for a card in a rehearsal."""
        return "cpu" if self.settings.rehearsal else "cuda"

    @cached_property
    def backend(self) -> Any:
        """Triton's, on the device."""
        from recsys_mf.arrays.cores import available_threads
        from recsys_mf.kernels.triton.backend import make_backend

        return make_backend(self.device, available_threads())

    @cached_property
    def torch_backend(self) -> Any:
        """Torch's, on the device, to compare with."""
        from recsys_mf.kernels.torch.backend import make_backend

        return make_backend(self.device)

    @cached_property
    def cpu_backend(self) -> Any:
        """Those of the CPU on two threads."""
        from recsys_mf.arrays.cores import available_threads
        from recsys_mf.kernels.cpu.backend import make_backend

        return make_backend(min(2, available_threads()))

    def row(self, table: str, name: str, measure: Callable[[], Figures]) -> Figures | None:
        """Measure and hand over; an exception is the row's failure, and None is returned."""
        row = Row(self.part, table, name, {}, "left out: the time was up")
        if time.time() < self.settings.ends:
            try:
                row = Row(self.part, table, name, measure())
            except Exception as error:
                row = Row(self.part, table, name, {}, in_a_line(error))
        self.send(row)
        return None if row.failure else row.figures

    def send(self, row: Row) -> None:
        """Hand a row over."""
        self.limits |= limits_of([row])
        self._send(row)

    def synchronise(self) -> None:
        """Wait for the card."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()

    def seconds(self, action: Callable[[], Any], turns: int | None = None) -> list[float]:
        """Of every turn, after one that is not counted but in a rehearsal."""
        if not self.settings.rehearsal:
            action()
        return [self.once(action) for _ in range(turns or self.plan.turns)]

    def once(self, action: Callable[[], Any]) -> float:
        """Seconds on the card between the events about the action; on the host's clock in a rehearsal."""
        spans = Spans(self.device)
        with spans.one():
            action()
        return spans.total()

    def shares(self, figures: Figures, amount: float, unit: str, limits: Sequence[str]) -> Figures:
        """The figures with an amount in that unit and what it is of each limit that was measured."""
        of = {f"of {limit}": amount / self.limits[limit] for limit in limits if limit in self.limits}
        return figures | {unit: amount} | of


class Spans:
    """Spans of time on a device: by its events, by the host's clock where the host is the device."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._spans: list[tuple[Any, Any]] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        """What is inside is a span."""
        began = self._mark()
        yield
        self._spans.append((began, self._mark()))

    def total(self) -> float:
        """Seconds of all so far, which are forgotten; waits for the device."""
        spans, self._spans = self._spans, []
        if self._device != "cuda":
            seconds: float = sum(end - began for began, end in spans)
            return seconds
        import torch

        torch.cuda.synchronize()
        milliseconds: float = sum(began.elapsed_time(end) for began, end in spans)
        return milliseconds / 1e3

    def _mark(self) -> Any:
        if self._device != "cuda":
            return time.perf_counter()
        import torch

        kind: Any = torch.cuda.Event  # whose constructor has no types
        event = kind(enable_timing=True)
        event.record()
        return event


def timing(seconds: Sequence[float]) -> Figures:
    """The median in milliseconds, and the distance of the extremes as a share of it."""
    middle = median(seconds)
    return {"ms": 1e3 * middle, "spread": f"{(max(seconds) - min(seconds)) / middle:.1%}"}


def limits_of(rows: Sequence[Row]) -> dict[str, float]:
    """What the rows say of the card's limits, by name."""
    found = {}
    for row in rows:
        if row.table == "limits" and not row.failure:
            found[row.name] = next(row.figures[unit] for unit in ("GB/s", "TFLOP/s") if unit in row.figures)
    return found


def in_a_line(error: BaseException) -> str:
    """The kind of an exception and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:300]}" if said else type(error).__name__
