"""Kernels: arrays in, arrays out; one definition of the mathematics, and its backends.

`reference` is the specification (float64 NumPy), `cpu` runs on numba, `torch` on torch and `triton` on torch and
Triton; `backend` says what each of them offers, `operands` what they take. `select` gives the backend for a device; a
solver gets one and does not know which. `predictor` gives the kernels that models predict with on a device.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

from recsys_mf.arrays.cores import available_threads, processors
from recsys_mf.errors import ConfigError, DeviceError, nearest
from recsys_mf.kernels.backend import Backend, PredictionKernels

DEVICES = ("auto", "cpu", "cuda")
MIN_CAPABILITY = (8, 0)  # compute capability that Triton's kernels need: TF32


def select(device: str | Backend = "auto", threads: int | None = None) -> Backend:
    """The backend for "cpu", "cuda" or "auto" (CUDA if it is there), on this many threads of the host.

    device : one of these names, or a backend, which is returned unchanged
    threads : `available_threads()` if None
    The first use of a card checks its kernels (`triton.verification`). If one is wrong, torch's is used with "auto" and
    a DeviceWarning says so; with "cuda" it is a DeviceError. Raises ConfigError for another name or a thread count out
    of range, DeviceError for CUDA if there is none.
    """
    if isinstance(device, Backend):
        return device
    threads = _check_threads(threads)
    if not _takes_card(device):
        from recsys_mf.kernels.cpu.backend import make_backend as on_cpu

        return on_cpu(threads)
    if _takes_triton():  # the run records which of the two it was
        from recsys_mf.kernels.triton.backend import make_verified_backend

        return make_verified_backend("cuda", threads, strict=device == "cuda")
    from recsys_mf.kernels.torch.backend import make_backend as on_torch

    return on_torch("cuda", threads)


def predictor(device: str | Backend = "auto", threads: int | None = None) -> PredictionKernels:
    """The kernels of predictions on "cpu", "cuda" or "auto" (CUDA if it is there), on this many threads of the host.

    device : one of these names, or a backend, whose family of predictions is returned
    On CUDA it keeps the tables of every model that it is used for. Raises the same errors as `select`.
    """
    if isinstance(device, Backend):
        return device.make_prediction()
    threads = _check_threads(threads)
    if _takes_card(device):
        if _takes_triton():
            from recsys_mf.kernels.triton.backend import make_verified_prediction

            return make_verified_prediction("cuda", strict=device == "cuda")
        from recsys_mf.kernels.torch.prediction import TorchPrediction

        return TorchPrediction("cuda")
    from recsys_mf.kernels.cpu.prediction import CpuPrediction

    return CpuPrediction(threads)


def _check_threads(threads: int | None) -> int:
    """The number of threads, if it is one that the machine has."""
    if threads is None:
        return available_threads()
    most = processors()
    if not isinstance(threads, int) or not 1 <= threads <= most:
        raise ConfigError("number of threads out of range", seen=threads, fix=f"give 1 to {most}")
    return threads


def _takes_card(device: str) -> bool:
    """Whether the device means CUDA here."""
    if device not in DEVICES:
        raise ConfigError("unknown device", seen=device, fix=nearest(device, DEVICES))
    if device == "cpu" or (device == "auto" and not has_driver()):
        return False
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("CUDA is not available here", fix="use the device 'cpu' or 'auto'")
    return torch.cuda.is_available()


def _takes_triton() -> bool:
    """Whether Triton's kernels run on the card."""
    import torch

    return find_spec("triton") is not None and torch.cuda.get_device_capability() >= MIN_CAPABILITY


def has_driver() -> bool:
    """Whether a driver is loaded. Machines without one are spared the seconds that importing torch takes."""
    return any(os.path.exists(path) for path in ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"))
