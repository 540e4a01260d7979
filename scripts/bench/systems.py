"""Systems: what is compared, and with which settings on which data set.

Our solvers run with their defaults, except for the options that are in the label of the row. The settings of the peers
were chosen with tune.py: for every data set those with the lowest RMSE on validation rows cut from its training rows.
If two were within 0.0005, the faster one was taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SETS = ("u1", "ml-100k", "ml-1m")


@dataclass(frozen=True)
class System:
    """One row of the table.

    name : as `--only` takes it; label : as the table shows it
    method : one of our solvers, or a key of `peers.PEERS`
    environment : its name in peers.toml; empty for ours
    settings : per data set
    """

    name: str
    label: str
    method: str
    environment: str
    settings: Mapping[str, Mapping[str, Any]]


CHOSEN: dict[str, dict[str, dict[str, Any]]] = {
    "u1": {
        "surprise-svd": {"n_factors": 100, "lr_all": 0.005, "reg_all": 0.1, "n_epochs": 100},
        "surprise-svdpp": {"n_factors": 20, "lr_all": 0.007, "reg_all": 0.08, "n_epochs": 40},
        "cmfrec": {"k": 40, "lambda_": 0.13, "niter": 10, "add_implicit_features": True},
        "myfm": {"rank": 16, "sweeps": 512},
        "myfm-sets": {"rank": 8, "sweeps": 512, "ordinal": False},
        "myfm-sets-ordinal": {"rank": 12, "sweeps": 512, "ordinal": True},
        "smurff": {"rank": 16, "precision": 1.5, "burn_in": 20, "samples": 400},
        "libmf": {"k": 64, "regularisation": 0.09, "eta": 0.03, "nr_iters": 60},
        "lenskit": {"embedding_size": 50, "regularization": 0.14, "epochs": 15},
        "cornac": {"k": 100, "lambda_reg": 0.08, "learning_rate": 0.005, "max_iter": 100},
    },
    "ml-100k": {
        "surprise-svd": {"n_factors": 100, "lr_all": 0.005, "reg_all": 0.08, "n_epochs": 60},
        "surprise-svdpp": {"n_factors": 20, "lr_all": 0.007, "reg_all": 0.08, "n_epochs": 40},
        "cmfrec": {"k": 40, "lambda_": 0.1, "niter": 10, "add_implicit_features": True},
        "myfm": {"rank": 8, "sweeps": 512},
        "myfm-sets": {"rank": 8, "sweeps": 512, "ordinal": False},
        "myfm-sets-ordinal": {"rank": 12, "sweeps": 512, "ordinal": True},
        "smurff": {"rank": 8, "precision": 1.2, "burn_in": 20, "samples": 400},
        "libmf": {"k": 64, "regularisation": 0.09, "eta": 0.03, "nr_iters": 60},
        "lenskit": {"embedding_size": 80, "regularization": 0.12, "epochs": 15},
        "cornac": {"k": 100, "lambda_reg": 0.08, "learning_rate": 0.005, "max_iter": 100},
    },
    "ml-1m": {
        "surprise-svd": {"n_factors": 50, "lr_all": 0.005, "reg_all": 0.05, "n_epochs": 50},
        "surprise-svdpp": {"n_factors": 20, "lr_all": 0.01, "reg_all": 0.03, "n_epochs": 10},
        "cmfrec": {"k": 40, "lambda_": 0.07, "niter": 10, "add_implicit_features": True},
        "myfm": {"rank": 20, "sweeps": 400},
        "myfm-sets": {"rank": 32, "sweeps": 400, "ordinal": False},
        "myfm-sets-ordinal": {"rank": 32, "sweeps": 400, "ordinal": True},
        "smurff": {"rank": 32, "precision": 1.5, "burn_in": 20, "samples": 400},
        "libmf": {"k": 128, "regularisation": 0.06, "eta": 0.05, "nr_iters": 40},
        "lenskit": {"embedding_size": 50, "regularization": 0.08, "epochs": 15},
        "cornac": {"k": 100, "lambda_reg": 0.05, "learning_rate": 0.005, "max_iter": 60},
    },
}


def _ours(name: str, method: str, **options: str | int) -> System:
    shown = [f"--compress {v}" if k == "compress" else f"-p {k}={v}" for k, v in options.items()]
    return System(name, f"**{' '.join([method, *shown])}**", method, "", dict.fromkeys(SETS, options))


def _peer(name: str, label: str, environment: str, method: str = "") -> System:
    return System(name, label, method or name, environment, {table: CHOSEN[table][name] for table in CHOSEN})


OURS = (
    _ours("gibbs", "gibbs"),
    _ours("gibbs-gaussian", "gibbs", likelihood="gaussian"),
    _ours("gibbs-no-links", "gibbs", links="none"),
    _ours("gibbs-compressed", "gibbs", compress=64),
    _ours("sgd", "sgd"),
    _ours("als", "als"),
    _ours("svd", "svd"),
    _ours("bias", "bias"),
    _ours("mean", "mean"),
)

OTHERS = (
    _peer("myfm", "myfm, Gibbs", "myfm"),
    _peer("myfm-sets", "myfm, Gibbs, who-rated-what sets and day", "myfm"),
    _peer("myfm-sets-ordinal", "myfm, ordered probit, who-rated-what sets and day", "myfm", "myfm-sets"),
    _peer("smurff", "smurff BPMF", "smurff"),
    _peer("cornac", "cornac MF", "cornac"),
    _peer("libmf", "LIBMF", "libmf"),
    _peer("cmfrec", "cmfrec CMF", "cmfrec"),
    _peer("surprise-svd", "scikit-surprise SVD", "surprise"),
    _peer("surprise-svdpp", "scikit-surprise SVD++", "surprise"),
    _peer("lenskit", "LensKit BiasedMF", "lenskit"),
)

PEERS = {system.name: system for system in OTHERS}
SYSTEMS = {system.name: system for system in (*OURS, *OTHERS)}
