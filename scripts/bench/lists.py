"""Lists: the best items of all users of a factorisation, by one system, in the environment of the system.

Run as lists.py NAME FOLDER OPTIONS THREADS RESULT. OPTIONS is JSON: top, the number of items per user. FOLDER has the
arrays that `recommend.py` writes. The result is the seconds by the clock and the CPU seconds of all cores; lists are
written to FOLDER.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

_BLOCK = 256  # rows of scores that the product writes at a time
_WARM_UP = 2048  # users


class Tables(NamedTuple):
    """user_factors [m, k], user_bias [m], item_factors [n, k], item_bias [n]; user u has rated the items, ascending,
    items[starts[u]:starts[u + 1]]."""

    user_factors: np.ndarray
    user_bias: np.ndarray
    item_factors: np.ndarray
    item_bias: np.ndarray
    starts: np.ndarray
    items: np.ndarray

    def first(self, users: int) -> Tables:
        """The tables of the first users."""
        starts = self.starts[: users + 1]
        part = self._replace(user_factors=self.user_factors[:users], user_bias=self.user_bias[:users])
        return part._replace(starts=starts, items=self.items[: starts[-1]])

    def with_bias(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows (p_u, 1) and (q_i, b_i), whose products order the items of a user as its scores do."""
        ones = np.ones((len(self.user_factors), 1), np.float32)
        return np.hstack([self.user_factors, ones]), np.hstack([self.item_factors, self.item_bias[:, None]])


def ours(tables: Tables, top: int, threads: int) -> np.ndarray:
    """`rank_items`: exact lists without the rated items, and no score is kept."""
    from recsys_mf.arrays.csr import Csr
    from recsys_mf.kernels.cpu.prediction import CpuPrediction
    from recsys_mf.models import Factorization
    from recsys_mf.prediction.ranking import rank_items

    P, b_u, Q, b_i, starts, items = tables
    model = Factorization(mean=3.5, user_bias=b_u, item_bias=b_i, user_factors=P, item_factors=Q, rating_range=(0.5, 5))
    rated = Csr(starts, items, None, len(Q))
    return rank_items(model, np.arange(len(P)), top, excluded=rated, backend=CpuPrediction(threads)).items


def product(tables: Tables, top: int, threads: int) -> None:
    """All scores as a matrix product by OpenBLAS, block by block into the same memory, and nothing more."""
    X, Y = tables.with_bias()
    columns, scores = np.ascontiguousarray(Y.T), np.empty((_BLOCK, len(Y)), np.float32)
    with threadpool_limits(threads):
        for start in range(0, len(X), _BLOCK):
            rows = X[start : start + _BLOCK]
            np.matmul(rows, columns, out=scores[: len(rows)])


def implicit(tables: Tables, top: int, threads: int) -> np.ndarray:
    """implicit's `recommend` for all users, of an ALS model with these factors; it has threads of its own."""
    import scipy.sparse as sp
    from implicit.als import AlternatingLeastSquares

    X, Y = tables.with_bias()
    model = AlternatingLeastSquares(factors=X.shape[1], num_threads=threads, use_gpu=False)
    model.user_factors, model.item_factors = X, Y
    ones = np.ones(len(tables.items), np.float32)
    rated = sp.csr_matrix((ones, tables.items, tables.starts), (len(X), len(Y)))
    with threadpool_limits(1, user_api="blas"):
        found: np.ndarray = model.recommend(np.arange(len(X)), rated, N=top, filter_already_liked_items=True)[0]
    return found


SYSTEMS: dict[str, Callable[[Tables, int, int], Any]] = {"ours": ours, "product": product, "implicit": implicit}


if __name__ == "__main__":
    name, folder, options, n_threads, result = sys.argv[1:6]
    tables = Tables(*(np.load(Path(folder) / f"{field}.npy") for field in Tables._fields))
    arguments = json.loads(options)["top"], int(n_threads)
    SYSTEMS[name](tables.first(_WARM_UP), *arguments)  # compiles the kernels and warms up the processor
    began = time.perf_counter(), time.process_time()
    lists = SYSTEMS[name](tables, *arguments)
    figures = {"seconds": time.perf_counter() - began[0], "processor_seconds": time.process_time() - began[1]}
    if lists is not None:
        np.save(Path(folder) / f"lists-{name}.npy", lists)
    Path(result).write_text(json.dumps(figures))
