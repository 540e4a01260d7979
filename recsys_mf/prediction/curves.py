"""Curves: the expected rating, and its square, for the value m of a sample, as piecewise polynomials to look up.

    Gaussian:  C(m) = σ m,  D(m) = σ² m²
    ordinal:   C(m) = Σ_l (v_l - c) P(l),  D(m) = Σ_l (v_l - c)² P(l),  P(l) = Φ((τ_{l+1} - m) / n) - Φ((τ_l - m) / n)

with c the middle of the scale. The polynomials of an ordinal model have the values and the slopes of C and D at the
ends of their intervals, of width h. Between these their error is at most h⁴ / 384 times the fourth derivative, which is
below 10⁻⁶ of the range of the ratings. More than 5 n beyond the outer thresholds the last polynomials continue, nearly
flat.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_mf.kernels.operands import Curves
from recsys_mf.models import Posterior

F64 = NDArray[np.float64]

_INTERVALS = 128
_BEYOND = 5.0  # in units of n


def rating_curves(model: Posterior, z: float) -> tuple[Curves, float]:
    """The curves of a posterior, and what must be added to a score to get a rating: μ, or c.

    z : of the score m - z √variance of a new rating; 0 for the mean
    """
    if not model.is_ordinal:
        return _linear(model, z), model.scale.mean
    levels = model.scale.levels.astype(np.float64)
    centre = float(levels[0] + levels[-1]) / 2
    noises, cuts = model.noises.astype(np.float64)[:, None], model.thresholds.astype(np.float64)
    low = cuts[:, :1] - _BEYOND * noises
    steps = (cuts[:, -1:] + _BEYOND * noises - low) / _INTERVALS
    knots = low + steps * np.arange(_INTERVALS + 1)  # [S, K + 1]
    values = _cubic(*_expected(levels - centre, knots, cuts, noises), steps)
    squares = _cubic(*_expected((levels - centre) ** 2, knots, cuts, noises), steps) if z else None
    starts, widths = (array[:, 0].astype(np.float32) for array in (low, steps))
    return Curves(starts, widths, values, squares, z, 0.0), centre


def _linear(model: Posterior, z: float) -> Curves:
    """One interval from -1 to 1, whose polynomial holds everywhere: m = 2 t - 1."""
    S, deviation = model.n_samples, model.scale.deviation
    ones = np.ones(S, np.float32)
    values, squares = np.zeros((S, 1, 4), np.float32), np.zeros((S, 1, 4), np.float32)
    values[:, 0, :2] = -deviation, 2 * deviation
    squares[:, 0, :3] = np.array([1, -4, 4]) * deviation**2
    return Curves(-ones, 2 * ones, values, squares if z else None, z, model.noise_variance)


def _expected(values: F64, m: F64, cuts: F64, noises: F64) -> tuple[F64, F64]:
    """Σ_l values_l P(l) and its slope, at every m [S, K + 1]."""
    from scipy.special import ndtr

    expected, slopes = np.full_like(m, values[-1]), np.zeros_like(m)
    for t, rise in enumerate(np.diff(values)):
        x = (cuts[:, t : t + 1] - m) / noises
        expected -= rise * ndtr(x)
        slopes += rise * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi) / noises
    return expected, slopes


def _cubic(values: F64, slopes: F64, steps: F64) -> NDArray[np.float32]:
    """Coefficients float32[S, K, 4] of the cubics with these values and slopes at the ends of intervals."""
    (a, b), (da, db) = ((array[:, :-1], array[:, 1:]) for array in (values, slopes * steps))
    rise = b - a
    return np.stack([a, da, 3 * rise - 2 * da - db, da + db - 2 * rise], axis=2).astype(np.float32)
