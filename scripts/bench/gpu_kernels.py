"""The kernels of SGD and of the row systems on large tables: times, and shares of what the card does at best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np
from gpu_data import planted
from gpu_session import Figures, Session, Spans, timing
from numpy.typing import NDArray

from recsys_mf.arrays import sorting
from recsys_mf.kernels import layout, triton_pairs, triton_rows, triton_sgd
from recsys_mf.kernels.cpu import CpuKernels
from recsys_mf.kernels.triton_kernels import TritonKernels
from recsys_mf.ratings import Grouped, Ratings
from recsys_mf.solvers import Sgd, blocks
from recsys_mf.solvers.solver import moments, standardised

BYTES = {"float32": 4, "half": 2, "bfloat16": 2}
EPOCHS, BANDS, TORCH, COMPILED = "epochs", "bands", "torch's kernels beside them", "compiled kernels"
STREAMS, SCHEDULES = "streamed triples", "schedules"
ROWS, PARTS = "row solves", "Gram sums and solutions apart"


def epoch_name(table: str, rank: int, precision: str, schedule: str) -> str:
    """Of the row of an epoch."""
    return f"{table}, rank {rank}, {precision}, {schedule}"


class Epochs:
    """The epochs of a table under a schedule, on the device."""

    def __init__(
        self, session: Session, train: Ratings, grid: layout.Grid, kernels: Any = None, scheduler: Any = None
    ) -> None:
        self.session, self.train, self.grid = session, train, grid
        self.kernels = kernels or session.kernels
        mean, deviation = moments(train)
        rng, scheduler = np.random.default_rng(0), scheduler or self.kernels
        self.order = blocks.schedule(train, grid, rng, center=mean, scale=deviation, kernels=scheduler)
        triples = self.order.users, self.order.items, self.order.values
        self.triples = [self.kernels.put(a) for a in triples]

    @classmethod
    def by_default(cls, session: Session, train: Ratings) -> Epochs:
        """Under the schedule that the backend asks for."""
        return cls(session, train, session.kernels.grid(len(train), train.n_users, train.n_items, 64))

    def start(self, rank: int, precision: str) -> list[Any]:
        """P, Q and biases before the first epoch."""
        rng, kernels = np.random.default_rng(1), self.kernels
        sizes, scale = (self.train.n_users, self.train.n_items), np.float32(0.06 / np.sqrt(rank))
        width = kernels.width(rank)
        factors = [rng.standard_normal((rows, width), dtype=np.float32) * scale for rows in sizes]
        for F in factors:
            F[:, rank:] = 0
        tables = [kernels.put_factors(F, precision) for F in factors]
        return tables + [kernels.put(np.zeros(rows, np.float32)) for rows in sizes]

    def batch(self) -> int:
        """Ratings that are taken at a time."""
        share = max(self.train.user_counts.max(), self.train.item_counts.max()) / len(self.train)
        return int(self.kernels.batch(float(share), Sgd().learning_rate))

    def figures(self, rank: int, precision: str, schedule: str) -> Figures:
        """Of epochs at this rank: time, updates a second, bytes a second and their share of a copy."""
        bounds = self.kernels.put(Sgd(schedule=schedule)._bounds(self.order))
        tables, batch, settings = self.start(rank, precision), self.batch(), Sgd(regularisation=0.0375)
        steps = settings.learning_rate, settings.bias_learning_rate
        ridges = settings.regularisation, settings.bias_regularisation
        errors = []

        def epoch() -> None:
            arguments = (*self.triples, bounds, batch, *tables, *steps, *ridges, len(errors))
            errors.append(self.kernels.sgd_epoch(*arguments))

        seconds = self.session.seconds(epoch)
        n, middle = len(self.train), median(seconds)
        figures = timing(seconds) | {"G updates/s": n / middle / 1e9}
        moved = n * 4 * rank * BYTES[precision] / middle / 1e9
        rmse = float(np.sqrt(errors[-1] / n))
        return self.session.shares(figures, moved, "GB/s", ["copy"]) | {"RMSE / deviation": rmse}


def sgd(session: Session) -> None:
    """Epochs of all tables, the largest first, with another number of bands there, and torch on the smallest."""
    high, plan = session.plan.ranks[1], session.plan
    for name in ("100 M", "25 M", "1 M"):
        train = planted(plan.tables[name], session.device).train
        epochs = Epochs.by_default(session, train)
        for rank in reversed(plan.ranks):
            for precision in ("half", "float32"):
                for schedule in session.kernels.schedules:
                    _epoch_row(session, epochs, name, rank, precision, schedule)
        session.row(SCHEDULES, name, lambda train=train, grid=epochs.grid: _schedules(session, train, grid))
        if name == "100 M":
            _epoch_row(session, epochs, name, high, "bfloat16", "conflict-free")
            session.row(COMPILED, "sgd", lambda: compiled(session, triton_sgd))
            _bands(session, train, epochs.grid.bands)
        if name == "1 M":
            _torch_epoch(session, train)
        del epochs, train


def _schedules(session: Session, train: Ratings, grid: layout.Grid) -> Figures:
    """Seconds to make the schedule on the device and on the host, and whether it is the same."""
    mean, deviation = moments(train)
    made, taken = [], []
    for kernels in (session.kernels, CpuKernels(session.kernels.threads)):
        for _ in range(2):  # the first compiles
            began = time.perf_counter()
            order = blocks.schedule(
                train, grid, np.random.default_rng(0), center=mean, scale=deviation, kernels=kernels
            )  # fmt: skip
            session.synchronise()
            seconds = time.perf_counter() - began
        made.append([kernels.get(kernels.put(a)).tobytes() for a in (order.users, order.items, order.values)])
        taken.append(seconds)
    same = "yes" if made[0] == made[1] else "NO"
    return {"card s": taken[0], "host s": taken[1], "ratio": taken[1] / taken[0], "same bytes": same}


def profile(session: Session) -> None:
    """Two epochs for a profiler."""
    rank = session.plan.ranks[1]
    epochs = Epochs.by_default(session, planted(session.plan.tables["100 M"], session.device).train)
    for precision in ("half", "float32"):
        _epoch_row(session, epochs, "100 M", rank, precision, "conflict-free")


def _epoch_row(session: Session, epochs: Epochs, table: str, rank: int, precision: str, schedule: str) -> None:
    measure = partial(epochs.figures, rank, precision, schedule)
    session.row(EPOCHS, epoch_name(table, rank, precision, schedule), measure)


def _bands(session: Session, train: Ratings, default: int) -> None:
    """The same epoch with fewer and with more bands."""
    rank = session.plan.ranks[1]
    for share in (0.5, 0.25, 2.0):
        bands = max(1, int(default * share))

        def measure(bands: int = bands) -> Figures:
            epochs = Epochs(session, train, layout.Grid(bands))
            return {"bands": bands} | epochs.figures(rank, "half", "conflict-free")

        session.row(BANDS, f"100 M, rank {rank}, half, {share:g} of the default", measure)


def _torch_epoch(session: Session, train: Ratings) -> None:
    rank, kernels = session.plan.ranks[0], session.torch_kernels

    def measure() -> Figures:
        epochs = Epochs(session, train, kernels.grid(len(train), train.n_users, train.n_items, rank), kernels)
        return {"batch": epochs.batch()} | epochs.figures(rank, "float32", "conflict-free")

    session.row(TORCH, epoch_name("1 M", rank, "float32", "minibatches"), measure)


def compiled(session: Session, *modules: ModuleType) -> Figures:
    """What the kernels that ran here take of a multiprocessor: a figure for each."""
    import torch
    import triton

    from recsys_mf.kernels.occupancy import fitting

    figures: Figures = {}
    for module in modules:
        for kernel in vars(module).values():
            if not isinstance(kernel, triton.runtime.JITFunction):
                continue
            for caches in kernel.device_caches.values():
                for found in caches[0].values():
                    found._init_handles()
                    data, card = found.metadata, torch.cuda.get_device_properties(0)
                    resident = fitting(card, found.n_regs, data.num_warps, data.shared)
                    figures[f"{data.name} {len(figures) + 1}"] = (
                        f"{_constants(kernel, found)}: {found.n_regs} registers, {found.n_spills} spilt, "
                        f"{data.num_warps} warps, {data.shared} B shared, {resident} programs on the card"
                    )
    return figures or {"kernels": "interpreted"}


def _constants(kernel: Any, found: Any) -> str:
    """What a kernel was compiled for: constants, and the type of the factors."""
    source = found.src
    names = [*kernel.arg_names]
    constants = {names[place[0]]: value for place, value in source.constants.items() if len(place) == 1}
    shown = ", ".join(f"{name} {value}" for name, value in constants.items() if name.isupper())
    return f"{shown}, {source.signature['P']}" if "P" in source.signature else shown


class Side:
    """The ratings of one side and random rows of the other, as `solve_rows` and `refine_rows` take them."""

    def __init__(self, kernels: Any, grouped: Grouped, n_others: int, rank: int) -> None:
        rng, width, put = np.random.default_rng(0), rank + 1, kernels.put
        n_rows = len(grouped.starts) - 1
        self.lengths = np.diff(grouped.starts)
        self.starts, self.others, self.values = (put(a) for a in grouped)
        Y = (rng.standard_normal((n_others, width)) / np.sqrt(rank)).astype(np.float32)
        self.Y, self.X = put(Y), put(np.zeros((n_rows, width), np.float32))
        self.prior = put(np.eye(width, dtype=np.float32)), put(np.zeros((n_rows, width), np.float32))
        self.weights, self.ridge = put(np.ones(n_rows, np.float32)), put(np.ones(width, np.float32))
        self.normals = kernels.normals(rng, n_rows, width)

    def solved(self, kernels: Any) -> Any:
        """A draw of all rows."""
        none = self.others[:0], self.Y[:0]
        return kernels.solve_rows(
            self.starts, self.others, none[0], self.values, self.Y, none[1], *self.prior, self.weights, self.ridge,
            1.5, self.normals,
        )  # fmt: skip

    def refined(self, kernels: Any) -> Any:
        """Three steps of conjugate gradients of all rows."""
        return kernels.refine_rows(
            self.starts, self.others, self.values, self.X, self.Y, self.weights, self.ridge, 3
        )  # fmt: skip


def rows(session: Session) -> None:
    """Row systems of both sides of two tables; torch's kernels once."""
    low, high = session.plan.ranks
    for name, ranks in (("25 M", (low, high)), ("10 M", (high,))):
        train = planted(session.plan.tables[name], session.device).train
        values = standardised(train)[0]
        sides = {
            "users": (Grouped(*sorting.grouped(train.users, train.n_users, train.items, values)), train.n_items),
            "items": (Grouped(*sorting.grouped(train.items, train.n_items, train.users, values)), train.n_users),
        }
        for rank in ranks:
            for side, (grouped, n_others) in sides.items():
                place = f"{name}, rank {rank}, {side}"
                _side(session, place, partial(Side, session.kernels, grouped, n_others, rank), rank, name == "25 M")
    session.row(COMPILED, "rows and pairs", lambda: compiled(session, triton_rows, triton_pairs))


