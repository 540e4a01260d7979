"""Peers: every other package, fitted and asked to predict the test pairs of a trial.

Run with the Python of the peer's environment: peers.py NAME FOLDER SETTINGS THREADS RESULT. SETTINGS is JSON.

A function of PEERS takes the training rows, the test pairs (ids, no ratings), the number of threads and its settings.
It converts the tables to the peer's own form and returns the fit, so that the conversion is not timed. An id that is
not in train is given to the peer if it can take it; a pair for which it gives no finite number is NaN.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from trial import Clock, Fit, Pairs, Predict, Train, read_test, read_train, scored, timed, write


def surprise_svd(train: Train, pairs: Pairs, threads: int, *, plus: bool = False, **settings: Any) -> Fit:
    """scikit-surprise SVD, or SVD++ if `plus` is set: SGD in the order of the users, on one thread."""
    from surprise import SVD, SVDpp, Trainset

    by_user: dict[int, list[tuple[int, float]]] = {}
    by_item: dict[int, list[tuple[int, float]]] = {}
    for user, item, value in zip(train.users.tolist(), train.items.tolist(), train.values.tolist(), strict=True):
        by_user.setdefault(user, []).append((item, value))
        by_item.setdefault(item, []).append((user, value))
    identities = ({n: n for n in range(count)} for count in (train.n_users, train.n_items))
    table = Trainset(by_user, by_item, train.n_users, train.n_items, len(train.values), train.rating_range, *identities)

    def fit() -> Predict:
        model = (SVDpp if plus else SVD)(random_state=0, **settings).fit(table)
        return lambda: np.array(
            [model.predict(u, i).est for u, i in zip(pairs.users.tolist(), pairs.items.tolist(), strict=True)]
        )

    return fit


def surprise_svdpp(train: Train, pairs: Pairs, threads: int, **settings: Any) -> Fit:
    """scikit-surprise SVD++."""
    return surprise_svd(train, pairs, threads, plus=True, **settings)


def cmfrec(train: Train, pairs: Pairs, threads: int, **settings: Any) -> Fit:
    """cmfrec CMF: ALS with biases by conjugate gradients, regularisation scaled by the number of ratings."""
    import pandas as pd
    from cmfrec import CMF

    frame = pd.DataFrame({"UserId": train.users, "ItemId": train.items, "Rating": train.values})

    def fit() -> Predict:
        model = CMF(nthreads=threads, scale_lam=True, random_state=1, verbose=False, **settings).fit(frame)
        return lambda: model.predict(pairs.users, pairs.items)

    return fit


def implicit(train: Train, pairs: Pairs, threads: int, **settings: Any) -> Fit:
    """implicit ALS: for implicit feedback, with the ratings as confidences; its scores are not ratings."""
    import scipy.sparse as sp
    from implicit.als import AlternatingLeastSquares

    table = sp.csr_matrix((train.values, (train.users, train.items)), (train.n_users, train.n_items))

    def fit() -> Predict:
        model = AlternatingLeastSquares(num_threads=threads, use_gpu=False, random_state=0, **settings)
        model.fit(table, show_progress=False)
        return lambda: np.sum(model.user_factors[pairs.users] * model.item_factors[pairs.items], axis=1)

    return fit


def myfm(
    train: Train, pairs: Pairs, threads: int, *, rank: int, sweeps: int, watch: Clock | None = None
) -> Fit:  # fmt: skip
    """myfm Gibbs regression on one-hot users and items only: Bayesian matrix factorisation; watch as in `myfm_sets`."""
    from myfm import MyFMGibbsRegressor

    X, inside, shapes = _one_hot(train, train), _one_hot(train, pairs), [train.n_users, train.n_items]

    def follow(sweep: int, fm: Any, hyper: Any, history: Any) -> tuple[bool, str | None]:
        if watch is not None:
            watch.add_draw(lambda: np.asarray(fm.predict_score(inside, [])), sweep, first=_MYFM_FIRST)
        return False, None

    def fit() -> Predict:
        model = MyFMGibbsRegressor(rank=rank, random_seed=0)
        model.fit(X, train.values, n_iter=sweeps, group_shapes=shapes, callback=follow)
        return lambda: model.predict(inside, n_workers=threads)

    return fit


def myfm_sets(
    train: Train, pairs: Pairs, threads: int, *, rank: int, sweeps: int, ordinal: bool, watch: Clock | None = None
) -> Fit:  # fmt: skip
    """myfm with who rated what on both sides as relation blocks, and the day if there are times ("timeSVD++ flipped").

    ordinal : an ordered probit likelihood in place of the Gaussian; the prediction is its mean
    watch : given every draw, for the mean over those that myfm keeps
    """
    from myfm import MyFMGibbsRegressor, MyFMOrderedProbit, RelationBlock

    blocks, widths = _set_blocks(train)
    days = _days(train, train, pairs)
    shapes = [days[0].shape[1]] * bool(days[0].shape[1]) + widths
    levels, classes = np.unique(train.values, return_inverse=True)

    def relations(rows: Pairs) -> list[RelationBlock]:
        sides = ((rows.users, train.n_users), (rows.items, train.n_items))
        return [RelationBlock(np.minimum(ids, n), block) for (ids, n), block in zip(sides, blocks, strict=True)]

    inside, outside = relations(train), relations(pairs)

    def follow(sweep: int, fm: Any, hyper: Any, history: Any) -> tuple[bool, str | None]:
        if watch is not None:
            watch.add_draw(partial(draw_of, fm), sweep, first=_MYFM_FIRST)
        return False, None

    def draw_of(fm: Any) -> np.ndarray:
        if ordinal:
            return np.asarray(fm.oprobit_predict_proba(days[1], outside, 0) @ levels)
        return np.asarray(fm.predict_score(days[1], outside))

    def fit() -> Predict:
        model = (MyFMOrderedProbit if ordinal else MyFMGibbsRegressor)(rank=rank, random_seed=0)
        target = classes if ordinal else train.values
        model.fit(days[0], target, X_rel=inside, n_iter=sweeps, group_shapes=shapes, callback=follow)
        if ordinal:
            return lambda: model.predict_proba(days[1], outside, n_workers=threads) @ levels
        return lambda: model.predict(days[1], outside, n_workers=threads)

    return fit


def smurff(
    train: Train, pairs: Pairs, threads: int, *, rank: int, burn_in: int, samples: int, precision: float,
    watch: Clock | None = None,
) -> Fit:  # fmt: skip
    """smurff BPMF on ratings minus their mean, with a fixed noise precision; predicts the test pairs while it samples.

    An id that is not in train is a row without ratings, drawn from the prior.
    watch : given the mean over the samples after the first, the second, the fourth and so on, and after the last
    """
    import scipy.sparse as sp
    from smurff import FixedNoise, TrainSession

    mean = train.values.mean(dtype=np.float64)
    shape = tuple(int(max(a.max(), b.max())) + 1 for a, b in ((train.users, pairs.users), (train.items, pairs.items)))
    Y = sp.coo_matrix((train.values - mean, (train.users, train.items)), shape)
    test = sp.coo_matrix((np.ones(len(pairs.users)), (pairs.users, pairs.items)), shape)

    def fit() -> Predict:
        session = TrainSession(
            priors=["normal", "normal"], num_latent=rank, num_threads=threads, burnin=burn_in, nsamples=samples,
            seed=1, verbose=0,
        )  # fmt: skip

        def predict() -> np.ndarray:
            return np.asarray(_in_order(session.getTestPredictions(), pairs, shape[1]) + mean)

        session.addTrainAndTest(Y, test, FixedNoise(precision))
        session.init()
        step = 0
        while session.step():
            step += 1
            kept = step - burn_in
            if watch is not None and kept > 0 and (kept & (kept - 1) == 0 or kept == samples):
                watch.add(predict)
        return predict

    return fit


def libmf(train: Train, pairs: Pairs, threads: int, *, regularisation: float, **settings: Any) -> Fit:
    """LIBMF: SGD in blocks, without biases, with adaptive steps; pairs with unknown ids get its mean."""
    from libmf import mf

    rows = np.stack([train.users, train.items, train.values], axis=1).astype(np.float32)
    wanted = np.asfortranarray(np.stack([pairs.users, pairs.items], axis=1))  # it reads users first, then items

    def fit() -> Predict:
        both = {"lambda_p2": regularisation, "lambda_q2": regularisation, "lambda_p1": 0.0, "lambda_q1": 0.0}
        model = mf.MF(nr_threads=threads, quiet=True, **both, **settings)
        model.fit(rows)
        return lambda: model.predict(wanted)

    return fit


def lenskit(train: Train, pairs: Pairs, threads: int, **settings: Any) -> Fit:
    """LensKit BiasedMF: ALS on the residuals of damped biases; unknown ids get no number."""
    import pandas as pd
    from lenskit.als import BiasedMFScorer
    from lenskit.data import ItemList, from_interactions_df
    from lenskit.parallel import initialize
    from lenskit.training import TrainingOptions

    initialize(processes=1, threads=threads, backend_threads=1)
    data = from_interactions_df(pd.DataFrame({"user_id": train.users, "item_id": train.items, "rating": train.values}))

    def predicted(model: BiasedMFScorer) -> np.ndarray:
        scores = np.empty(len(pairs.users))
        for user, rows in _rows_of_users(pairs):
            scores[rows] = model(user, ItemList(item_ids=pairs.items[rows])).scores()
        return scores

    def fit() -> Predict:
        model = BiasedMFScorer(**settings)
        model.train(data, TrainingOptions(rng=0))
        return lambda: predicted(model)

    return fit


def cornac(train: Train, pairs: Pairs, threads: int, **settings: Any) -> Fit:
    """cornac MF: SGD with biases; no seed on several threads, as it limits them to one; unknown items get no number."""
    from cornac.data import Dataset
    from cornac.models import MF

    identities = ({n: n for n in range(count)} for count in (train.n_users, train.n_items))
    rows = train.users.astype(np.int64), train.items.astype(np.int64), train.values
    data = Dataset(train.n_users, train.n_items, *identities, rows)

    def predicted(model: MF) -> np.ndarray:
        scores = np.full(len(pairs.users), np.nan)
        for user, rows in _rows_of_users(pairs):
            known = rows[pairs.items[rows] < train.n_items]
            scores[known] = np.array(model.score(user))[pairs.items[known]]
        return scores

    def fit() -> Predict:
        model = MF(use_bias=True, num_threads=threads, seed=0 if threads == 1 else None, **settings).fit(data)
        return lambda: predicted(model)

    return fit


_MYFM_FIRST = 5  # the first sweep, counted from 0, whose draw it keeps

PEERS: dict[str, Callable[..., Fit]] = {
    "surprise-svd": surprise_svd,
    "surprise-svdpp": surprise_svdpp,
    "cmfrec": cmfrec,
    "implicit": implicit,
    "myfm": myfm,
    "myfm-sets": myfm_sets,
    "smurff": smurff,
    "libmf": libmf,
    "lenskit": lenskit,
    "cornac": cornac,
}

SAMPLERS = ("myfm", "myfm-sets", "smurff")
"""Those that take a clock to `watch` them."""


def _one_hot(train: Train, rows: Pairs) -> Any:
    """Columns of users and then of items, float64[b, m + n]; an unknown id has no entry."""
    import scipy.sparse as sp

    columns = np.stack([rows.users, train.n_users + rows.items], axis=1)
    known = np.stack([rows.users < train.n_users, rows.items < train.n_items], axis=1)
    starts = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
    shape = (len(columns), train.n_users + train.n_items)
    return sp.csr_matrix((np.ones(starts[-1]), columns[known], starts), shape)


def _set_blocks(train: Train) -> tuple[list[Any], list[int]]:
    """For users and for items: rows (one-hot, who rated what / √count), a last row of zeros for unknown ids; widths."""
    import scipy.sparse as sp

    rated = sp.csr_matrix((np.ones(len(train.users)), (train.users, train.items)))
    blocks, widths = [], []
    for table in (rated, rated.T.tocsr()):
        n, others = table.shape
        weighted = sp.diags(1 / np.sqrt(np.diff(table.indptr))) @ table
        known = sp.hstack([sp.identity(n), weighted])
        blocks.append(sp.vstack([known, sp.csr_matrix((1, n + others))]).tocsr())
        widths += [n, others]
    return blocks, widths


def _days(train: Train, *tables: Pairs) -> list[Any]:
    """One-hot days of each table; no columns if there are no times, and no entry for a day that is not in train."""
    import scipy.sparse as sp

    if train.times is None:
        return [sp.csr_matrix((len(rows.users), 0)) for rows in tables]
    known = np.unique(train.times // 86_400)
    hots = []
    for rows in tables:
        assert rows.times is not None
        day = rows.times // 86_400
        column = np.minimum(np.searchsorted(known, day), len(known) - 1)
        there = known[column] == day
        starts = np.concatenate([[0], np.cumsum(there)])
        hots.append(sp.csr_matrix((np.ones(starts[-1]), column[there], starts), (len(day), len(known))))
    return hots


def _in_order(predictions: list[Any], pairs: Pairs, n_items: int) -> np.ndarray:
    """The mean predictions of smurff, put into the order of the pairs."""
    keys = np.array([p.coords[0] * n_items + p.coords[1] for p in predictions])
    means = np.array([p.pred_avg for p in predictions])
    order = np.argsort(keys)
    wanted = pairs.users.astype(np.int64) * n_items + pairs.items
    found: np.ndarray = means[order[np.searchsorted(keys[order], wanted)]]
    return found


def _rows_of_users(pairs: Pairs) -> list[tuple[int, np.ndarray]]:
    order = np.argsort(pairs.users, kind="stable")
    users, starts = np.unique(pairs.users[order], return_index=True)
    return list(zip(users.tolist(), np.split(order, starts[1:]), strict=True))


if __name__ == "__main__":
    name, tables, options, n_threads, result = sys.argv[1:6]
    rows, wanted = read_train(Path(tables)), read_test(Path(tables))
    chosen = json.loads(options)
    predictions, fitting, predicting = timed(PEERS[name](rows, wanted[0], int(n_threads), **chosen))
    figures = scored(predictions, rows, *wanted, fit_seconds=fitting, predict_seconds=predicting, settings=chosen)
    write(figures, Path(result))
