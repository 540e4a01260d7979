"""Predictions on a CUDA device: those of torch, with the search for the best items in Triton."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.torch import memory
from recsys_mf.kernels.torch.prediction import TorchPrediction
from recsys_mf.kernels.triton import top

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


class TritonPrediction(TorchPrediction):
    """`kernels.backend.PredictionKernels`: Triton's search for the tables and lists that it supports, torch's for the
    others and for the few rows for which Triton's search is unsure."""

    def __init__(self, device: str, room: int | None = None) -> None:
        """As `TorchPrediction`."""
        super().__init__(device, room)
        self._searched: dict[int, tuple[NDArray[Any], top.TopTable]] = {}  # as `_kept`

    def find_top(self, queries: F32, table: F32, count: int, excluded: Csr | None) -> tuple[I32, F32]:
        """As `reference.find_top`."""
        length = min(count, len(table))
        if not len(queries) or not top.takes(len(table), table.shape[1], length):
            return super().find_top(queries, table, count, excluded)
        columns = np.full((len(queries), count), -1, np.int32)
        scores = np.full((len(queries), count), -np.inf, np.float32)
        unsure = np.ones(len(queries), np.bool_)
        if np.isfinite(queries).all() and np.isfinite(table).all():
            self._search(queries, table, excluded, (columns[:, :length], scores[:, :length], unsure))
        left = np.flatnonzero(unsure)
        if len(left):
            of_left = None if excluded is None else excluded.take(left)
            columns[left], scores[left] = super().find_top(queries[left], table, count, of_left)
        return columns, scores

    def _search(self, queries: F32, table: F32, excluded: Csr | None, out: tuple[NDArray[Any], ...]) -> None:
        """`top.find` for one part of the queries after another, into columns, scores and unsure."""
        length = out[0].shape[1]
        with memory.guarded():
            there = self._table(table)
            step = max(1, self._bytes() // top.row_bytes(len(table), table.shape[1], length))
            for start in range(0, len(queries), step):
                part = slice(start, min(start + step, len(queries)))
                of_part = None if excluded is None else self._rows_of(excluded, part)
                found = top.find(torch.tensor(queries[part], device=self._device), there, length, of_part)
                for array, tensor in zip(out, found, strict=True):
                    array[part] = tensor.cpu().numpy()

    def _rows_of(self, matrix: Csr, rows: slice) -> Csr:
        """Rows of a matrix, on the device."""
        starts = matrix.starts[rows.start : rows.stop + 1]
        columns = matrix.columns[starts[0] : starts[-1]]
        starts, columns = (torch.tensor(array, device=self._device) for array in (starts - starts[0], columns))
        return Csr(starts, columns, None, matrix.n_columns)

    def _table(self, table: F32) -> top.TopTable:
        """The table on the device; one that is read-only stays there."""
        if id(table) in self._searched:
            return self._searched[id(table)][1]
        put = top.TopTable.of(torch.tensor(table, device=self._device))
        if not table.flags.writeable:
            self._searched[id(table)] = table, put
        return put
