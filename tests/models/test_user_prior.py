"""The prior of users that a posterior keeps: in the coordinates of its rows, checked, and the same after saving."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys_mf.errors import DataError
from recsys_mf.models import Posterior
from recsys_mf.models.samples import Bins, Sample, Scale
from recsys_mf.models.user_prior import PriorDraw
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.solvers import Gibbs
from recsys_mf.splits import hold_out
from recsys_mf.store import load, save
from recsys_mf.training import train
from tests.planted import planted

M, N, K = 9, 6, 3


def posterior(rng: np.random.Generator, *, linked: bool = True) -> tuple[Posterior, Sample]:
    """A posterior of one sample, with the draw it was made of, in which users lie at F β + ξ exactly."""
    F = rng.random((M, N))
    coefficients = rng.standard_normal((N, K + 1)).astype(np.float32)
    means = [rng.standard_normal(K + 1).astype(np.float32) for _ in range(3)]
    users = (F @ coefficients + means[0]).astype(np.float32)
    items, contexts = (rng.standard_normal((rows, K + 1)).astype(np.float32) for rows in (N, 2))
    root = rng.standard_normal((K + 1, K + 1))
    draw = PriorDraw(coefficients if linked else coefficients[:0], root @ root.T + np.eye(K + 1))
    tables, (first, second, third) = (users, items, contexts), means
    sample = Sample.centred(tables, (first, second, third), 0.5, np.zeros(0), draw)
    model = Posterior.of([sample], Scale(3.0, 1.0, Bins(np.array([1, 2]), 86400), (1.0, 5.0)))
    np.testing.assert_allclose(sample.users, F @ sample.user_prior.coefficients if linked else sample.users, atol=1e-4)  # type: ignore[union-attr]
    return model, sample


def test_coefficients_move_as_the_rows_do() -> None:
    posterior(np.random.default_rng(0))  # the assertion is in there


def test_the_precision_is_that_of_the_moved_rows() -> None:
    """Rows whose covariance is Λ⁻¹ are moved to rows whose covariance is that of the moved Λ."""
    rng = np.random.default_rng(1)
    root = rng.standard_normal((K + 1, K + 1))
    precision, others = root @ root.T + np.eye(K + 1), rng.standard_normal(K).astype(np.float32)
    rows = rng.standard_normal((20, K + 1))
    moved = rows.copy()
    moved[:, -1] += moved[:, :-1] @ others
    there = PriorDraw(np.zeros((0, K + 1), np.float32), precision).moved(others).precision
    np.testing.assert_allclose(
        np.einsum("gf,fh,gh->g", moved, there, moved), np.einsum("gf,fh,gh->g", rows, precision, rows)
    )


@pytest.mark.parametrize("linked", [True, False])
def test_a_prior_is_kept_to_rounding_and_comes_back_from_its_arrays(linked: bool) -> None:
    model, sample = posterior(np.random.default_rng(2), linked=linked)
    again = Posterior.from_parts(model.arrays(), model.facts())
    for found in (model, again):
        assert found.user_prior is not None
        assert sample.user_prior is not None
        draw, spans = found.user_prior.draw(0), np.abs(sample.user_prior.coefficients).max(initial=0)
        np.testing.assert_allclose(draw.coefficients, sample.user_prior.coefficients, atol=spans / 65_000)
        np.testing.assert_allclose(draw.precision, sample.user_prior.precision, rtol=1e-5)


def test_a_prior_that_does_not_fit_its_model_is_refused() -> None:
    model, _ = posterior(np.random.default_rng(3))
    prior = model.user_prior
    assert prior is not None
    with pytest.raises(DataError, match=r"^prior_coefficients: shape does not match \(saw 5\); it has 0 or 6 rows"):
        replace(model, user_prior=replace(prior, coefficients=prior.coefficients[:5]))
    with pytest.raises(DataError, match=r"^prior_precisions: a precision is not positive definite"):
        replace(model, user_prior=replace(prior, precisions=-prior.precisions))
    arrays = {name: array for name, array in model.arrays().items() if name != "prior_units"}
    with pytest.raises(DataError, match=r"^prior_units: an array of the model is missing"):
        Posterior.from_parts(arrays, model.facts())


def fitted(links: str) -> Run:
    split = hold_out(planted(n_users=60, n_items=30)[0], 0.1, seed=0)
    return train(split, Gibbs(rank=3, sweeps=12, burn_in=4, links=links), device="cpu", validation=0)


@pytest.mark.parametrize(("links", "rows"), [("both", 30), ("users", 30), ("items", 0), ("none", 0)])
def test_a_run_keeps_the_prior_of_its_links(tmp_path: Path, links: str, rows: int) -> None:
    run = fitted(links)
    save(run, tmp_path / "run")
    model = load(tmp_path / "run").model
    assert isinstance(model, Posterior)
    assert model.user_prior is not None
    assert model.user_prior.coefficients.shape == (rows, model.n_samples, 4)
    # The precision is that of rows about their prior means.
    assert np.linalg.eigvalsh(model.user_prior.precisions.astype(float)).min() > 0


def test_a_user_without_usable_ratings_lies_at_the_prior_mean_of_the_items_it_rated() -> None:
    """With a noise that drowns its ratings, a row is drawn from the prior F β alone."""
    run = fitted("users")
    model = run.model
    assert isinstance(model, Posterior)
    assert model.user_prior is not None
    deaf = replace(model, noises=np.full_like(model.noises, 1e4))
    rated = planted(n_users=60, n_items=30)[0]
    new = rated.select(rated.users == 3)
    runs = [replace(run, fit=replace(run.fit, model=deaf)).fold_in(_renamed(new), seed=seed) for seed in range(40)]
    rows = np.array([r.model.user_rows[-1] * r.model.scales[0][:, None] for r in runs])  # type: ignore[union-attr]
    items = run.item_vocabulary.indices(new.item_vocabulary.ids(new.items))
    items = items[items >= 0]
    prior = [model.user_prior.draw(s) for s in range(model.n_samples)]
    means = np.array([draw.coefficients[items].sum(0) / np.sqrt(len(items)) for draw in prior])
    deviations = np.array([np.sqrt(np.diag(np.linalg.inv(draw.precision))) for draw in prior])
    z = (rows.mean(axis=0) - means) / (deviations / np.sqrt(len(runs)))
    assert np.abs(z).max() < 5
    assert 0.7 < np.std(z) < 1.4


def _renamed(table: Ratings) -> pd.DataFrame:
    frame = table.to_frame()
    return frame.assign(user_id=pd.Series(np.full(len(frame), 10_000_000)))
