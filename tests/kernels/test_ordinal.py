"""The cumulative probit: every backend against the reference, and the reference against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from recsys_mf.kernels import reference
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.cases import M, N
from recsys_mf.kernels.cpu.normal import quantile
from recsys_mf.kernels.cpu.prediction import CpuPrediction
from recsys_mf.kernels.operands import OrdinalPairs, Pairs, SampleTables
from recsys_mf.kernels.oracle import EPSILON
from tests.backends import BACKENDS, NAMES

Z = 500
CUTS = np.array([-1.3, -0.4, 0.1, 1.9])
SLOPE = 1.7


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]()


def observed(rng: np.random.Generator, cuts: NDArray[Any] = CUTS) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Means, some of them far from every cut, and levels that occur whatever the mean."""
    means = rng.normal(0, 2, Z)
    means[:4] = -9, 9, 0, 4
    levels = rng.integers(0, len(cuts) + 1, Z)
    levels[:4] = len(cuts), 0, 0, len(cuts)
    return means.astype(np.float32), levels.astype(np.uint8)


def scales_of(backend: Backend, *, personal: bool) -> tuple[Any, Any]:
    """Scales of the noise on the host and on the device, or None."""
    scales = np.random.default_rng(7).uniform(0.2, 5, Z).astype(np.float32)
    return (scales, backend.device.put(scales)) if personal else (None, None)


@pytest.mark.parametrize("personal", [False, True])
@pytest.mark.parametrize("cuts", [CUTS, CUTS[:2], np.linspace(-2, 2, 9)], ids=len)
def test_terms_agree_with_the_reference(backend: Backend, cuts: NDArray[Any], personal: bool) -> None:
    means, levels = observed(np.random.default_rng(0), cuts)
    here, there = scales_of(backend, personal=personal)
    exact: tuple[Any, ...] = reference.ordinal_terms(OrdinalPairs(means.astype(np.float64), here, levels), cuts, SLOPE)
    ours: tuple[Any, ...] = backend.probit.ordinal_terms(
        OrdinalPairs(backend.device.put(means), there, backend.device.put(levels)), cuts, SLOPE
    )
    for got, want in zip(ours, exact, strict=True):
        # A tail of Φ is accurate to 1e-12; twenty deviations out, second derivatives are differences of its squares.
        np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-7 * np.abs(want).max())


@pytest.mark.parametrize("personal", [False, True])
def test_reference_terms_are_derivatives(personal: bool) -> None:
    means, levels = observed(np.random.default_rng(1))
    scales = np.random.default_rng(7).uniform(0.2, 5, Z) if personal else None
    at = np.append(CUTS, SLOPE)

    pairs = OrdinalPairs(means.astype(np.float64), scales, levels)

    def terms(x: NDArray[Any]) -> tuple[float, NDArray[Any], NDArray[Any]]:
        return reference.ordinal_terms(pairs, x[:-1], float(x[-1]))

    _, gradient, information = terms(at)
    h = 1e-5
    for j, step in enumerate(np.eye(len(at)) * h):
        (up, up_gradient, _), (down, down_gradient, _) = terms(at + step), terms(at - step)
        # Central differences: an error of h² and a rounding of eps / h, in units of the sums.
        assert gradient[j] == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-4)
        np.testing.assert_allclose(information[j], (down_gradient - up_gradient) / (2 * h), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("personal", [False, True])
def test_latents_agree_with_the_reference_and_stay_within_their_level(backend: Backend, personal: bool) -> None:
    rng = np.random.default_rng(2)
    means, levels = observed(rng)
    uniforms = rng.random(Z, np.float32)
    uniforms[4:8] = 0, 1 - 2**-24, 0.5, 0
    here, there = scales_of(backend, personal=personal)
    exact = reference.draw_latents(OrdinalPairs(means.astype(np.float64), here, levels), CUTS, SLOPE, uniforms)
    m, seen, u = (backend.device.put(array) for array in (means, levels, uniforms))
    ours = backend.device.get(backend.probit.draw_latents(OrdinalPairs(m, there, seen), CUTS, SLOPE, u))
    np.testing.assert_allclose(ours, exact, atol=16 * EPSILON * np.abs(exact).max())
    edges = np.concatenate([[-np.inf], CUTS, [np.inf]]) / SLOPE
    slack = 16 * EPSILON * np.abs(exact).max()
    assert (edges[levels] - slack <= ours).all()
    assert (ours <= edges[levels + 1] + slack).all()


def test_latents_follow_the_truncated_normal() -> None:
    """Checked by its distribution function: the probability below a draw is its uniform number, whatever the mean."""
    rng = np.random.default_rng(3)
    means, levels = np.full(Z, 0.3), np.full(Z, 2, np.uint8)
    uniforms = rng.random(Z, np.float32)
    latents = reference.draw_latents(OrdinalPairs(means, np.full(Z, 4.0), levels), CUTS, SLOPE, uniforms)
    low, high = (2 * (CUTS[place] - SLOPE * means) for place in (1, 2))
    below = (ndtr(2 * SLOPE * (latents - means)) - ndtr(low)) / (ndtr(high) - ndtr(low))
    np.testing.assert_allclose(below, uniforms + 2.0**-25, atol=1e-12)


def test_quantile_inverts_the_normal_distribution() -> None:
    probabilities = np.concatenate(
        [10.0 ** -np.arange(1, 300, 7), np.linspace(0.01, 0.99, 99), 1 - 1e-9 * np.arange(1, 5)]
    )
    np.testing.assert_allclose([quantile(p) for p in probabilities], ndtri(probabilities), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("with_contexts", [False, True])
def test_level_probabilities_agree_with_the_reference_and_sum_to_one(with_contexts: bool) -> None:
    rng = np.random.default_rng(4)
    samples, rank = 7, 5
    users, items, contexts = (rng.integers(-32767, 32768, (n, samples, rank + 1)).astype(np.int16) for n in (M, N, 4))
    scales = (rng.random((3, samples)) / 32767).astype(np.float32)
    offsets, noises = rng.standard_normal(samples).astype(np.float32), (0.5 + rng.random(samples)).astype(np.float32)
    thresholds = np.sort(rng.standard_normal((samples, 4)), axis=1).astype(np.float32)
    u, i = (rng.integers(-1, n, 200).astype(np.int32) for n in (M, N))
    c = rng.integers(-1, 4, 200).astype(np.int32) if with_contexts else None
    arguments = SampleTables(users, items, contexts, scales, offsets), Pairs(u, i, c), thresholds, noises
    ours = CpuPrediction().predict_levels(*arguments)
    # Φ has slope below one half, and its argument carries the rounding of 3 k + 5 terms over a noise of at least 0.5.
    np.testing.assert_allclose(ours, reference.predict_levels(*arguments), atol=(3 * rank + 5) * 8 * EPSILON)
    np.testing.assert_allclose(ours.sum(axis=1), 1, atol=8 * EPSILON)
