"""The kernels of SGD and of the row solves on large tables: times, and shares of the limits of the card."""

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
from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.cpu.backend import make_backend as make_cpu_backend
from recsys_mf.kernels.operands import GaussianPrior, Regressors, SgdState, SgdStep, Shrinkage, Triples
from recsys_mf.kernels.schedule.grid import Arranged, Grid, Places
from recsys_mf.kernels.schedule.plan import SgdPlan, find_bounds
from recsys_mf.kernels.triton import pairs as pair_kernels
from recsys_mf.kernels.triton import rows as row_kernels
from recsys_mf.kernels.triton import sgd as sgd_kernels
from recsys_mf.kernels.triton.backend import make_backend
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import Sgd
from recsys_mf.solvers.standardisation import find_scale, standardise

BYTES = {"float32": 4, "half": 2, "bfloat16": 2}
EPOCHS, BANDS, TORCH, COMPILED = "epochs", "bands", "torch's kernels beside them", "compiled kernels"
STREAMS, SCHEDULES = "streamed triples", "schedules"
ROWS, PARTS = "row solves", "Gram sums and solutions apart"


def epoch_name(table: str, rank: int, precision: str, schedule: str) -> str:
    """The name of the row of an epoch."""
    return f"{table}, rank {rank}, {precision}, {schedule}"


def arrange(train: Ratings, grid: Grid, backend: Any) -> tuple[Places, Arranged]:
    """The triples of train in the order of a grid, as a backend arranges them."""
    rng = np.random.default_rng(0)
    places = Places.draw(train.user_counts, train.item_counts, grid, rng)
    triples = Triples(train.users, train.items, train.values)
    return places, backend.sgd.arrange(triples, places, grid, find_scale(train), int(rng.integers(2**63)))


class Epochs:
    """The epochs of a table under a schedule, on the device."""

    def __init__(
        self, session: Session, train: Ratings, grid: Grid, backend: Any = None, scheduler: Any = None
    ) -> None:
        self.session, self.train, self.grid = session, train, grid
        self.backend = backend or session.backend
        self.places, self.arranged = arrange(train, grid, scheduler or self.backend)

    @classmethod
    def by_default(cls, session: Session, train: Ratings) -> Epochs:
        """The epochs with the grid that the backend chooses."""
        return cls(session, train, session.backend.sgd.grid(len(train), train.n_users, train.n_items, 64))

    def start(self, rank: int, precision: str) -> SgdState:
        """P, Q and biases before the first epoch."""
        rng, sgd = np.random.default_rng(1), self.backend.sgd
        sizes, scale = (self.train.n_users, self.train.n_items), np.float32(0.06 / np.sqrt(rank))
        factors = [rng.standard_normal((rows, sgd.width(rank)), dtype=np.float32) * scale for rows in sizes]
        for F in factors:
            F[:, rank:] = 0
        P, Q = (sgd.put_factors(F, precision) for F in factors)
        return SgdState(P, Q, *(self.backend.device.put(np.zeros(rows, np.float32)) for rows in sizes))

    def batch(self) -> int:
        """The number of ratings that are processed at a time."""
        share = max(self.train.user_counts.max(), self.train.item_counts.max()) / len(self.train)
        return int(self.backend.sgd.batch(float(share), Sgd().learning_rate))

    def plan(self, rank: int, schedule: str, backend: Any = None) -> SgdPlan:
        """The plan by which a backend runs the epochs."""
        sgd, bounds = (backend or self.backend).sgd, find_bounds(self.arranged, self.grid, schedule)
        triples = sgd.stream(Triples(*self.arranged[:3]), bounds)
        return SgdPlan(triples, self.places.users, self.places.items, sgd.width(rank), self.batch())

    def figures(self, rank: int, precision: str, schedule: str) -> Figures:
        """Figures of epochs at this rank: time, updates and bytes per second, and their share of the copy's rate."""
        plan, state, settings = self.plan(rank, schedule), self.start(rank, precision), Sgd(regularisation=0.0375)
        step = SgdStep(
            settings.learning_rate, settings.bias_learning_rate, 0.0375, settings.bias_regularisation
        )  # fmt: skip
        errors: list[float] = []

        def epoch() -> None:
            errors.append(self.backend.sgd.epoch(plan, state, step._replace(seed=len(errors))))

        seconds = self.session.seconds(epoch)
        n, middle = len(self.train), median(seconds)
        figures = timing(seconds) | {"G updates/s": n / middle / 1e9}
        moved = n * 4 * rank * BYTES[precision] / middle / 1e9
        rmse = float(np.sqrt(errors[-1] / n))
        return self.session.shares(figures, moved, "GB/s", ["copy"]) | {"RMSE / deviation": rmse}


