"""The truncated SVD of a full matrix, by torch: all singular triplets are computed, and the leading ones kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf import memory

Matrix = NDArray[np.float64]


def find_triplets(
    form: Callable[[], Any], shape: tuple[int, int], n_entries: int, rank: int, device: str
) -> tuple[Matrix, Matrix, Matrix]:
    """U [m, k], σ [k] descending, V [n, k]: the k leading singular triplets of a matrix.

    form : makes the matrix float64[m, n] on the device; n_entries : of its sparse part, which is in memory meanwhile
    Raises ResourceError, before any work, if the matrix and its decomposition do not fit in memory.
    `torch.svd_lowrank` is not used: its error is not bounded (docs/decisions.md).
    """
    import torch

    memory.require(
        bytes_needed(*shape, n_entries),
        f"the dense SVD of {shape[0]:,} x {shape[1]:,}",
        there=torch.cuda.mem_get_info()[0] if device == "cuda" else None,
        fix="use the route 'operator'",
    )
    U, singular, Vt = torch.linalg.svd(torch.as_tensor(form()), full_matrices=False)
    U, singular, Vt = (a.cpu().numpy() for a in (U[:, :rank], singular[:rank], Vt[:rank]))
    return U, singular, Vt.T


def bytes_needed(m: int, n: int, n_entries: int) -> int:
    """Most bytes held in float64: by forming the matrix, then by decomposing it.

    That is the matrix, a working copy, a third array of that size for the workspace (measured for LAPACK, which needs
    most if one side is much longer than the other), both orthogonal factors, and the memory of divide and conquer.
    """
    shorter = min(m, n)
    return 8 * max(m * n + 6 * n_entries, 3 * m * n + shorter * (m + n) + 4 * shorter * shorter)
