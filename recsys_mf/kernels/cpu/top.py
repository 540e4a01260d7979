"""The best columns of every row of scores on CPU cores, found while a matrix product is in registers.

Scores of a few rows and a vector of columns are a tile of the product X Yᵀ (`tiles`). It is compared with the worst
entry of each row's list, which few scores exceed, and is not stored. A score is one sum in the order of the factors,
whichever rows and columns are computed together, and for any number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.csr import Csr
from recsys_mf.arrays.jit import inline, jit
from recsys_mf.arrays.threads import ranges, side_by_side
from recsys_mf.kernels.cpu.simd import FASTMATH, LANES
from recsys_mf.kernels.cpu.tiles import tile

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

HEIGHT = 6  # rows of a tile: with two loads and a broadcast it fills sixteen registers of half a vector
GROUPS = 32  # of rows that pass over all columns together: their rows and lists stay in the second-level cache
_ROWS = 64  # of scores that a task searches

product = tile(HEIGHT, 1, fresh=True)


def find_top(queries: F32, table: F32, count: int, excluded: Csr | None, threads: int) -> tuple[I32, F32]:
    """As `reference.find_top`."""
    columns, scores = empty_lists(len(queries), count)
    X, Y = _pack(queries, HEIGHT), _pack(table, LANES)
    tasks = ranges(len(X), max(1, min(GROUPS, -(-len(X) // threads))))
    side_by_side(_find, tasks, threads, X, Y, len(table), *left_out(excluded, len(queries)), columns, scores)
    return finish_lists(columns, scores, threads)


def select_top(scores: F32, count: int, excluded: Csr | None, threads: int) -> tuple[I32, F32]:
    """As `reference.select_top`."""
    columns, best = empty_lists(len(scores), count)
    tasks = ranges(len(scores), _ROWS)
    side_by_side(_select, tasks, threads, scores, *left_out(excluded, len(scores)), columns, best)
    return finish_lists(columns, best, threads)


def empty_lists(rows: int, count: int) -> tuple[I32, F32]:
    return np.full((rows, count), -1, np.int32), np.full((rows, count), -np.inf, np.float32)


def finish_lists(columns: I32, scores: F32, threads: int) -> tuple[I32, F32]:
    """The heaps as lists, best first."""
    side_by_side(sort_lists, ranges(len(columns), 1024), threads, columns, scores)
    return columns, scores


def left_out(excluded: Csr | None, rows: int) -> tuple[Any, Any]:
    if excluded is None:
        return np.zeros(rows + 1, np.int64), np.zeros(0, np.int32)
    return excluded.starts, excluded.columns


def _pack(X: F32, height: int) -> F32:
    """Rows in groups of a height, the numbers of a group by column: [groups, columns, height], padded with zeros."""
    rows, width = X.shape
    groups = -(-rows // height)
    padded = np.zeros((groups * height, width), np.float32)
    padded[:rows] = X
    return np.ascontiguousarray(padded.reshape(groups, height, width).transpose(0, 2, 1))


@jit(fastmath=FASTMATH)
def _find(
    first: Any, last: Any, X: Any, Y: Any, n_columns: Any, starts: Any, excluded: Any, columns: Any, scores: Any
) -> None:
    """The lists of the rows in groups first to last; X [groups, width, HEIGHT], Y [groups, width, LANES]."""
    width = X.shape[1]
    sums = np.zeros((HEIGHT, LANES), np.float32)
    limits = np.full((last - first) * HEIGHT, np.float32(-np.inf))
    for panel in range(Y.shape[0]):
        for group in range(first, last):
            product(X[group], Y[panel], sums, width, 0, 0, np.float32(1.0))
            for h in range(min(HEIGHT, len(columns) - group * HEIGHT)):
                row, place = group * HEIGHT + h, (group - first) * HEIGHT + h
                limit, exceeds = limits[place], False
                for lane in range(LANES):
                    exceeds |= sums[h, lane] > limit
                if exceeds:
                    for lane in range(min(LANES, n_columns - panel * LANES)):
                        column = panel * LANES + lane
                        offer(columns, scores, row, column, sums[h, lane], starts, excluded)
                    limits[place] = scores[row, 0]


@jit()
def _select(first: Any, last: Any, matrix: Any, starts: Any, excluded: Any, columns: Any, scores: Any) -> None:
    for row in range(first, last):
        for column in range(matrix.shape[1]):
            offer(columns, scores, row, column, matrix[row, column], starts, excluded)


@inline()
def offer(columns: Any, scores: Any, row: Any, column: Any, score: Any, starts: Any, excluded: Any) -> None:
    """Put a column into the list of a row if its score is above the worst there and it is not left out.

    A list is a heap with its worst entry first: that of the lowest score, of equal ones the highest column. Columns
    come in ascending order, so an equal score does not enter.
    """
    if not score > scores[row, 0] or _contains(excluded, starts[row], starts[row + 1], column):
        return
    _sift(columns[row], scores[row], len(columns[row]), column, score)


@inline()
def _sift(columns: Any, scores: Any, size: Any, column: Any, score: Any) -> None:
    """Replace the first entry of a heap of this size, and move the new one to its place."""
    place = 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and _is_worse(columns, scores, child + 1, columns[child], scores[child]):
            child += 1
        if not _is_worse(columns, scores, child, column, score):
            break
        columns[place], scores[place] = columns[child], scores[child]
        place = child
    columns[place], scores[place] = column, score


@inline()
def _is_worse(columns: Any, scores: Any, place: Any, column: Any, score: Any) -> Any:
    """Whether the entry at a place comes after another in a list."""
    return scores[place] < score or (scores[place] == score and columns[place] > column)


@jit()
def sort_lists(first: Any, last: Any, columns: Any, scores: Any) -> None:
    """The heaps of some rows as lists, best first."""
    for row in range(first, last):
        for end in range(columns.shape[1] - 1, 0, -1):
            column, score = columns[row, end], scores[row, end]
            columns[row, end], scores[row, end] = columns[row, 0], scores[row, 0]
            _sift(columns[row], scores[row], end, column, score)


@inline()
def _contains(ascending: Any, low: Any, high: Any, number: Any) -> Any:
    """Whether a number is among ascending[low:high]."""
    end = high
    while low < high:
        middle = (low + high) >> 1
        if ascending[middle] < number:
            low = middle + 1
        else:
            high = middle
    return low < end and ascending[low] == number
