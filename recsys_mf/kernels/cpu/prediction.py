"""Predictions on CPU cores: the kernels that models predict with; NumPy arrays in, NumPy arrays out.

A few pairs are predicted on the calling thread: waking another thread would take longer than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.cores import available_threads
from recsys_mf.arrays.csr import Csr
from recsys_mf.arrays.jit import inline, jit
from recsys_mf.arrays.threads import pairs, side_by_side
from recsys_mf.kernels.cpu import normal, top, top_of_levels, top_of_samples
from recsys_mf.kernels.cpu.simd import FASTMATH
from recsys_mf.kernels.operands import Curves, FactorModel, LevelScores, Pairs, RatingScale, SampleTables, TopQuery

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


@dataclass(frozen=True)
class CpuPrediction:
    """`kernels.backend.PredictionKernels` on at most this many threads (None: all)."""

    threads: int | None = None

    def predict(self, model: FactorModel, pairs: Pairs) -> F32:
        """As `reference.predict`."""
        mean, user_bias, item_bias, P, Q, (low, high) = model
        out = np.empty(len(pairs.users), np.float32)
        tables = np.float32(mean), user_bias, item_bias, P, Q
        self._run(
            _predict, len(out), P.shape[1], *tables, pairs.users, pairs.items, np.float32(low), np.float32(high), out
        )
        return out

    def predict_samples(
        self, samples: SampleTables, pairs: Pairs, scale: RatingScale
    ) -> tuple[F32, F32, NDArray[np.float64]]:
        """As `reference.predict_samples`."""
        n = len(pairs.users)
        # Squares of ratings above 1e19 do not fit into float32.
        out = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n)
        numbers = np.float32(scale.mean), np.float32(scale.deviation), *scale.rating_range
        self._run(_predict_samples, n, _cost(samples, pairs), *numbers, *_operands(samples, pairs), *out)
        return out

    def predict_levels(self, samples: SampleTables, pairs: Pairs, thresholds: F32, noises: F32) -> F32:
        """As `reference.predict_levels`."""
        operands = _operands(samples, pairs)
        tables, indices = operands[:5], operands[5:]
        out = np.empty((len(pairs.users), thresholds.shape[1] + 1), np.float32)
        work = _cost(samples, pairs) + normal.WORK * thresholds.size
        self._run(_predict_levels, len(out), work, *tables, samples.noise, thresholds, 1 / noises, *indices, out)
        return out

    def predict_noise(self, samples: SampleTables, pairs: Pairs, noises: F32) -> NDArray[np.float64]:
        """As `reference.predict_noise`."""
        out = np.empty(len(pairs.users))
        self._run(_predict_noise, len(out), 8 * len(noises), samples.noise, noises, pairs.users, pairs.items, out)
        return out

    def find_top(self, queries: F32, table: F32, count: int, excluded: Csr | None) -> tuple[I32, F32]:
        """As `reference.find_top`."""
        return top.find_top(queries, table, count, excluded, self.threads or available_threads())

    def find_top_of_samples(self, samples: SampleTables, query: TopQuery, curves: Curves) -> tuple[I32, F32]:
        """As `reference.find_top_of_samples`."""
        return top_of_samples.find_top_of_samples(samples, query, curves, self.threads or available_threads())

    def find_top_of_levels(self, samples: SampleTables, query: TopQuery, levels: LevelScores) -> tuple[I32, F32]:
        """As `reference.find_top_of_levels`."""
        return top_of_levels.find_top_of_levels(samples, query, levels, self.threads or available_threads())

    def select_top(self, scores: F32, count: int, excluded: Csr | None) -> tuple[I32, F32]:
        """As `reference.select_top`."""
        return top.select_top(scores, count, excluded, self.threads or available_threads())

    def _run(self, kernel: Any, n: int, work: int, *arguments: Any) -> None:
        tasks = pairs(n, work)
        if len(tasks) == 1:
            kernel(0, n, *arguments)
        else:
            side_by_side(kernel, tasks, self.threads or available_threads(), *arguments)


_NO_INDICES = np.zeros(0, np.int32)

CPU = CpuPrediction()
"""The kernels that models predict with by default."""


def are_indices(numbers: I32, size: int) -> bool:
    """Whether all are from -1 to size - 1."""
    return bool(_are_indices(numbers, size))


@jit()
def _are_indices(numbers: Any, size: int) -> Any:
    good = True
    for number in numbers:
        good &= -1 <= number < size
    return good


def _operands(samples: SampleTables, pairs: Pairs) -> tuple[Any, ...]:
    """Tables of users, items and contexts, units, offsets, and indices of users, items and contexts, for the loops."""
    users, items, contexts, units, offsets, _ = samples
    contexts = users[:0] if contexts is None else contexts
    of_context = _NO_INDICES if pairs.contexts is None else pairs.contexts
    return users, items, contexts, units, offsets, pairs.users, pairs.items, of_context


def _cost(samples: SampleTables, pairs: Pairs) -> int:
    """Multiplications of all samples of a pair, roughly."""
    _, n_samples, width = samples.users.shape
    tables = 1 if pairs.contexts is None else 3
    return int(n_samples * (width + 8) * tables)


@jit(fastmath=FASTMATH)
def _predict(
    first: Any, last: Any, mean: Any, user_bias: Any, item_bias: Any, P: Any, Q: Any, users: Any, items: Any,
    low: Any, high: Any, out: Any,
) -> None:  # fmt: skip
    for j in range(first, last):
        u, i = users[j], items[j]
        r = mean
        if u >= 0:
            r += user_bias[u]
        if i >= 0:
            r += item_bias[i]
        if u >= 0 and i >= 0:
            dot = np.float32(0.0)
            for f in range(P.shape[1]):
                dot += P[u, f] * Q[i, f]
            r += dot
        out[j] = min(max(r, low), high)


@jit(fastmath=FASTMATH)
def _predict_samples(
    first: Any, last: Any, mean: Any, deviation: Any, low: Any, high: Any, users: Any, items: Any, contexts: Any,
    scales: Any, offsets: Any, u: Any, i: Any, c: Any, clipped: Any, means: Any, variances: Any,
) -> None:  # fmt: skip
    samples = users.shape[1]
    for j in range(first, last):
        context = c[j] if c.size else -1
        total, squares, inside = 0.0, 0.0, 0.0
        for s in range(samples):
            r = _sampled(users, items, contexts, scales, offsets, u[j], i[j], context, s)
            total += r
            squares += r * r
            inside += min(max(mean + deviation * r, low), high)
        clipped[j] = inside / samples
        average = total / samples
        means[j] = mean + deviation * average
        variances[j] = np.float64(deviation) * np.float64(deviation) * max(squares / samples - average * average, 0.0)


@jit(error_model="numpy")
def _predict_levels(
    first: Any, last: Any, users: Any, items: Any, contexts: Any, scales: Any, offsets: Any, noise: Any,
    thresholds: Any, slopes: Any, u: Any, i: Any, c: Any, out: Any,
) -> None:  # fmt: skip
    samples, top = thresholds.shape
    for j in range(first, last):
        context = c[j] if c.size else -1
        below = np.zeros(top + 2)  # sums over samples of P(level < l)
        for s in range(samples):
            r, slope = _sampled(users, items, contexts, scales, offsets, u[j], i[j], context, s), slopes[s]
            if noise is not None:
                slope = slope / _noise_factor(noise, u[j], i[j], s)
            for t in range(top):
                below[t + 1] += normal.cdf((thresholds[s, t] - r) * slope)
        below[top + 1] = samples
        for level in range(top + 1):
            out[j, level] = (below[level + 1] - below[level]) / samples


@jit(error_model="numpy")
def _predict_noise(first: Any, last: Any, noise: Any, noises: Any, u: Any, i: Any, out: Any) -> None:
    for j in range(first, last):
        total = 0.0
        for s in range(noises.size):
            n = np.float64(noises[s])
            if noise is not None:
                n *= _noise_factor(noise, u[j], i[j], s)
            total += n * n
        out[j] = total / noises.size


@inline()
def _noise_factor(noise: Any, user: Any, item: Any, s: Any) -> Any:
    """The product of the factors of user and item in a sample."""
    users, items, units = noise
    factor = np.float32(1.0)
    if user >= 0:
        factor *= users[user, s] * units[0, s]
    if item >= 0:
        factor *= items[item, s] * units[1, s]
    return factor


@inline(fastmath=FASTMATH)
def _sampled(
    users: Any, items: Any, contexts: Any, scales: Any, offsets: Any, user: Any, item: Any, context: Any, s: Any
) -> Any:
    """o + b_u + b_i + w_c + p_u · q_i + p_u · a_c + q_i · a_c of a sample."""
    k = users.shape[2] - 1
    user_scale, item_scale, context_scale = scales[0, s], scales[1, s], scales[2, s]
    r = offsets[s]
    if user >= 0:
        r += user_scale * users[user, s, k]
    if item >= 0:
        r += item_scale * items[item, s, k]
    if user >= 0 and item >= 0:
        r += user_scale * item_scale * _dot(users[user, s], items[item, s])
    if context >= 0:
        r += context_scale * contexts[context, s, k]
        if user >= 0:
            r += user_scale * context_scale * _dot(users[user, s], contexts[context, s])
        if item >= 0:
            r += item_scale * context_scale * _dot(items[item, s], contexts[context, s])
    return r


@inline(fastmath=FASTMATH)
def _dot(x: Any, y: Any) -> Any:
    """Σ x_f y_f over all but the last entry, in float32."""
    dot = np.float32(0.0)
    for f in range(x.size - 1):
        dot += np.float32(x[f]) * np.float32(y[f])
    return dot
