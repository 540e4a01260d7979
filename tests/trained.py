"""A small trained run, made once for the tests that need one, and helpers to read a fit."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.models import Factorization, Model
from recsys_mf.models.member_spread import MemberSpread
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.solvers import SOLVERS, Epoch
from recsys_mf.splits import Split, hold_out
from recsys_mf.training import train


def small_table(*, strings: bool = False, seed: int = 0) -> Ratings:
    """600 ratings of 40 users and 30 items, ids not contiguous, one user and one item rated once."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(40 * 30)[:600]
    users, items = cells // 30 * 3 + 5, cells % 30 * 2 + 100
    values = np.clip(np.round(3 + np.sin(users) + np.cos(items) + 0.3 * rng.standard_normal(600)), 0, 5)
    users, items, values = np.append(users, 999), np.append(items, 888), np.append(values, 4.0)
    ids: tuple[Any, Any] = (users, items)
    if strings:
        ids = [f"u{user}" for user in users], [f"ü{item}" for item in items]
    return Ratings.from_ids(*ids, values, np.arange(601))


@functools.cache
def small_split(*, strings: bool = False) -> Split:
    """10 % of `small_table` held out."""
    return hold_out(small_table(strings=strings), 0.1, seed=0)


@functools.cache
def small_run(*, strings: bool = False) -> Run:
    """SGD of rank 4 on `small_split`."""
    return train(small_split(strings=strings), SOLVERS["sgd"].from_texts({"rank": "4", "epochs": "5"}))


@functools.cache
def factor_run(*, strings: bool = False) -> Run:
    """`small_run` with factors that are not zero, random ones, and a spread that gives it intervals."""
    run, rng = small_run(strings=strings), np.random.default_rng(1)
    assert isinstance(run.model, Factorization)
    sizes = run.model.n_users, run.model.n_items
    P, Q = (rng.standard_normal((size, 4)).astype(np.float32) for size in sizes)
    v_u, v_i = (rng.random(size).astype(np.float32) for size in sizes)
    spread = MemberSpread(v_u, v_i, 0.5, 0.4)
    return replace(run, fit=replace(run.fit, model=replace(run.model, user_factors=P, item_factors=Q, spread=spread)))


@functools.cache
def posterior_run(likelihood: str = "gaussian") -> Run:
    """Gibbs sampling of rank 2 on `small_split`, whose times lie on two days, with ratings from 0 to 5."""
    split = small_split()
    assert split.train.times is not None
    days = replace(split, train=replace(split.train, times=split.train.times * 200))
    settings = {"rank": "2", "sweeps": "14", "burn_in": "4", "likelihood": likelihood, "joined_after": "0"}
    return train(days, SOLVERS["gibbs"].from_texts(settings))


def factorization(epoch: Epoch) -> Factorization:
    """The model of an epoch of a solver that factorises."""
    model = epoch.model()
    assert isinstance(model, Factorization)
    return model


def intervals(model: Model, users: NDArray[Any], items: NDArray[Any]) -> tuple[NDArray[np.float32], ...]:
    """Predictions of pairs and the bounds of their 90 % intervals."""
    values, lower, upper, *_ = predict(model, users, items, probability=0.9)
    assert lower is not None
    assert upper is not None
    return values, lower, upper
