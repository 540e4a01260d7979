"""The timed parts of the GPU benchmark; each gives rows of figures, the costly ones as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from statistics import median
from typing import Any

import numpy as np
import torch
from gpu_data import FULL, TINY, Planted, Size, planted

from recsys_mf.kernels import Kernels, available_threads, layout, triton_rows, triton_sgd
from recsys_mf.kernels.cpu import CpuKernels
from recsys_mf.kernels.cuda import TorchKernels
from recsys_mf.kernels.occupancy import resident_programs
from recsys_mf.kernels.triton_kernels import TritonKernels
from recsys_mf.ratings import Grouped, Ratings
from recsys_mf.solvers import SOLVERS, blocks
from recsys_mf.splits import hold_out

Row = dict[str, Any]
CPU_THREADS = 2
_SETTINGS = 0.01, 0.005, 0.04, 0.02


@dataclass(eq=False)
class Bench:
    """What the parts share: the device, and the machine's rates once they are known."""

    dry: bool
    kernels: TritonKernels = field(init=False)
    copy: float = float("nan")  # bytes a second, read and written
    matmul: dict[str, float] = field(default_factory=dict)  # flops a second by precision

    def __post_init__(self) -> None:
        self.kernels = TritonKernels("cpu" if self.dry else "cuda")
        self.table = cache(lambda name: planted(self._size(name), self.kernels.device))
        self.ratings: Callable[[str], Ratings] = cache(lambda name: self.table(name).ratings())

    def _size(self, name: str) -> Size:
        return next(size for size in (TINY if self.dry else FULL) if size.name == name)

    def rank(self, rank: int) -> int:
        """The rank, or a small one in a dry run."""
        return 8 if self.dry else rank

    def synchronise(self) -> None:
        """Wait for the card."""
        if not self.dry:
            torch.cuda.synchronize()

    def seconds(self, action: Callable[[], Any], turns: int = 5) -> float:
        """Median of the turns, after one that is not counted."""
        taken = []
        for _ in range(2 if self.dry else turns + 1):
            self.synchronise()
            began = time.perf_counter()
            action()
            self.synchronise()
            taken.append(time.perf_counter() - began)
        return median(taken[1:])


def machine(bench: Bench) -> Iterator[Row]:
    """What the card is, and what it reaches."""
    facts = {"torch": torch.__version__} | bench.kernels.facts()
    if not bench.dry:
        card = torch.cuda.get_device_properties(0)
        facts |= {"multiprocessors": str(card.multi_processor_count), "memory": f"{card.total_memory / 2**30:.0f} GiB"}
    yield from ({"what": name, "figure": value} for name, value in facts.items())
    device, side = bench.kernels.device, 64 if bench.dry else 8192
    bench.copy = _copy_rate(bench, 1 << (16 if bench.dry else 30))
    yield {"what": "copy on the device, read and written", "figure": f"{bench.copy / 1e12:.3f} TB/s"}
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        A = torch.randn(side, side, device=device).to(dtype)
        bench.matmul[name] = 2 * side**3 / bench.seconds(lambda A=A: A @ A)
        yield {"what": f"matrix product, {name}", "figure": f"{bench.matmul[name] / 1e12:.1f} TFLOP/s"}
    torch.backends.cuda.matmul.allow_tf32 = False


