"""The kernels on a CUDA device: those of `cuda`, with the costly ones written in Triton."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
from numpy.typing import NDArray
from torch import Tensor

from recsys_mf.arrays import mapped
from recsys_mf.kernels import cuda_streams, triton_layout, triton_pairs, triton_rows, triton_sgd
from recsys_mf.kernels.cuda import TorchKernels
from recsys_mf.kernels.layout import Grid, Triples

_STORAGE = {"float32": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16}
_RATINGS_A_BLOCK = 64
_MOST_BANDS = 1024
_SHARE_OF_STEP = 0.5  # a tile moves a row that all its triples share by at most this share of a full correction


class TritonKernels(TorchKernels):
    """The kernels on a CUDA device or, under Triton's interpreter, on torch's CPU device."""

    precisions: tuple[str, ...] = tuple(_STORAGE)
    schedules: tuple[str, ...] = ("conflict-free", "hogwild")
    most_rank: int | None = triton_sgd.MOST_COLUMNS
    written_in = f"triton {triton.__version__}"

    def width(self, rank: int) -> int:
        """Whole 16 bytes of float16."""
        return -(-rank // 8) * 8

    def grid(self, n_ratings: int, n_users: int, n_items: int, width: int) -> Grid:
        """As many bands as leave blocks of some tiles, so that a program seldom waits, and no more than fill a card.

        It depends on the table alone, so that a run does not depend on the card.
        """
        bands = int(np.sqrt(n_ratings / _RATINGS_A_BLOCK))
        return Grid(int(np.clip(bands, 1, min(_MOST_BANDS, n_users, n_items))))

    def batch(self, share: float, rate: float) -> int:
        """A tile, or what keeps the summed step of a row that all its triples share below a full correction."""
        return int(np.clip(_SHARE_OF_STEP / rate, 1, triton_sgd.TILE))

    def put_factors(self, array: NDArray[np.float32], precision: str) -> Tensor:
        """Factors on the device as they are stored."""
        return self.put(array).to(_STORAGE[precision])

    def blocked(self, users: Any, items: Any, values: Any, *rest: Any) -> Triples:
        """`layout.blocked` on the device where it has the room, else on threads of the host: the same bytes."""
        device = torch.device(self.device)
        fits = triton_layout.BYTES * len(users) <= cuda_streams.room_for_triples(device, self._room)
        if mapped.is_mapped(users) or not fits:
            return super().blocked(users, items, values, *rest)
        with self.guarded():
            return triton_layout.blocked(device, users, items, values, *rest)

    def sgd_epoch(self, *arguments: Any) -> float:
        """As `reference.sgd_epoch`, in one launch."""
        return float(triton_sgd.epoch(*arguments).sum())

    def solve_rows(
        self, starts: Tensor, others: Tensor, contexts: Tensor, values: Tensor, Y: Tensor, *rest: Any
    ) -> tuple[Tensor, Tensor]:
        """As `reference.solve_rows`; systems of more columns than a program's registers hold in batches by torch."""
        solve = triton_rows.solve if Y.shape[1] - 1 <= triton_rows.MOST_COLUMNS else super().solve_rows
        return solve(starts, others, contexts, values, Y, *rest)

    def refine_rows(
        self, starts: Tensor, others: Tensor, values: Tensor, X: Tensor, *rest: Any
    ) -> tuple[Tensor, Tensor]:
        """As `reference.refine_rows`, a program for every row; by torch where a row is wider than its registers."""
        refine = triton_pairs.refine if X.shape[1] - 1 <= triton_pairs.MOST_COLUMNS else super().refine_rows
        return refine(starts, others, values, X, *rest)

    def sparse_product(self, starts: Tensor, others: Tensor, values: Tensor, X: Tensor) -> Tensor:
        """As `reference.sparse_product`, in a fixed order, which libraries do not promise."""
        return triton_pairs.sums(starts, others, values, X)

    def pair_values(self, users: Tensor, items: Tensor, contexts: Tensor, X: Tensor, Y: Tensor, C: Tensor) -> Tensor:
        """As `reference.pair_values`, without the gathered rows in memory."""
        values = triton_pairs.values if X.shape[1] - 1 <= triton_pairs.MOST_COLUMNS else super().pair_values
        return values(users, items, contexts, X, Y, C)
