#!/usr/bin/env python
"""Write a synthetic rating table with known truth, long-tailed like MovieLens; see datasets/README.md.

A rating of user u for item i at time t, a fraction of the span, is the planted mean

    mu = MEAN + b_u + b_i + d_i (2t - 1) + P_u · Q_i

plus Gaussian noise, rounded to the nearest step of the scale and clipped to it. The rows are grouped by user and,
for each user, in order of time. The table is made and written in blocks of users, so memory does not grow with its
length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtr

MEAN = 3.6
USER_BIAS, ITEM_BIAS, DRIFT = 0.47, 0.56, 0.15  # standard deviations
POPULAR_IS_LIKED = 0.6  # correlation of an item's bias with the logarithm of its popularity
SPECTRUM = 0.34 * 0.65 ** np.arange(8)  # standard deviation that each factor gives to a rating
NOISE = 0.93
START, SPAN = 946_684_800, 8 * 365 * 86_400  # seconds: eight years from 2000-01-01

LEAST_DEGREE = 20  # every user has at least this many ratings
MOST_OF_ITEMS = 0.45  # and at most this fraction of the items
BLOCK = 1_000_000  # ratings in a block, approximately
HELD_OUT, HELD_OUT_SEED = 0.1, 0  # share and seed of recsys_mf.splits.hold_out

SCHEMA = pa.schema(
    [("user_id", pa.int32()), ("item_id", pa.int32()), ("rating", pa.float32()), ("timestamp", pa.int64())]
)


@dataclass(frozen=True)
class Shape:
    """The size, scale and unevenness of a table.

    degree_spread, popularity_spread : standard deviations of the logarithms of users' numbers of ratings (degrees) and
        of items' popularities
    """

    n_ratings: int
    n_users: int
    n_items: int
    scale: tuple[float, float, float]  # lowest, highest, step
    degree_spread: float
    popularity_spread: float


SHAPES = {
    "sample": Shape(100_000, 1_000, 1_700, (1, 5, 1), 1.2, 1.7),
    "ml-100k": Shape(100_000, 943, 1_682, (1, 5, 1), 1.2, 1.7),
    "ml-1m": Shape(1_000_209, 6_040, 3_706, (1, 5, 1), 1.2, 1.7),
    "ml-25m": Shape(25_000_095, 162_541, 59_047, (0.5, 5, 0.5), 1.3, 3.0),
    "netflix": Shape(100_480_507, 480_189, 17_770, (1, 5, 1), 1.2, 2.2),
    "hundred-million": Shape(100_000_000, 400_000, 100_000, (1, 5, 1), 1.2, 2.2),
    "billion": Shape(1_000_000_000, 4_000_000, 100_000, (1, 5, 1), 1.2, 2.2),
}


@dataclass(frozen=True)
class Truth:
    """Everything that is planted, with the ids and the random times at which users arrive."""

    degrees: NDArray[np.int64]  # [n_users]
    cumulative: NDArray[np.float64]  # [n_items] cumulative popularity, the last is 1
    first_items: NDArray[np.int32]  # [n_items] item j is among those of user j % n_users, so that each is rated
    user_ids: NDArray[np.int32]
    item_ids: NDArray[np.int32]
    user_bias: NDArray[np.float32]
    item_bias: NDArray[np.float32]
    item_drift: NDArray[np.float32]
    user_factors: NDArray[np.float32]  # [n_users, rank]
    item_factors: NDArray[np.float32]  # [n_items, rank]
    arrivals: NDArray[np.float32]  # [n_users] as a fraction of the span
    stays: NDArray[np.float32]  # [n_users] as a fraction of the rest of the span

    def means(self, users: NDArray[np.int32], items: NDArray[np.int32], t: NDArray[np.float64]) -> NDArray[np.float64]:
        """mu of every row, [n]."""
        interaction = np.einsum("nk,nk->n", self.user_factors[users], self.item_factors[items])
        drift = self.item_drift[items] * (2 * t - 1)
        mean: NDArray[np.float64] = MEAN + self.user_bias[users] + self.item_bias[items] + drift + interaction
        return mean


@dataclass
class Reachable:
    """Sums over the held-out rows of the squared error of the planted conditional mean."""

    rng: np.random.Generator
    rows: int = 0
    squares: float = 0.0

    def add(self, means: NDArray[np.float64], ratings: NDArray[np.float32], scale: tuple[float, float, float]) -> None:
        """Add those rows of a block that the rule holds out."""
        test = self.rng.random(len(ratings)) < HELD_OUT
        errors = ratings[test] - conditional_mean(means[test], scale)
        self.rows += len(errors)
        self.squares += float(errors @ errors)

    @property
    def rmse(self) -> float:
        """Root of the mean squared error so far."""
        return float(np.sqrt(self.squares / self.rows))


def plant(shape: Shape, rng: np.random.Generator) -> Truth:
    """Draw the truth of a table."""
    popularity = rng.standard_normal(shape.n_items)
    taste = rng.standard_normal(shape.n_items)
    liked = POPULAR_IS_LIKED * popularity + np.sqrt(1 - POPULAR_IS_LIKED**2) * taste
    cumulative = np.cumsum(np.exp(shape.popularity_spread * popularity))
    rank = len(SPECTRUM)
    return Truth(
        degrees=draw_degrees(shape, rng),
        cumulative=cumulative / cumulative[-1],
        first_items=rng.permutation(shape.n_items).astype(np.int32),
        user_ids=draw_ids(shape.n_users, rng),
        item_ids=draw_ids(shape.n_items, rng),
        user_bias=(USER_BIAS * rng.standard_normal(shape.n_users)).astype(np.float32),
        item_bias=(ITEM_BIAS * (liked - np.average(liked, weights=np.exp(popularity)))).astype(np.float32),
        item_drift=(DRIFT * rng.standard_normal(shape.n_items)).astype(np.float32),
        user_factors=(np.sqrt(SPECTRUM) * rng.standard_normal((shape.n_users, rank))).astype(np.float32),
        item_factors=(np.sqrt(SPECTRUM) * rng.standard_normal((shape.n_items, rank))).astype(np.float32),
        arrivals=rng.random(shape.n_users, dtype=np.float32),
        stays=eighth_power(rng.random(shape.n_users, dtype=np.float32)),  # most stay for days, some for years
    )


def eighth_power(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """x⁸ by squaring, which every processor rounds in the same way, unlike `pow`."""
    for _ in range(3):
        x = x * x
    return x


def draw_degrees(shape: Shape, rng: np.random.Generator) -> NDArray[np.int64]:
    """Number of ratings of every user, log-normal above the minimum, int64[n_users] with sum n_ratings."""
    excess = np.exp(shape.degree_spread * rng.standard_normal(shape.n_users))
    most = int(MOST_OF_ITEMS * shape.n_items)
    low, high = 0.0, 10.0 * shape.n_ratings / excess.sum()
    for _ in range(60):  # bisect for the factor that gives at most n_ratings
        factor = (low + high) / 2
        degrees = np.minimum(LEAST_DEGREE + (factor * excess).astype(np.int64), most)
        low, high = (factor, high) if degrees.sum() <= shape.n_ratings else (low, factor)
    degrees = np.minimum(LEAST_DEGREE + (low * excess).astype(np.int64), most)
    left = shape.n_ratings - int(degrees.sum())
    degrees[np.flatnonzero(degrees < most)[:left]] += 1
    return degrees


def draw_ids(n: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Ascending ids with gaps: about one in twenty is left out, int32[n]."""
    return np.sort(rng.choice(n + n // 20, n, replace=False) + 1).astype(np.int32)


@njit(cache=True)
def draw_items(
    rng: np.random.Generator,
    users: NDArray[np.int32],
    degrees: NDArray[np.int64],
    cumulative: NDArray[np.float64],
    first_items: NDArray[np.int32],
    n_users: int,
) -> NDArray[np.int32]:
    """Distinct items, user by user: the user's share of first_items, then by popularity; int32[sum(degrees)].

    Drawing with replacement and dropping repeats is the same as drawing without replacement.
    """
    items = np.empty(degrees.sum(), np.int32)
    owner = np.full(len(cumulative), -1, np.int32)  # the last user who drew the item
    n = 0
    for user, degree in zip(users, degrees):  # noqa: B905 (numba)
        end = n + degree
        for item in first_items[user::n_users]:
            owner[item] = user
            items[n] = item
            n += 1
        while n < end:
            item = np.searchsorted(cumulative, rng.random())
            if owner[item] != user:
                owner[item] = user
                items[n] = item
                n += 1
    return items


def blocks(degrees: NDArray[np.int64]) -> Iterator[NDArray[np.int32]]:
    """Blocks of consecutive users with about BLOCK ratings each."""
    number = np.cumsum(degrees) // BLOCK
    yield from np.split(np.arange(len(degrees), dtype=np.int32), np.flatnonzero(np.diff(number)) + 1)


def rated(means: NDArray[np.float64], scale: tuple[float, float, float]) -> NDArray[np.float32]:
    """Values rounded to the nearest step of the scale and clipped to it."""
    low, high, step = scale
    return np.clip(low + step * np.round((means - low) / step), low, high).astype(np.float32)


def conditional_mean(means: NDArray[np.float64], scale: tuple[float, float, float]) -> NDArray[np.float64]:
    """Expected rating given mu: low + step · Σ_k P(mu + noise > threshold_k), one threshold between two values."""
    low, high, step = scale
    thresholds = np.arange(low + step / 2, high, step)
    steps: NDArray[np.float64] = sum(ndtr((means - threshold) / NOISE) for threshold in thresholds)
    return low + step * steps


def block_table(
    truth: Truth, block: NDArray[np.int32], shape: Shape, reachable: Reachable, rng: np.random.Generator
) -> pa.Table:
    """The rows of a block of users."""
    degrees = truth.degrees[block]
    items = draw_items(rng, block, degrees, truth.cumulative, truth.first_items, shape.n_users)
    users = np.repeat(block, degrees)
    stays = truth.stays[users] * (1 - truth.arrivals[users])
    t = truth.arrivals[users] + stays * rng.random(len(users))
    order = np.lexsort((t, users))
    items, t = items[order], t[order]
    means = truth.means(users, items, t)
    ratings = rated(means + NOISE * rng.standard_normal(len(means)), shape.scale)
    reachable.add(means, ratings, shape.scale)
    times = START + (SPAN * t).astype(np.int64)
    return pa.table([truth.user_ids[users], truth.item_ids[items], ratings, times], schema=SCHEMA)


def write_table(shape: Shape, seed: int, path: Path) -> float:
    """Write a table as zstd Parquet and return the best RMSE that can be reached on its held-out rows."""
    rng = np.random.default_rng(seed)
    truth = plant(shape, rng)
    reachable = Reachable(np.random.default_rng(HELD_OUT_SEED))
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for block in blocks(truth.degrees):
            writer.write_table(block_table(truth, block, shape, reachable, rng))
    return reachable.rmse


@click.command()
@click.option("--like", type=click.Choice(list(SHAPES)), default="sample", show_default=True, help="Size and scale.")
@click.option("--seed", default=0, show_default=True, help="The same seed makes the same table.")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Parquet file.")
def main(like: str, seed: int, output: Path) -> None:
    """Write a synthetic rating table, and print the best RMSE a model can reach on 10 % held out at random, seed 0."""
    shape = SHAPES[like]
    best = write_table(shape, seed, output)
    click.echo(f"{output}: {shape.n_ratings:,} ratings, {shape.n_users:,} users, {shape.n_items:,} items")
    click.echo(f"best reachable RMSE on the held-out ratings: {best:.4f}")


if __name__ == "__main__":
    main()
