"""Aligned arrays: matrices whose rows start on cache lines, which kernels read a line at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

LINE = 64  # bytes of a cache line and of the widest vector register


def align(X: NDArray[Any]) -> NDArray[Any]:
    """A copy in rows of full cache lines that start on one, padded with zeros."""
    copied = allocate_aligned(len(X), X.shape[1], X.dtype)
    copied[:, : X.shape[1]] = X
    return copied


def allocate_aligned(rows: int, width: int, dtype: Any) -> NDArray[Any]:
    """Zeros [rows, width rounded up], rows of full cache lines that start on one."""
    lanes = LINE // np.dtype(dtype).itemsize
    return _allocate((rows, -(-width // lanes) * lanes), dtype)


def ensure_aligned(X: NDArray[Any]) -> NDArray[Any]:
    """The array if it starts on a cache line and can be written in C order, else a copy that does and can."""
    if X.ctypes.data % LINE == 0 and X.flags.c_contiguous and X.flags.writeable:
        return X
    copied = _allocate(X.shape, X.dtype)
    copied[...] = X
    return copied


def _allocate(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    size = np.dtype(dtype).itemsize
    length = math.prod(shape)
    whole = np.zeros(length + LINE // size, dtype)
    offset = -whole.ctypes.data % LINE // size
    return whole[offset : offset + length].reshape(shape)
