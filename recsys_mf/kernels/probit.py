"""The terms of a cumulative probit from sums by level, for the backends; on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FAR = 1e6
"""Used for infinity at the ends of the cuts: φ and the tail of Φ are 0 there, and so are products with it."""


def assemble(sums: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gradient [T + 1] and negated Hessian [T + 1, T + 1] in (c_1 … c_T, κ), as in `reference.ordinal_terms`.

    sums float64[T + 1, 9] : over the pairs of each level, in the notation of the reference with A_a = ∂a², A_b = ∂a∂b,
        B_b = ∂b²: A, B, A_a, B_b, A_b, m (A_a + A_b), m (B_b + A_b), m (A + B), m² (A_a + 2 A_b + B_b), first
        derivatives times √ω, second times ω

    Cut c_t is the upper end of level t - 1 and the lower end of level t, and both ends fall by m as κ grows.
    """
    A, B, A_a, B_b, A_b, m_a, m_b, m_first, m_second = sums.T
    top = len(sums) - 1
    gradient = np.append(A[1:] + B[:-1], -m_first.sum())
    information = np.zeros((top + 1, top + 1))
    cut = np.arange(top)
    information[cut, cut] = -(A_a[1:] + B_b[:-1])
    information[cut[:-1], cut[1:]] = information[cut[1:], cut[:-1]] = -A_b[1:-1]
    information[cut, -1] = information[-1, cut] = m_a[1:] + m_b[:-1]
    information[-1, -1] = -m_second.sum()
    return gradient, information
