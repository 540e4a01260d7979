"""The backend in torch."""

from __future__ import annotations

from functools import partial

import torch

from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.torch.device import TorchDevice
from recsys_mf.kernels.torch.prediction import TorchPrediction
from recsys_mf.kernels.torch.probit import TorchProbit
from recsys_mf.kernels.torch.rows import TorchRows
from recsys_mf.kernels.torch.sgd import TorchSgd


def make_backend(name: str, threads: int = 1, room: int | None = None) -> Backend:
    """The families on "cuda", or on torch's "cpu" for tests without a card.

    threads : of the host
    room : bytes of the device that triples of SGD may take; None for half of what is free when they are placed
    """
    device = TorchDevice(name, threads, f"torch {torch.__version__}")
    return Backend(
        device, TorchRows(device), TorchSgd(device, room), TorchProbit(device), partial(TorchPrediction, name)
    )
