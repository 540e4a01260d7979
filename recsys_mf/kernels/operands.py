"""Operands: the groups of arguments of the kernels. Arrays are those of a backend; None means that there is none.

A row of any table is one vector x = (factors, bias) of k + 1 numbers, since the row's system is solved for all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class NoiseScales(NamedTuple):
    """Factors on the precision of the noise, one per row of a table; the factors of a rating's rows are multiplied.

    rows float32[rows] : of the rows that are solved; others float32[n] : of the other table
    contexts float32[c] : of the third table; None for 1
    """

    rows: Any
    others: Any
    contexts: Any | None = None


class Regressors(NamedTuple):
    """What the ratings of a row are regressed on: for each a row of the other table and, if there is one, of a third.

    rows : the other table Y [n, k + 1]; the columns of the ratings' `Csr` are its row numbers
    contexts : int32[z], the row of the third table for every rating; or None
    context_rows : the third table C [c, k + 1], or None
    weights : float32[z] above 0, factors on the precision of every rating's noise; None for 1
    scales : more factors above 0 on that precision, by row of each table; None for 1
    """

    rows: Any
    contexts: Any | None = None
    context_rows: Any | None = None
    weights: Any | None = None
    scales: NoiseScales | None = None

    def put(self, put: Callable[[Any], Any]) -> Regressors:
        """The same on the device that `put` puts arrays on."""

        def put_all(arrays: Any) -> list[Any]:
            return [None if array is None else put(array) for array in arrays]

        there = Regressors(*put_all(self[:4]))  # all but the scales
        return there if self.scales is None else there._replace(scales=NoiseScales(*put_all(self.scales)))


class Offsets(NamedTuple):
    """What a product subtracts from every entry of a sparse matrix: a_g + c_j in row g and column j.

    rows a float64[rows], columns c float64[columns]
    """

    rows: Any
    columns: Any


class GaussianPrior(NamedTuple):
    """Prior N(m_g, Λ⁻¹) of the rows x_g: precision Λ [k + 1, k + 1], means m [rows, k + 1]."""

    precision: Any
    means: Any


class Shrinkage(NamedTuple):
    """Prior precision w_g diag(d) of the rows x_g about zero: weights w [rows], ridge d [k + 1]."""

    weights: Any
    ridge: Any


RowPrior = GaussianPrior | Shrinkage


class Pairs(NamedTuple):
    """Pairs of users and items by their row numbers int32[z]; -1 for an unknown one.

    contexts : int32[z], the row of the third table, -1 for an unknown one; None if there is no third table
    """

    users: Any
    items: Any
    contexts: Any | None = None


class Tables(NamedTuple):
    """The rows (factors, bias) of users X [m, k + 1], of items Y [n, k + 1] and of contexts C [c, k + 1] or None."""

    users: Any
    items: Any
    contexts: Any | None = None


class FactorModel(NamedTuple):
    """The parameters of r̂_ui = μ + b_u + b_i + p_u · q_i, clipped to a range.

    mean μ; user_bias [m], item_bias [n]; P [m, k], Q [n, k]; rating_range (low, high)
    """

    mean: float
    user_bias: Any
    item_bias: Any
    P: Any
    Q: Any
    rating_range: tuple[float, float]


class NoiseTables(NamedTuple):
    """Factors on the standard deviation of the noise in every sample, as integers with units.

    users int16[m, S], items int16[n, S] : above 0, in units of units[0, s] and units[1, s]; units float32[2, S]
    """

    users: Any
    items: Any
    units: Any


class SampleTables(NamedTuple):
    """The rows of every sample of a posterior as integers, with their units.

    users int16[m, S, k + 1], items int16[n, S, k + 1], contexts int16[c, S, k + 1] or None : rows (factors, bias) in
        units of units[0, s], units[1, s] and units[2, s]
    units float32[3, S], offsets float32[S]
    noise : factors on the noise of every user and item, or None
    """

    users: Any
    items: Any
    contexts: Any | None
    units: Any
    offsets: Any
    noise: NoiseTables | None = None


class TopQuery(NamedTuple):
    """The users whose lists are wanted, and the items to choose from.

    users int32[b], -1 for an unknown one; items int32[n], the ones to choose from; length : entries of a list
    excluded : a `Csr`; its row g has the positions in items, ascending, that are left out for users[g]; or None
    """

    users: Any
    items: Any
    length: int
    excluded: Any | None


class Curves(NamedTuple):
    """What a value m of sample s adds to a score: a cubic polynomial in each of K intervals of equal width.

        C_s(m) = Σ_{d < 4} values[s, j, d] t^d,   u = (m - starts[s]) / steps[s],  j = ⌊u⌋ within 0 to K - 1,  t = u - j

    starts, steps float32[S]; values float32[S, K, 4]
    squares float32[S, K, 4] : the polynomials D_s of what it adds to the mean square, or None
    z, variance : of the score A - z √(max(mean_s D_s(m_s) - A², 0) + variance) with A = mean_s C_s(m_s), which is A
        without squares
    """

    starts: Any
    steps: Any
    values: Any
    squares: Any | None
    z: float
    variance: float


class LevelScores(NamedTuple):
    """The values of the levels of an ordinal model, for scores by expected levels.

        A = mean_s Σ_l values[l] P_s(l),  B = mean_s Σ_l squares[l] P_s(l),  score = A - z √max(B - A², 0)

    with P_s as in `predict_levels`; thresholds float32[S, T], noises float32[S]; values, squares [T + 1]
    squares None : the score is A
    """

    thresholds: Any
    noises: Any
    values: Any
    squares: Any | None
    z: float


class RatingScale(NamedTuple):
    """How a value m becomes a rating, μ + σ m clipped to a range; and how a rating becomes a value, (r - μ) / σ."""

    mean: float
    deviation: float
    rating_range: tuple[float, float]


class Triples(NamedTuple):
    """Observed ratings: users int32[n], items int32[n], values float32[n], weights float32[n] or None."""

    users: Any
    items: Any
    values: Any
    weights: Any | None = None


class RatingTable(Protocol):
    """What a plan of SGD reads from a table of ratings."""

    @property
    def users(self) -> NDArray[np.int32]: ...
    @property
    def items(self) -> NDArray[np.int32]: ...
    @property
    def values(self) -> NDArray[np.float32]: ...
    @property
    def weights(self) -> NDArray[np.float32] | None: ...
    @property
    def user_counts(self) -> NDArray[np.int64]: ...
    @property
    def item_counts(self) -> NDArray[np.int64]: ...
    @property
    def user_weights(self) -> NDArray[np.float64]: ...
    @property
    def item_weights(self) -> NDArray[np.float64]: ...


class SgdState(NamedTuple):
    """What an epoch of SGD changes, in place: P [m, width], Q [n, width], user_bias [m], item_bias [n]."""

    P: Any
    Q: Any
    user_bias: Any
    item_bias: Any


class OrdinalPairs(NamedTuple):
    """Ratings on an ordered scale: means m [z], scales ω [z] or None for 1, levels uint8[z] from 0 on."""

    means: Any
    scales: Any | None
    levels: Any


class SgdStep(NamedTuple):
    """The steps η and η_b of factors and biases in an epoch, and the ridges λ and λ_b that shrink them.

    seed : of the noise with which a backend rounds factors that it stores in fewer bits
    is_linear : a weight w multiplies the step by w, even above 1; if False, w > 1 has the effect of w visits in a row
    """

    rate: float
    bias_rate: float
    ridge: float
    bias_ridge: float
    seed: int = 0
    is_linear: bool = False


class Part(NamedTuple):
    """Triples that are visited in one pass: users, items int32[z], values float32[z], in the order of their visits.

    weights : float32[z], how many visits the visit of each triple counts as; None for 1
    bounds int64[S, W + 1] : block w of stratum s is the triples bounds[s, w]:bounds[s, w + 1]
    """

    users: Any
    items: Any
    values: Any
    weights: Any | None
    bounds: Any
