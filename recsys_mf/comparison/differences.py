"""Differences of the errors of two candidates, with 95 % intervals and p-values, and the correction for many of them.

On one split, the paired bootstrap shows how far a difference of RMSE may be due to the choice of the test rows
(`evaluation.metrics.PairedBootstrap`, as in every report). It does not show how the difference varies between splits.

Over J splits, folds or repetitions with other seeds, each with a difference d_j, the training parts overlap, so the d_j
are not independent and the usual s² / J is too small a variance of their mean d̄. The corrected resampled t-test takes

    Var(d̄) = (1/J + n_test / n_train) s²,    s² = Σ_j (d_j - d̄)² / (J - 1)
    d̄ ± t_{0.975, J-1} √Var(d̄)

with n_test and n_train the rows of the parts of a split. It is exact if the d_j are normal and two of them have the
correlation n_test / (n_test + n_train). Nadeau, Bengio: Inference for the generalization error, Machine Learning 52,
2003, section 3.1; for repeated cross-validation Bouckaert, Frank: Evaluating the replicability of significance tests
for comparing learning algorithms, PAKDD 2004.

If m tests are made, some look significant by chance. Holm's method multiplies the p-values, ascending, by m, m - 1, … 1
and lets none be below the one before; the chance that any true null hypothesis is rejected at 5 % is then at most 5 %,
however the tests depend on each other. The best candidate is chosen on the same rows as its differences from the
others, which amounts to testing every pair, so m counts all pairs of candidates. Holm: A simple sequentially rejective
multiple test procedure, Scandinavian Journal of Statistics 6, 1979.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys_mf.errors import ConfigError
from recsys_mf.evaluation.metrics import Scored

LEVEL = 0.05
"""Chance of a false rejection: intervals have the probability 1 - LEVEL."""


@dataclass(frozen=True)
class Difference:
    """An error minus that of another candidate, in rating units.

    low, high : ends of its 95 % interval
    p : two-sided p-value of no difference
    """

    value: float
    low: float
    high: float
    p: float


def bootstrap_difference(scored: Scored, other: Scored) -> Difference:
    """The difference on the rows of one split, both scored by the same `PairedBootstrap`.

    The interval is between percentiles. The p-value is that of a normal distribution with the standard deviation of the
    resampled differences: shares of 1000 resamples are too coarse to be corrected for many candidates.
    """
    estimate = scored.minus(other)
    spread = float(np.std(scored.resampled - other.resampled, ddof=1))
    return Difference(estimate.value, estimate.low, estimate.high, _p_of_normal(estimate.value, spread))


def corrected_resampled_difference(differences: Sequence[float], test_share: float) -> Difference:
    """The mean of the differences of J splits by the corrected resampled t-test.

    test_share : n_test / n_train of the splits
    Raises ConfigError for fewer than two differences: one has no spread.
    """
    from scipy.special import stdtr, stdtrit

    count = len(differences)
    if count < 2:
        raise ConfigError("a spread needs at least two splits", seen=count, fix="give 2 or more folds or seeds")
    mean = float(np.mean(differences))
    error = math.sqrt((1 / count + test_share) * float(np.var(differences, ddof=1)))
    reach = float(stdtrit(count - 1, 1 - LEVEL / 2)) * error
    p = 2 * float(stdtr(count - 1, -abs(mean) / error)) if error else float(not mean)
    return Difference(mean, mean - reach, mean + reach, p)


def correct_by_holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted by Holm's method, in the order given."""
    adjusted, most, count = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        most = max(most, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = most
    return adjusted


def _p_of_normal(value: float, spread: float) -> float:
    if not spread:
        return float(not value)
    return math.erfc(abs(value) / spread / math.sqrt(2))
