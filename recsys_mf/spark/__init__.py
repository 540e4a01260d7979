"""Spark: SGD and ALS on the workers of a cluster, to the bytes of a single machine (`pip install recsys-mf[spark]`).

    run = recsys_mf.spark.train(ratings, "sgd", order_by="timestamp")
    predicted = recsys_mf.spark.predict(run, pairs)

Names are imported when they are first used, so that importing this costs nothing and needs no Spark.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys_mf.spark.engine import Cluster as Cluster
    from recsys_mf.spark.predicting import predict as predict
    from recsys_mf.spark.predicting import recommend as recommend
    from recsys_mf.spark.training import train as train

_HOMES = {"Cluster": "engine", "predict": "predicting", "recommend": "predicting", "train": "training"}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'recsys_mf.spark' has no attribute '{name}'")
    return getattr(importlib.import_module(f"recsys_mf.spark.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
