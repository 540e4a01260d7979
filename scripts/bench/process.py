"""Processes: run a program to its end and measure its time and memory from outside.

The peak memory of a child starts at that of the program that started it, so the programs that start measured processes
import nothing large.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

_THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON", "LK")


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    code : exit status, negative for a signal; said : the last line that it wrote
    seconds : from its start to its end; peak_memory : its largest resident memory, bytes
    """

    code: int
    said: str
    seconds: float
    peak_memory: int


def run(command: Sequence[str], *, threads: int, limit: float) -> Ended:
    """Run a command with at most `threads` threads, and kill it after `limit` seconds."""
    environment = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in _THREADS}
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        child = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        timer = threading.Timer(limit, child.kill)
        timer.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
        finally:
            timer.cancel()
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    if seconds >= limit:
        lines.append(f"stopped after {limit:.0f} s")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # bytes on macOS, KiB elsewhere
    return Ended(child.returncode, lines[-1].strip() if lines else "no output", seconds, peak)