def sgd(session: Session) -> None:
    """Epochs on all tables, the largest first (also with other numbers of bands); torch's epoch on the smallest."""
    high, plan = session.plan.ranks[1], session.plan
    for name in ("100 M", "25 M", "1 M"):
        train = planted(plan.tables[name], session.device).train
        epochs = Epochs.by_default(session, train)
        for rank in reversed(plan.ranks):
            for precision in ("half", "float32"):
                for schedule in session.backend.sgd.schedules:
                    _epoch_row(session, epochs, name, rank, precision, schedule)
        session.row(SCHEDULES, name, partial(_schedules, session, train, epochs.grid))
        if name == "100 M":
            _epoch_row(session, epochs, name, high, "bfloat16", "conflict-free")
            session.row(COMPILED, "sgd", lambda: compiled(session, sgd_kernels))
            _bands(session, train, epochs.grid.bands)
        if name == "1 M":
            _torch_epoch(session, train)
        del epochs, train


def _schedules(session: Session, train: Ratings, grid: Grid) -> Figures:
    """Seconds to make the schedule on the device and on the host, and whether both are the same."""
    made, taken = [], []
    for backend in (session.backend, make_cpu_backend(session.backend.device.threads)):
        for _ in range(2):  # the first compiles
            began = time.perf_counter()
            _, arranged = arrange(train, grid, backend)
            session.synchronise()
            seconds = time.perf_counter() - began
        made.append([backend.device.get(backend.device.put(a)).tobytes() for a in arranged[:3]])
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
            epochs = Epochs(session, train, Grid(bands))
            return {"bands": bands} | epochs.figures(rank, "half", "conflict-free")

        session.row(BANDS, f"100 M, rank {rank}, half, {share:g} of the default", measure)


def _torch_epoch(session: Session, train: Ratings) -> None:
    rank, backend = session.plan.ranks[0], session.torch_backend

    def measure() -> Figures:
        epochs = Epochs(session, train, backend.sgd.grid(len(train), train.n_users, train.n_items, rank), backend)
        return {"batch": epochs.batch()} | epochs.figures(rank, "float32", "conflict-free")

    session.row(TORCH, epoch_name("1 M", rank, "float32", "minibatches"), measure)


def compiled(session: Session, *modules: ModuleType) -> Figures:
    """The registers, warps and shared memory of each kernel that ran here."""
    import torch
    import triton

    from recsys_mf.kernels.triton.occupancy import fitting

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
    """The constants that a kernel was compiled with, and the type of the factors."""
    source = found.src
    names = [*kernel.arg_names]
    constants = {names[place[0]]: value for place, value in source.constants.items() if len(place) == 1}
    shown = ", ".join(f"{name} {value}" for name, value in constants.items() if name.isupper())
    return f"{shown}, {source.signature['P']}" if "P" in source.signature else shown


class Side:
    """The ratings of one side and random rows of the other, as `solve` and `refine` take them."""

    def __init__(self, backend: Any, ratings: Csr, rank: int) -> None:
        rng, width, put = np.random.default_rng(0), rank + 1, backend.device.put
        self.lengths, self.ratings = np.diff(ratings.starts), ratings.to(put)
        Y = (rng.standard_normal((ratings.n_columns, width)) / np.sqrt(rank)).astype(np.float32)
        self.Y, self.X = put(Y), put(np.zeros((ratings.n_rows, width), np.float32))
        self.prior = GaussianPrior(
            put(np.eye(width, dtype=np.float32)), put(np.zeros((ratings.n_rows, width), np.float32))
        )
        self.shrinkage = Shrinkage(put(np.ones(ratings.n_rows, np.float32)), put(np.ones(width, np.float32)))
        self.normals = backend.device.draw_normals(rng, ratings.n_rows, width)

    def solved(self, backend: Any) -> Any:
        """A draw of every row."""
        return backend.rows.solve(self.ratings, Regressors(self.Y), self.prior, 1.5, self.normals)

    def refined(self, backend: Any) -> Any:
        """Three steps of conjugate gradients for every row."""
        return backend.rows.refine(self.ratings, self.X, Regressors(self.Y), self.shrinkage, 3)


def rows(session: Session) -> None:
    """Row solves for both sides of two tables; torch's kernels on one of them."""
    low, high = session.plan.ranks
    for name, ranks in (("25 M", (low, high)), ("10 M", (high,))):
        train = planted(session.plan.tables[name], session.device).train
        values = standardise(train.values, find_scale(train))
        sides = {
            "users": Csr(*sorting.grouped(train.users, train.n_users, train.items, values), train.n_items),
            "items": Csr(*sorting.grouped(train.items, train.n_items, train.users, values), train.n_users),
        }
        for rank in ranks:
            for side, ratings in sides.items():
                place = f"{name}, rank {rank}, {side}"
                _side(session, place, partial(Side, session.backend, ratings, rank), rank, name == "25 M")
    session.row(COMPILED, "rows and pairs", lambda: compiled(session, row_kernels, pair_kernels))


