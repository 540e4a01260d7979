"""The schedule of masked SGD made on the device: byte for byte that of `host.arrange`, in a fraction of its time.

A stable sort by part puts triples where the host's counting sort puts them. Then every part is shuffled by Fisher and
Yates as on the host, one part per lane: a lane only swaps triples of its own part, so the order of the lanes does not
matter.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from recsys_mf.kernels.operands import RatingScale, Triples
from recsys_mf.kernels.schedule.grid import Arranged, Grid, Places

BYTES = 64  # of the device for a triple, while they are sorted
_PARTS = 32  # that a program shuffles: as many as a warp has lanes


def arrange(
    triples: Triples, places: Places, grid: Grid, scale: RatingScale, seed: int, *, device: torch.device
) -> Arranged:
    """As `host.arrange` of triples without weights, its columns on the device."""

    def put(array: NDArray[np.generic]) -> Tensor:
        return torch.tensor(np.ascontiguousarray(array), device=device)

    u, i = put(triples.users), put(triples.items)
    keys, n_parts = _parts(put(places.part_of_user)[u], put(places.part_of_item)[i], grid), grid.n_parts
    starts = torch.zeros(n_parts + 1, dtype=torch.int64, device=device)
    torch.cumsum(torch.bincount(keys, minlength=n_parts), 0, out=starts[1:])
    order = torch.sort(keys, stable=True).indices
    del keys
    at_users, at_items = put(places.users)[u[order]], put(places.items)[i[order]]
    del u, i
    # Divided by an array: a card divides by a number by multiplying with its reciprocal, which rounds differently.
    mean, deviation = (put(np.array([number], np.float32)) for number in scale[:2])
    targets = (put(triples.values)[order] - mean) / deviation
    del order
    programs = triton.cdiv(n_parts, _PARTS)
    _shuffle[(programs,)](starts, at_users, at_items, targets, seed, n_parts, PARTS=_PARTS, num_warps=1, num_stages=1)
    return Arranged(at_users, at_items, targets, None, starts.cpu().numpy())


def _parts(fine_row: Tensor, fine_column: Tensor, grid: Grid) -> Tensor:
    """Place of a part: by stratum, row band, item part and user part, as `host._part`."""
    bands, user_parts, item_parts = grid
    row, column = fine_row // user_parts, fine_column // item_parts
    block = (column - row) % bands * bands + row
    return (block * item_parts + fine_column % item_parts) * user_parts + fine_row % user_parts


@triton.jit
def _hashed(seed, place):
    """64 random bits of a place, as `host._hashed`."""
    x = seed.to(tl.uint64) + (place.to(tl.uint64) + 1) * 0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)


@triton.jit
def _swap(column, one, other, inside):
    """Exchange two entries."""
    x, y = tl.load(column + one, inside, 0), tl.load(column + other, inside, 0)
    tl.store(column + one, y, inside)
    tl.store(column + other, x, inside)


@triton.jit(do_not_specialize=["seed"])
def _shuffle(starts, users, items, values, seed, n_parts, PARTS: tl.constexpr):
    part = tl.program_id(0) * PARTS + tl.arange(0, PARTS)
    low = tl.load(starts + part, part < n_parts, 0)
    high = tl.load(starts + part + 1, part < n_parts, 0)
    for back in range(1, tl.max(high - low, 0)):
        last = high - back
        inside = last > low
        size = tl.where(inside, last - low + 1, 1).to(tl.uint64)
        other = low + (((_hashed(seed, last) >> 32) * size) >> 32).to(tl.int64)
        _swap(users, last, other, inside)
        _swap(items, last, other, inside)
        _swap(values, last, other, inside)
