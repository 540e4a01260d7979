"""Columns in standard units: mean 0 and deviation 1 over their observed entries, skewed ones straightened first.

A skewed column is changed by the transformation of Yeo and Johnson, which is increasing and defined for all numbers:

    y = ((1 + x)^p − 1) / p  for x ≥ 0,    y = −((1 − x)^(2 − p) − 1) / (2 − p)  for x < 0

(logarithms if p or 2 − p is 0), applied to the column in standard units with the p of the highest likelihood under a
normal distribution. A mean and a variance that a model predicts for it are transformed back by quadrature over the
normal distribution, within the observed range. Other columns only change their units, and their means stay within
one deviation of the observed range, because a linear relation cannot be trusted far beyond it.

Yeo, Johnson: A new family of power transformations to improve normality or symmetry, Biometrika 87, 2000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_mf.completion.patterns import F64, Fill

_SKEWED = 1.0  # skewness beyond which a column is straightened
_BEYOND = 1.0  # deviations by which the mean of a column that is not straightened may leave the observed range
_LEAST = 0.1  # share of a variance that is left at the ends of the observed range
_POWERS = (-3.0, 5.0)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True, eq=False)
class Columns:
    """How columns go to standard units and back; every array is [n].

    means, deviations : of the observed entries; a constant column has deviation 0
    powers : p of straightened columns, 1 for the others
    centres, spreads : mean and deviation of the column after straightening
    lowest, highest : of the observed entries, in standard units
    """

    means: F64
    deviations: F64
    powers: F64
    centres: F64
    spreads: F64
    lowest: F64
    highest: F64

    @property
    def straightened(self) -> int:
        """How many columns are straightened."""
        return int((self.powers != 1).sum())

    def standardise(self, A: F64) -> F64:
        """A [m, n] in the units that models are fitted in; NaN stays."""
        X = (A - self.means) / np.where(self.deviations > 0, self.deviations, 1.0)
        for j in np.flatnonzero(self.powers != 1):
            X[:, j] = (straighten(X[:, j], self.powers[j]) - self.centres[j]) / self.spreads[j]
        return X

    def restore(self, fill: Fill) -> Fill:
        """Means and variances of a model as means and variances of columns with mean 0 and deviation 1."""
        means = np.clip(fill.means, self.lowest - _BEYOND, self.highest + _BEYOND)
        variances = fill.variances.copy()
        for j in np.flatnonzero(self.powers != 1):
            deviations = np.sqrt(fill.variances[:, j])
            points = fill.means[:, j, None] + deviations[:, None] * _NODES  # [m, 9]
            back = bend(points * self.spreads[j] + self.centres[j], self.powers[j])
            means[:, j] = np.clip(back, self.lowest[j], self.highest[j]) @ _WEIGHTS
            back = np.clip(back, self.lowest[j] - _BEYOND, self.highest[j] + _BEYOND)
            spread = (back - (back @ _WEIGHTS)[:, None]) ** 2 @ _WEIGHTS
            variances[:, j] = np.maximum(spread, _LEAST * fill.variances[:, j])
        return Fill(means, variances)


def find_columns(A: F64, *, straightening: bool) -> Columns:
    """The units of the columns of A [m, n], NaN where missing; every column has an observed entry.

    straightening : whether to straighten skewed columns
    """
    largest = np.nanmax(np.abs(A), axis=0)
    sizes = np.exp2(np.floor(np.log2(np.where(largest > 0, largest, 1.0))))  # so that no square is out of range
    means = np.nanmean(A / sizes, axis=0) * sizes
    deviations = np.nanstd(A / sizes, axis=0) * sizes
    deviations[deviations <= 1e-12 * np.abs(means)] = 0.0  # only rounding errors
    X = (A - means) / np.where(deviations > 0, deviations, 1.0)
    n = A.shape[1]
    powers, centres, spreads = np.ones(n), np.zeros(n), np.ones(n)
    skewed = np.abs(np.nanmean(X**3, axis=0)) > _SKEWED if straightening else np.zeros(n, bool)
    for j in np.flatnonzero(skewed):
        x = X[~np.isnan(X[:, j]), j]
        powers[j] = _likeliest_power(x)
        y = straighten(x, powers[j])
        centres[j], spreads[j] = y.mean(), y.std()
    return Columns(means, deviations, powers, centres, spreads, np.nanmin(X, axis=0), np.nanmax(X, axis=0))


def straighten(x: F64, power: float) -> F64:
    """The transformation of Yeo and Johnson."""
    up, down = np.maximum(x, 0.0), np.maximum(-x, 0.0)
    return _power(up, power) - _power(down, 2 - power)


def bend(y: F64, power: float) -> F64:
    """The inverse of `straighten`; infinite beyond its range."""
    up, down = np.maximum(y, 0.0), np.maximum(-y, 0.0)
    return _root(up, power) - _root(down, 2 - power)


def _power(x: F64, p: float) -> F64:
    return np.log1p(x) if abs(p) < 1e-8 else np.expm1(p * np.log1p(x)) / p


def _root(y: F64, p: float) -> F64:
    if abs(p) < 1e-8:
        return np.expm1(y)
    inside = 1 + p * y
    with np.errstate(divide="ignore", over="ignore"):
        return np.where(inside > 0, np.maximum(inside, 0.0) ** (1 / p), np.inf) - 1


def _likeliest_power(x: F64) -> float:
    """p of the highest likelihood: −m/2 log var(y) + (p − 1) Σ sign(x) log(1 + |x|)."""
    from scipy.optimize import minimize_scalar

    slope = float((np.sign(x) * np.log1p(np.abs(x))).sum())

    def loss(power: float) -> float:
        return float(len(x) / 2 * np.log(straighten(x, power).var()) - (power - 1) * slope)

    return float(minimize_scalar(loss, bounds=_POWERS, method="bounded").x)