def _side(session: Session, place: str, make: Callable[[], Side], rank: int, with_torch: bool) -> None:
    data: list[Side] = []

    def solved(backend: Any, turns: int | None = None) -> Figures:
        data.extend([] if data else [make()])
        seconds = session.seconds(lambda: data[0].solved(backend), turns)
        return timing(seconds) | {"M rows/s": len(data[0].lengths) / median(seconds) / 1e6}

    def refined(backend: Any, turns: int | None = None) -> Figures:
        seconds = session.seconds(lambda: data[0].refined(backend), turns)
        gathered = 5 * int(data[0].lengths.sum()) * 4 * rank / median(seconds) / 1e9  # in five passes over the ratings
        return session.shares(timing(seconds), gathered, "GB/s", ["copy"])

    def beside(figures: Figures | None, measure: Callable[[Any, int], Figures]) -> Figures:
        theirs = measure(session.torch_backend, 1)
        return theirs | ({"Triton is faster": f"{theirs['ms'] / figures['ms']:.2f}×"} if figures else {})

    ours = session.row(ROWS, f"solve, {place}", partial(solved, session.backend))
    if not data:
        return
    session.row(PARTS, place, lambda: _apart(session, data[0], rank))
    cg = session.row(ROWS, f"refine, {place}", partial(refined, session.backend))
    if with_torch:
        padding = {"padding": f"{padding_share(data[0].lengths, rank + 1):.1%}"}
        session.row(TORCH, f"solve, {place}", lambda: beside(ours, solved) | padding)
        session.row(TORCH, f"refine, {place}", lambda: beside(cg, refined))


def _apart(session: Session, side: Side, rank: int) -> Figures:
    """Milliseconds of the two kernels, and operations per second of the first: 2 k² per rating."""
    with stopwatches(session.device, row_kernels, ("_gram", "_solve")) as watches:
        side.solved(session.backend)
        taken = []
        for spans in watches:
            spans.total()
        for _ in range(session.plan.turns):
            side.solved(session.backend)
            taken.append([spans.total() for spans in watches])
    gram, solve = (median(times) for times in zip(*taken, strict=True))
    flops = 2 * int(side.lengths.sum()) * rank**2 / gram / 1e12
    tiles = np.maximum(1, -(-side.lengths // row_kernels.TILE)) * row_kernels.TILE
    padding = {"padding": f"{1 - side.lengths.sum() / tiles.sum():.1%}"}
    figures = session.shares(padding | {"Gram ms": 1e3 * gram}, flops, "TFLOP/s", ["float32", "TF32", "bfloat16"])
    return figures | {"solve ms": 1e3 * solve, "ns a row": 1e9 * solve / len(side.lengths)}


@contextmanager
def stopwatches(device: str, module: ModuleType, names: Sequence[str]) -> Iterator[list[Spans]]:
    """Inside, measures the time on the device of every launch of these kernels of a module."""
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
    """The share of padding zeros in what `TorchRows.solve` multiplies; makes the same batches as it does."""
    from recsys_mf.kernels.torch import rows as torch_rows

    order, first, cells = np.sort(lengths)[::-1], 0, 0
    while first < len(order):
        longest = max(1, int(order[first]))
        most = max(1, torch_rows._PADDED_CELLS // (max(longest, width) * width))
        batch = order[first : first + most]
        batch = batch[: max(1, int((batch * 2 >= longest).sum()))]
        cells += longest * len(batch)
        first += len(batch)
    return 1 - int(lengths.sum()) / cells


def streams(session: Session) -> None:
    """SGD with triples sent from the host part by part, compared with triples that stay on the card."""
    rank = session.plan.ranks[1]
    train = planted(session.plan.tables["25 M"], session.device).train
    grid = session.backend.sgd.grid(len(train), train.n_users, train.n_items, rank)
    epochs = Epochs(session, train, Grid(max(4, grid.bands)), scheduler=session.cpu_backend)
    found: dict[str, list[bytes]] = {}

    def measure(parts: int) -> Figures:
        bounds = find_bounds(epochs.arranged, epochs.grid, "conflict-free")
        longest = int(np.diff(np.append(bounds[:, 0], len(train))).max())
        room = max(12 * len(train) // parts, 2 * 12 * longest) if parts > 1 else None
        backend = make_backend(session.device, session.backend.device.threads, room)
        plan, state = epochs.plan(rank, "conflict-free", backend), epochs.start(rank, "half")
        step = SgdStep(0.03, 0.01, 0.0375, 0.02)
        seconds = session.seconds(lambda: backend.sgd.epoch(plan, state, step))
        found[str(parts)] = [backend.device.get(a).tobytes() for a in state]
        same = {"same bytes": "yes" if found[str(parts)] == next(iter(found.values())) else "NO"}
        passes = sum(1 for _ in plan.triples.passes())
        moved = {"GB/s from the host": 12 * len(train) / median(seconds) / 1e9} if parts > 1 else {}
        return {"parts": passes} | timing(seconds) | moved | same

    for parts in (1, 4, 16):
        label = "all on the card" if parts == 1 else f"room for 1/{parts} of them"
        session.row(STREAMS, f"25 M, rank {rank}, half, {label}", partial(measure, parts))
