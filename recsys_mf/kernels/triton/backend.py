"""The backend of a CUDA device: the families of torch, with the costly operations in Triton."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from functools import partial

import numpy as np
import torch
import triton
from numpy.typing import NDArray
from torch import Tensor

from recsys_mf.arrays import mapped
from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import DeviceError, DeviceWarning
from recsys_mf.kernels.backend import Backend, PredictionKernels
from recsys_mf.kernels.operands import (
    Offsets,
    Pairs,
    Part,
    RatingScale,
    RatingTable,
    Regressors,
    RowPrior,
    SgdState,
    SgdStep,
    Shrinkage,
    Tables,
    Triples,
)
from recsys_mf.kernels.schedule.grid import Arranged, Grid, Places
from recsys_mf.kernels.schedule.plan import PlanSettings, SgdPlan
from recsys_mf.kernels.torch.device import TorchDevice
from recsys_mf.kernels.torch.prediction import TorchPrediction
from recsys_mf.kernels.torch.probit import TorchProbit
from recsys_mf.kernels.torch.rows import TorchRows, subtracted
from recsys_mf.kernels.torch.sgd import TorchSgd
from recsys_mf.kernels.torch.streaming import room_for_triples
from recsys_mf.kernels.triton import pairs as triton_pairs
from recsys_mf.kernels.triton import rows as triton_rows
from recsys_mf.kernels.triton import schedule, sgd
from recsys_mf.kernels.triton.prediction import TritonPrediction
from recsys_mf.kernels.triton.verification import OPERATIONS, read_or_verify

_STORAGE = {"float32": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16}
_RATINGS_PER_BLOCK = 64
_MAX_BANDS = 1188  # three for each of the three programs that each of 132 multiprocessors holds in half precision
_SHARE_OF_STEP = 0.5  # a tile changes a row that all its triples share by at most this share of a full correction


def make_backend(
    name: str, threads: int = 1, room: int | None = None, by_torch: frozenset[str] = frozenset()
) -> Backend:
    """The families on "cuda" or, under Triton's interpreter, on torch's "cpu".

    threads : of the host
    room : bytes of the device that triples of SGD may take; None for half of what is free when they are placed
    by_torch : operations that torch does, because Triton's kernel is wrong on this card (`verification`)
    """
    device = TritonDevice(name, threads, f"triton {triton.__version__}", by_torch)
    sgd_kernels = (TorchSgd if "epoch" in by_torch else TritonSgd)(device, room)
    prediction = TorchPrediction if "find_top" in by_torch else TritonPrediction
    return Backend(device, TritonRows(device), sgd_kernels, TorchProbit(device), partial(prediction, name))


def make_verified_backend(name: str, threads: int = 1, *, strict: bool) -> Backend:
    """The backend with the operations that agree with the reference on this card; the first use checks them.

    strict : raise DeviceError if one does not agree, or does not compile; else torch does it, and a warning says so
    """
    checked = make_backend(name, threads)
    wrong = _find_wrong(checked, OPERATIONS, strict=strict)
    return make_backend(name, threads, by_torch=wrong) if wrong else checked


def make_verified_prediction(name: str, *, strict: bool) -> PredictionKernels:
    """The kernels of predictions, as in `make_verified_backend`; only what they need is checked."""
    checked = make_backend(name)
    wrong = _find_wrong(checked, ("find_top",), strict=strict)
    return TorchPrediction(name) if wrong else checked.make_prediction()


def _find_wrong(backend: Backend, operations: Collection[str], *, strict: bool) -> frozenset[str]:
    """The operations that do not agree with the reference: an error if strict, else a warning."""
    wrong = {name: why for name, why in read_or_verify(backend, operations).items() if why is not None}
    if not wrong:
        return frozenset()
    said = "; ".join(f"{operation} ({why})" for operation, why in sorted(wrong.items()))
    if strict:
        fix = "use the device 'auto', which leaves them to torch, or 'cpu'; recsys-mf devices --check checks again"
        raise DeviceError("kernels are wrong on this card", where="cuda", seen=said, fix=fix)
    warnings.warn(f"kernels are wrong on this card, torch does their work: {said}", DeviceWarning, stacklevel=5)
    return frozenset(wrong)


class TritonDevice(TorchDevice):
    """The device, with a record of the operations that torch does instead of Triton's kernels."""

    def __init__(self, name: str, threads: int, kernels: str, by_torch: frozenset[str]) -> None:
        super().__init__(name, threads, kernels)
        self._wrong, self._above, self._given = by_torch, dict[str, int](), set[str]()

    def leaves_to_torch(
        self, operation: str, rank: int, max_rank: int | None = None, *, given: str | None = None
    ) -> bool:
        """Whether torch does an operation: because Triton's kernel is wrong on this card, because it does not support
        an operand that is given ("weights"), or because the rank is above the kernel's maximum.
        """
        if operation in self._wrong:
            return True
        if given is not None:
            self._given.add(f"{operation} with {given}")
            return True
        if max_rank is None or rank <= max_rank:
            return False
        self._above[operation] = rank
        return True

    def describe(self) -> dict[str, str]:
        """See `TorchDevice.describe`; with the operations that torch did, if there are any."""
        words = [f"{operation} (wrong on this card)" for operation in sorted(self._wrong)]
        words += sorted(self._given)
        words += [f"{operation} of rank {rank}" for operation, rank in sorted(self._above.items())]
        return super().describe() | ({"kernels_by_torch": ", ".join(words)} if words else {})


