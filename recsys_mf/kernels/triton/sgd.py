"""Masked SGD on a CUDA device, in Triton: an epoch is one launch.

The schedule has the same kind of blocks as on the CPU; if the table is small, they are fewer and larger. Program w of W
takes the blocks of the user bands w, w + W, …, stratum after stratum; before a block it waits until the program that
had its item band has finished with it, so that no barrier stops the card. All programs run at the same time (a
cooperative launch) and take blocks in the order of the strata, so that every wait ends; if one should take more than
`MAX_POLLS` polls, the epoch fails with an error. If a cooperative launch is refused, every stratum is a separate
launch, with the same result.

Within a block a program takes `batch` triples at a time: a tile of rows of P and one of Q are gathered, the errors
computed, and the rows written back, while those of the next tile are prefetched into the second-level cache. If triples
of the tile share a row, each of them writes the sum of their updates,

    P_u + Σ_{t: u_t = u} ΔP_t = (P + S ΔP)_u,    S_st = [u_s = u_t],

so the result depends only on the schedule, not on the card. S ΔP is computed on the matrix units, with ΔP in parts of
few bits (S is exact). Rows bypass the first-level caches, which other multiprocessors do not see; triples are read
once, in order.

Factors may be stored in half the bytes; arithmetic is in float32. float16 is rounded to nearest: on validation rows of
MovieLens 1M and 100K that changed the RMSE by at most 0.00004. bfloat16 rounded to nearest would change it by 0.0009
and 0.0015, because small steps are lost. So it is rounded up or down with probabilities that make the mean exact
(stochastic rounding: 0.0003), by noise that is a function of the seed, the block, the tile and the row.

Xie, Tan, Fong, Liang: CuMF_SGD: parallelized stochastic gradient descent for matrix factorization on GPUs, HPDC 2017;
Gupta, Agrawal, Gopalakrishnan, Narayanan: Deep learning with limited numerical precision, ICML 2015; the hash is the
finaliser of MurmurHash3 with constants by Wellons (lowbias32), the multipliers of the generators are from Steele,
Vigna: Computationally easy, spectrally good multipliers, 2022.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from recsys_mf.errors import DeviceError
from recsys_mf.kernels.operands import Part, SgdState, SgdStep
from recsys_mf.kernels.torch import memory
from recsys_mf.kernels.triton.occupancy import resident_programs

MAX_RANK = 256
MAX_POLLS = 1 << 24  # of a neighbour's counter, each of about a microsecond: far longer than a whole epoch takes
_ROWS_PER_PROGRAM = 128  # of the smaller side, at least, for each program of a hogwild epoch
TILE = 16  # triples that a program takes at a time, at most: the smallest number of rows that a matrix unit takes


def visit(part: Part, batch: int, state: SgdState, step: SgdStep) -> Tensor:
    """Visit the blocks of a part without weights as in `reference.epoch`; returns the sum of the squared errors of
    every user band, float64.

    Raises DeviceError if a program waited too long for another.
    """
    P, bounds = state.P, part.bounds
    strata, bands = bounds.shape[0], bounds.shape[1] - 1
    squares = torch.zeros(bands, dtype=torch.float64, device=P.device)
    progress = torch.zeros(bands, dtype=torch.int32, device=P.device)
    stalled = torch.zeros(1, dtype=torch.int32, device=P.device)
    arguments = (
        part.users, part.items, part.values, part.bounds, progress, stalled, *state, squares,
        step.rate, step.bias_rate, step.ridge, step.bias_ridge, step.seed % 2**31, batch, MAX_POLLS,
    )  # fmt: skip
    columns, storage = P.shape[1], P.dtype
    most = programs(columns, storage, P.device)
    if strata == 1:  # nothing keeps blocks apart
        most = max(1, min(most, min(len(P), len(state.Q)) // _ROWS_PER_PROGRAM))
    grid, options = (min(most, bands),), shape(columns, storage)
    try:
        _epoch[grid](*arguments, 0, strata, bands, **options)
    except RuntimeError as error:
        if not any(sign in str(error).lower() for sign in ("cooperative", "not supported")):
            raise
        for stratum in range(strata):
            _epoch[grid](*arguments, stratum, stratum + 1, bands, **options | {"launch_cooperative_grid": False})
    if stalled.item():
        raise DeviceError(
            "an epoch of SGD stood still on the card: a part of the kernel waited for another without end",
            where=memory.card()["card"] if P.is_cuda else None,
            fix="end other programs on the card, or use --schedule hogwild or --device cpu",
        )
    return squares


@cache
def programs(columns: int, storage: torch.dtype, device: torch.device) -> int:
    """How many programs of an epoch the device holds at once."""
    whole, long, real = torch.int32, torch.int64, torch.float32
    arguments = (
        whole, whole, real, long, whole, whole, storage, storage, real, real, torch.float64, *[0.5] * 4, *[2] * 6,
    )  # fmt: skip
    return resident_programs(_epoch, arguments, shape(columns, storage), device)


def shape(columns: int, storage: torch.dtype) -> dict[str, Any]:
    """The options that the kernel is compiled with, for factors with this number of columns and this type."""
    span = triton.next_power_of_2(max(16, columns))
    return {
        "COLUMNS": columns,
        "SPAN": span,
        "TILE": TILE,
        "LINES": max(1, span * storage.itemsize // 128),
        "PREFETCH": isinstance(_epoch, triton.runtime.JITFunction),  # the interpreter has no such instruction
        "num_warps": max(span // 32, min(4, span // 16)),
        # On an H100 three programs of a multiprocessor are faster than the four that 128 registers, and spills, allow.
        "maxnreg": 168 if span == 128 and storage.itemsize == 2 else None,
        "num_stages": 1,  # the rows of one tile must be written before those of the next are read
        "launch_cooperative_grid": True,
    }


@triton.jit
def _prefetch(places):
    """Prefetch what these pointers point to into the second-level cache."""
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [places], dtype=tl.int32, is_pure=False, pack=1
    )


@triton.jit
def _hashed(x):
    """32 random bits of 32 bits."""
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def _summed(same, steps, storage: tl.constexpr):
    """The product of same and steps [TILE, SPAN], with an error below that of storing rows with it added."""
    same = same.to(tl.float16)
    if storage == tl.float32:  # 22 bits of 4096 times the steps, so that the smallest are well within float16's range
        high = (steps * 4096).to(tl.float16)
        low = (steps * 4096 - high.to(tl.float32)).to(tl.float16)
        sums = tl.dot(same, low, tl.dot(same, high)) * (1 / 4096)
    else:
        sums = tl.dot(same, steps.to(tl.float16))
    return sums


@triton.jit
def _rounded(x, noise):
    """x rounded up or down to what bfloat16 holds; noise : random bits, uint32."""
    bits = x.to(tl.uint32, bitcast=True) + (noise >> 16)
    return tl.where(x == x, ((bits >> 16) << 16).to(tl.float32, bitcast=True), x)  # NaN stays


@triton.jit(do_not_specialize=["seed", "batch", "polls", "first", "last", "bands"])
def _epoch(
    users, items, values, bounds, progress, stalled, P, Q, user_bias, item_bias, squares,
    rate, bias_rate, ridge, bias_ridge, seed, batch, polls, first, last, bands,
    COLUMNS: tl.constexpr, SPAN: tl.constexpr, TILE: tl.constexpr, LINES: tl.constexpr, PREFETCH: tl.constexpr,
):  # fmt: skip
    storage: tl.constexpr = P.dtype.element_ty
    lane, column = tl.arange(0, TILE), tl.arange(0, SPAN)
    line = tl.arange(0, LINES) * (SPAN // LINES)
    left = polls + 0
    for stratum in range(first, last):
        for band in range(tl.program_id(0), bands, tl.num_programs(0)):
            place = bounds + stratum * (bands + 1) + band
            low, high = tl.load(place), tl.load(place + 1)
            total = tl.load(squares + band)
            if PREFETCH:  # triples do not change: the first come while the program waits
                at = tl.maximum(tl.minimum(low + lane, high - 1), 0)
                _prefetch(users + at)
                _prefetch(items + at)
                _prefetch(values + at)
            if storage == tl.bfloat16:  # from the first pair of the block, wherever its triples are stored
                first_user, first_item = tl.load(users + low, low < high, 0), tl.load(items + low, low < high, 0)
                noise = _hashed(_hashed(first_user.to(tl.uint32) + seed.to(tl.uint32)) + first_item.to(tl.uint32))
            if stratum > first:  # the item band was last with the user band after this one
                neighbour = progress + (band + 1) % bands
                while (tl.load(neighbour, volatile=True) < stratum) & (left > 0):
                    left -= 1
                tl.atomic_add(neighbour, 0, sem="acquire")
            if left > 0:
                left = polls + 0
            else:  # the epoch has failed: come to its end
                high = low
                tl.store(stalled, 1)
            for start in range(low, high, batch):
                j = start + lane
                inside = (lane < batch) & (j < high)
                u = tl.load(users + j, inside, 0, eviction_policy="evict_first")
                i = tl.load(items + j, inside, 0, eviction_policy="evict_first")
                r = tl.load(values + j, inside, 0.0, eviction_policy="evict_first")
                cells = inside[:, None] & (column < COLUMNS)[None, :]
                to_p = P + u.to(tl.int64)[:, None] * COLUMNS + column[None, :]
                to_q = Q + i.to(tl.int64)[:, None] * COLUMNS + column[None, :]
                p = tl.load(to_p, cells, 0.0, cache_modifier=".cg").to(tl.float32)  # [TILE, SPAN]
                q = tl.load(to_q, cells, 0.0, cache_modifier=".cg").to(tl.float32)
                b_u = tl.load(user_bias + u, inside, 0.0, cache_modifier=".cg")  # [TILE]
                b_i = tl.load(item_bias + i, inside, 0.0, cache_modifier=".cg")
                if PREFETCH:
                    ahead = j + batch
                    coming = (lane < batch) & (ahead < high)
                    next_u = tl.load(users + ahead, coming, 0, eviction_policy="evict_first")
                    next_i = tl.load(items + ahead, coming, 0, eviction_policy="evict_first")
                    later = tl.minimum(ahead + batch, high - 1)
                    _prefetch(values + later)
                    _prefetch(P + next_u.to(tl.int64)[:, None] * COLUMNS + line[None, :])
                    _prefetch(Q + next_i.to(tl.int64)[:, None] * COLUMNS + line[None, :])
                    _prefetch(users + later)
                    _prefetch(items + later)

                e = tl.where(inside, r - b_u - b_i - tl.sum(p * q, 1), 0.0)
                total += tl.sum(e * e).to(tl.float64)
                same_u = (u[:, None] == u[None, :]) & inside[None, :]  # [TILE, TILE]
                same_i = (i[:, None] == i[None, :]) & inside[None, :]
                step, shrink = rate * e[:, None], rate * ridge
                new_p = p + _summed(same_u, step * q - shrink * p, storage)
                new_q = q + _summed(same_i, step * p - shrink * q, storage)
                b_u += tl.sum(tl.where(same_u, (bias_rate * (e - bias_ridge * b_u))[None, :], 0.0), 1)
                b_i += tl.sum(tl.where(same_i, (bias_rate * (e - bias_ridge * b_i))[None, :], 0.0), 1)
                if storage == tl.bfloat16:
                    of_tile = _hashed(noise + (start - low).to(tl.uint32))
                    of_p, of_q = u[:, None] * SPAN + column[None, :], i[:, None] * SPAN + column[None, :]
                    new_p = _rounded(new_p, _hashed(of_tile + of_p.to(tl.uint32)))
                    new_q = _rounded(new_q, _hashed(of_tile * 0x93D765DD + of_q.to(tl.uint32)))
                tl.store(to_p, new_p.to(storage), cells, cache_modifier=".cg")
                tl.store(to_q, new_q.to(storage), cells, cache_modifier=".cg")
                tl.store(user_bias + u, b_u, inside, cache_modifier=".cg")
                tl.store(item_bias + i, b_i, inside, cache_modifier=".cg")
                tl.debug_barrier()  # rows of the next tile may be among these
            tl.store(squares + band, total)
            tl.debug_barrier()
            tl.atomic_add(progress + band, 1, sem="release")
