"""A torch device: arrays are tensors there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_mf.kernels.torch import memory


class TorchDevice:
    """`kernels.backend.Device` on "cuda", or on torch's "cpu" for tests without a card.

    threads : of the host; kernels : what the kernels are written in, as a run records it
    """

    xp: Any = torch

    def __init__(self, name: str, threads: int, kernels: str) -> None:
        self.name, self.threads, self.kernels = name, threads, kernels

    def describe(self) -> dict[str, str]:
        """The device, its name, its driver, and what the kernels are written in."""
        facts = {"device": self.name, "kernels": self.kernels}
        return facts | memory.card() if self.name == "cuda" else facts

    def guard(self) -> AbstractContextManager[None]:
        """A card without room raises ResourceError."""
        return memory.guarded()

    def put(self, array: Any) -> Tensor:
        """The array as a tensor on the device; a tensor is there already."""
        if isinstance(array, Tensor):
            return array
        with self.guard():
            return torch.tensor(np.ascontiguousarray(array), device=self.name)

    def get(self, array: Tensor) -> NDArray[Any]:
        """The tensor as a NumPy copy, in float32 if it was stored in less."""
        wide = array.float() if array.dtype in (torch.float16, torch.bfloat16) else array
        copy: NDArray[Any] = wide.cpu().numpy().copy()
        return copy

    def is_finite(self, array: Tensor) -> bool:
        """Whether every entry is finite."""
        return bool(torch.isfinite(array).all())

    def draw_normals(self, rng: np.random.Generator, rows: int, columns: int) -> Tensor:
        """Drawn on the device from a seed of rng."""
        return torch.randn((rows, columns), generator=self._generator(rng), device=self.name)

    def draw_uniforms(self, rng: np.random.Generator, size: int) -> Tensor:
        """Drawn on the device from a seed of rng."""
        steps = torch.randint(1 << 24, (size,), generator=self._generator(rng), device=self.name)
        return steps.float() * 2.0**-24

    def _generator(self, rng: np.random.Generator) -> torch.Generator:
        return torch.Generator(self.name).manual_seed(int(rng.integers(2**63)))
