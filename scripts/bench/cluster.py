#!/usr/bin/env python
"""Simulate an epoch of masked SGD on W machines, and write the tables of docs/cluster.md.

    scripts/bench/cluster.py [--table ratings.parquet] [--write]

The bands of the grid are divided among the workers: a worker keeps its share of the user bands, and the item bands
travel from worker to worker. In step s worker w visits the super-block (w, (w + s) mod W), then sends its item bands to
its neighbour:

    begin(w, s) = max(end(w, s - 1), end(w + 1, s - 1) + transport)
    end(w, s) = begin(w, s) + size(w, (w + s) mod W) / (threads · rate · busy) · noise

Measured: `rate`, updates per second of a core (BENCHMARKS.md), and the sizes of super-blocks in the grid of a table.
Simulated: `busy`, with the blocks of a super-block in the order of the scheduler. Assumed: network and noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import click
import document
import environments
import numpy as np
from numpy.typing import NDArray

from recsys_mf.kernels.cpu.sgd import CpuSgd
from recsys_mf.kernels.schedule.grid import Grid, Places

RATES = {64: 96e6, 128: 48e6}  # updates per second of a core, by rank: BENCHMARKS.md, 25 M ratings
NETWORKS = {"10 Gbit/s": 1.0e9, "100 Gbit/s": 10e9}  # bytes per second that a transfer reaches
EPOCHS = 404  # of all runs of a fit by `sgd`: 190.7 s · 213 M updates/s / 100.5 M ratings, BENCHMARKS.md
LATENCY = 0.02  # seconds from the end of a step to the first byte of the next: a remote procedure call and its queue


@dataclass(frozen=True)
class Job:
    """A table and the machines that it is trained on.

    ratings, users, items : their numbers; rank : k; threads : of a machine
    bandwidth : bytes per second of a transfer
    noise : standard deviation of the logarithm of a step's seconds; slow : share of the steps that take twice as long
    """

    ratings: float
    users: float
    items: float
    rank: int = 64
    threads: int = 16
    bandwidth: float = 1.0e9
    noise: float = 0.05
    slow: float = 0.0

    @property
    def bands(self) -> int:
        """User bands of the whole grid, and as many item bands."""
        kernels = CpuSgd(self.threads)
        return kernels.grid(int(self.ratings), int(self.users), int(self.items), kernels.width(self.rank)).bands

    @property
    def item_bytes(self) -> float:
        """Bytes of all item rows: factors, bias and its padding, in float32."""
        return self.items * (self.rank + 16) * 4


JOBS = {
    "1 billion": Job(1e9, 10e6, 1e6),
    "10 billion": Job(10e9, 100e6, 10e6),
}


def busy(bands: int, threads: int, rng: np.random.Generator, spread: float) -> float:
    """The share of time in which threads work on a super-block of bands × bands blocks of about equal sizes.

    bands : of a worker, for users and for items; spread : standard deviation of the logarithm of a block's seconds

    A thread takes the next block, in the order of the strata, for which no other thread uses the user band or the item
    band. To keep the bytes of one machine, the blocks with c < b are visited before those with c ≥ b.
    """
    order = [(b, (b + s) % bands) for s in range(bands) for b in range(bands)]
    seconds = rng.lognormal(0, spread, (bands, bands))
    halves = ([(b, c) for b, c in order if c < b], [(b, c) for b, c in order if c >= b])
    return float(seconds.sum() / (sum(_makespan(half, seconds, threads) for half in halves) * threads))


def _makespan(waiting: list[tuple[int, int]], seconds: NDArray[np.float64], threads: int) -> float:
    running: list[tuple[float, int, int]] = []
    now = 0.0
    while waiting or running:
        users, items = {b for _, b, _ in running}, {c for _, _, c in running}
        for b, c in list(waiting):
            if len(running) == threads:
                break
            if b not in users and c not in items:
                waiting.remove((b, c))
                running.append((now + seconds[b, c], b, c))
                users.add(b)
                items.add(c)
        running.sort()
        now, _, _ = running.pop(0)
    return now


def block_sizes(path: Path | None, workers: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """float64[W, W]: the share of the ratings in every super-block, times W²."""
    from recsys_mf.loaders import read_ratings
    from recsys_mf.loaders.catalog import sample

    table = read_ratings(sample() if path is None else path, time_column="none")
    places = Places.draw(table.user_counts, table.item_counts, Grid(workers), rng)
    users, items = places.part_of_user[table.users], places.part_of_item[table.items]
    counts = np.bincount(users.astype(np.int64) * workers + items, minlength=workers**2)
    return counts.reshape(workers, workers) * workers**2 / len(table)


def epoch_seconds(job: Job, sizes: NDArray[np.float64], share_busy: float, rng: np.random.Generator) -> float:
    """Seconds of an epoch on len(sizes) workers."""
    W = len(sizes)
    step = job.ratings / W**2 / (job.threads * RATES[job.rank] * share_busy)
    transport = 0.0 if W == 1 else LATENCY + job.item_bytes / W / job.bandwidth
    end = np.zeros(W)
    for s in range(W):
        noise = rng.lognormal(0, job.noise, W) * np.where(rng.random(W) < job.slow, 2, 1)
        begin = np.maximum(end, np.roll(end, -1) + transport) if s else end
        end = begin + step * sizes[np.arange(W), (np.arange(W) + s) % W] * noise
    return float(end.max() + (transport if W > 1 else 0))


def mean_seconds(job: Job, workers: int, path: Path | None, turns: int = 5) -> tuple[float, float]:
    """Seconds of an epoch, mean over draws, and the share of a step in which the cores of a worker compute."""
    rng = np.random.default_rng(0)
    sizes = block_sizes(path, workers, rng)
    share = busy(max(1, job.bands // workers), job.threads, rng, 0.1)
    return float(np.mean([epoch_seconds(job, sizes, share, rng) for _ in range(turns)])), share


def _scaling(path: Path | None) -> str:
    header = ["ratings", "network", "workers", "busy", "s per epoch", "1 % slow", "speed-up", "of W", "fit, minutes"]
    header += ["machine-hours"]
    rows = []
    for name, job in JOBS.items():
        for network, bandwidth in NETWORKS.items():
            plain = replace(job, bandwidth=bandwidth)
            one, _ = mean_seconds(plain, 1, path)
            for workers in (1, 2, 4, 8, 16, 32):
                seconds, share = mean_seconds(plain, workers, path)
                slow, _ = mean_seconds(replace(plain, slow=0.01), workers, path)
                gain, fit = one / seconds, seconds * EPOCHS / 60
                cells = [f"{share:.0%}", f"{seconds:.2f}", f"{slow:.2f}", f"{gain:.1f}×", f"{gain / workers:.0%}"]
                rows.append([name, network, str(workers), *cells, f"{fit:.1f}", f"{fit * workers / 60:.2f}"])
    return document.table(header, rows, left=(0, 1))


def _busy_table() -> str:
    rng = np.random.default_rng(0)
    rows = [[str(ratio), *(f"{busy(ratio * t, t, rng, 0.1):.0%}" for t in (2, 4, 8, 16))] for ratio in (1, 2, 4, 8)]
    return document.table(["bands of a worker / threads", "2 threads", "4", "8", "16"], rows, left=())


@click.command()
@click.option(
    "--table", type=click.Path(path_type=Path), help="Table whose grid gives the sizes.  [default: the sample]"
)
@click.option("--write", is_flag=True, help="Write the tables into docs/cluster.md.")
def main(table: Path | None, write: bool) -> None:
    """Simulate epochs on 1 to 32 workers."""
    for section, text in (("cluster-busy", _busy_table()), ("cluster-scaling", _scaling(table))):
        if write:
            document.write_section(environments.ROOT / "docs" / "cluster.md", section, text)
        else:
            print(text, "\n")


if __name__ == "__main__":
    main()
