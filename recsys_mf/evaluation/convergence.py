"""Convergence of Markov chains: split-R̂ and the effective sample size of scalars that a sampler recorded.

Both split every chain into halves, so that a drifting chain disagrees with itself: M = 2 · chains sequences of
h draws, h = ⌊n / 2⌋; if n is odd, the middle draw is left out. With W the mean of the variances
within the sequences and B / h the variance of their means,

    var⁺ = (h - 1) / h · W + B / h        R̂ = √(var⁺ / W)

The caller leaves out the burn-in. Both are for scalars that do not depend on how factors are rotated: a single factor
can rotate with the others, so it has no value to converge to.

Gelman et al.: Bayesian Data Analysis, 3rd edition, 2013, 11.4 and 11.5; Vehtari, Gelman, Simpson, Carpenter,
Bürkner: Rank-normalization, folding, and localization: an improved R̂, Bayesian Analysis 16, 2021.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import ConfigError

F64 = NDArray[np.float64]

MIN_DRAWS = 8
"""The smallest number of draws per chain, after burn-in, for which convergence can be judged."""


@dataclass(frozen=True)
class Summary:
    """One scalar over the draws of all chains.

    mean, standard_deviation : in the units of the scalar (n - 1 in the denominator)
    ess : the number of independent draws that would give its mean with the same accuracy
    r_hat : near 1 if the halves of all chains agree; above 1.01 (1.1 in older texts) they do not
    """

    name: str
    mean: float
    standard_deviation: float
    ess: float
    r_hat: float


def summarise(traces: Mapping[str, F64]) -> tuple[Summary, ...]:
    """A Summary of every trace [chains, n], burn-in left out, in their order.

    Raises ConfigError, naming the trace, if `split_r_hat` would.
    """
    return tuple(_summary(name, draws) for name, draws in traces.items())


def _summary(name: str, draws: F64) -> Summary:
    halves = _halves(draws, name)
    deviation = float(np.std(draws, ddof=1, dtype=np.float64))
    return Summary(name, float(np.mean(draws, dtype=np.float64)), deviation, _ess(halves, draws.size), _r_hat(halves))


def split_r_hat(draws: F64) -> float:
    """R̂ = √(var⁺ / W) of draws [chains, n]; one chain is compared half with half.

    1 if all draws are equal, infinite if every half is constant and they differ.
    Raises ConfigError for fewer than 4 draws per half, draws that are not finite, and another shape.
    """
    return _r_hat(_halves(draws))


def effective_sample_size(draws: F64) -> float:
    """N / τ of draws [chains, n], N = chains · n, by Geyer's initial monotone positive sequence.

        τ = 1 + 2 Σ_{t ≥ 1} ρ_t,   ρ_t = 1 - (W - c_t) / var⁺   (ρ_0 = 1),   c_t: mean autocovariance at lag t

    ρ_{2k} + ρ_{2k+1} is positive and falls with k for a reversible chain; the sum ends before the first pair whose
    estimate is not, and every pair counts at most as much as the one before it. If the even lag of the
    first excluded pair is positive, it is added once; otherwise τ would be too small for a chain whose sign alternates.
    τ is at least 1 / log₁₀ N, as in Stan. The result is N if all draws are equal: their mean has no error.

    Geyer: Practical Markov chain Monte Carlo, Statistical Science 7, 1992; Stan Reference Manual, "Effective sample
    size". Raises ConfigError as `split_r_hat` does.
    """
    return _ess(_halves(draws), draws.size)


def autocovariances(sequences: F64) -> F64:
    """c_t = Σ_{s < n - t} (x_s - x̄)(x_{s+t} - x̄) / n of every row of [m, n], for t from 0 to n - 1; by FFT.

    n in the denominator, not n - t: far lags, which have few products, then have little noise. The rows are
    padded with n zeros, so that the end of a row does not meet its beginning.
    """
    n = sequences.shape[1]
    centred = sequences - sequences.mean(axis=1, keepdims=True)
    spectrum = np.abs(np.fft.rfft(centred, 2 * n)) ** 2  # [m, n + 1]
    covariances: F64 = np.fft.irfft(spectrum, 2 * n)[:, :n] / n
    return covariances


def _halves(draws: F64, where: str | None = None) -> F64:
    """[chains, n] -> [2 · chains, n // 2]."""
    if draws.ndim != 2 or not len(draws):
        fix = "give one row per chain: [chains, draws]"
        raise ConfigError("the draws have the wrong shape", where=where, seen=list(draws.shape), fix=fix)
    half = draws.shape[1] // 2
    if 2 * half < MIN_DRAWS:
        fix = f"sample {MIN_DRAWS} or more after burn-in"
        raise ConfigError("too few draws to judge convergence", where=where, seen=draws.shape[1], fix=fix)
    if not np.isfinite(draws).all():
        index = tuple(np.argwhere(~np.isfinite(draws))[0].tolist())
        seen = f"{draws[index]} as draw {index[1]} of chain {index[0]}"
        raise ConfigError("a draw is not finite", where=where, seen=seen, fix="leave the scalar out")
    return np.concatenate([draws[:, :half], draws[:, -half:]]).astype(np.float64)


def _variances(halves: F64) -> tuple[float, float]:
    """W and B / h, computed relative to the first draw of every sequence, so that a zero is exactly zero."""
    first = halves[:, :1]
    shifted = halves - first
    means = shifted.mean(axis=1) + first[:, 0]
    return float(shifted.var(axis=1, ddof=1).mean()), float((means - means[0]).var(ddof=1))


def _r_hat(halves: F64) -> float:
    within, between = _variances(halves)
    h = halves.shape[1]
    if within == 0:
        return 1.0 if between == 0 else math.inf
    return math.sqrt((h - 1) / h + between / within)


def _ess(halves: F64, n_draws: int) -> float:
    within, between = _variances(halves)
    if within == between == 0:
        return float(n_draws)
    h = halves.shape[1]
    total = (h - 1) / h * within + between
    rho = 1 - (within - autocovariances(halves).mean(axis=0)) / total
    rho[0] = 1
    pairs = rho[: h // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    count = int(ends[0]) if len(ends) else len(pairs)
    left_out = max(0.0, float(rho[2 * count])) if 2 * count < h else 0.0
    tau = 2 * float(np.minimum.accumulate(pairs[:count]).sum()) - 1 + left_out
    return n_draws / max(tau, 1 / math.log10(n_draws))
