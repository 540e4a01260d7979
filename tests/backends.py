"""The backends that tests hold to the reference: Triton's kernels under its interpreter where there is no card."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from recsys_mf.kernels import Kernels
from recsys_mf.kernels.cpu import CpuKernels
from recsys_mf.kernels.cuda import TorchKernels


def _triton(device: str) -> Kernels:
    from recsys_mf.kernels.triton_kernels import TritonKernels

    return TritonKernels(device)


BACKENDS: dict[str, Callable[[], Kernels]] = {
    "cpu-1": lambda: CpuKernels(1),
    "cpu-2": lambda: CpuKernels(2),
    "torch": lambda: TorchKernels("cpu"),
    "triton": lambda: _triton("cpu"),
    "torch-cuda": lambda: TorchKernels("cuda"),
    "triton-cuda": lambda: _triton("cuda"),
}

interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton compiles for the card that is here")
NAMES = (
    "cpu-1", "cpu-2", "torch", pytest.param("triton", marks=interpreted),
    pytest.param("torch-cuda", marks=pytest.mark.cuda), pytest.param("triton-cuda", marks=pytest.mark.cuda),
)  # fmt: skip
