"""The best items of all users of a table, compared with the product of matrices that gives all scores."""

from __future__ import annotations

import time
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from gpu_data import planted
from gpu_session import Figures, Session, timing

from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.triton import top
from recsys_mf.ratings import Ratings

LISTS, LENGTH = "the ten best items of all users", 10
_PART = 1 << 14  # users at a time, as `prediction.ranking` takes them


def lists_name(table: str, rank: int) -> str:
    """The name of the row of the lists."""
    return f"{table}, rank {rank}"


def lists(session: Session) -> None:
    """At both ranks, with the items that the users have rated left out."""
    name = "25 M"
    train = planted(session.plan.tables[name], session.device).train
    rated = _rated(train)
    for rank in session.plan.ranks:
        session.row(LISTS, lists_name(name, rank), partial(_figures, session, rated, rank))


def _rated(train: Ratings) -> Csr:
    """The items that users have rated, ascending, each once."""
    pairs = np.unique(train.users.astype(np.int64) * train.n_items + train.items)
    users, items = pairs // train.n_items, (pairs % train.n_items).astype(np.int32)
    starts = np.append(0, np.cumsum(np.bincount(users, minlength=train.n_users)))
    return Csr(starts, items, None, train.n_items)


def _figures(session: Session, rated: Csr, rank: int) -> Figures:
    """Milliseconds of the product in float32 without TF32, of the search on the card, and of the package's operation
    with the copies from and to the host; and the share of rows for which all scores had to be computed.
    """
    rng, width = np.random.default_rng(0), rank + 2
    users, items = (rng.standard_normal((n, width), dtype=np.float32) * 0.3 for n in (rated.n_rows, rated.n_columns))
    users[:, -2], items[:, -1], items.flags.writeable = 1, 1, False
    parts = [slice(first, min(first + _PART, len(users))) for first in range(0, len(users), _PART)]
    X, Y = (torch.tensor(rows, device=session.device) for rows in (users, items))
    multiplied = session.seconds(partial(_multiply, X, Y, parts))
    if not top.takes(len(items), width, LENGTH):  # a rehearsal's table
        return {"product ms": 1e3 * median(multiplied)}
    there = _There(session, users, items, rated, parts)
    found = session.seconds(there.search)
    kernels = session.backend.make_prediction()
    whole = [_whole(kernels, users, items, rated, parts) for _ in range(session.plan.turns + 1)][1:]
    return timing(found) | {
        "product ms": 1e3 * median(multiplied), "of product": median(multiplied) / median(found),
        "from and to NumPy ms": 1e3 * median(whole), "searched as a whole": f"{there.unsure():.3%}",
    }  # fmt: skip


def _multiply(X: Any, Y: Any, parts: list[slice]) -> None:
    assert not torch.backends.cuda.matmul.allow_tf32
    scores = torch.empty((_PART, len(Y)), device=X.device)
    for part in parts:
        torch.matmul(X[part], Y.T, out=scores[: part.stop - part.start])


class _There:
    """The search with its operands on the card."""

    def __init__(self, session: Session, users: Any, items: Any, rated: Csr, parts: list[slice]) -> None:
        def put(array: Any) -> Any:
            return torch.tensor(array, device=session.device)

        self.table = top.TopTable.of(put(items))
        self.parts = [(put(users[part]), rated.take(np.arange(part.start, part.stop)).to(put)) for part in parts]

    def search(self) -> None:
        """All lists."""
        for users, rated in self.parts:
            top.find(users, self.table, LENGTH, rated)

    def unsure(self) -> float:
        """The share of rows that are left to be searched as a whole."""
        found = [top.find(users, self.table, LENGTH, rated)[2].float().mean() for users, rated in self.parts]
        return float(torch.stack(found).mean())


def _whole(kernels: Any, users: Any, items: Any, rated: Csr, parts: list[slice]) -> float:
    rows = [rated.take(np.arange(part.start, part.stop)) for part in parts]
    began = time.perf_counter()
    for part, excluded in zip(parts, rows, strict=True):
        kernels.find_top(users[part], items, LENGTH, excluded)
    return time.perf_counter() - began
