"""The host's memory as a device: arrays stay where they are."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.aligned import ensure_aligned


class CpuDevice:
    """`kernels.backend.Device` on CPU cores."""

    name = "cpu"
    xp: Any = np

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def describe(self) -> dict[str, str]:
        """The device."""
        return {"device": self.name}

    def guard(self) -> AbstractContextManager[None]:
        """Does nothing: only a device with memory of its own needs it."""
        return nullcontext()

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array if the kernels can read and write it as it is, else a copy; tables start on cache lines."""
        return ensure_aligned(array) if array.ndim == 2 else np.require(array, requirements=["C", "W"])

    def get(self, array: NDArray[Any]) -> NDArray[Any]:
        """A copy that later epochs do not change."""
        return np.array(array, order="C")

    def is_finite(self, array: NDArray[Any]) -> bool:
        """Whether every entry is finite."""
        return bool(np.isfinite(array).all())

    def draw_normals(self, rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
        """Drawn by rng."""
        return rng.standard_normal((rows, columns), np.float32)

    def draw_uniforms(self, rng: np.random.Generator, size: int) -> NDArray[np.float32]:
        """Drawn by rng."""
        return rng.random(size, np.float32)
