"""Personal noise of a posterior: kept to rounding, used in predictions, and followed by everything that moves rows."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

from recsys_mf import load, save
from recsys_mf.errors import DataError
from recsys_mf.kernels.cpu.prediction import CPU
from recsys_mf.models import Posterior
from recsys_mf.models.personal_noise import NoiseDraw, PersonalNoise
from recsys_mf.prediction import predict
from recsys_mf.prediction.intervals import normal_quantile
from recsys_mf.prediction.pairs import moments
from recsys_mf.prediction.ranking import Lower, Mean, Score, rank_items
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.solvers import Gibbs
from recsys_mf.solvers.compression import compress
from recsys_mf.splits import hold_out
from recsys_mf.training import train
from tests.planted import planted

NEW = 100_000  # an id that no table here has


def noise(rng: np.random.Generator, m: int = 7, n: int = 5, samples: int = 4) -> tuple[PersonalNoise, list[NoiseDraw]]:
    draws = []
    for _ in range(samples):
        users, items = (rng.gamma(4, 0.25, rows).astype(np.float32) for rows in (m, n))
        draws.append(NoiseDraw(users, items, (8.0, 20.0)))
    return PersonalNoise.joined([PersonalNoise.of(draw) for draw in draws]), draws


@cache
def fitted(likelihood: str) -> Run:
    """A run with personal noise on a planted table, of stars if it is ordinal."""
    table = planted(n_users=80, n_items=60)[0]
    gammas = np.random.default_rng(1).gamma(2, 0.5, 80)
    values = table.values + np.random.default_rng(2).standard_normal(len(table)) / np.sqrt(gammas[table.users])
    values = np.clip(np.rint(values), 1, 6) if likelihood == "ordinal" else values
    split = hold_out(replace(table, values=values.astype(np.float32)), 0.1, seed=0)
    solver = Gibbs(rank=3, sweeps=45, burn_in=25, likelihood=likelihood, noise="personal")
    return train(split, solver, device="cpu", validation=0)


def model_of(run: Run) -> tuple[Posterior, PersonalNoise]:
    assert isinstance(run.model, Posterior)
    assert run.model.noise is not None
    return run.model, run.model.noise


def test_factors_are_kept_to_rounding() -> None:
    found, draws = noise(np.random.default_rng(0))
    for side, scales in (("user", [d.users for d in draws]), ("item", [d.items for d in draws])):
        exact = 1 / np.sqrt(np.array(scales, np.float64).T)
        np.testing.assert_allclose(found.factors(side), exact, atol=exact.max() / 65_000)
    np.testing.assert_allclose(found.freedoms, np.repeat([[8.0], [20.0]], 4, axis=1))


@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_a_run_keeps_its_noise(tmp_path: Path, likelihood: str) -> None:
    run = fitted(likelihood)
    save(run, tmp_path / "run")
    (_, before), (_, after) = model_of(run), model_of(load(tmp_path / "run"))
    for name, array in before.arrays().items():
        np.testing.assert_array_equal(after.arrays()[name], array)


def test_noise_that_does_not_fit_its_model_is_refused() -> None:
    model, found = model_of(fitted("gaussian"))
    with pytest.raises(DataError, match=r"^noise_users: shape does not match"):
        replace(model, noise=replace(found, users=found.users[:5]))
    with pytest.raises(DataError, match=r"^noise_items: values that are not positive"):
        replace(model, noise=replace(found, items=found.items * np.int16(0)))
    arrays = {name: array for name, array in model.arrays().items() if name != "noise_units"}
    with pytest.raises(DataError, match=r"^noise_units: an array of the model is missing"):
        Posterior.from_parts(arrays, model.facts())


def test_intervals_are_as_wide_as_the_noise_of_user_and_item() -> None:
    model, found = model_of(fitted("gaussian"))
    users, items = np.mgrid[-1 : model.n_users, -1 : model.n_items].reshape(2, -1)
    g, d = (np.vstack([found.factors(side), np.ones((1, model.n_samples))]) for side in ("user", "item"))
    noises = np.mean((model.noises * g[users] * d[items]) ** 2, axis=1) * model.scale.deviation**2
    _, without = moments(replace(model, noise=None), users, items, CPU, with_variances=True)
    means, variances = moments(model, users, items, CPU, with_variances=True)
    assert variances is not None
    assert without is not None
    np.testing.assert_allclose(variances, without - model.noise_variance + noises, rtol=1e-4)
    wide = replace(model, scale=replace(model.scale, rating_range=(-100.0, 100.0)))
    _, lower, upper, *_ = predict(wide, users, items, probability=0.9)
    assert lower is not None
    assert upper is not None
    np.testing.assert_allclose((upper - lower) / 2, normal_quantile(0.9) * np.sqrt(variances), rtol=1e-3)
    np.testing.assert_allclose((upper + lower) / 2, means, atol=1e-3)


def test_levels_have_the_noise_of_user_and_item() -> None:
    model, found = model_of(fitted("ordinal"))
    users, items = np.mgrid[: model.n_users, : model.n_items].reshape(2, -1)
    distribution = predict(model, users, items, distribution=True).distribution
    assert distribution is not None
    exact = np.zeros((len(users), len(model.scale.levels)))
    g, d = found.factors("user"), found.factors("item")
    for s in range(model.n_samples):
        X, Y = model.rows("user", s).astype(np.float64)[users], model.rows("item", s).astype(np.float64)[items]
        m = model.offsets[s] + X[:, -1] + Y[:, -1] + np.einsum("zk,zk->z", X[:, :-1], Y[:, :-1])
        n = model.noises[s] * g[users, s] * d[items, s]
        below = ndtr((model.thresholds[s] - m[:, None]) / n[:, None])
        exact += np.diff(np.column_stack([np.zeros(len(m)), below, np.ones(len(m))]), axis=1) / model.n_samples
    np.testing.assert_allclose(distribution, exact, atol=1e-4)


@pytest.mark.parametrize("score", [Mean(), Lower(0.8)])
@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_lists_are_in_the_order_of_the_predictions(likelihood: str, score: Score) -> None:
    model, _ = model_of(fitted(likelihood))
    users = np.arange(-1, 6, dtype=np.int32)
    found = rank_items(model, users, 10, score=score)
    every = np.arange(model.n_items, dtype=np.int32)
    for user, items, scores in zip(users, found.items, found.scores, strict=True):
        means, variances = moments(model, np.full_like(every, user), every, CPU, with_variances=True)
        assert variances is not None
        if isinstance(score, Lower):
            means = (means - normal_quantile(score.probability) * np.sqrt(variances)).astype(np.float32)
        np.testing.assert_allclose(scores, means[items], atol=1e-4)
        np.testing.assert_allclose(scores, np.sort(means)[::-1][:10], atol=1e-4)


@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_a_new_user_who_rates_at_random_has_more_noise_than_one_who_does_not(likelihood: str) -> None:
    run = fitted(likelihood)
    model, found = model_of(run)
    items = np.arange(model.n_items)
    expected = predict(replace(model, noise=None), np.full(len(items), -1), items).values
    wild = np.random.default_rng(0).choice([1.0, 6.0], len(items))
    factors = {}
    for name, values in (("steady", np.rint(expected)), ("wild", wild)):
        table = Ratings.from_ids([NEW] * len(items), run.item_vocabulary.ids(items.astype(np.int32)), values)
        folded = run.fold_in(table)
        new, place = model_of(folded)[1], folded.user_vocabulary.indices([NEW])[0]
        factors[name] = new.factors("user")[place].mean()
        kept = np.arange(model.n_users + 1) != place
        np.testing.assert_array_equal(new.users[kept], found.users)
        np.testing.assert_array_equal(new.items, found.items)
    assert factors["wild"] > 1.2 * factors["steady"]


def test_forgotten_users_take_their_noise_with_them() -> None:
    run = fitted("gaussian")
    model, found = model_of(run)
    with pytest.warns(UserWarning, match="users forgotten"):
        rest = run.forget([run.user_vocabulary.entries[3].as_py()])
    kept = np.arange(model.n_users) != 3
    np.testing.assert_array_equal(model_of(rest)[1].users, found.users[kept])


def test_compression_of_an_ordinal_model_keeps_the_noise() -> None:
    run = fitted("ordinal")
    model, found = model_of(run)
    train_part = planted(n_users=80, n_items=60)[0]
    small = compress(model, 3, train_part)
    assert isinstance(small, Posterior)
    assert small.noise is not None
    for side in ("user", "item"):
        exact = np.sqrt(np.mean(found.factors(side).astype(np.float64) ** 2, axis=1))
        np.testing.assert_allclose(small.noise.factors(side)[:, 0], exact, rtol=1e-3)
