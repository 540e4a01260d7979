"""The cumulative probit on CPU cores: level probabilities, the terms of its likelihood, and latent draws.

Φ and φ are computed from one exponential, by the rational approximation of Hart (West: Better approximations to
cumulative normal functions, Wilmott 2005), the inverse of Φ by that of Wichura (algorithm AS 241, Applied Statistics
37(3), 1988); both are exact to about 1e-15. A thread takes a chunk of pairs, and sums are added chunk by chunk, so that
they do not depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from recsys_mf.arrays.jit import inline, jit

WORK = 128  # multiplications that take as long as Φ
_MIN_PROBABILITY = 1e-300  # of a probability
_SMALL = 1e-100  # below this the logarithm of a product of probabilities is taken
_DENSITY_AT_ZERO = 1 / math.sqrt(2 * math.pi)


@inline()
def _hart(y: float) -> float:
    """Φ(-y) / exp(-y²/2) for y in [0, 7]; written out, since it is most of the work."""
    top = (3.52624965998911e-2 * y + 0.700383064443688) * y + 6.37396220353165
    top = ((top * y + 33.912866078383) * y + 112.079291497871) * y + 221.213596169931
    top = top * y + 220.206867912376
    bottom = (8.83883476483184e-2 * y + 1.75566716318264) * y + 16.064177579207
    bottom = ((bottom * y + 86.7807322029461) * y + 296.564248779674) * y + 637.333633378831
    bottom = (bottom * y + 793.826512519948) * y + 440.413735824752
    return top / bottom


@inline()
def _tail(x: float) -> Any:
    """Φ(-|x|) and φ(x), 0 and 0 at infinity."""
    y = abs(x)
    if y > 37.0:
        return 0.0, 0.0
    bell = math.exp(-0.5 * y * y)
    density = _DENSITY_AT_ZERO * bell
    if y < _FAR:
        return bell * _hart(y), density
    fraction = y
    for n in range(_DEPTH, 0, -1):
        fraction = y + n / fraction
    return density / fraction, density


@inline()
def cdf(x: float) -> Any:
    """Φ(x)."""
    tail, _ = _tail(x)
    return tail if x < 0 else 1.0 - tail


@inline()
def _mass(a: float, b: float, tail_a: float, tail_b: float) -> Any:
    """Φ(b) - Φ(a) of a < b, from the side where Φ is accurate, given the tails beyond them."""
    if a > 0:
        return tail_a - tail_b
    return (tail_b if b < 0 else 1.0 - tail_b) - tail_a


@inline()
def _ratio(x: float, numerator: Any, denominator: Any) -> float:
    """Ratio of two polynomials, coefficients from the highest power down."""
    top, bottom = 0.0, 0.0
    for c in numerator:
        top = top * x + c
    for c in denominator:
        bottom = bottom * x + c
    return top / bottom


_FAR = 7.07106781186547
_DEPTH = 30  # of the continued fraction beyond
_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_MIDDLE = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip


@inline()
def quantile(p: float) -> Any:
    """Φ⁻¹(p) for p in (0, 1)."""
    q = p - 0.5
    if abs(q) <= 0.425:
        return q * _ratio(0.180625 - q * q, *_CENTRE)
    r = math.sqrt(-math.log(min(p, 1.0 - p)))
    x = _ratio(r - 1.6, *_MIDDLE) if r <= 5.0 else _ratio(r - 5.0, *_TAIL)
    return -x if q < 0 else x


@jit(error_model="numpy")
def expected_levels(
    low: Any, high: Any, means: Any, scales: Any, thresholds: Any, slope: Any, levels: Any, out: Any
) -> None:
    for j in range(low, high):
        expected, own = levels[-1], slope
        if scales is not None:
            own = slope * math.sqrt(np.float64(scales[j]))
        for t in range(thresholds.size):
            expected -= (levels[t + 1] - levels[t]) * cdf((thresholds[t] - means[j]) * own)
        out[j] = expected


@jit(error_model="numpy")
def ordinal_sums(
    first: Any, last: Any, chunks: Any, means: Any, scales: Any, levels: Any, edges: Any, slope: float,
    sums: Any, logs: Any,
) -> None:  # fmt: skip
    """Over the chunks of pairs first to last: the log-likelihood, and by level the sums that `probit.assemble` takes.

    edges [T + 2] : the cuts with ends far beyond every mean; sums [chunks, T + 1, 9], logs [chunks]
    """
    for chunk in range(first, last):
        product = 1.0
        for j in range(chunks[chunk], chunks[chunk + 1]):
            level, m = levels[j], np.float64(means[j])
            a, b = edges[level] - slope * m, edges[level + 1] - slope * m
            if scales is not None:
                root = math.sqrt(np.float64(scales[j]))
                a, b = root * a, root * b
            tail_a, density_a = _tail(a)
            tail_b, density_b = _tail(b)
            probability = max(_mass(a, b, tail_a, tail_b), _MIN_PROBABILITY)
            if probability < _SMALL:
                logs[chunk] += math.log(probability)
            else:
                product *= probability
                if product < _SMALL:
                    logs[chunk] += math.log(product)
                    product = 1.0
            inverse = 1.0 / probability
            A, B = -density_a * inverse, density_b * inverse
            A_a, A_b, B_b = -a * A - A * A, -A * B, -b * B - B * B
            if scales is not None:
                A, B = root * A, root * B
                A_a, A_b, B_b = scales[j] * A_a, scales[j] * A_b, scales[j] * B_b
            out = sums[chunk, level]
            out[0] += A
            out[1] += B
            out[2] += A_a
            out[3] += B_b
            out[4] += A_b
            out[5] += m * (A_a + A_b)
            out[6] += m * (B_b + A_b)
            out[7] += m * (A + B)
            out[8] += m * m * (A_a + 2 * A_b + B_b)
        logs[chunk] += math.log(product)


@jit(error_model="numpy")
def draw_latents(
    low: Any, high: Any, means: Any, scales: Any, levels: Any, edges: Any, slope: float, uniforms: Any, latents: Any
) -> None:
    """`reference.draw_latents` of the pairs low to high, into latents; edges [T + 2] : the cuts with infinite ends."""
    for j in range(low, high):
        m, level = np.float64(means[j]), levels[j]
        a, b, root = edges[level] - slope * m, edges[level + 1] - slope * m, 1.0
        if scales is not None:
            root = math.sqrt(np.float64(scales[j]))
            a, b = root * a, root * b
        share = np.float64(uniforms[j]) + 2.0**-25
        flipped = a > 0
        if flipped:
            a, b, share = -b, -a, 1.0 - share
        at_low = cdf(a)
        x = quantile(max(at_low + share * (cdf(b) - at_low), _MIN_PROBABILITY))
        latents[j] = m + (-x if flipped else x) / (slope * root)
