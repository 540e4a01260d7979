"""Kernels: arrays in, arrays out. One definition of the mathematics, its backends.

`reference` is the specification (float64 NumPy), `cpu` runs on numba, `cuda` on torch and `triton_kernels` on torch
and Triton. `select` gives the backend for a device; a solver is handed one and does not know which. `predictor` gives
what models predict with there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.cores import available_threads, processors
from recsys_mf.errors import ConfigError, DeviceError, nearest
from recsys_mf.kernels import layout
from recsys_mf.kernels.layout import Grid

DEVICES = ("auto", "cpu", "cuda")
_LEAST_CAPABILITY = (8, 0)  # compute capability: TF32


class Triples(Protocol):
    """Triples as `Kernels.sgd_epoch` takes them."""

    def passes(self) -> Iterator[tuple[Any, Any, Any, Any]]:
        """(users, items, values, bounds) of what makes up an epoch: all strata at once, or some after others."""
        ...


class Kernels(Protocol):
    """The operations of a backend. Arrays are the backend's own: `put` brings them there, `get` back.

    The operations are those of `reference`, whose docstrings specify them.
    """

    device: str
    """What it runs on, as runs and reports name it."""

    threads: int
    """Threads of the host that it may use."""

    xp: Any
    """The module of its arrays, NumPy or torch: for what both name alike (sqrt, hstack, einsum, linalg.qr, …)."""

    precisions: tuple[str, ...]
    """How `sgd_epoch` can store factors: "float32", and what takes half of that."""

    schedules: tuple[str, ...]
    """What blocks of a stratum `sgd_epoch` can run side by side: "conflict-free", and "hogwild" that share rows."""

    most_rank: int | None
    """The largest rank that `sgd_epoch` takes, None for any."""

    def facts(self) -> dict[str, str]:
        """What a run records of the device."""
        ...

    def guarded(self) -> AbstractContextManager[None]:
        """Where a device without room raises ResourceError."""
        ...

    def put(self, array: Any) -> Any:
        """The array on the device (a copy where that is another memory, or where it is read-only)."""
        ...

    def put_factors(self, array: NDArray[Any], precision: str) -> Any:
        """Factors on the device, stored in one of `precisions`."""
        ...

    def get(self, array: Any) -> NDArray[Any]:
        """The array as NumPy; a copy."""
        ...

    def width(self, rank: int) -> int:
        """Columns that `sgd_epoch` wants its factors to have, at least rank; the rest are zeros."""
        ...

    def grid(self, n_ratings: int, n_users: int, n_items: int, width: int) -> Grid:
        """The grid `sgd_epoch` wants for a table of this size and factors of this width."""
        ...

    def blocked(
        self,
        users: Any,
        items: Any,
        values: Any,
        user_places: Any,
        item_places: Any,
        part_of_user: Any,
        part_of_item: Any,
        grid: Grid,
        center: float,
        scale: float,
        seed: int,
    ) -> layout.Triples:
        """As `layout.blocked`; the columns may be on the device."""
        ...

    def triples(self, users: Any, items: Any, values: Any, bounds: NDArray[np.int64]) -> Triples:
        """The triples of a schedule, on the device or on their way there."""
        ...

    def normals(self, rng: np.random.Generator, rows: int, columns: int) -> Any:
        """Standard normals float32[rows, columns], drawn by rng or on the device from a seed of it."""
        ...

    def uniforms(self, rng: np.random.Generator, size: int) -> Any:
        """Multiples of 2⁻²⁴ in [0, 1), float32[size], on the device too."""
        ...

    def batch(self, share: float, rate: float) -> int:
        """Ratings `sgd_epoch` takes at a time, where the most rated row has this share of all ratings."""
        ...

    def sgd_epoch(
        self, users: Any, items: Any, values: Any, bounds: Any, batch: int, P: Any, Q: Any,
        user_bias: Any, item_bias: Any, rate: float, bias_rate: float, ridge: float, bias_ridge: float, seed: int,
    ) -> float: ...  # fmt: skip

    def solve_rows(
        self, starts: Any, others: Any, contexts: Any, values: Any, Y: Any, C: Any, prior_precision: Any,
        prior_means: Any, weights: Any, ridge: Any, noise_precision: float, normals: Any,
    ) -> tuple[Any, Any]: ...  # fmt: skip

    def refine_rows(
        self, starts: Any, others: Any, values: Any, X: Any, Y: Any, weights: Any, ridge: Any, steps: int
    ) -> tuple[Any, Any]: ...

    def sparse_product(self, starts: Any, others: Any, values: Any, X: Any) -> Any: ...

    def pair_means(self, starts: Any, others: Any, contexts: Any, X: Any, Y: Any, C: Any) -> Any: ...

    def pair_values(self, users: Any, items: Any, contexts: Any, X: Any, Y: Any, C: Any) -> Any: ...

    def expected_levels(self, means: Any, thresholds: NDArray[Any], noise: float, levels: NDArray[Any]) -> Any: ...

    def ordinal_terms(
        self, means: Any, levels: Any, cuts: NDArray[Any], slope: float
    ) -> tuple[float, NDArray[Any], NDArray[Any]]: ...

    def drawn_latents(self, means: Any, levels: Any, cuts: NDArray[Any], slope: float, uniforms: Any) -> Any: ...


class Predictor(Protocol):
    """What models predict with: functions from NumPy to NumPy, specified by the docstrings of `reference`."""

    def predict(
        self, mean: float, user_bias: Any, item_bias: Any, P: Any, Q: Any, users: Any, items: Any,
        rating_range: tuple[float, float],
    ) -> NDArray[np.float32]: ...  # fmt: skip

    def predict_samples(
        self, mean: float, deviation: float, users: Any, items: Any, contexts: Any, scales: Any, offsets: Any,
        u: Any, i: Any, c: Any, rating_range: tuple[float, float],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]: ...  # fmt: skip

    def predict_levels(
        self, users: Any, items: Any, contexts: Any, scales: Any, offsets: Any, thresholds: Any, noises: Any,
        u: Any, i: Any, c: Any,
    ) -> NDArray[np.float32]: ...  # fmt: skip


def select(device: str = "auto", threads: int | None = None) -> Kernels:
    """The backend for "cpu", "cuda" or "auto" (CUDA where it is there), on this many threads of the host.

    threads : `available_threads()` where None
    Raises ConfigError for another name or a thread count out of range, DeviceError for CUDA where there is none.
    """
    threads = _checked(threads)
    if _takes_card(device):
        return _on_card(threads)
    from recsys_mf.kernels.cpu import CpuKernels

    return CpuKernels(threads)


def predictor(device: str = "auto", threads: int | None = None) -> Predictor:
    """What models predict with on "cpu", "cuda" or "auto" (CUDA where it is there), on this many threads of the host.

    On CUDA it keeps the tables of every model that it is used for. Raises as `select` does.
    """
    threads = _checked(threads)
    if _takes_card(device):
        from recsys_mf.kernels.cuda_predict import DevicePredictor

        return DevicePredictor("cuda")
    from recsys_mf.kernels.cpu_predict import CpuPredictor

    return CpuPredictor(threads)


def _checked(threads: int | None) -> int:
    """The number of threads, where it is one that the machine has."""
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
    if device == "cpu" or (device == "auto" and not _nvidia_driver()):
        return False
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("CUDA is not available here", fix="use the device 'cpu' or 'auto'")
    return torch.cuda.is_available()


def _on_card(threads: int) -> Kernels:
    """Triton's kernels where there is Triton and the card has the matrix units they use, else torch's: the run records
    which."""
    import torch

    if find_spec("triton") is not None and torch.cuda.get_device_capability() >= _LEAST_CAPABILITY:
        from recsys_mf.kernels.triton_kernels import TritonKernels

        return TritonKernels("cuda", threads)
    from recsys_mf.kernels.cuda import TorchKernels

    return TorchKernels("cuda", threads)


def _nvidia_driver() -> bool:
    """Whether a driver is loaded: spares machines without one the seconds that importing torch takes."""
    return any(os.path.exists(path) for path in ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"))
