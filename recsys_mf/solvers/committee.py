"""Committees: the mean of independent runs of a solver, cut back to a plain factorisation.

    r̂_ui = μ + b_u + b_i + [Σ_s p_u^(s) · q_i^(s) / S]_k

The S members differ in their random draws alone. Each has an error of its own beside the one they share, and the
mean has S times less variance of the former: so a member is trained further than is best for it alone
(`OVERTRAINING`). Biases are averaged exactly, so that unknown ids keep the right fallback. The mean of the products
has rank S k; [·]_k is its truncated SVD, kept up member by member (`models.averaging`), so that memory stays at a
few models.

Breiman: Bagging predictors, Machine Learning 24(2), 1996.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from recsys_mf.models import Factorization
from recsys_mf.models.averaging import merged
from recsys_mf.solvers.solver import Epoch

OVERTRAINING = 1.25  # epochs of a member over those that are best for it alone


def averaged(members: Iterable[Epoch]) -> Iterator[Epoch]:
    """An Epoch per member with the committee so far, at the members' rank.

    members : the last Epoch of every member, over the same users and items
    """
    committee: Factorization | None = None
    for number, member in enumerate(members, start=1):
        one = member.model()
        assert isinstance(one, Factorization)  # what the members, runs of SGD or ALS, end in
        committee = one if committee is None else merged(committee, one, number, one.rank)

        def model(committee: Factorization = committee) -> Factorization:
            return committee

        yield Epoch(number, member.visits * member.number, None, model)
