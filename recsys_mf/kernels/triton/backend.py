"""The backend of a CUDA device: the families of torch, with the costly operations in Triton."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import triton
from numpy.typing import NDArray
from torch import Tensor

from recsys_mf.arrays import mapped
from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.operands import (
    Pairs,
    Part,
    RatingScale,
    Regressors,
    RowPrior,
    SgdState,
    SgdStep,
    Shrinkage,
    Tables,
    Triples,
)
from recsys_mf.kernels.schedule.grid import Arranged, Grid, Places
from recsys_mf.kernels.torch.device import TorchDevice
from recsys_mf.kernels.torch.prediction import TorchPrediction
from recsys_mf.kernels.torch.probit import TorchProbit
from recsys_mf.kernels.torch.rows import TorchRows
from recsys_mf.kernels.torch.sgd import TorchSgd
from recsys_mf.kernels.torch.streaming import room_for_triples
from recsys_mf.kernels.triton import pairs as triton_pairs
from recsys_mf.kernels.triton import rows as triton_rows
from recsys_mf.kernels.triton import schedule, sgd

_STORAGE = {"float32": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16}
_RATINGS_PER_BLOCK = 64
_MAX_BANDS = 1024
_SHARE_OF_STEP = 0.5  # a tile moves a row that all its triples share by at most this share of a full correction


def make_backend(name: str, threads: int = 1, room: int | None = None) -> Backend:
    """The families on "cuda" or, under Triton's interpreter, on torch's "cpu".

    room : bytes of the device that triples of SGD may take; None for half of what is free when they come
    """
    device = TritonDevice(name, threads, f"triton {triton.__version__}")
    return Backend(
        device, TritonRows(device), TritonSgd(device, room), TorchProbit(device), partial(TorchPrediction, name)
    )


class TritonDevice(TorchDevice):
    """The device, with what was done by torch since Triton's kernels did not take it."""

    def __init__(self, name: str, threads: int, kernels: str) -> None:
        super().__init__(name, threads, kernels)
        self._by_torch: dict[str, int] = {}

    def record_fallback(self, operation: str, rank: int) -> None:
        """Remember that torch did an operation, since the rank is above that of Triton's kernel."""
        self._by_torch[operation] = rank

    def describe(self) -> dict[str, str]:
        """See `TorchDevice.describe`; with what was left to torch, if anything was."""
        words = ", ".join(f"{operation} of rank {rank}" for operation, rank in sorted(self._by_torch.items()))
        return super().describe() | ({"kernels_by_torch": words} if words else {})


class TritonRows(TorchRows):
    """`kernels.backend.RowKernels`: Triton's kernels up to the rank that a program's registers hold, torch's above."""

    _device: TritonDevice

    def solve(
        self, ratings: Csr, regressors: Regressors, prior: RowPrior, noise_precision: float, normals: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As `reference.solve`."""
        rank = regressors.rows.shape[1] - 1
        if rank > triton_rows.MAX_RANK:
            self._device.record_fallback("solve", rank)
            return super().solve(ratings, regressors, prior, noise_precision, normals)
        return triton_rows.solve(ratings, regressors, prior, noise_precision, normals)

    def refine(self, ratings: Csr, X: Tensor, Y: Tensor, prior: Shrinkage, steps: int) -> tuple[Tensor, Tensor]:
        """As `reference.refine`, a program for every row."""
        rank = X.shape[1] - 1
        if rank > triton_pairs.MAX_RANK:
            self._device.record_fallback("refine", rank)
            return super().refine(ratings, X, Y, prior, steps)
        return triton_pairs.refine(ratings, X, Y, prior, steps)

    def multiply(self, matrix: Csr, X: Tensor) -> Tensor:
        """As `reference.multiply`, in a fixed order, which libraries do not promise."""
        return triton_pairs.multiply(matrix, X)

    def pair_values(self, pairs: Pairs, tables: Tables) -> Tensor:
        """As `reference.pair_values`, without the gathered rows in memory."""
        rank = tables.users.shape[1] - 1
        if rank > triton_pairs.MAX_RANK:
            self._device.record_fallback("pair_values", rank)
            return super().pair_values(pairs, tables)
        return triton_pairs.pair_values(pairs, tables)


class TritonSgd(TorchSgd):
    """`kernels.backend.SgdKernels`: an epoch is one launch."""

    precisions: tuple[str, ...] = tuple(_STORAGE)
    schedules: tuple[str, ...] = ("conflict-free", "hogwild")
    max_rank: int | None = sgd.MAX_RANK

    def width(self, rank: int) -> int:
        """Whole 16 bytes of float16."""
        return -(-rank // 8) * 8

    def grid(self, n_ratings: int, n_users: int, n_items: int, width: int) -> Grid:
        """As many bands as leave blocks of some tiles, so that a program seldom waits, and no more than fill a card.

        It depends on the table alone, so that a run does not depend on the card.
        """
        bands = int(np.sqrt(n_ratings / _RATINGS_PER_BLOCK))
        return Grid(int(np.clip(bands, 1, min(_MAX_BANDS, n_users, n_items))))

    def batch(self, share: float, rate: float) -> int:
        """A tile, or what keeps the summed step of a row that all its triples share below a full correction."""
        return int(np.clip(_SHARE_OF_STEP / rate, 1, sgd.TILE))

    def put_factors(self, factors: NDArray[np.float32], precision: str) -> Tensor:
        """As they are stored."""
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
        return float(sgd.visit(part, batch, state, step).sum())
