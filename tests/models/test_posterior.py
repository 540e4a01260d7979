"""The posterior: its predictions are the mean of its draws, unknown ids get the prior mean, intervals have coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from recsys_mf.errors import ConfigError, DataError, SolveError
from recsys_mf.kernels.cpu.prediction import CPU
from recsys_mf.kernels.operands import Pairs
from recsys_mf.models import Factorization, Posterior
from recsys_mf.models.samples import Bins, Sample, Scale
from recsys_mf.prediction import predict, takes_times
from recsys_mf.prediction.pairs import sample_moments
from recsys_mf.ratings import Ratings
from recsys_mf.solvers.compression import compress
from recsys_mf.solvers.sampler.draws import stride

M, N, C, WIDTH = 7, 5, 3, 4
RANGE = (1.0, 5.0)
DAY = 86400


Three = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


def drawn(rng: np.random.Generator, contexts: int = C) -> tuple[Three, Three]:
    """Rows of three tables and their prior means."""
    users, items, others = (rng.normal(0.2, 0.4, (rows, WIDTH)).astype(np.float32) for rows in (M, N, contexts))
    first, second, third = (rng.normal(0, 0.3, WIDTH).astype(np.float32) for _ in range(3))
    return (users, items, others), (first, second, third)


def ratings_of(tables: Any, u: int, i: int, c: int) -> float:
    """Biases and products of the three rows, in float64."""
    x, y, z = (table[row].astype(np.float64) for table, row in zip(tables, (u, i, c), strict=True))
    return float(x[-1] + y[-1] + z[-1] + x[:-1] @ y[:-1] + x[:-1] @ z[:-1] + y[:-1] @ z[:-1])


def model(samples: int = 6, *, contexts: int = C, noise: float = 0.5) -> tuple[Posterior, list[Any]]:
    """A posterior, and its draws with their prior means."""
    rng = np.random.default_rng(0)
    draws = [drawn(rng, contexts) for _ in range(samples)]
    bins = Bins(np.array([3, 4, 9][:contexts], np.int64), DAY)
    samples_ = [Sample.centred(*draw, noise=noise, thresholds=np.zeros(0)) for draw in draws]
    return Posterior.of(samples_, Scale(3.0, 0.8, bins, RANGE)), draws


LEVELS = np.array([1, 2, 3, 5], np.float32)
USERS, ITEMS = np.mgrid[:M, :N].reshape(2, -1)
PAIRS = Ratings.from_ids(USERS, ITEMS, np.ones(M * N), np.tile([3, 4, 9, 3, 9], M) * DAY)


def ordinal_model(samples: int = 6, *, contexts: int = C, noise: float = 0.6) -> tuple[Posterior, Any]:
    """An ordinal posterior on a scale without a 4, and its P_s(level | u, i, c) [S, L], in float64."""
    rng = np.random.default_rng(1)
    draws = [drawn(rng, contexts) for _ in range(samples)]
    thresholds = [np.sort(rng.normal(0, 1, 3)) for _ in range(samples)]
    kept = [Sample.centred(*draw, noise=noise, thresholds=t) for draw, t in zip(draws, thresholds, strict=True)]
    bins = Bins(np.array([3, 4, 9][:contexts], np.int64), DAY)

    def probabilities(u: int, i: int, c: int) -> np.ndarray[Any, Any]:
        each = []
        for (tables, means), t in zip(draws, thresholds, strict=True):
            third = tables[2] if contexts else means[2][None]
            m = ratings_of((tables[0], tables[1], third), u, i, c)
            each.append(np.diff([0, *ndtr((t - m) / noise), 1]))
        return np.array(each)

    return Posterior.of(kept, Scale(0.0, 1.0, bins, (1.0, 5.0), LEVELS)), probabilities


def test_an_ordinal_model_predicts_the_mean_of_its_level_probabilities() -> None:
    posterior, probabilities = ordinal_model()
    cells = [(u, i, c) for u in range(M) for i in range(N) for c in range(C)]
    u, i, c = np.array(cells).T
    times = posterior.scale.bins.numbers[c] * DAY
    expected = np.array([probabilities(*cell).mean(axis=0) for cell in cells])
    found = predict(posterior, u, i, times, distribution=True).distribution
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_allclose(predict(posterior, u, i, times).values, expected @ LEVELS, atol=5e-3)


def test_an_ordinal_interval_is_the_fewest_neighbouring_levels() -> None:
    posterior, _ = ordinal_model()
    u, i = np.mgrid[:M, :N].reshape(2, -1)
    distribution = predict(posterior, u, i, distribution=True).distribution
    _, lower, upper, *_ = predict(posterior, u, i, probability=0.7)
    assert distribution is not None
    assert lower is not None
    assert upper is not None
    for row, low, high in zip(distribution, lower, upper, strict=True):
        runs = {(a, b): row[a : b + 1].sum() for a in range(4) for b in range(a, 4)}
        enough = [run for run, mass in runs.items() if mass >= 0.7]
        fewest = min(b - a for a, b in enough)
        best = max((run for run in enough if run[1] - run[0] == fewest), key=runs.__getitem__)
        assert (low, high) == (LEVELS[best[0]], LEVELS[best[1]])
    assert len(set(upper - lower)) > 1


def test_levels_of_a_model_that_is_not_ordinal_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^the model has no probabilities of ratings .*; train with --solver gibbs"):
        predict(model()[0], np.array([0]), np.array([0]), distribution=True)


def test_compression_of_an_ordinal_model_with_time_keeps_both() -> None:
    """At full rank and with one draw: every pair and time has the same m, the same thresholds, the same noise."""
    posterior, _ = ordinal_model(samples=1)
    small = compress(posterior, 4 * N, PAIRS)
    assert isinstance(small, Posterior)
    u, i = np.mgrid[:M, :N].reshape(2, -1)
    for day in (3, 4, 9, 6):
        times = np.full(len(u), day * DAY)
        # Both store rows to 1/65,534 of their span.
        ours, whole = (predict(m, u, i, times, distribution=True).distribution for m in (small, posterior))
        assert ours is not None
        assert whole is not None
        np.testing.assert_allclose(ours, whole, atol=2e-3)


def test_compression_adds_the_spread_of_the_draws_to_the_noise() -> None:
    posterior, _ = ordinal_model(samples=40)
    small = compress(posterior, N, PAIRS)
    assert isinstance(small, Posterior)
    assert small.n_samples == 1
    each = [Posterior.of([s], posterior.scale) for s in samples_of(posterior)]
    assert len(each) == 40
    where = Pairs(PAIRS.users, PAIRS.items, posterior.scale.bins.indices(PAIRS.times))
    m = [sample_moments(one, where, CPU)[1] for one in each]
    assert small.noises[0] == pytest.approx(np.sqrt(0.6**2 + np.var(m, axis=0).mean()), rel=1e-3)


def samples_of(posterior: Posterior) -> list[Sample]:
    """The samples of a posterior."""
    users, items, contexts = (
        [posterior.rows(side, s) for s in range(posterior.n_samples)] for side in ("user", "item", "context")
    )
    rest = posterior.offsets, posterior.noises, posterior.thresholds
    return [Sample(*parts) for parts in zip(users, items, contexts, *rest, strict=True)]


def test_prediction_is_the_mean_of_the_clipped_predictions_of_the_draws() -> None:
    posterior, draws = model()
    cells = [(u, i, c) for u in range(M) for i in range(N) for c in range(C)]
    each = np.array([[3 + 0.8 * ratings_of(tables, *cell) for tables, _ in draws] for cell in cells])
    u, i, c = np.array(cells).T
    assert (each < RANGE[0]).any() or (each > RANGE[1]).any()
    predicted = predict(posterior, u, i, posterior.scale.bins.numbers[c] * DAY + 12345).values
    # Rows are stored to 1/65,534 of their span, below 1e-4 here, in products of a few entries.
    np.testing.assert_allclose(predicted, np.clip(each, *RANGE).mean(axis=1), atol=2e-3)


def test_unknown_ids_and_times_get_their_prior_mean() -> None:
    posterior, draws = model()
    with_means = [[np.vstack([rows, mean]) for rows, mean in zip(*draw, strict=True)] for draw in draws]
    pairs = [(-1, 2, 1), (3, -1, 0), (-1, -1, 2), (3, 2, -1), (-1, -1, -1)]
    expected = [np.mean([np.clip(3 + 0.8 * ratings_of(t, *pair), *RANGE) for t in with_means]) for pair in pairs]
    u, i, c = np.array(pairs).T
    times = np.where(c >= 0, posterior.scale.bins.numbers[c] * DAY, 6 * DAY)  # day 6 lies between the known ones
    np.testing.assert_allclose(predict(posterior, u, i, times).values, expected, atol=2e-3)


def test_without_times_predictions_are_for_the_mean_time() -> None:
    posterior, _ = model()
    u, i = np.array([0, 6, -1]), np.array([4, 0, 1])
    unknown_day = np.full(3, 6 * DAY)
    assert takes_times(posterior)
    np.testing.assert_array_equal(predict(posterior, u, i).values, predict(posterior, u, i, unknown_day).values)


def test_a_model_without_time_ignores_times() -> None:
    posterior, _ = model(contexts=0)
    assert not takes_times(posterior)
    u, i = np.array([0, 6]), np.array([4, 0])
    np.testing.assert_array_equal(predict(posterior, u, i).values, predict(posterior, u, i, np.array([1, 2])).values)


def test_an_interval_combines_the_noise_and_the_spread_of_the_draws() -> None:
    posterior, draws = model(samples=40, noise=0.25)
    u, i, c = (np.array([k]) for k in (1, 2, 0))
    each = np.array([3 + 0.8 * ratings_of(tables, 1, 2, 0) for tables, _ in draws])
    found = predict(posterior, u, i, posterior.scale.bins.numbers[c] * DAY, probability=0.5)
    half = 0.67449 * np.sqrt(each.var() + (0.25 * 0.8) ** 2)
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower[0] == pytest.approx(np.clip(each.mean() - half, *RANGE), abs=2e-3)
    assert found.upper[0] == pytest.approx(np.clip(each.mean() + half, *RANGE), abs=2e-3)
    assert found.values[0] == pytest.approx(np.clip(each, *RANGE).mean(), abs=2e-3)


def test_compression_at_full_rank_is_the_mean_of_the_draws() -> None:
    posterior, draws = model(samples=3, contexts=0)
    plain = compress(posterior, N, PAIRS)  # the mean of the products is an M by N matrix, whose rank is at most N
    u, i = np.mgrid[:M, :N].reshape(2, -1)
    expected = []
    for user, item in zip(u, i, strict=True):
        each = []
        for (x, y, _), (_, _, c) in draws:
            each.append(3 + 0.8 * ratings_of((x, y, c[None]), user, item, 0))
        expected.append(np.clip(np.mean(each), *RANGE))
    np.testing.assert_allclose(predict(plain, u, i).values, expected, atol=2e-3)


def test_compression_to_a_smaller_rank_is_a_factorisation_of_that_rank() -> None:
    plain = compress(model(samples=3, contexts=0)[0], 2, PAIRS)
    assert isinstance(plain, Factorization)
    assert plain.user_factors.shape == (M, 2)
    assert plain.item_factors.shape == (N, 2)
    assert plain.rating_range == RANGE


def test_compression_to_no_rank_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^compress: out of range \(saw 0\); give a whole number, 1 or more"):
        compress(model()[0], 0, PAIRS)


@pytest.mark.parametrize("probability", [0, 1, -0.5, 90])
def test_a_probability_out_of_range_is_refused(probability: float) -> None:
    with pytest.raises(ConfigError, match=r"^probability out of range \(saw .*\); give a number between 0 and 1"):
        predict(model()[0], np.array([0]), np.array([0]), probability=probability)


def test_times_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match=r"^users and times differ in length \(saw 2 and 1\)"):
        predict(model()[0], np.array([0, 1]), np.array([0, 1]), np.array([5]))


def test_a_model_that_is_not_finite_is_refused() -> None:
    posterior, _ = model()
    with pytest.raises(SolveError, match=r"^noises: the model has parameters that are not finite"):
        Posterior.from_parts(posterior.arrays() | {"noises": np.full(6, np.nan, np.float32)}, posterior.facts())


def test_arrays_and_facts_give_the_same_model_again() -> None:
    posterior, _ = model()
    again = Posterior.from_parts(posterior.arrays(), posterior.facts())
    u, i, times = np.array([0, -1, 5]), np.array([4, 1, -1]), np.array([3 * DAY, 9 * DAY + 5, 0])
    assert predict(again, u, i, times).values.tobytes() == predict(posterior, u, i, times).values.tobytes()


def test_bins_are_those_of_train_and_times_before_1970_have_one() -> None:
    bins = Bins.of(np.array([-1, 0, DAY - 1, 5 * DAY]), 1.0)
    assert bins.numbers.tolist() == [-1, 0, 5]
    found = bins.indices(np.array([-DAY, 1, 5 * DAY + 7, 6 * DAY, 2 * DAY, -2 * DAY]))
    assert found is not None
    assert found.tolist() == [0, 1, 2, -1, -1, -1]


@pytest.mark.parametrize("samples", [1, 5, 8])
def test_draws_kept_are_at_most_as_many_as_asked_and_at_least_half(samples: int) -> None:
    kept: list[int] = []
    for draws in range(1, 200):
        kept = [t for t in [*kept, draws] if not t % stride(draws, samples)]
        assert min(draws, samples) // 2 <= max(len(kept), 1) <= samples
