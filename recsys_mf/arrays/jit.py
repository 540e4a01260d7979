"""Compilation: functions for numba, cached on disk if there is a folder that can be written to."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

from recsys_mf.errors import CacheWarning

# Set for every function: numba takes an option that is not set from the function whose compilation needs this one.
_OWN = {"fastmath": False, "error_model": "python", "forceinline": False}


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` without the interpreter's lock, compiled once and cached on disk.

    If no folder can be written to, the function is compiled in every process; a CacheWarning says so once.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher: Any = numba.njit(nogil=True, **{**_OWN, **options})(function)
        try:
            # What `cache=True` does, with a cache that may fail.
            dispatcher._cache = _Cache(function)  # type: ignore[no-untyped-call]
        except RuntimeError:  # numba found no folder
            _say_uncached()
        return dispatcher

    return compiled


def inline(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`jit` for functions that other compiled functions call: their code is inlined into the caller.

    Otherwise each caller would hold a copy, optimised in its context, and the copy that a process loads first would be
    used by all of them. Then the rounding of sums would depend on what the process computed before.
    """
    return jit(forceinline=True, **options)


class _Cache(FunctionCache):
    """Compiled functions in files. If a file is damaged or cannot be written, the function is compiled again.

    The key of the cache has the sources of all compiled functions, because a function contains those that it calls.
    """

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return *super()._index_key(sig, codegen), _sources()  # type: ignore[no-untyped-call]

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # whatever reading a damaged file raises
            try:
                self.flush()  # type: ignore[no-untyped-call]
            except OSError:
                _say_uncached()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except OSError:
            _say_uncached()
        except RuntimeError as error:
            if "no compiled object yet" not in str(error):
                raise
            raise KeyboardInterrupt from None  # it came during a callback from LLVM, where Python drops it


@cache
def _sources() -> str:
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for folder in ("arrays", "kernels"):
        for path in sorted((package / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _say_uncached() -> None:
    warnings.warn(
        "no folder to keep compiled kernels in: every process compiles them again, which takes seconds; "
        "set NUMBA_CACHE_DIR to a folder that can be written",
        CacheWarning,
        stacklevel=2,
    )


@contextmanager
def on_compilation(action: Callable[[], None]) -> Iterator[None]:
    """Inside, the action is called once, when the first function is compiled instead of read from disk."""
    from numba.core import event

    class Listener(event.Listener):
        called = False

        def on_start(self, event: Any) -> None:
            if not self.called:
                action()
            self.called = True

        def on_end(self, event: Any) -> None:
            pass

    listener = Listener()
    event.register("numba:compile", listener)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        event.unregister("numba:compile", listener)  # type: ignore[no-untyped-call]


def target() -> str:
    """The processor that functions are compiled for."""
    from llvmlite import binding

    return str(getattr(numba.config, "CPU_NAME", None) or binding.get_host_cpu_name())
