"""Scheduler: which thread takes which block of a conflict-free schedule, and when.

An epoch consists of strata, all with the same number of blocks. A block must wait for those blocks of earlier strata
that share its user band or its item band, and for no others. With a barrier after every stratum, all threads would wait
for the slowest and be woken again each time. Here every thread has its own user bands, whose rows stay in its cache,
and visits its next block as soon as the item band of this block is free. A thread that has waited long, or has visited
all its own blocks, takes the first block that no thread has taken; if that is not free either, it sleeps. So uneven
work delays no thread for long, the system can move a thread that shares its core with another program to an idle core,
and there is no deadlock for any number of threads. Blocks that share a band are visited in the order of the strata,
whichever thread takes them.

docs/decisions.md compares the speed with that of other schedulers.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from recsys_mf.arrays.jit import inline
from recsys_mf.kernels.cpu.simd import array_of

_LOOKS = 1 << 12  # polls of a band that is not free before a thread looks for another block, or sleeps
_LONGEST_NAP = 1000  # microseconds
_SLEEP, _UNIT = ("Sleep", 1000) if sys.platform == "win32" else ("usleep", 1)  # and its unit in microseconds
_WORD = ir.IntType(64)
_BYTES = 8  # of a word
_APART = 8  # words between the places of two threads: a cache line each


def make_board(strata: int, blocks: int, threads: int) -> tuple[NDArray[np.int64], ...]:
    """What threads have taken and done: (taken, user bands, item bands, place of every thread)."""
    return (
        np.zeros(strata * blocks, np.int64),
        np.zeros(blocks, np.int64),
        np.zeros(blocks, np.int64),
        np.zeros((threads, _APART), np.int64),
    )


@inline()
def next_block(board: Any, thread: Any, threads: Any) -> Any:
    """The number of the block to visit next, stratum · blocks + user band, which is then this thread's; -1 for none."""
    taken, users_done, items_done, places = board
    blocks = users_done.size
    low, high = thread * blocks // threads, (thread + 1) * blocks // threads
    own, first, looks, nap = places[thread, 0], places[thread, 1], 0, 1
    block = np.int64(-1)
    while block < 0:
        mine = own // max(high - low, 1) * blocks + low + own % max(high - low, 1)
        if low == high or mine >= taken.size:
            mine, looks = np.int64(-1), _LOOKS
        elif _load(taken, mine):
            own += 1
            continue
        if mine >= 0 and _is_free(mine, users_done, items_done):
            block = mine
        elif looks >= _LOOKS:
            while first < taken.size and _load(taken, first):
                first += 1
            if first == taken.size:
                break
            if _is_free(first, users_done, items_done):
                block = first
            else:
                _sleep(nap)
                nap = min(2 * nap, _LONGEST_NAP)
        if block >= 0 and not _claim(taken, block):
            block = np.int64(-1)
        looks += 1
    places[thread, 0], places[thread, 1] = own, first
    return block


@inline()
def finish(board: Any, block: Any) -> None:
    """Mark a block as visited; a thread that then finds its bands free sees all that was written in it."""
    _, users_done, items_done, _ = board
    blocks = users_done.size
    stratum, band = block // blocks, block % blocks
    _store(users_done, band, stratum + 1)
    _store(items_done, (band + stratum) % blocks, stratum + 1)


@inline()
def _is_free(block: Any, users_done: Any, items_done: Any) -> Any:
    """Whether both bands of the block have been through all strata before it."""
    blocks = users_done.size
    stratum, band = block // blocks, block % blocks
    return _load(users_done, band) == stratum and _load(items_done, (band + stratum) % blocks) == stratum


def _load_acquire(typing_context: Any, words: Any, place: Any) -> Any:
    """words[place]; makes all that was written before this word was stored visible."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = array_of(context, builder, signature, arguments, 0)
        return builder.load_atomic(builder.gep(words.data, [arguments[1]]), "acquire", _BYTES)

    return types.int64(words, types.int64), generate


def _store_release(typing_context: Any, words: Any, place: Any, word: Any) -> Any:
    """words[place] = word, once all that was written before is visible."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = array_of(context, builder, signature, arguments, 0)
        builder.store_atomic(arguments[2], builder.gep(words.data, [arguments[1]]), "release", _BYTES)
        return context.get_dummy_value()

    return types.void(words, types.int64, types.int64), generate


def _exchange(typing_context: Any, words: Any, place: Any) -> Any:
    """Set words[place] = 1, and return whether it was 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = array_of(context, builder, signature, arguments, 0)
        before = builder.atomic_rmw("xchg", builder.gep(words.data, [arguments[1]]), ir.Constant(_WORD, 1), "acq_rel")
        return builder.icmp_signed("==", before, ir.Constant(_WORD, 0))

    return types.boolean(words, types.int64), generate


def _nap(typing_context: Any, microseconds: Any) -> Any:
    """Sleep, so that the core is free for another thread; a thread that polls would keep it busy."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32)])
        function: Any = cgutils.get_or_insert_function(builder.module, kind, _SLEEP)  # type: ignore[no-untyped-call]
        builder.call(function, [builder.trunc(builder.sdiv(arguments[0], ir.Constant(_WORD, _UNIT)), ir.IntType(32))])
        return context.get_dummy_value()

    return types.void(types.int64), generate


_load: Any = intrinsic(_load_acquire)
_store: Any = intrinsic(_store_release)
_claim: Any = intrinsic(_exchange)
_sleep: Any = intrinsic(_nap)
