"""Predictions on a torch device: the operations of `cpu.prediction`, NumPy in and out.

Tables go to the device once, with a row of zeros appended that the index -1 reads. Pairs go there part by part, and
if a posterior has many samples these are taken in runs too, so that what a part holds stays within a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.operands import Curves, FactorModel, LevelScores, Pairs, RatingScale, SampleTables, TopQuery
from recsys_mf.kernels.torch import memory
from recsys_mf.kernels.torch.samples import NoiseSamples, RowSamples

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

_MAX_ROOM = 1 << 30  # bytes; more is not faster
_HOST_ROOM = 1 << 26
_SLAB = 1 << 26  # bytes of a table that are copied at once
_MIN_PAIRS = 4096  # of a part before its samples are taken in runs
_PLAIN = 64  # bytes per pair in addition to the factors: indices, biases, the prediction
_SCORED = 40  # per score of a row: itself, its bits, keys, and what selection needs
_CURVED = 64  # more bytes per score, for the current sample: its interval, its polynomial, sums in float64
_SAMPLED = 128  # bytes per pair and sample in addition to the rows, with sums in float64


class TorchPrediction:
    """`kernels.backend.PredictionKernels` on a torch device.

    A read-only table, such as that of a model, is copied to the device when it is first used and stays there as long as
    this object exists; a writable table may have changed, so it is copied every time. Sums over factors are in float32,
    sums over samples in float64, as on the CPU. Every method raises ResourceError if the device has no room.
    """

    def __init__(self, device: str, room: int | None = None) -> None:
        """
        device : "cuda", or "cpu" for tests without a card
        room : bytes that a part of the pairs may take; None for a quarter of what is free, at most 1 GiB
        """
        self._device, self._room = torch.device(device), room
        self._kept: dict[int, tuple[NDArray[Any], Tensor]] = {}  # by id; the array is held, or its id would be reused

    def predict(self, model: FactorModel, pairs: Pairs) -> F32:
        """As `reference.predict`."""
        out = np.empty(len(pairs.users), np.float32)
        with memory.guarded():
            b_u, b_i, p, q = (self._put(table) for table in (model.user_bias, model.item_bias, model.P, model.Q))
            for part in self._parts((pairs.users, pairs.items), 1, 12 * model.P.shape[1] + _PLAIN):
                u, i = part.indices
                r = model.mean + b_u[u] + b_i[i] + (p[u] * q[i]).sum(1)
                out[part.pairs] = r.clamp(*model.rating_range).cpu().numpy()
        return out

    def predict_samples(
        self, samples: SampleTables, pairs: Pairs, scale: RatingScale
    ) -> tuple[F32, F32, NDArray[np.float64]]:
        """As `reference.predict_samples`."""
        mean, deviation, rating_range = scale
        n, n_samples = len(pairs.users), len(samples.offsets)
        clipped, means, variances = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n)
        with memory.guarded():
            there = self._samples(samples)
            for part in self._parts(pairs, n_samples, there.cost + _SAMPLED):
                sums = torch.zeros((3, len(part.indices[0])), dtype=torch.float64, device=self._device)
                for run in part.runs:
                    r = there.values(part.indices, run)  # [z, s]
                    sums[0] += (mean + deviation * r).clamp(*rating_range).sum(1, dtype=torch.float64)
                    sums[1] += r.sum(1, dtype=torch.float64)
                    sums[2] += r.double().square().sum(1)
                inside, average, square = sums.cpu().numpy() / n_samples
                clipped[part.pairs], means[part.pairs] = inside, mean + deviation * average
                variances[part.pairs] = deviation**2 * np.maximum(square - average**2, 0)
        return clipped, means, variances

    def predict_levels(self, samples: SampleTables, pairs: Pairs, thresholds: F32, noises: F32) -> F32:
        """As `reference.predict_levels`."""
        n_samples, top = thresholds.shape
        out = np.empty((len(pairs.users), top + 1), np.float32)
        with memory.guarded():
            there = self._samples(samples)
            cuts, slopes = (torch.tensor(a, device=self._device).double() for a in (thresholds, 1 / noises))
            for part in self._parts(pairs, n_samples, there.cost + _SAMPLED + 24 * (top + 2)):
                z = len(part.indices[0])
                below = torch.zeros((z, top + 2), dtype=torch.float64, device=self._device)  # Σ_s P(level < l)
                below[:, -1] = n_samples
                for run in part.runs:
                    r = there.values(part.indices, run).double()  # [z, s]
                    own = slopes[run] if there.noise is None else slopes[run] / there.noise.factors(part.indices, run)
                    for t in range(top):
                        below[:, t + 1] += torch.special.ndtr((cuts[run, t] - r) * own).sum(1)
                out[part.pairs] = below.diff(dim=1).cpu().numpy() / n_samples
        return out

    def predict_noise(self, samples: SampleTables, pairs: Pairs, noises: F32) -> NDArray[np.float64]:
        """As `reference.predict_noise`."""
        out = np.empty(len(pairs.users))
        with memory.guarded():
            noise, n = self._noise(samples), torch.tensor(noises, device=self._device).double()
            for part in self._parts((pairs.users, pairs.items), len(noises), _SAMPLED):
                total = torch.zeros(len(part.indices[0]), dtype=torch.float64, device=self._device)
                for run in part.runs:
                    own = n[run] if noise is None else n[run] * noise.factors(part.indices, run)
                    total += own.square().sum(-1)
                out[part.pairs] = total.cpu().numpy() / len(noises)
        return out

    def find_top(self, queries: F32, table: F32, count: int, excluded: Csr | None) -> tuple[I32, F32]:
        """As `reference.find_top`."""
        with memory.guarded():
            Y = torch.tensor(table, device=self._device).T
            return self._top(lambda rows: torch.tensor(queries[rows], device=self._device) @ Y,
                             (len(queries), len(table)), count, excluded)  # fmt: skip

    def find_top_of_samples(self, samples: SampleTables, query: TopQuery, curves: Curves) -> tuple[I32, F32]:
        """As `reference.find_top_of_samples`."""
        with memory.guarded():
            there = self._samples(samples._replace(contexts=None))
            begins, steps = (torch.tensor(array, device=self._device) for array in (curves.starts, curves.steps))
            tables = [torch.tensor(table, device=self._device) for table in (curves.values, curves.squares)
                      if table is not None]  # fmt: skip
            items = torch.tensor(query.items, device=self._device).long()

            def scores_of(rows: slice) -> Tensor:
                users = torch.tensor(query.users[rows], device=self._device).long()
                sums = [torch.zeros((len(users), len(items)), dtype=torch.float64, device=self._device) for _ in tables]
                for s in range(len(samples.offsets)):
                    u = (there.products(users, items, s) - begins[s]) / steps[s]
                    j = u.clamp(0, curves.values.shape[1] - 1).long()
                    t = u - j
                    for total, table in zip(sums, tables, strict=True):
                        a, b, c, d = table[s][j].unbind(-1)
                        total += a + t * (b + t * (c + t * d))
                score = sums[0] / len(samples.offsets)
                if len(sums) > 1:
                    spread = (sums[1] / len(samples.offsets) - score**2).clamp(min=0)
                    score -= curves.z * (spread + curves.variance).sqrt()
                return score.float()

            shape = len(query.users), len(query.items)
            return self._top(scores_of, shape, query.length, query.excluded, cost=_SCORED + _CURVED)

    def find_top_of_levels(self, samples: SampleTables, query: TopQuery, levels: LevelScores) -> tuple[I32, F32]:
        """As `reference.find_top_of_levels`."""
        n_samples = len(samples.offsets)
        with memory.guarded():
            there = self._samples(samples._replace(contexts=None))
            cuts, slopes = (torch.tensor(a, device=self._device) for a in (levels.thresholds, 1 / levels.noises))
            counted = [levels.values, *([] if levels.squares is None else [levels.squares])]
            items = torch.tensor(query.items, device=self._device).long()

            def scores_of(rows: slice) -> Tensor:
                users = torch.tensor(query.users[rows], device=self._device).long()
                shape = len(users), len(items)
                sums = [torch.zeros(shape, dtype=torch.float64, device=self._device) for _ in counted]
                for s in range(n_samples):
                    m, slope = there.products(users, items, s), slopes[s]
                    if there.noise is not None:
                        own, other = there.noise.sides((users, items), slice(s, s + 1))
                        slope = slope / (own * other.T).float()
                    for t in range(cuts.shape[1]):
                        below = torch.special.ndtr((cuts[s, t] - m) * slope)
                        for total, values in zip(sums, counted, strict=True):
                            total += float(values[t + 1] - values[t]) * below
                score = float(counted[0][-1]) - sums[0] / n_samples
                if len(sums) > 1:
                    squares = float(counted[1][-1]) - sums[1] / n_samples
                    score -= levels.z * (squares - score**2).clamp(min=0).sqrt()
                return score.float()

            shape = len(query.users), len(query.items)
            return self._top(scores_of, shape, query.length, query.excluded, cost=_SCORED + _CURVED)

    def select_top(self, scores: F32, count: int, excluded: Csr | None) -> tuple[I32, F32]:
        """As `reference.select_top`."""
        with memory.guarded():
            return self._top(
                lambda rows: torch.tensor(scores[rows], device=self._device), scores.shape, count, excluded
            )

    def _top(
        self,
        scores_of: Callable[[slice], Tensor],
        shape: tuple[int, int],
        count: int,
        excluded: Csr | None,
        cost: int = _SCORED,
    ) -> tuple[I32, F32]:
        """The lists of `reference.select_top` for scores float32[rows, n] that are made part by part."""
        (n_rows, n), found = shape, min(count, shape[1])
        columns, best = np.full((n_rows, count), -1, np.int32), np.full((n_rows, count), -np.inf, np.float32)
        step = max(1, self._bytes() // (max(n, 1) * cost))
        for start in range(0, n_rows if found else 0, step):
            rows = slice(start, min(start + step, n_rows))
            scores = scores_of(rows)
            if excluded is not None:
                starts = excluded.starts[rows.start : rows.stop + 1]
                of_row = np.repeat(np.arange(rows.stop - rows.start), np.diff(starts))
                left_out = torch.tensor(excluded.columns[starts[0] : starts[-1]], device=self._device).long()
                scores[torch.tensor(of_row, device=self._device), left_out] = -torch.inf
            order = _descending_keys(scores).topk(found, dim=1, sorted=True).values & 0xFFFFFFFF
            order = n - 1 - order
            best[rows, :found] = scores.gather(1, order).cpu().numpy()
            columns[rows, :found] = order.int().cpu().numpy()
        columns[best == -np.inf] = -1
        return columns, best

    def _samples(self, samples: SampleTables) -> RowSamples:
        """The tables of a posterior on the device."""
        users, items, contexts, units, offsets, _ = samples
        tables = tuple(self._put(table) for table in (users, items, contexts) if table is not None)
        scales, constants = (torch.tensor(array, device=self._device) for array in (units, offsets))
        return RowSamples(tables, scales, constants, self._noise(samples))

    def _noise(self, samples: SampleTables) -> NoiseSamples | None:
        """The factors on the noise of a posterior on the device, if it has them."""
        if samples.noise is None:
            return None
        users, items, units = samples.noise
        return NoiseSamples((self._put(users), self._put(items)), torch.tensor(units, device=self._device).double())

    def _put(self, table: NDArray[Any]) -> Tensor:
        """The table on the device with a row of zeros appended."""
        if id(table) in self._kept:
            return self._kept[id(table)][1]
        dtype = torch.tensor(table[:0]).dtype
        put = torch.zeros((len(table) + 1, *table.shape[1:]), dtype=dtype, device=self._device)
        rows = max(1, _SLAB * len(table) // max(table.nbytes, 1))
        for start in range(0, len(table), rows):  # a read-only array has to be copied before torch takes it
            put[start : min(start + rows, len(table))] = torch.tensor(table[start : start + rows])
        if not table.flags.writeable:
            self._kept[id(table)] = table, put
        return put

    def _parts(self, indices: Sequence[I32 | None], n_samples: int, cost: int) -> Iterator[_Part]:
        """The pairs in parts; a part and a run of its samples take at most the room. Contexts are left out if pairs
        have none.

        cost : bytes per pair and sample
        """
        cells = max(1, self._bytes() // cost)
        run = min(n_samples, max(1, cells // _MIN_PAIRS))
        runs = [slice(start, start + run) for start in range(0, n_samples, run)]
        given = [index for index in indices if index is not None]
        for start in range(0, len(given[0]), cells // run):
            pairs = slice(start, start + cells // run)
            there = [torch.tensor(index[pairs], device=self._device).long() for index in given]
            yield _Part(pairs, there, runs)

    def _bytes(self) -> int:
        if self._room is not None:
            return self._room
        return _HOST_ROOM if self._device.type == "cpu" else min(memory.free(self._device) // 4, _MAX_ROOM)


def _descending_keys(scores: Tensor) -> Tensor:
    """Integers int64[b, n] in the order of the scores float32[b, n]; of equal scores, the first column is highest.

    The bits of a float are in the order of its value if those below the sign are flipped for negative ones; the column
    counts from the end in the lower half.
    """
    bits = (scores + 0.0).view(torch.int32)  # -0 is 0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    n = scores.shape[1]
    return (ordered.long() << 32) | torch.arange(n - 1, -1, -1, device=scores.device)


class _Part(NamedTuple):
    """Some pairs of a call: their range, their indices int64[z] on the device, and the runs of samples."""

    pairs: slice
    indices: list[Tensor]
    runs: list[slice]