def _copy_rate(bench: Bench, size: int) -> float:
    """Bytes read and written a second."""
    source = torch.ones(size, dtype=torch.float32, device=bench.kernels.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / bench.seconds(lambda: target.copy_(source))


def sgd(bench: Bench) -> Iterator[Row]:
    """Epochs at every size, rank, precision and schedule."""
    wanted = [("100 M", 128, p, s) for p in ("half", "float32", "bfloat16") for s in ("conflict-free", "hogwild")]
    wanted += [(n, 64, p, "conflict-free") for n in ("1 M", "25 M", "100 M") for p in ("float32", "half")]
    wanted += [("25 M", 128, "half", "conflict-free"), ("1 M", 128, "half", "hogwild")]
    for name, rank, precision, schedule in wanted:
        yield _epoch_row(bench, name, rank, precision, schedule, bench.kernels)
    yield _epoch_row(bench, "1 M", 64, "float32", "conflict-free", TorchKernels(bench.kernels.device))


def bands(bench: Bench) -> Iterator[Row]:
    """The same epoch with fewer and with more bands than `TritonKernels.grid` gives."""
    table = bench.table("100 M")
    usual = bench.kernels.grid(len(table), table.n_users, table.n_items, 128).bands
    for share in (0.25, 0.5, 2.0):
        yield _epoch_row(bench, "100 M", 128, "half", "conflict-free", bench.kernels, max(1, int(usual * share)))


@cache
def _scheduled(table: Planted, grid: layout.Grid) -> blocks.Blocks:
    rng, threads = np.random.default_rng(0), available_threads()
    return blocks.schedule(table, grid, rng, center=0.0, scale=1.0, threads=threads)  # type: ignore[arg-type]


def _epoch_row(
    bench: Bench, name: str, rank: int, precision: str, schedule: str, kernels: TorchKernels, n_bands: int | None = None
) -> Row:
    """Time of an epoch, and its bytes over the time as a share of the copy."""
    table, rank = bench.table(name), bench.rank(rank)
    width = kernels.width(rank)
    grid = layout.Grid(n_bands) if n_bands else kernels.grid(len(table), table.n_users, table.n_items, width)
    order = _scheduled(table, grid)
    bounds = order.bounds
    if schedule == "hogwild":
        bounds = np.append(np.arange(0, len(table), 256), len(table))[None]
    rng = np.random.default_rng(0)
    P, Q = (
        kernels.put_factors((rng.standard_normal((n, width), np.float32) * np.float32(0.06 / np.sqrt(rank))), precision)
        for n in (table.n_users, table.n_items)
    )
    b_u, b_i = (kernels.put(np.zeros(n, np.float32)) for n in (table.n_users, table.n_items))
    (part,) = kernels.triples(order.users, order.items, order.values, bounds).passes()
    batch = kernels.batch(0.01, 0.03)
    seconds = bench.seconds(lambda: kernels.sgd_epoch(*part, batch, P, Q, b_u, b_i, *_SETTINGS, 0), 4)
    rate = len(table) / seconds
    return {
        "ratings": name, "rank": rank, "factors": precision, "schedule": schedule, "bands": grid.bands,
        "kernel": kernels.written_in.split()[0], "ms an epoch": seconds * 1e3, "G updates/s": rate / 1e9,
        "TB/s counted": rate * 4 * rank * P.element_size() / 1e12,
        "of the copy": f"{rate * 4 * rank * P.element_size() / bench.copy:.0%}",
        "finite": bool(torch.isfinite(P).all()), **_occupancy(bench, part, P, Q, b_u, b_i),
    }  # fmt: skip


def _occupancy(bench: Bench, part: Any, P: Any, Q: Any, b_u: Any, b_i: Any) -> Row:
    if bench.dry:
        return {"programs": 1}
    users, items, values, bounds = part
    zeros = torch.zeros(8, device="cuda")
    arguments = (
        users, items, values, bounds, zeros.int(), P, Q, b_u, b_i, zeros.double(), *_SETTINGS, 0, 16, 8, 8
    )  # fmt: skip
    return {
        "programs": resident_programs(triton_sgd._epoch, arguments, triton_sgd.shape(P.shape[1], P.dtype), P.device)
    }


def rows(bench: Bench) -> Iterator[Row]:
    """Exact row solves and conjugate gradients of the users, and of the items."""
    for name, rank in (("25 M", 64), ("10 M", 128), ("25 M", 128)):
        yield from _row_solves(bench, name, bench.rank(rank), bench.kernels)
    yield from _row_solves(bench, "1 M", bench.rank(64), TorchKernels(bench.kernels.device))


def _row_solves(bench: Bench, name: str, rank: int, kernels: TorchKernels) -> Iterator[Row]:
    table = bench.ratings(name)
    for side, grouped, n_others in (
        ("users", table.by_user(), table.n_items),
        ("items", table.by_item(), table.n_users),
    ):
        taken = _row_seconds(bench, kernels, grouped, n_others, rank)
        n = len(grouped.starts) - 1
        # A system: k²/2 (multiply and add) a rating, k³/6 for its factors. A step: a product with the row and back.
        flops = {
            "solve_rows": len(table) * rank**2 + n * rank**3 / 3, "refine_rows": 4 * 4 * rank * len(table)
        }  # fmt: skip
        for operation, seconds in taken.items():
            yield {
                "ratings": name, "rank": rank, "rows": f"{n:,} {side}", "operation": operation,
                "kernel": kernels.written_in.split()[0], "ms": seconds * 1e3,
                "TFLOP/s": flops[operation] / seconds / 1e12,
                "of TF32 matmul": f"{flops[operation] / seconds / bench.matmul['TF32']:.0%}",
                "tiles filled": f"{_filled(grouped.starts):.0%}" if operation == "solve_rows" else "",
            }  # fmt: skip


def _row_seconds(bench: Bench, kernels: TorchKernels, grouped: Grouped, n_others: int, rank: int) -> dict[str, float]:
    """Of the two operations on all rows of a side."""
    rng = np.random.default_rng(0)
    starts, others, values = (kernels.put(a) for a in grouped)
    width, n = rank + 1, len(grouped.starts) - 1
    Y = kernels.put(rng.standard_normal((n_others, width), np.float32) * np.float32(0.3))
    X, prior = torch.zeros((n, width), device=Y.device), torch.eye(width, device=Y.device)
    weights, ridge = torch.ones(n, device=Y.device), torch.ones(width, device=Y.device)
    normals = kernels.normals(rng, n, width)

    def solved() -> Any:
        return kernels.solve_rows(
            starts, others, others[:0], values, Y, Y[:0], prior, X, weights, ridge, 1.0, normals
        )  # fmt: skip

    def refined() -> Any:
        return kernels.refine_rows(starts, others, values, X, Y, weights, ridge, 3)

    return {"solve_rows": bench.seconds(solved, 3), "refine_rows": bench.seconds(refined, 3)}


def _filled(starts: Any) -> float:
    """Share of the places in tiles of ratings that hold one."""
    lengths = np.diff(starts)
    tiles = np.maximum(-(-lengths // triton_rows.TILE), 1) * triton_rows.TILE
    return float(lengths.sum() / tiles.sum())


SWEEPS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("25 M", "sgd", {"rank": 64, "members": 1}),
    ("25 M", "sgd", {"rank": 64, "members": 1, "precision": "half"}),
    ("25 M", "als", {"rank": 64, "members": 1}),
    ("25 M", "gibbs", {"rank": 64, "links": "none", "likelihood": "gaussian"}),
    ("10 M", "gibbs", {"rank": 128, "links": "none", "likelihood": "gaussian"}),
    ("25 M", "gibbs", {"rank": 64, "links": "both", "likelihood": "gaussian"}),
)


def sweeps(bench: Bench) -> Iterator[Row]:
    """Epochs and sweeps of the solvers, with their validation, on the card and on two cores."""
    for name, solver, settings in SWEEPS:
        settings = settings | {"rank": bench.rank(settings["rank"])}
        train, test = _split(bench, name)
        there = _epochs(bench, solver, settings, train, test, bench.kernels, 2 if bench.dry else 6)
        plain = {key: value for key, value in settings.items() if key != "precision"}
        here = _epochs(bench, solver, plain, train, test, CpuKernels(CPU_THREADS), 2)
        figures = {"s on the card": there[0], "s on two cores": here[0], "factor": here[0] / there[0]}
        if solver == "gibbs":
            figures["s for 500 sweeps"] = 500 * there[0]
        yield {"ratings": name, "solver": solver, "settings": _words(settings), **figures, "GiB at most": there[2]}


def accuracy(bench: Bench) -> Iterator[Row]:
    """Held-out RMSE on the planted million after the same epochs, and the seconds to the last one of the CPU."""
    train, test = _split(bench, "1 M")
    for solver, settings, count in (
        ("sgd", {"rank": 64, "members": 1}, 20),
        ("sgd", {"rank": 64, "members": 1, "precision": "half"}, 20),
        ("sgd", {"rank": 64, "members": 1, "precision": "bfloat16"}, 20),
        ("sgd", {"rank": 64, "members": 1, "schedule": "hogwild"}, 20),
        ("als", {"rank": 32, "members": 1}, 8),
        ("gibbs", {"rank": 32, "links": "none", "likelihood": "gaussian"}, 30),
    ):
        yield _compared(bench, solver, settings, train, test, 2 if bench.dry else count)


def on_data(bench: Bench, table: Ratings) -> Iterator[Row]:
    """The same on a real table."""
    split = hold_out(table, 0.1)
    assert split.test is not None
    for solver, settings, count in (
        ("sgd", {"rank": 64, "members": 1}, 24),
        ("sgd", {"rank": 64, "members": 1, "precision": "half"}, 24),
        ("als", {"rank": 32, "members": 1}, 8),
        ("gibbs", {"rank": 32}, 60),
    ):
        yield _compared(bench, solver, settings, split.train, split.test, 2 if bench.dry else count)


def _compared(bench: Bench, solver: str, settings: dict[str, Any], train: Ratings, test: Ratings, count: int) -> Row:
    settings = settings | {"rank": bench.rank(settings["rank"])}
    there = _epochs(bench, solver, settings, train, test, bench.kernels, count)
    plain = {key: value for key, value in settings.items() if key not in ("precision", "schedule")}
    here = _epochs(bench, solver, plain, train, test, CpuKernels(CPU_THREADS), count)
    target = here[1][-1] + 0.001
    reached = next((n + 1 for n, error in enumerate(there[1]) if error <= target), None)
    return {
        "solver": solver, "settings": _words(settings), "epochs": count, "RMSE on the card": there[1][-1],
        "RMSE on the CPU": here[1][-1], "difference": there[1][-1] - here[1][-1],
        "s to within 0.001": "never" if reached is None else reached * there[0], "s on two cores": count * here[0],
    }  # fmt: skip


def _split(bench: Bench, name: str) -> tuple[Ratings, Ratings]:
    split = hold_out(bench.ratings(name), 0.1)
    assert split.test is not None
    return split.train, split.test


def _epochs(
    bench: Bench, solver: str, settings: dict[str, Any], train: Ratings, test: Ratings, kernels: Kernels, count: int
) -> tuple[float, list[float], float]:
    """Median seconds of an epoch but the first, the error after each (of draws, of their mean), and GiB at most."""
    length = "sweeps" if solver == "gibbs" else "epochs"
    method = SOLVERS[solver](**settings, **{length: count})
    pairs = kernels.put(test.users), kernels.put(test.items), None
    values = kernels.put(test.values)
    taken, errors, total, began = [], [], 0.0, time.perf_counter()
    if not bench.dry:
        torch.cuda.reset_peak_memory_stats()
    for epoch in method.run(train, rng=np.random.default_rng(0), kernels=kernels):
        assert epoch.predict is not None
        bench.synchronise()
        taken.append(time.perf_counter() - began)
        total = total + epoch.predict(*pairs) if epoch.is_draw else epoch.predict(*pairs)
        mean = total / epoch.number if epoch.is_draw else total
        errors.append(float(((mean - values) ** 2).mean()) ** 0.5)
        began = time.perf_counter()
    most = 0.0 if bench.dry else torch.cuda.max_memory_allocated() / 2**30
    return median(taken[1:]), errors, most


def profile(bench: Bench) -> Iterator[Row]:
    """One epoch in half the bytes and one in float32."""
    for precision in ("half", "float32"):
        yield _epoch_row(bench, "100 M", 128, precision, "conflict-free", bench.kernels)


def streaming(bench: Bench) -> Iterator[Row]:
    """An epoch whose triples come from the host, beside one whose triples are there."""
    table = bench.table("100 M")
    rank = bench.rank(64)
    times = {}
    for name, room in (("resident", None), ("streamed in two parts or three", 12 * len(table) * 9 // 10)):
        kernels = TritonKernels(bench.kernels.device, room=room)
        width = kernels.width(rank)
        order = _scheduled(table, layout.Grid(4 if bench.dry else 1024))
        triples = kernels.triples(order.users, order.items, order.values, order.bounds)
        P, Q = (kernels.put(np.full((n, width), 0.01, np.float32)) for n in (table.n_users, table.n_items))
        b_u, b_i = (kernels.put(np.zeros(n, np.float32)) for n in (table.n_users, table.n_items))

        def epoch(kernels: TritonKernels = kernels, triples: Any = triples, tables: Any = (P, Q, b_u, b_i)) -> None:
            for part in triples.passes():
                kernels.sgd_epoch(*part, 16, *tables, *_SETTINGS, 0)

        times[name] = bench.seconds(epoch, 2)
        sent = 0.0 if room is None else 12 * len(table) / times[name] / 1e9
        yield {"triples": name, "ratings": "100 M", "rank": rank, "ms an epoch": times[name] * 1e3, "GB/s sent": sent}


def svd(bench: Bench) -> Iterator[Row]:
    """The truncated SVD of the planted million by its operator."""
    train = _split(bench, "1 M")[0]
    method = SOLVERS["svd"](ranks=(4,) if bench.dry else (64,), route="operator")
    times = {}
    for name, kernels in (("card", bench.kernels), ("two cores", CpuKernels(CPU_THREADS))):
        times[name] = bench.seconds(
            lambda k=kernels: list(method.run(train, rng=np.random.default_rng(0), kernels=k)), 1
        )
    yield {"rank": method.settings()["ranks"][0], "s on the card": times["card"], "s on two cores": times["two cores"],
           "factor": times["two cores"] / times["card"]}  # fmt: skip


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items() if key != "members")
