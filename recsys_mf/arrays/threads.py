"""Threads: kernels that release the interpreter's lock, in parallel on ranges of their work.

A process starts helper threads when the work is large enough, and ends them before it forks, so that a child process
can start its own. There is no other threading runtime underneath, whose state a fork would break.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

_SPLIT = 8  # tasks per thread, so that a thread whose core is busy with another program does not delay the others
_PAIR = 16  # multiplications that a pair costs besides its factors
_LITTLE = 1 << 18  # multiplications that take less time than waking a thread


def limit_blas() -> AbstractContextManager[Any]:
    """Inside, BLAS uses one thread: its idle threads would spin on cores that other threads need."""
    limited: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limited


@cache
def _libraries() -> ThreadpoolController:
    """The libraries with threads of their own; finding them takes milliseconds."""
    return ThreadpoolController()


def side_by_side(kernel: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], threads: int, *arguments: Any) -> None:
    """kernel(*task, *arguments) for every task, on at most `threads` threads; the calling thread is one of them.

    Free threads take the tasks in order; every task must be able to end without the others.
    """
    waiting = deque(tasks)

    def work() -> None:
        while waiting:
            try:
                task = waiting.popleft()
            except IndexError:  # another thread has taken it
                return
            try:
                kernel(*task, *arguments)
            except BaseException:
                waiting.clear()
                raise

    if not getattr(kernel, "overloads", True) and waiting:  # compile here, where Ctrl-C ends it
        kernel(*waiting.popleft(), *arguments)
    helpers = _helpers(work, min(threads, len(waiting)) - 1)
    try:
        work()
    finally:
        waiting.clear()  # if Ctrl-C came between two tasks
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def ranges(n: int, step: int) -> list[tuple[int, int]]:
    """Ranges (low, high) of `step` that make up n; the last one may be shorter."""
    return [(low, min(low + step, n)) for low in range(0, n, step)]


def pairs(n: int, work: int) -> list[tuple[int, int]]:
    """Ranges of n pairs for threads, which do not depend on their number. work : multiplications per pair"""
    return ranges(n, max(1, 8 * _LITTLE // (work + _PAIR)))


def shares(work: NDArray[Any], threads: int) -> list[tuple[int, int]]:
    """Contiguous ranges of rows of about equal work: a few per thread, or one if there is little work.

    work float64[rows] : multiplications, roughly
    """
    done = np.cumsum(work)
    total = done[-1] if len(done) else 0.0
    count = _SPLIT * threads if total > _LITTLE else 1
    ends = [*np.searchsorted(done, total * np.arange(1, count) / count).tolist(), len(work)]
    return [(low, high) for low, high in zip([0, *ends[:-1]], ends, strict=True) if low < high]


@cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="recsys_mf")


def _helpers(work: Callable[[], None], count: int) -> list[Future[None]]:
    """The work on up to `count` threads; fewer if the system gives no more, or if the interpreter is shutting down."""
    helpers: list[Future[None]] = []
    try:
        for _ in range(count):
            helpers.append(_executor().submit(work))
    except RuntimeError:
        pass
    return helpers


def _end() -> None:
    """End the threads, once they have finished their current work."""
    if _executor.cache_info().currsize:
        executor = _executor()
        _executor.cache_clear()
        executor.shutdown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_end)
