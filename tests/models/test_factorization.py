"""Factorization: the prediction equation, its fallbacks, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys_mf.errors import DataError, SolveError
from recsys_mf.models import Factorization


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
    np.testing.assert_allclose(m.predict(users, items), expected, rtol=1e-5, atol=1e-5)
    assert m.predict(users, items).dtype == np.float32
    assert (m.rank, m.n_users, m.n_items) == (rank, 3, 4)


def test_unknown_ids_fall_back_to_the_other_bias_then_to_the_mean() -> None:
    m = model()
    predicted = m.predict(np.array([1, -1, -1]), np.array([-1, 2, -1]))
    np.testing.assert_allclose(predicted, [3.5 + m.user_bias[1], 3.5 + m.item_bias[2], 3.5], rtol=1e-6)


def test_predictions_stay_within_the_range_of_the_training_ratings() -> None:
    predicted = model(2, (3.0, 4.0)).predict(*np.divmod(np.arange(12), 4))
    assert predicted.min() == 3.0
    assert predicted.max() == 4.0


def test_no_pairs_have_no_predictions() -> None:
    assert len(model().predict(np.array([], np.int32), np.array([], np.int32))) == 0


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
        model().predict(np.array(users), np.array(items))
