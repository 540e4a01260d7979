"""Threads: kernels that release the interpreter's lock, side by side on ranges of their work.

A process starts helping threads when work is large enough for them, and ends them before it forks: a child finds no
thread missing, and starts its own. There is no other runtime of threads beneath, whose state a fork would break.
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

_SPLIT = 8  # tasks a thread, so that one whose core is busy with another program does not hold up the others
_PAIR = 16  # multiplications that a pair costs beside its factors
_LITTLE = 1 << 18  # multiplications: what takes less time than a thread takes to wake


def limit_blas() -> AbstractContextManager[Any]:
    """Inside, BLAS has one thread: one that has done its part waits busily for more, on a core that others lack."""
    limited: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limited


@cache
def _libraries() -> ThreadpoolController:
    """The libraries with threads of their own; to look for them takes milliseconds."""
    return ThreadpoolController()


def side_by_side(kernel: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], threads: int, *arguments: Any) -> None:
    """kernel(*task, *arguments) for every task, by at most so many threads; the calling thread is one of them.

    Tasks go in their order to threads that are free; every task must be able to end without the others.
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
        waiting.clear()  # where Ctrl-C came between two tasks
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def ranges(n: int, step: int) -> list[tuple[int, int]]:
    """(low, high) of the ranges of this many that make up n, the last one shorter."""
    return [(low, min(low + step, n)) for low in range(0, n, step)]


def pairs(n: int, work: int) -> list[tuple[int, int]]:
    """Ranges of n pairs of so much work each, as `shares`; they do not depend on the number of threads."""
    return ranges(n, max(1, 8 * _LITTLE // (work + _PAIR)))


def shares(work: NDArray[Any], threads: int) -> list[tuple[int, int]]:
    """Contiguous ranges of rows of about equal work: a few per thread, or one where all of it is little.

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
    """The work on up to so many threads: fewer where the system gives no more, or the interpreter is ending."""
    helpers: list[Future[None]] = []
    try:
        for _ in range(count):
            helpers.append(_executor().submit(work))
    except RuntimeError:
        pass
    return helpers


def _end() -> None:
    """End the threads, once they have done what they are at."""
    if _executor.cache_info().currsize:
        executor = _executor()
        _executor.cache_clear()
        executor.shutdown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_end)
