"""Compilation: kernels are cached on disk if possible, and are the same whether compiled or cached."""

from __future__ import annotations

import ast
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from numba.core.caching import FunctionCache

from recsys_mf.arrays import jit
from tests.kernels.test_processes import PACKAGE, done, script

UNCACHED = """
import warnings
from numba.core import caching
{breaking}
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "breaking",
    [
        "caching.CacheImpl._locator_classes = []",
        "def full(*given): raise OSError(28, 'No space left on device')\ncaching.IndexDataCacheFile._save_data = full",
        "caching.UserProvidedCacheLocator.get_cache_path = lambda self: '/proc/none'\n"
        "caching.CacheImpl._locator_classes = [caching.UserProvidedCacheLocator]",
    ],
    ids=["no folder can be written", "the disk is full", "the folder asked for cannot be made"],
)
def test_kernels_that_cannot_be_cached_are_compiled_in_every_process_with_one_warning(
    tmp_path: Path, breaking: str
) -> None:
    body = (
        script("print(np.isfinite(predicted(0)))")
        .replace("\n", "\n    ")
        .replace('if __name__ == "__main__":', "if 1:")
    )
    tail = "\nprint([str(w.message) for w in seen if w.category.__name__ == 'CacheWarning'])"
    printed = done(UNCACHED.format(breaking=breaking) + body + tail, NUMBA_CACHE_DIR=str(tmp_path / "kernels"))
    said = ast.literal_eval(printed.split("\n")[1])
    assert printed.startswith("True")
    assert len(said) == 1
    assert said[0].endswith("set NUMBA_CACHE_DIR to a folder that can be written")


@pytest.mark.slow
def test_damaged_files_of_compiled_kernels_are_compiled_again(tmp_path: Path) -> None:
    body = script("print(predicted(0))")
    folder = {"NUMBA_CACHE_DIR": str(tmp_path)}
    first = done(body, **folder)
    files = [path for path in tmp_path.rglob("*.nb?") if path.is_file()]
    assert len(files) > 10
    for number, path in enumerate(sorted(files)):
        path.write_bytes((b"", path.read_bytes()[: path.stat().st_size // 2], b"\x80\x05damaged")[number % 3])
    assert done(body, **folder) == first
    assert done(body, **folder) == first


def test_kernels_cached_by_other_sources_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel includes the code of kernels that it calls from other files, which numba does not check."""

    @jit.jit()
    def double(x: Any) -> Any:
        return 2 * x

    assert double(2) == 4
    codegen = double.overloads[double.signatures[0]].codegen
    before = double._cache._index_key(double.signatures[0], codegen)
    monkeypatch.setattr(jit, "_sources", lambda: "others")
    assert double._cache._index_key(double.signatures[0], codegen) != before


def test_only_compilations_inside_are_told_and_once() -> None:
    told: list[int] = []

    def compiled(number: int) -> None:
        @jit.jit()
        def add(x: Any) -> Any:
            return x + number

        assert add(1) == number + 1

    number = time.time_ns() % 1_000_000_000  # what was compiled before is read
    with jit.on_compilation(lambda: told.append(1)):
        compiled(number)
        compiled(number + 1)
    compiled(number + 2)
    assert told == [1]


def test_an_interrupt_that_was_lost_during_a_compilation_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*given: Any) -> None:
        raise RuntimeError("no compiled object yet for <Library 'f' at 0x7f>")

    monkeypatch.setattr(FunctionCache, "save_overload", lost)

    @jit.jit()
    def double(x: Any) -> Any:
        return 2 * x

    with pytest.raises(KeyboardInterrupt):
        double(2)


POSIX = ("resource", "fcntl", "grp", "pwd", "termios", "tty", "pty", "_posixsubprocess")


