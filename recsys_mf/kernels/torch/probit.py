"""The cumulative probit in torch, in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_mf.kernels.operands import OrdinalPairs
from recsys_mf.kernels.probit import FAR, assemble
from recsys_mf.kernels.torch.device import TorchDevice
from recsys_mf.kernels.torch.rows import split

_MAX_PAIRS = 1 << 22  # held in float64 at once, with some twenty numbers each
_MIN_PROBABILITY = 1e-300  # of a probability
_ROOT_TAU = float(np.sqrt(2 * np.pi))


class _Pairs(NamedTuple):
    """Means m float64[z], √ω float64[z], or a 1, and levels int64[z]."""

    means: Tensor
    roots: Tensor
    levels: Tensor

    @classmethod
    def of(cls, pairs: OrdinalPairs, part: slice) -> _Pairs:
        """Of a part of the pairs."""
        ones = torch.ones((), dtype=torch.float64, device=pairs.means.device)
        roots = ones if pairs.scales is None else pairs.scales[part].double().sqrt()
        return cls(pairs.means[part].double(), roots, pairs.levels[part].long())


class TorchProbit:
    """`kernels.backend.ProbitKernels` on a torch device."""

    def __init__(self, device: TorchDevice) -> None:
        self._device = device

    def expected_levels(
        self, means: Tensor, scales: Tensor | None, thresholds: NDArray[Any], noise: float, levels: NDArray[Any]
    ) -> Tensor:
        """As `reference.expected_levels`."""
        slopes = (1.0 if scales is None else scales.double().sqrt()) / noise
        expected = torch.full_like(means, float(levels[-1]), dtype=torch.float64)
        for threshold, step in zip(thresholds.tolist(), np.diff(levels.astype(np.float64)).tolist(), strict=True):
            expected -= step * _cdf((threshold - means.double()) * slopes)
        return expected.to(means.dtype)

    def ordinal_terms(
        self, pairs: OrdinalPairs, cuts: NDArray[np.float64], slope: float
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """As `reference.ordinal_terms`; sums by level are products with indicators, in a fixed order."""
        log_likelihood = torch.zeros((), dtype=torch.float64, device=self._device.name)
        sums = torch.zeros((len(cuts) + 1, 9), dtype=torch.float64, device=self._device.name)
        for part in split(len(pairs.means), _MAX_PAIRS):
            terms, mass = self._ordinal_parts(_Pairs.of(pairs, part), cuts, slope)
            indicators = pairs.levels[part, None] == torch.arange(len(cuts) + 1, device=self._device.name)
            sums += indicators.double().mT @ terms
            log_likelihood += torch.log(mass).sum()
        return float(log_likelihood), *assemble(sums.cpu().numpy())

    def _ordinal_parts(self, pairs: _Pairs, cuts: NDArray[np.float64], slope: float) -> tuple[Tensor, Tensor]:
        """What is summed of every pair by level, [z, 9], and the probability of its level."""
        m, roots, _ = pairs
        low, high = self._ends(pairs, cuts, slope, FAR)
        flipped = low > 0
        mass = _cdf(torch.where(flipped, -low, high)) - _cdf(torch.where(flipped, -high, low))
        mass = mass.clamp_min(_MIN_PROBABILITY)
        A, B = (sign * torch.exp(-0.5 * x * x) / _ROOT_TAU / mass for sign, x in ((-1, low), (1, high)))
        A_a, A_b, B_b = (roots * roots * x for x in (-low * A - A * A, -A * B, -high * B - B * B))
        A, B = roots * A, roots * B
        terms = [A, B, A_a, B_b, A_b, m * (A_a + A_b), m * (B_b + A_b), m * (A + B), m * m * (A_a + 2 * A_b + B_b)]
        return torch.stack(terms, dim=1), mass

    def draw_latents(self, pairs: OrdinalPairs, cuts: NDArray[np.float64], slope: float, uniforms: Tensor) -> Tensor:
        """As `reference.draw_latents`."""
        latents = torch.empty_like(pairs.means)
        for part in split(len(latents), _MAX_PAIRS):
            latents[part] = self._latents(_Pairs.of(pairs, part), cuts, slope, uniforms[part])
        return latents

    def _latents(self, pairs: _Pairs, cuts: NDArray[np.float64], slope: float, uniforms: Tensor) -> Tensor:
        low, high = self._ends(pairs, cuts, slope, np.inf)
        flipped = low > 0
        low, high = torch.where(flipped, -high, low), torch.where(flipped, -low, high)
        share = uniforms.double() + 2.0**-25
        share = torch.where(flipped, 1 - share, share)
        at_low = _cdf(low)
        x = torch.special.ndtri((at_low + share * (_cdf(high) - at_low)).clamp_min(_MIN_PROBABILITY))
        return pairs.means + torch.where(flipped, -x, x) / (slope * pairs.roots)

    def _ends(self, pairs: _Pairs, cuts: NDArray[np.float64], slope: float, end: float) -> tuple[Tensor, Tensor]:
        """√ω (c_l - κ m) and √ω (c_{l+1} - κ m) of every pair."""
        means, roots, levels = pairs
        edges = torch.tensor(np.concatenate([[-end], cuts, [end]]), device=self._device.name)
        return roots * (edges[levels] - slope * means), roots * (edges[levels + 1] - slope * means)


def _cdf(x: Tensor) -> Tensor:
    """Φ(x), accurate even if it is small."""
    return 0.5 * torch.erfc(-x * np.sqrt(0.5))