class TritonRows(TorchRows):
    """`kernels.backend.RowKernels`: Triton's kernels up to the rank that a program's registers hold; torch's for higher
    ranks, and for refining rows of ratings with weights.
    """

    _device: TritonDevice

    def solve(
        self, ratings: Csr, regressors: Regressors, prior: RowPrior, noise_precision: float, normals: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As `reference.solve`."""
        if self._device.leaves_to_torch("solve", regressors.rows.shape[1] - 1, triton_rows.MAX_RANK):
            return super().solve(ratings, regressors, prior, noise_precision, normals)
        return triton_rows.solve(ratings, regressors, prior, noise_precision, normals)

    def refine(
        self, ratings: Csr, X: Tensor, regressors: Regressors, prior: Shrinkage, steps: int
    ) -> tuple[Tensor, Tensor]:
        """As `reference.refine`, a program for every row."""
        rank, given = X.shape[1] - 1, None if regressors.weights is None else "weights"
        if self._device.leaves_to_torch("refine", rank, triton_pairs.MAX_RANK, given=given):
            return super().refine(ratings, X, regressors, prior, steps)
        return triton_pairs.refine(ratings, X, regressors.rows, prior, steps)

    def multiply(self, matrix: Csr, X: Tensor, offsets: Offsets | None = None) -> Tensor:
        """As `reference.multiply`, in a fixed order, which libraries do not guarantee."""
        if self._device.leaves_to_torch("multiply", X.shape[1]):
            return super().multiply(matrix, X, offsets)
        return triton_pairs.multiply(matrix if offsets is None else subtracted(matrix, offsets), X)

    def pair_values(self, pairs: Pairs, tables: Tables) -> Tensor:
        """As `reference.pair_values`, without the gathered rows in memory."""
        rank = tables.users.shape[1] - 1
        if self._device.leaves_to_torch("pair_values", rank, triton_pairs.MAX_RANK):
            return super().pair_values(pairs, tables)
        return triton_pairs.pair_values(pairs, tables)


class TritonSgd(TorchSgd):
    """`kernels.backend.SgdKernels`: an epoch is one launch; with weights, torch's kernels and plan are used."""

    _device: TritonDevice

    precisions: tuple[str, ...] = tuple(_STORAGE)
    takes_weights: bool = False
    schedules: tuple[str, ...] = ("conflict-free", "hogwild")
    max_rank: int | None = sgd.MAX_RANK

    def plan(self, ratings: RatingTable, settings: PlanSettings, rng: np.random.Generator) -> SgdPlan:
        """See `SgdKernels.plan`."""
        if ratings.weights is not None:
            return TorchSgd(self._device, self._room).plan(ratings, settings, rng)
        return super().plan(ratings, settings, rng)

    def width(self, rank: int) -> int:
        """The rank rounded up to a multiple of 8: rows of whole 16 bytes in float16."""
        return -(-rank // 8) * 8

    def grid(self, n_ratings: int, n_users: int, n_items: int, width: int) -> Grid:
        """As many bands as a card can use, but so few that a block has several tiles and a program seldom waits.

        The number depends only on the table, so that a run does not depend on the card.
        """
        bands = int(np.sqrt(n_ratings / _RATINGS_PER_BLOCK))
        return Grid(int(np.clip(bands, 1, min(_MAX_BANDS, n_users, n_items))))

    def batch(self, share: float, rate: float) -> int:
        """A tile, or fewer, so that the summed step of a row that all its triples share is below a full correction."""
        return int(np.clip(_SHARE_OF_STEP / rate, 1, sgd.TILE))

    def put_factors(self, factors: NDArray[np.float32], precision: str) -> Tensor:
        """The factors on the device, in the type in which they are stored."""
        return super().put_factors(factors, precision).to(_STORAGE[precision])

    def arrange(self, triples: Triples, places: Places, grid: Grid, scale: RatingScale, seed: int) -> Arranged:
        """`host.arrange` on the device if it has the room, else on threads of the host: the same bytes."""
        device = torch.device(self._device.name)
        fits = schedule.BYTES * len(triples.users) <= room_for_triples(device, self._room)
        if mapped.is_mapped(triples.users) or not fits:
            return super().arrange(triples, places, grid, scale, seed)
        with self._device.guard():
            return schedule.arrange(triples, places, grid, scale, seed, device=device)

    def visit(self, part: Part, batch: int, state: SgdState, step: SgdStep) -> float:
        """As `reference.epoch`, in one launch."""
        given = None if part.weights is None else "weights"
        if self._device.leaves_to_torch("epoch", state.P.shape[1], given=given):
            return super().visit(part, batch, state, step)
        return float(sgd.visit(part, batch, state, step).sum())
