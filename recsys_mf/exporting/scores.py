"""Scores: what is exported of a model, as a factorisation whose rows have a plain inner product."""

from __future__ import annotations

from typing import NamedTuple

from recsys_mf.arguments import whole
from recsys_mf.errors import ConfigError
from recsys_mf.models import Factorization, Model
from recsys_mf.prediction import takes_times
from recsys_mf.solvers.compression import compress_scores

MOST = 64
"""The rank of an exported posterior, if none is asked for."""


class Scores(NamedTuple):
    """A model that scores pairs by r_ui = μ + b_u + b_i + p_u · q_i.

    model : the parameters; meaning : what the score is, as words for the reader of the export
    is_exact : whether it is the prediction of the run before it is clipped
    """

    model: Factorization
    meaning: str
    is_exact: bool


def scores_of(model: Model, rank: int | None) -> Scores:
    """The scores of a model, of a posterior the mean of its samples cut to this rank, by default at most `MOST`.

    Raises ConfigError for a rank out of range, and for one of a factorisation, which is exported as it is.
    """
    if isinstance(model, Factorization):
        if rank is not None:
            fix = f"leave it out: the factors have rank {model.rank}"
            raise ConfigError(
                "only a sampled model is exported at a rank of choice", where="--rank", seen=rank, fix=fix
            )
        return Scores(model, "the predicted rating before it is clipped to rating_range", is_exact=True)
    most = min(model.n_users, model.n_items)
    kept = min(MOST, most) if rank is None else whole(rank, "--rank", 1, most)
    meaning = "the mean rating of the samples before it is clipped to rating_range"
    if model.is_ordinal:
        meaning = "the mean latent rating of the samples: it orders items, and is not in units of the ratings"
    if takes_times(model):
        meaning += "; at an average time"
    return Scores(compress_scores(model, kept), meaning, is_exact=False)