def _side(session: Session, place: str, make: Callable[[], Side], rank: int, with_torch: bool) -> None:
    data: list[Side] = []

    def solved(kernels: Any, turns: int | None = None) -> Figures:
        data.extend([] if data else [make()])
        seconds = session.seconds(lambda: data[0].solved(kernels), turns)
        return timing(seconds) | {"M rows/s": len(data[0].lengths) / median(seconds) / 1e6}

    def refined(kernels: Any, turns: int | None = None) -> Figures:
        seconds = session.seconds(lambda: data[0].refined(kernels), turns)
        gathered = 5 * int(data[0].lengths.sum()) * 4 * rank / median(seconds) / 1e9  # in five passes over the ratings
        return session.shares(timing(seconds), gathered, "GB/s", ["copy"])

    def beside(figures: Figures | None, measure: Callable[[Any, int], Figures]) -> Figures:
        theirs = measure(session.torch_kernels, 1)
        return theirs | ({"Triton is faster": f"{theirs['ms'] / figures['ms']:.2f}×"} if figures else {})

    ours = session.row(ROWS, f"solve_rows, {place}", partial(solved, session.kernels))
    if not data:
        return
    session.row(PARTS, place, lambda: _apart(session, data[0], rank))
    cg = session.row(ROWS, f"refine_rows, {place}", partial(refined, session.kernels))
    if with_torch:
        padding = {"padding": f"{padding_share(data[0].lengths, rank + 1):.1%}"}
        session.row(TORCH, f"solve_rows, {place}", lambda: beside(ours, solved) | padding)
        session.row(TORCH, f"refine_rows, {place}", lambda: beside(cg, refined))


