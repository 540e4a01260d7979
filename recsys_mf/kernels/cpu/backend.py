"""The backend on CPU cores."""

from __future__ import annotations

from functools import partial

from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.cpu.device import CpuDevice
from recsys_mf.kernels.cpu.prediction import CpuPrediction
from recsys_mf.kernels.cpu.probit import CpuProbit
from recsys_mf.kernels.cpu.rows import CpuRows
from recsys_mf.kernels.cpu.sgd import CpuSgd


def make_backend(threads: int) -> Backend:
    """The families on this many threads."""
    prediction = partial(CpuPrediction, threads)
    return Backend(CpuDevice(threads), CpuRows(threads), CpuSgd(threads), CpuProbit(threads), prediction)
