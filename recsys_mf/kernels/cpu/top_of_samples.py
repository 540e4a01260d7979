"""The best items by a mean over samples of a posterior, on CPU cores: as in `top`, a tile of scores at a time.

The rows of a few users and of a vector of items are multiplied sample by sample. Each product is looked up in the curve
of its sample and added up, and no score is stored. Users and items are unpacked from their integers in blocks of
bounded size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.jit import inline, jit
from recsys_mf.arrays.threads import ranges, side_by_side
from recsys_mf.kernels.cpu.simd import FASTMATH, LANES
from recsys_mf.kernels.cpu.top import GROUPS, HEIGHT, empty_lists, finish_lists, left_out, offer, product
from recsys_mf.kernels.operands import Curves, SampleTables, TopQuery

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

_ROOM = 1 << 27  # bytes of the rows of a block in float32, on either side


def find_top_of_samples(samples: SampleTables, query: TopQuery, curves: Curves, threads: int) -> tuple[I32, F32]:
    """As `reference.find_top_of_samples`."""
    columns, scores = empty_lists(len(query.users), query.length)
    _, n_samples, width = samples.users.shape
    step = max(HEIGHT * LANES, _ROOM // (4 * n_samples * (width + 1)) // (HEIGHT * LANES) * HEIGHT * LANES)
    starts, excluded = left_out(query.excluded, len(query.users))
    squares = np.zeros((n_samples, 0, 4), np.float32) if curves.squares is None else curves.squares
    numbers = np.float32(curves.z), np.float32(curves.variance)
    for first, last in ranges(len(query.users), step):
        X = np.empty((-(-(last - first) // HEIGHT), n_samples, width + 1, HEIGHT), np.float32)
        side_by_side(unpack_users, ranges(len(X), 8), threads,
                     samples.users, samples.units[0], samples.offsets, query.users[first:last], X)  # fmt: skip
        for low, high in ranges(len(query.items), step):
            Y = np.empty((-(-(high - low) // LANES), n_samples, width + 1, LANES), np.float32)
            side_by_side(unpack_items, ranges(len(Y), 8), threads,
                         samples.items, samples.units[1], query.items[low:high], Y)  # fmt: skip
            tasks = ranges(len(X), max(1, min(GROUPS, -(-len(X) // threads))))
            side_by_side(
                _find, tasks, threads, X, Y, high - low, low, curves.starts, 1 / curves.steps, curves.values, squares,
                *numbers, starts[first : last + 1], excluded, columns[first:last], scores[first:last],
            )  # fmt: skip
    return finish_lists(columns, scores, threads)


@jit(fastmath=FASTMATH)
def unpack_users(first: Any, last: Any, rows: Any, units: Any, offsets: Any, users: Any, X: Any) -> None:
    """X[g, s] = (p_u, 1, o_s + b_u) of users g · HEIGHT to g · HEIGHT + HEIGHT - 1; zero factors of an unknown one."""
    k = rows.shape[2] - 1
    for g in range(first, last):
        for h in range(HEIGHT):
            place = g * HEIGHT + h
            user = users[place] if place < len(users) else -1
            for s in range(rows.shape[1]):
                for f in range(k):
                    X[g, s, f, h] = units[s] * rows[user, s, f] if user >= 0 else 0.0
                X[g, s, k, h] = 1.0
                X[g, s, k + 1, h] = offsets[s] + (units[s] * rows[user, s, k] if user >= 0 else 0.0)


@jit(fastmath=FASTMATH)
def unpack_items(first: Any, last: Any, rows: Any, units: Any, items: Any, Y: Any) -> None:
    """Y[g, s] = (q_i, b_i, 1) of items g · LANES to g · LANES + LANES - 1; the last ones may be any."""
    k = rows.shape[2] - 1
    for g in range(first, last):
        for lane in range(LANES):
            item = items[min(g * LANES + lane, len(items) - 1)]
            for s in range(rows.shape[1]):
                for f in range(k + 1):
                    Y[g, s, f, lane] = units[s] * rows[item, s, f]
                Y[g, s, k + 1, lane] = 1.0


@jit(fastmath=FASTMATH)
def _find(
    first: Any, last: Any, X: Any, Y: Any, n_columns: Any, first_column: Any, begins: Any, rates: Any, values: Any,
    squares: Any, z: Any, variance: Any, starts: Any, excluded: Any, columns: Any, scores: Any,
) -> None:  # fmt: skip
    """Add a slice of the columns to the lists of the rows in groups first to last."""
    n_samples, width = X.shape[1], X.shape[2]
    products, totals = np.zeros((HEIGHT, LANES), np.float32), np.zeros((HEIGHT, LANES), np.float32)
    of_squares = np.zeros((HEIGHT, LANES), np.float32)
    share = np.float32(1.0) / np.float32(n_samples)
    for panel in range(Y.shape[0]):
        for group in range(first, last):
            totals[:] = 0
            of_squares[:] = 0
            for s in range(n_samples):
                product(X[group, s], Y[panel, s], products, width, 0, 0, np.float32(1.0))
                _add_curve(products, begins[s], rates[s], values[s], totals)
                if squares.shape[1]:
                    _add_curve(products, begins[s], rates[s], squares[s], of_squares)
            for h in range(min(HEIGHT, len(columns) - group * HEIGHT)):
                row = group * HEIGHT + h
                for lane in range(min(LANES, n_columns - panel * LANES)):
                    score = totals[h, lane] * share
                    if squares.shape[1]:
                        spread = max(of_squares[h, lane] * share - score * score, np.float32(0.0))
                        score -= z * np.sqrt(spread + variance)
                    column = first_column + panel * LANES + lane
                    offer(columns, scores, row, column, score, starts, excluded)


@inline(fastmath=FASTMATH)
def _add_curve(products: Any, begin: Any, rate: Any, curve: Any, totals: Any) -> None:
    """totals += the polynomial of the interval that each product is in."""
    top = np.float32(len(curve) - 1)
    for h in range(HEIGHT):
        for lane in range(LANES):
            u = (products[h, lane] - begin) * rate
            j = int(min(max(u, np.float32(0.0)), top))
            t = u - np.float32(j)
            totals[h, lane] += curve[j, 0] + t * (curve[j, 1] + t * (curve[j, 2] + t * curve[j, 3]))
