"""Session: the sizes at which gpu.py measures, its clock, and the rows that its parts send.

A part is a function of a Session. It sends what it measures row by row, so that nothing measured is lost if it is
stopped early.
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

    tables : by name; ranks : the lower and the higher that are timed; turns : measurements per median
    check_ranks, check_table : for the comparisons with the reference; repeat_table : for the check that runs agree
    copy_bytes, matrix : size of the copy and side of the matrices that give the card's limits
    epochs : of whole fits, per solver; samples : sweeps of a sampler on real data
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
    """The settings of a run.

    rehearsal : a dry run on the CPU; data : folder of real tables; ends : when the run stops, as `time.time()`
    limits : of the card, from earlier parts
    """

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
    """The card, the clock and the sending of rows to the program; `part` is the part that is running."""

    def __init__(self, settings: Settings, send: Callable[[Row], None]) -> None:
        self.settings, self.plan = settings, settings.plan
        self.limits = dict(settings.limits)
        self.part = ""
        self._send = send

    @cached_property
    def device(self) -> str:
        """Torch's name of the device; a rehearsal uses the CPU instead of the card."""
        return "cpu" if self.settings.rehearsal else "cuda"

    @cached_property
    def backend(self) -> Any:
        """Triton's kernels, on the device."""
        from recsys_mf.arrays.cores import available_threads
        from recsys_mf.kernels.triton.backend import make_backend

        return make_backend(self.device, available_threads())

    @cached_property
    def torch_backend(self) -> Any:
        """Torch's kernels, on the device, for comparison."""
        from recsys_mf.kernels.torch.backend import make_backend

        return make_backend(self.device)

    @cached_property
    def cpu_backend(self) -> Any:
        """The kernels of the CPU, on two threads."""
        from recsys_mf.arrays.cores import available_threads
        from recsys_mf.kernels.cpu.backend import make_backend

        return make_backend(min(2, available_threads()))

    def row(self, table: str, name: str, measure: Callable[[], Figures]) -> Figures | None:
        """Measure a row and send it. After an exception the row has a failure, and None is returned."""
        row = Row(self.part, table, name, {}, "left out: the time was up")
        if time.time() < self.settings.ends:
            try:
                row = Row(self.part, table, name, measure())
            except Exception as error:
                row = Row(self.part, table, name, {}, in_a_line(error))
        self.send(row)
        return None if row.failure else row.figures

    def send(self, row: Row) -> None:
        """Send a row to the program."""
        self.limits |= limits_of([row])
        self._send(row)

    def synchronise(self) -> None:
        """Wait for the card."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()

    def seconds(self, action: Callable[[], Any], turns: int | None = None) -> list[float]:
        """Seconds of every turn, after a first one that is not counted (a rehearsal leaves it out)."""
        if not self.settings.rehearsal:
            action()
        return [self.once(action) for _ in range(turns or self.plan.turns)]

    def once(self, action: Callable[[], Any]) -> float:
        """Seconds between two events on the card, before and after the action; by the host's clock in a rehearsal."""
        spans = Spans(self.device)
        with spans.one():
            action()
        return spans.total()

    def shares(self, figures: Figures, amount: float, unit: str, limits: Sequence[str]) -> Figures:
        """The figures with an amount in this unit, and its share of each limit that was measured."""
        of = {f"of {limit}": amount / self.limits[limit] for limit in limits if limit in self.limits}
        return figures | {unit: amount} | of


class Spans:
    """Spans of time on a device: by its events, or by the host's clock if the host is the device."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._spans: list[tuple[Any, Any]] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        """The block inside is a span."""
        began = self._mark()
        yield
        self._spans.append((began, self._mark()))

    def total(self) -> float:
        """Seconds of all spans since the last call; waits for the device."""
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
    """The median in milliseconds, and the range as a share of it."""
    middle = median(seconds)
    return {"ms": 1e3 * middle, "spread": f"{(max(seconds) - min(seconds)) / middle:.1%}"}


def limits_of(rows: Sequence[Row]) -> dict[str, float]:
    """The card's limits in these rows, by name."""
    found = {}
    for row in rows:
        if row.table == "limits" and not row.failure:
            found[row.name] = next(row.figures[unit] for unit in ("GB/s", "TFLOP/s") if unit in row.figures)
    return found


def in_a_line(error: BaseException) -> str:
    """The class of an exception and the first line of its message."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:300]}" if said else type(error).__name__