@pytest.mark.slow
def test_every_module_can_be_imported_without_posix() -> None:
    """Windows has none of these modules and functions."""
    names = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "__main__.py" and (path.name != "sklearn.py" or find_spec("sklearn") is not None)
    ]
    program = f"""
import importlib, os, sys
import numba, pandas, pyarrow, scipy, torch, tqdm, click  # other packages first: they handle other systems
for name in {POSIX!r}:
    sys.modules[name] = None
for name in ("fork", "register_at_fork", "sched_getaffinity", "sysconf", "posix_fallocate", "geteuid", "fchmod"):
    if hasattr(os, name):
        delattr(os, name)
for name in {names!r}:
    if "triton" not in name:
        importlib.import_module(name)
print("all")
"""
    assert done(program).split() == ["all"]


BYTES = """
import hashlib, sys
import numpy as np
import recsys_mf as mf
from recsys_mf.solvers import Als, Gibbs, Sgd

rng = np.random.default_rng(5)
P, Q = rng.standard_normal((200, 4)), rng.standard_normal((60, 4))
users, items = np.nonzero(rng.random((200, 60)) < 0.25)
values = np.clip(np.rint(3 + 0.6 * (P[users] * Q[items]).sum(1) + 0.5 * rng.standard_normal(len(users))), 1, 5)
split = mf.hold_out(mf.Ratings.from_ids(users, items, values), 0.1, seed=1)
solvers = {
    "sgd": Sgd(rank=24, members=2, epochs=3),
    "als": Als(rank=24, members=2, epochs=3),
    "cholesky": Als(rank=24, members=1, epochs=2, cg_steps=0),
    "gaussian": Gibbs(rank=8, sweeps=6, burn_in=2, likelihood="gaussian"),
    "ordinal": Gibbs(rank=8, sweeps=6, burn_in=2, likelihood="ordinal"),
}
for name in sys.argv[1:] or solvers:
    run = mf.train(split, solvers[name])
    digest = hashlib.sha256(run.predict(users, items).tobytes() + repr(run.fit.train_rmse).encode())
    for fit in (run.fit, *run.baselines.values()):
        for array in fit.model.arrays().values():
            digest.update(np.ascontiguousarray(array).tobytes())
    print(name, digest.hexdigest())
"""


COPIES = (
    BYTES
    + """
import gc
from llvmlite import binding
from numba.core.dispatcher import Dispatcher

run.recommend(users[:20], 5)
compiled = [d for d in gc.get_objects() if isinstance(d, Dispatcher) and d.__module__.startswith("recsys_mf.")]
overloads = [(d.__name__, overload) for d in compiled for overload in d.overloads.values()]
print("compiled", len(overloads))
for name, overload in overloads:
    module = binding.parse_bitcode(overload.library._final_module.as_bitcode())
    for function in module.functions:
        if not function.is_declaration and function.linkage.name == "linkonce_odr" and "_ZN9recsys_mf" in function.name:
            print("copy in", name, "of", function.name)
"""
)


@pytest.mark.slow
def test_no_compiled_function_holds_a_copy_of_another(tmp_path: Path) -> None:
    """The first copy that a process loads would serve all, and each is optimised in its place."""
    printed = done(COPIES, NUMBA_CACHE_DIR=str(tmp_path)).split("\n")
    counts = [int(line.split()[1]) for line in printed if line.startswith("compiled")]
    assert counts[0] > 40
    assert [line for line in printed if line.startswith("copy")] == []


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["", "generic"])
def test_a_seed_gives_the_same_bytes_whether_kernels_are_compiled_or_read(tmp_path: Path, processor: str) -> None:
    """All compiled in one process, all read from disk, and compiled with some of what they call read from disk."""
    target = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""} if processor else {}
    cold, warm = (done(BYTES, NUMBA_CACHE_DIR=str(tmp_path / "one"), **target) for _ in range(2))
    assert cold == warm
    mixed = [
        done(f"import sys; sys.argv[1:] = {names!r}\n" + BYTES, NUMBA_CACHE_DIR=str(tmp_path / "more"), **target)
        for names in (["ordinal"], ["cholesky", "sgd"], ["als", "gaussian"])
    ]
    assert set("".join(mixed).split("\n")) == set(cold.split("\n"))
