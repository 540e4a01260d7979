"""MemberSpread: how much the members of a committee differ, and what this says about the error of a prediction.

    Var(r_ui - r̂_ui) ≈ σ² + c v_u v_i / v̄

v_u and v_i are the variances between members of their predictions, averaged over the training pairs of the user and
of the item, v̄ the mean of v_u over the users. σ² and c come from validation rows: they are those of the least-squares
line through the squared errors there. The spread shows only the part of the error that members do not share. A row with
few ratings, which is near zero in all members, has little spread; c scales it up only on average. So these intervals
are rough; those of a sampled posterior are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MemberSpread:
    """The variances between members, and how they enter the error.

    user_variance, item_variance : v_u float32[m], v_i float32[n], as multiples of the mean variance, so that float32
        can hold them for any unit of the ratings (in older runs in squared rating units)
    noise : σ²; weight : c. None before they are `calibrated`
    """

    user_variance: F32
    item_variance: F32
    noise: float | None = None
    weight: float | None = None

    def products(self, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float64]:
        """v_u v_i / v̄ float64[b]; an unknown user or item (-1) has v̄."""
        mean = float(self.user_variance.mean(dtype=np.float64))
        v_u, v_i = (np.append(v, mean)[rows] for v, rows in ((self.user_variance, users), (self.item_variance, items)))
        products: NDArray[np.float64] = v_u * v_i / max(mean, float(np.finfo(np.float32).tiny))
        return products

    def calibrated(
        self, squared_errors: NDArray[np.float64], users: NDArray[np.int32], items: NDArray[np.int32]
    ) -> tuple[float, float]:
        """σ² and c, neither below zero, from the squared errors of predictions of pairs that were not trained on."""
        x = self.products(users, items)
        spread = float(x.var())
        mean, slope = float(squared_errors.mean()), 0.0
        if spread > 0:
            slope = max(0.0, float(np.mean((x - x.mean()) * (squared_errors - mean))) / spread)
        slope = min(slope, mean / max(float(x.mean()), 1e-30))
        return mean - slope * float(x.mean()), slope
