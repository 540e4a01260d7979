"""Factorization: the prediction equation, its fallbacks, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys_mf.errors import ConfigError, DataError, SolveError
from recsys_mf.models import Factorization
from recsys_mf.models.member_spread import MemberSpread
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.spread import Disagreement


def model(rank: int = 2, rating_range: tuple[float, float] = (-100.0, 100.0)) -> Factorization:
    """Three users, four items, factors from a seed."""
    rng = np.random.default_rng(rank)
    user_bias, item_bias, P, Q = (rng.standard_normal(s, np.float32) for s in (3, 4, (3, rank), (4, rank)))
    return Factorization(3.5, user_bias, item_bias, P, Q, rating_range)


@pytest.mark.parametrize("rank", [0, 1, 2, 17])
def test_prediction_is_mean_plus_biases_plus_product(rank: int) -> None:
    m = model(rank)
    users, items = np.divmod(np.arange(12), 4)
    product = np.einsum("nk,nk->n", m.user_factors[users], m.item_factors[items])
    expected = m.mean + m.user_bias[users] + m.item_bias[items] + product
    np.testing.assert_allclose(predict(m, users, items).values, expected, rtol=1e-5, atol=1e-5)
    assert predict(m, users, items).values.dtype == np.float32
    assert (m.rank, m.n_users, m.n_items) == (rank, 3, 4)


def test_unknown_ids_fall_back_to_the_other_bias_then_to_the_mean() -> None:
    m = model()
    predicted = predict(m, np.array([1, -1, -1]), np.array([-1, 2, -1])).values
    np.testing.assert_allclose(predicted, [3.5 + m.user_bias[1], 3.5 + m.item_bias[2], 3.5], rtol=1e-6)


def test_predictions_stay_within_the_range_of_the_training_ratings() -> None:
    predicted = predict(model(2, (3.0, 4.0)), *np.divmod(np.arange(12), 4)).values
    assert predicted.min() == 3.0
    assert predicted.max() == 4.0


def test_no_pairs_have_no_predictions() -> None:
    assert len(predict(model(), np.array([], np.int32), np.array([], np.int32)).values) == 0


def test_parameters_are_read_only_and_the_arrays_given_stay_writable() -> None:
    bias = np.zeros(3, np.float32)
    m = replace(model(), user_bias=bias)
    with pytest.raises(ValueError, match="read-only"):
        m.user_bias[0] = 1
    bias[0] = 1


@pytest.mark.parametrize("name", ["user_bias", "item_bias", "user_factors", "item_factors"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_parameter_that_is_not_finite_is_refused(name: str, value: float) -> None:
    spoilt = getattr(model(), name).copy()
    spoilt.flat[-1] = value
    with pytest.raises(SolveError, match=rf"^{name}: the model has parameters that are not finite"):
        replace(model(), **{name: spoilt})


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ([0, 1], [0], r"^users and items differ in length \(saw 2 and 1\); give as many of one as of the other$"),
        ([3], [0], r"^users: index out of range \(saw 3 to 3\); stay within -1 to 2$"),
        ([0, -2], [0, 0], r"^users: index out of range \(saw -2 to 0\)"),
        ([0], [4], r"^items: index out of range \(saw 4 to 4\); stay within -1 to 3$"),
    ],
)
def test_pairs_that_the_model_cannot_hold_are_refused(users: list[int], items: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        predict(model(), np.array(users), np.array(items))


def committee() -> Factorization:
    """Three users, four items, σ² = 0.5 and c = 2."""
    spread = MemberSpread(np.array([0.1, 0.2, 0.3], np.float32), np.full(4, 0.2, np.float32), 0.5, 2.0)
    return replace(model(), spread=spread)


def test_interval_is_the_prediction_and_a_normal_quantile_on_either_side() -> None:
    users, items = np.array([0, 2]), np.array([1, 3])
    found = predict(committee(), users, items, probability=0.5)
    half = 0.67449 * np.sqrt(0.5 + 2 * np.array([0.1, 0.3]) * 0.2 / 0.2)
    np.testing.assert_allclose(found.values, predict(model(), users, items).values)
    assert found.lower is not None
    assert found.upper is not None
    np.testing.assert_allclose(found.upper - found.values, half, rtol=1e-4)
    np.testing.assert_allclose(found.values - found.lower, half, rtol=1e-4)


def test_interval_of_an_unknown_id_is_wider() -> None:
    found = predict(committee(), np.array([1, -1, 1, -1]), np.array([1, 1, -1, -1]), probability=0.9)
    assert found.lower is not None
    assert found.upper is not None
    one, user, item, neither = found.upper - found.lower
    assert one < min(user, item) < max(user, item) < neither


@pytest.mark.parametrize("probability", [0, 1, -0.5, np.nan])
def test_probability_out_of_range_is_refused(probability: float) -> None:
    with pytest.raises(ConfigError, match=r"^probability out of range \(saw .*\); give a number between 0 and 1$"):
        predict(committee(), np.array([0]), np.array([0]), probability=probability)


def test_calibration_finds_the_line_through_squared_errors() -> None:
    rng = np.random.default_rng(0)
    spread = MemberSpread(rng.gamma(2, 0.1, 300).astype(np.float32), rng.gamma(2, 0.1, 200).astype(np.float32))
    users = rng.integers(300, size=100_000, dtype=np.int32)
    items = rng.integers(200, size=100_000, dtype=np.int32)
    errors = rng.standard_normal(100_000) * np.sqrt(0.5 + 2 * spread.products(users, items))
    noise, weight = spread.calibrated(errors**2, users, items)
    assert noise == pytest.approx(0.5, abs=0.05)
    assert weight == pytest.approx(2, rel=0.1)


def test_the_spread_has_no_weight_if_errors_fall_with_it() -> None:
    spread = MemberSpread(np.array([0.1, 0.3], np.float32), np.array([0.2], np.float32))
    users, items = np.array([0, 1]), np.array([0, 0])
    assert spread.calibrated(np.array([1.0, 0.5]), users, items) == (0.75, 0.0)


@pytest.mark.parametrize("name", ["user_factors", "item_factors", "item_bias"])
def test_arrays_that_do_not_fit_together_are_refused(name: str) -> None:
    array = getattr(model(), name)
    with pytest.raises(DataError, match="shape does not match"):
        replace(model(), **{name: array[..., None]})
    if array.ndim == 2:
        with pytest.raises(DataError, match=r"_factors: shape does not match \(saw .*\); k is "):
            replace(model(), **{name: array[:, :1]})


def test_an_impossible_mean_or_range_is_refused() -> None:
    with pytest.raises(SolveError, match=r"^mean: not a finite number \(saw nan\)"):
        replace(model(), mean=np.nan)
    with pytest.raises(DataError, match=r"^rating_range: a range in reverse \(saw 5 to 1\)"):
        replace(model(), rating_range=(5, 1))


def test_the_spread_of_members_far_apart_is_in_units_of_its_mean() -> None:
    """Variances of ratings beyond 1e19 overflow float32."""
    rows = np.zeros(2, np.int32), np.arange(2, dtype=np.int32)
    disagreement = Disagreement(Ratings.from_ids(*rows, [1.0, 2.0]))
    for value in (1e30, -1e30):
        disagreement.add(np.full(2, value, np.float32))
    spread = disagreement.spread()
    assert spread is not None
    np.testing.assert_array_equal(spread.item_variance, [1, 1])