def _apart(session: Session, side: Side, rank: int) -> Figures:
    """Milliseconds of the two kernels, and operations a second of the first: 2 k² a rating."""
    with stopwatches(session.device, triton_rows, ("_gram", "_solve")) as watches:
        side.solved(session.kernels)
        taken = []
        for spans in watches:
            spans.total()
        for _ in range(session.plan.turns):
            side.solved(session.kernels)
            taken.append([spans.total() for spans in watches])
    gram, solve = (median(times) for times in zip(*taken, strict=True))
    flops = 2 * int(side.lengths.sum()) * rank**2 / gram / 1e12
    tiles = np.maximum(1, -(-side.lengths // triton_rows.TILE)) * triton_rows.TILE
    padding = {"padding": f"{1 - side.lengths.sum() / tiles.sum():.1%}"}
    figures = session.shares(padding | {"Gram ms": 1e3 * gram}, flops, "TFLOP/s", ["float32", "TF32", "bfloat16"])
    return figures | {"solve ms": 1e3 * solve, "ns a row": 1e9 * solve / len(side.lengths)}


@contextmanager
def stopwatches(device: str, module: ModuleType, names: Sequence[str]) -> Iterator[list[Spans]]:
    """The time on the device of every launch of these kernels of a module inside."""
    before, watches = {name: getattr(module, name) for name in names}, [Spans(device) for _ in names]
    for (name, kernel), spans in zip(before.items(), watches, strict=True):
        setattr(module, name, _Watched(kernel, spans))
    try:
        yield watches
    finally:
        for name, kernel in before.items():
            setattr(module, name, kernel)


class _Watched:
    """A kernel whose launches are timed."""

    def __init__(self, kernel: Any, spans: Spans) -> None:
        self._kernel, self._spans = kernel, spans

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        def launch(*arguments: Any, **options: Any) -> Any:
            with self._spans.one():
                return self._kernel[grid](*arguments, **options)

        return launch


def padding_share(lengths: NDArray[np.int64], width: int) -> float:
    """Of what `TorchKernels.solve_rows` multiplies, the share of zeros that fill rows up; its batches over again."""
    from recsys_mf.kernels import cuda

    order, first, cells = np.sort(lengths)[::-1], 0, 0
    while first < len(order):
        longest = max(1, int(order[first]))
        most = max(1, cuda._PADDED_CELLS // (max(longest, width) * width))
        batch = order[first : first + most]
        batch = batch[: max(1, int((batch * 2 >= longest).sum()))]
        cells += longest * len(batch)
        first += len(batch)
    return 1 - int(lengths.sum()) / cells


def streams(session: Session) -> None:
    """SGD with triples that come from the host part by part, beside triples that stay."""
    rank = session.plan.ranks[1]
    train = planted(session.plan.tables["25 M"], session.device).train
    grid = session.kernels.grid(len(train), train.n_users, train.n_items, rank)
    epochs = Epochs(session, train, layout.Grid(max(4, grid.bands)), scheduler=session.cpu_kernels)
    found: dict[str, list[bytes]] = {}

    def measure(parts: int) -> Figures:
        longest = int(np.diff(np.append(epochs.order.bounds[:, 0], len(train))).max())
        room = max(12 * len(train) // parts, 2 * 12 * longest) if parts > 1 else None
        kernels = TritonKernels(session.device, session.kernels.threads, room)
        order = epochs.order
        triples = kernels.triples(order.users, order.items, order.values, order.bounds)
        tables, batch = epochs.start(rank, "half"), epochs.batch()

        def epoch() -> None:
            for part in triples.passes():
                kernels.sgd_epoch(*part, batch, *tables, 0.03, 0.01, 0.0375, 0.02, 0)

        seconds = session.seconds(epoch)
        found[str(parts)] = [kernels.get(a).tobytes() for a in tables]
        same = {"same bytes": "yes" if found[str(parts)] == next(iter(found.values())) else "NO"}
        passes = sum(1 for _ in triples.passes())
        moved = {"GB/s from the host": 12 * len(train) / median(seconds) / 1e9} if parts > 1 else {}
        return {"parts": passes} | timing(seconds) | moved | same

    for parts in (1, 4, 16):
        label = "all on the card" if parts == 1 else f"room for 1/{parts} of them"
        session.row(STREAMS, f"25 M, rank {rank}, half, {label}", partial(measure, parts))
