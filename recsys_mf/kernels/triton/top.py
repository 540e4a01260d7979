"""The best columns of rows of scores on a CUDA device, in Triton: no score is stored.

For every row the highest score of each *group* of columns is found first, by a product of matrices on the matrix units.
A column that is among the best `count` of a row is in one of the `count` groups with the highest maxima, since the
maximum of every other group above its own would be ahead of it. So the scores of these groups, and of a few more, are
computed again in float32, and the best of them are the list.

The products are of numbers in half precision, each table as a sum of two, x = h + l with 22 bits:

    x · y ≈ h_x · h_y + h_x · l_y + l_x · h_y

with float32 sums, less the mean row of the table, which shifts all scores of a row by the same amount. If the maximum
of the best group that was not chosen is so close to the last entry of the list that rounding could have changed their
order, the row is *unsure*, and the caller computes all of its scores. (Rounding of the matrix units: Fasi, Higham,
Mikaitis, Pranesh: Numerical behavior of NVIDIA tensor cores, PeerJ Computer Science 7, 2021.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from recsys_mf.arrays.csr import Csr

ROWS, COLUMNS = 128, 64  # of a tile of scores
MIN_COLUMNS = 2048  # of a table; a search in fewer takes hardly any time
_GROUPS = 2048  # of a row, at most
_SPARE = 4  # groups whose scores are computed again in addition to those that must be
_CANDIDATES = 8192  # columns whose scores are computed again, at most
_WHOLE, _CHUNK = 256, 128  # most columns of a product that are taken at once; and the size of chunks of wider ones
_MAX_WIDTH = 1024
_HIGHEST = 7  # exponent of the largest number of a row or a table after scaling, far from the ends of half precision
_ULP = 2.0**-23


class Groups(NamedTuple):
    """Groups of columns: the columns c + COLUMNS t, t < tiles, of a run of tiles, for every c < COLUMNS."""

    tiles: int
    runs: int

    @classmethod
    def of(cls, n: int) -> Groups:
        """For n columns."""
        tiles = -(-n // COLUMNS)
        each = int(triton.next_power_of_2(max(8, -(-tiles * COLUMNS // _GROUPS))))
        return cls(each, -(-tiles // each))

    @property
    def size(self) -> int:
        """The number of groups."""
        return self.runs * COLUMNS

    @property
    def columns(self) -> int:
        """The number of columns, with padding to whole tiles."""
        return self.runs * self.tiles * COLUMNS


class TopTable(NamedTuple):
    """A table [n, w] prepared for the search of its rows: in float32, and as parts in half precision.

    center [w] : the mean row; parts float16[columns, W] of the rows less the center, times scale
    length, whole_length : the longest row less the center, and the longest row
    varies [w] : which columns do not have the same value in all rows
    """

    rows: Tensor
    center: Tensor
    parts: Tensor
    scale: Tensor
    length: Tensor
    whole_length: Tensor
    varies: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> TopTable:
        """Of rows float32[n, w] on the device."""
        center = rows.mean(0, dtype=torch.float64).float()
        centered = rows - center
        scale = _scale(centered.abs().amax())
        parts = torch.zeros(
            (Groups.of(len(rows)).columns, _width(rows.shape[1])), dtype=torch.float16, device=rows.device
        )
        high, low = _halves(centered * scale)
        parts[: len(rows), : 3 * rows.shape[1]] = torch.cat([high, low, high], 1)
        length, whole_length = (table.norm(dim=1).amax() for table in (centered, rows))
        return cls(rows, center, parts, scale, length, whole_length, (centered != 0).any(0))


class _Queries(NamedTuple):
    """Rows x [b, w] of a part, prepared for the search as in `TopTable`.

    shift [b] : x · center; unit [b] : the score that a maximum of 1 in `_maxima` stands for; margin [b] : the largest
        error of such a score from rounding
    """

    rows: Tensor
    parts: Tensor
    shift: Tensor
    unit: Tensor
    margin: Tensor

    @classmethod
    def of(cls, rows: Tensor, table: TopTable) -> _Queries:
        scale = _scale(rows.abs().amax(1, keepdim=True))
        width = _width(rows.shape[1])
        parts = torch.zeros((-(-len(rows) // ROWS) * ROWS, width), dtype=torch.float16, device=rows.device)
        high, low = _halves(rows * scale)
        parts[: len(rows), : 3 * rows.shape[1]] = torch.cat([high, high, low], 1)
        # The matrix units add sixteen products with an error of at most four ulps; splitting costs three quarters.
        margin = (rows * table.varies).norm(dim=1) * table.length * ((width / 4 + 8) * _ULP)
        margin += rows.norm(dim=1) * table.whole_length * (8 * _ULP)  # of the scores in float32
        shift = (rows.double() @ table.center.double()).float()
        return cls(rows, parts, shift, 1 / (scale[:, 0] * table.scale), margin)


def takes(n: int, width: int, count: int) -> bool:
    """Whether `find` supports lists of `count` of n columns."""
    groups = Groups.of(n)
    chosen = count + _SPARE
    return (
        n >= MIN_COLUMNS and width <= _MAX_WIDTH and 2 * chosen < groups.size and chosen * groups.tiles <= _CANDIDATES
    )


def row_bytes(n: int, width: int, count: int) -> int:
    """Bytes of the device that a row takes."""
    groups = Groups.of(n)
    return 4 * groups.size + groups.columns // 8 + 8 * _candidates(groups, count) + 2 * _width(width) + 16 * width


def find(queries: Tensor, table: TopTable, count: int, excluded: Csr | None) -> tuple[Tensor, Tensor, Tensor]:
    """The lists of `reference.find_top` for queries float32[b, w]: columns int32[b, count], scores float32[b, count],
    and whether a row is unsure, bool[b].

    excluded : of these rows, on the device
    """
    n, groups, device = len(table.rows), Groups.of(len(table.rows)), queries.device
    prepared = _Queries.of(queries, table)
    bits = _bits(excluded, len(prepared.parts), groups.columns // 32, device)
    maxima = torch.empty((len(prepared.parts), groups.size), device=device)
    _maxima[(len(prepared.parts) // ROWS, groups.runs)](
        prepared.parts, table.parts, bits, maxima, n, groups.columns // 32, groups.size,
        **maxima_shape(queries.shape[1], groups.tiles, has_excluded=excluded is not None),
    )  # fmt: skip
    columns = torch.full((len(queries), count), -1, dtype=torch.int32, device=device)
    scores = torch.full((len(queries), count), -torch.inf, device=device)
    unsure = torch.empty(len(queries), dtype=torch.int8, device=device)
    scratch = torch.empty((len(queries), _candidates(groups, count)), device=device)
    _choose[(len(queries),)](
        maxima, prepared.rows, table.rows, bits, prepared.shift, prepared.unit, prepared.margin,
        scratch, torch.empty_like(scratch, dtype=torch.int32), columns, scores, unsure,
        n, groups.columns // 32, groups.size, queries.shape[1], count, count + _SPARE,
        **choose_shape(queries.shape[1], groups, count, has_excluded=excluded is not None),
    )  # fmt: skip
    return columns, scores, unsure.bool()


def maxima_shape(width: int, tiles: int, *, has_excluded: bool) -> dict[str, Any]:
    """The options that the first kernel is compiled with."""
    padded = _width(width)
    return {
        "W": padded, "CHUNK": padded if padded <= _WHOLE else _CHUNK, "ROWS": ROWS, "COLUMNS": COLUMNS, "TILES": tiles,
        "HAS_EXCLUDED": has_excluded, "num_warps": 8, "num_stages": 3,
    }  # fmt: skip


def choose_shape(width: int, groups: Groups, count: int, *, has_excluded: bool) -> dict[str, Any]:
    """The options that the second kernel is compiled with."""
    span = triton.next_power_of_2(max(16, width))
    return {
        "SPAN": span, "COLUMNS": COLUMNS, "TILES": groups.tiles, "TAKEN": min(groups.tiles, max(1, 2048 // span)),
        "GROUPS": triton.next_power_of_2(groups.size), "CANDIDATES": _candidates(groups, count),
        "HAS_EXCLUDED": has_excluded, "num_warps": 4,
    }  # fmt: skip


def _candidates(groups: Groups, count: int) -> int:
    """Columns whose scores are computed again, a power of two."""
    found: int = triton.next_power_of_2((count + _SPARE) * groups.tiles)
    return found


def _width(width: int) -> int:
    """Columns of the parts of three products, side by side, in whole chunks."""
    if 3 * width <= _WHOLE:
        return int(triton.next_power_of_2(max(32, 3 * width)))
    return int(triton.cdiv(3 * width, _CHUNK) * _CHUNK)


def _scale(largest: Tensor) -> Tensor:
    """The power of two that brings the largest number near 2^_HIGHEST."""
    exponent = torch.frexp(largest).exponent.clamp(-100, 100)
    return torch.ldexp(torch.ones_like(largest), _HIGHEST - exponent)


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """x ≈ h + l in half precision."""
    high = x.half()
    return high, (x - high.float()).half()


def _bits(excluded: Csr | None, rows: int, words: int, device: torch.device) -> Tensor:
    """A bit for every column of every row, int32[rows, words], set if it is left out."""
    if excluded is None:
        return torch.zeros(1, dtype=torch.int32, device=device)
    bits = torch.zeros((rows, words), dtype=torch.int32, device=device)
    if len(excluded.columns):
        _mark[(excluded.n_rows,)](excluded.starts, excluded.columns, bits, words, TILE=128, num_warps=1)
    return bits


@triton.jit
def _mark(starts, columns, bits, words, TILE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    low, high = tl.load(starts + row), tl.load(starts + row + 1)
    for start in range(low, high, TILE):
        j = start + tl.arange(0, TILE)
        inside = j < high
        column = tl.load(columns + j, inside, 0)
        tl.atomic_or(bits + row * words + (column >> 5), 1 << (column & 31), inside, sem="relaxed")


@triton.jit(do_not_specialize=["n", "groups"])
def _maxima(
    X, Y, bits, maxima, n, words, groups,
    W: tl.constexpr, CHUNK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILES: tl.constexpr,
    HAS_EXCLUDED: tl.constexpr,
):  # fmt: skip
    """maxima[g, run, c] = max_t x_g · y_{c + COLUMNS (run TILES + t)}"""
    row, lane = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    run, k = tl.program_id(1), tl.arange(0, CHUNK)
    best = tl.full([ROWS, COLUMNS], float("-inf"), tl.float32)
    of_rows = X + row[:, None] * W + k[None, :]
    if W == CHUNK:
        x = tl.load(of_rows)
    for t in range(TILES):
        tile = run * TILES + t
        column = tile * COLUMNS + lane
        of_columns = Y + column[None, :] * W + k[:, None]
        if W == CHUNK:
            s = tl.dot(x, tl.load(of_columns))
        else:
            s = tl.zeros([ROWS, COLUMNS], tl.float32)
            for begin in range(0, W, CHUNK):
                s = tl.dot(tl.load(of_rows + begin), tl.load(of_columns + begin), s)
        counts = (column < n)[None, :]
        if HAS_EXCLUDED:  # a tile has two words of bits
            of_tile = bits + row * words + 2 * tile
            word = tl.where((lane < 32)[None, :], tl.load(of_tile)[:, None], tl.load(of_tile + 1)[:, None])
            counts = counts & (((word >> (lane & 31)[None, :]) & 1) == 0)
        best = tl.maximum(best, tl.where(counts, s, float("-inf")))
    tl.store(maxima + row[:, None] * groups + (run * COLUMNS + lane)[None, :], best)


@triton.jit(do_not_specialize=["n", "groups", "count", "chosen"])
def _choose(
    maxima, X, Y, bits, shift, unit, margin, found, found_columns, columns, scores, unsure,
    n, words, groups, width, count, chosen,
    SPAN: tl.constexpr, COLUMNS: tl.constexpr, TILES: tl.constexpr, TAKEN: tl.constexpr, GROUPS: tl.constexpr,
    CANDIDATES: tl.constexpr, HAS_EXCLUDED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    group, k, t = tl.arange(0, GROUPS), tl.arange(0, SPAN), tl.arange(0, TAKEN)
    left = tl.load(maxima + row * groups + group, group < groups, float("-inf"))
    x = tl.load(X + row * width + k, k < width, 0.0)
    found += row * CANDIDATES
    found_columns += row * CANDIDATES
    for number in range(chosen):
        first = tl.min(tl.where(left == tl.max(left), group, GROUPS))
        left = tl.where(group == first, float("-inf"), left)
        for begin in range(0, TILES, TAKEN):
            column = ((first // COLUMNS) * TILES + begin + t) * COLUMNS + first % COLUMNS
            counts = column < n
            if HAS_EXCLUDED:
                word = tl.load(bits + row * words + (column >> 5))
                counts = counts & (((word >> (column & 31)) & 1) == 0)
            y = tl.load(
                Y + column.to(tl.int64)[:, None] * width + k[None, :], counts[:, None] & (k < width)[None, :], 0.0
            )
            s = tl.where(counts, tl.sum(y * x[None, :], 1), float("-inf"))
            tl.store(found + number * TILES + begin + t, s)
            tl.store(found_columns + number * TILES + begin + t, column)
    tl.debug_barrier()  # the scores are read again, in another order
    place = tl.arange(0, CANDIDATES)
    s = tl.load(found + place, place < chosen * TILES, float("-inf"))
    column = tl.load(found_columns + place, place < chosen * TILES, 0)
    last = tl.full([], float("inf"), tl.float32)
    for number in range(count):
        last = tl.max(s)
        best = tl.min(tl.where((s == last) & (s > float("-inf")), column, 0x7FFFFFFF))
        tl.store(columns + row * count + number, tl.where(last > float("-inf"), best, -1))
        tl.store(scores + row * count + number, last)
        s = tl.where(column == best, float("-inf"), s)
    rest = tl.max(left)
    could_be = rest * tl.load(unit + row) + tl.load(shift + row) + tl.load(margin + row)
    tl.store(unsure + row, ((rest > float("-inf")) & (could_be >= last)).to(tl.int8))
