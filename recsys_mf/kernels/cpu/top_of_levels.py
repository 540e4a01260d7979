"""The best items by the expected level of an ordinal posterior with personal noise, on CPU cores.

As in `top_of_samples`, but the expected level for a value depends on the noise of user and item too, so there is no
curve of one number to look up: Φ is computed for every threshold, by a ratio of polynomials that is fast in vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.jit import inline, jit
from recsys_mf.arrays.threads import ranges, side_by_side
from recsys_mf.kernels.cpu.simd import FASTMATH, LANES
from recsys_mf.kernels.cpu.top import GROUPS, HEIGHT, empty_lists, finish_lists, left_out, offer, product
from recsys_mf.kernels.cpu.top_of_samples import unpack_items, unpack_users
from recsys_mf.kernels.operands import LevelScores, SampleTables, TopQuery

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

_ROOM = 1 << 27  # bytes of the rows of a block in float32, on either side


def find_top_of_levels(samples: SampleTables, query: TopQuery, levels: LevelScores, threads: int) -> tuple[I32, F32]:
    """As `reference.find_top_of_levels`."""
    columns, scores = empty_lists(len(query.users), query.length)
    _, n_samples, width = samples.users.shape
    step = max(HEIGHT * LANES, _ROOM // (4 * n_samples * (width + 2)) // (HEIGHT * LANES) * HEIGHT * LANES)
    starts, excluded = left_out(query.excluded, len(query.users))
    ones = [np.ones((1, n_samples), np.int16), np.ones(n_samples, np.float32)]
    (users, of_users), (items, of_items) = (
        ones if samples.noise is None else (samples.noise[side], samples.noise.units[side]) for side in (0, 1)
    )
    rises = [np.diff(values).astype(np.float32) for values in (levels.values, levels.squares) if values is not None]
    given = levels.thresholds, rises[0], rises[-1][: len(rises[0]) if len(rises) > 1 else 0]
    numbers = np.float32(levels.values[-1]), np.float32(0 if levels.squares is None else levels.squares[-1])
    for first, last in ranges(len(query.users), step):
        X = np.empty((-(-(last - first) // HEIGHT), n_samples, width + 1, HEIGHT), np.float32)
        slopes = np.empty((len(X), n_samples, HEIGHT), np.float32)
        side_by_side(unpack_users, ranges(len(X), 8), threads,
                     samples.users, samples.units[0], samples.offsets, query.users[first:last], X)  # fmt: skip
        side_by_side(_unpack_slopes, ranges(len(X), 8), threads, users, of_users * levels.noises, levels.noises,
                     query.users[first:last], slopes)  # fmt: skip
        for low, high in ranges(len(query.items), step):
            Y = np.empty((-(-(high - low) // LANES), n_samples, width + 1, LANES), np.float32)
            rates = np.empty((len(Y), n_samples, LANES), np.float32)
            side_by_side(unpack_items, ranges(len(Y), 8), threads,
                         samples.items, samples.units[1], query.items[low:high], Y)  # fmt: skip
            side_by_side(_unpack_slopes, ranges(len(Y), 8), threads, items, of_items, ones[1],
                         query.items[low:high], rates)  # fmt: skip
            tasks = ranges(len(X), max(1, min(GROUPS, -(-len(X) // threads))))
            side_by_side(
                _find, tasks, threads, X, Y, slopes, rates, high - low, low, *given, *numbers, np.float32(levels.z),
                starts[first : last + 1], excluded, columns[first:last], scores[first:last],
            )  # fmt: skip
    return finish_lists(columns, scores, threads)


@jit(fastmath=FASTMATH, error_model="numpy")
def _unpack_slopes(first: Any, last: Any, factors: Any, units: Any, otherwise: Any, rows: Any, slopes: Any) -> None:
    """slopes[g, s, h] = 1 / noise of rows g · height to g · height + height - 1; that of `otherwise` if unknown."""
    height = slopes.shape[2]
    for g in range(first, last):
        for h in range(height):
            place = g * height + h
            row = rows[place] if place < len(rows) else -1
            for s in range(factors.shape[1]):
                known = row >= 0
                noise = units[s] * factors[min(row, len(factors) - 1), s] if known else otherwise[s]
                slopes[g, s, h] = np.float32(1.0) / noise


@jit(fastmath=FASTMATH, error_model="numpy")
def _find(
    first: Any, last: Any, X: Any, Y: Any, slopes: Any, rates: Any, n_columns: Any, first_column: Any,
    thresholds: Any, rises: Any, square_rises: Any, highest: Any, highest_square: Any, z: Any,
    starts: Any, excluded: Any, columns: Any, scores: Any,
) -> None:  # fmt: skip
    """Add a slice of the columns to the lists of the rows in groups first to last."""
    n_samples, width = X.shape[1], X.shape[2]
    tile, size = np.zeros((HEIGHT, LANES), np.float32), HEIGHT * LANES
    products, own = tile.reshape(size), np.zeros(size, np.float32)
    totals, of_squares = np.zeros(size, np.float32), np.zeros(size, np.float32)
    share = np.float32(1.0) / np.float32(n_samples)
    for panel in range(Y.shape[0]):
        for group in range(first, last):
            totals[:] = 0
            of_squares[:] = 0
            for s in range(n_samples):
                product(X[group, s], Y[panel, s], tile, width, 0, 0, np.float32(1.0))
                for h in range(HEIGHT):
                    for lane in range(LANES):
                        own[h * LANES + lane] = slopes[group, s, h] * rates[panel, s, lane]
                for t in range(rises.size):
                    _add_below(products, own, thresholds[s, t], rises[t], totals)
                    if square_rises.size:
                        _add_below(products, own, thresholds[s, t], square_rises[t], of_squares)
            for h in range(min(HEIGHT, len(columns) - group * HEIGHT)):
                row = group * HEIGHT + h
                for lane in range(min(LANES, n_columns - panel * LANES)):
                    at = h * LANES + lane
                    score = highest - totals[at] * share
                    if square_rises.size:
                        spread = max(highest_square - of_squares[at] * share - score * score, np.float32(0.0))
                        score -= z * np.sqrt(spread)
                    column = first_column + panel * LANES + lane
                    offer(columns, scores, row, column, score, starts, excluded)


@inline(fastmath=FASTMATH, error_model="numpy")
def _add_below(products: Any, slopes: Any, threshold: Any, rise: Any, totals: Any) -> None:
    """totals += rise Φ((τ - m) / σ) for every product m, in a loop that the compiler vectorises."""
    for at in range(products.size):
        totals[at] += rise * _cdf((threshold - products[at]) * slopes[at])


@inline(fastmath=FASTMATH, error_model="numpy")
def _cdf(x: Any) -> Any:
    """Φ(x) to 3e-7, without a branch; the ratio is that of Eigen's erf for single precision."""
    y = min(max(x * np.float32(0.70710678), np.float32(-4.0)), np.float32(4.0))
    s = y * y
    top = np.float32(-2.72614225801306e-10) * s + np.float32(2.77068142495902e-08)
    top = top * s + np.float32(-2.10102402082508e-06)
    top = top * s + np.float32(-5.69250639462346e-05)
    top = top * s + np.float32(-7.34990630326855e-04)
    top = top * s + np.float32(-2.95459980854025e-03)
    top = (top * s + np.float32(-1.60960333262415e-02)) * y
    bottom = np.float32(-1.45660718464996e-05) * s + np.float32(-2.13374055278905e-04)
    bottom = bottom * s + np.float32(-1.68282697438203e-03)
    bottom = bottom * s + np.float32(-7.37332916720468e-03)
    bottom = bottom * s + np.float32(-1.42647390514189e-02)
    return np.float32(0.5) + np.float32(0.5) * top / bottom
