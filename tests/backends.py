"""The backends that tests compare with the reference; without a card, Triton's kernels run under its interpreter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.cpu.backend import make_backend as on_cpu
from recsys_mf.kernels.torch.backend import make_backend as on_torch


def on_triton(device: str, room: int | None = None) -> Backend:
    """Imports Triton only when it is called, since the interpreter is chosen at import."""
    from recsys_mf.kernels.triton.backend import make_backend

    return make_backend(device, room=room)


BACKENDS: dict[str, Callable[[], Backend]] = {
    "cpu-1": lambda: on_cpu(1),
    "cpu-2": lambda: on_cpu(2),
    "torch": lambda: on_torch("cpu"),
    "triton": lambda: on_triton("cpu"),
    "torch-cuda": lambda: on_torch("cuda"),
    "triton-cuda": lambda: on_triton("cuda"),
}

interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton compiles for the card that is here")
_INTERPRETED = (interpreted, pytest.mark.slow)  # by far the slowest
NAMES = (
    "cpu-1", "cpu-2", "torch", pytest.param("triton", marks=_INTERPRETED),
    pytest.param("torch-cuda", marks=pytest.mark.cuda), pytest.param("triton-cuda", marks=pytest.mark.cuda),
)  # fmt: skip
