"""Similar: the items or users whose factors point the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from recsys_mf.arguments import choice, whole
from recsys_mf.loaders.names import note_unnamed, read_names
from recsys_mf.prediction.similarity import find_similar
from recsys_mf.serving.trained import SIDES, Side, Trained, find_known, vocabulary_of

if TYPE_CHECKING:
    import pandas as pd


def list_similar(run: Trained, ids: Any, n: int, side: Side, titles: Any) -> pd.DataFrame:
    """The rows most similar to those of the given ids, by the cosine of their factors: `Run.similar`."""
    import pyarrow as pa

    side = cast(Side, choice(side, "side", SIDES))
    vocabulary = vocabulary_of(run, side)
    n = min(whole(n, "n", 1), max(1, len(vocabulary) - 1))
    names = None if titles is None else read_names(titles, side, vocabulary)
    rows = find_known(run, ids, side)
    found = find_similar(run.model, side, rows, n)
    is_row = found.items >= 0
    others = found.items[is_row]
    ranks = np.broadcast_to(np.arange(1, n + 1, dtype=np.int32), found.items.shape)[is_row]
    columns: dict[str, Any] = {
        f"{side}_id": vocabulary.ids(np.repeat(rows, is_row.sum(1))),
        "rank": ranks,
        f"similar_{side}_id": vocabulary.ids(others),
    }
    if names is not None:
        columns["title"] = names.take(pa.array(others))
        note_unnamed(names, np.unique(others), side, vocabulary)
    return cast("pd.DataFrame", pa.table(columns | {"cosine": found.scores[is_row]}).to_pandas())
