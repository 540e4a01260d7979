#!/usr/bin/env python
"""Measure how fast the chains of `gibbs` mix: effective samples per second of predictions; writes into BENCHMARKS.md.

    scripts/bench/mixing.py --data DIR [--tables ml-100k,ml-1m] [--sweeps 300] [--burn-in 100] [--chains 2]

A tenth of the ratings is held out, and every draw predicts the same 2,000 of them. The effective sample size of a
pair's predictions is that of all chains together, as in a report; quantiles are over the pairs. Seconds are those of
all sweeps, burn-in included. Of the monitored scalars (`Chain.monitored`) the table has the noise, and the scalar of
the links whose R̂ is largest.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import click
import document
import environments
import numpy as np
from threadpoolctl import ThreadpoolController

from recsys_mf import hold_out, read_ratings
from recsys_mf.evaluation.convergence import effective_sample_size, split_r_hat
from recsys_mf.kernels import select
from recsys_mf.solvers import Gibbs
from recsys_mf.splits import Split

TABLES, SWEEPS, BURN_IN, CHAINS, NOISES = "ml-100k,ml-1m", 300, 100, 2, ("common", "personal")
_PAIRS, _THREADS = 2_000, 2


class Mixing(NamedTuple):
    """What chains of a kind gave.

    seconds : of all sweeps; predictions [chains, draws, pairs] after the burn-in
    monitored : scalars of the sampler by name, [chains, draws]
    """

    seconds: float
    predictions: np.ndarray
    monitored: Mapping[str, np.ndarray]


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the tables.")
@click.option("--tables", default=TABLES, show_default=True)
@click.option("--sweeps", default=SWEEPS, show_default=True)
@click.option("--burn-in", default=BURN_IN, show_default=True)
@click.option("--chains", default=CHAINS, show_default=True)
def main(data: Path, tables: str, sweeps: int, burn_in: int, chains: int) -> None:
    """Run chains with common and with personal noise."""
    rows = []
    for table in tables.split(","):
        split = hold_out(read_ratings(data / f"{table}.parquet"), 0.1, seed=0)
        for noise in NOISES:
            found = run_chains(split, noise, sweeps, burn_in, chains)
            rows.append([table, noise, *_cells(found)])
            print(rows[-1], file=sys.stderr)
    header = [
        "table", "noise", "draws", "s", "effective, median", "effective, 5 %", "median per s", "R̂, median", "R̂, 95 %",
        "R̂ of noise", "largest R̂ of links",
    ]  # fmt: skip
    note = f"{document.machine()}; {_THREADS} threads; chains of {sweeps} sweeps, {burn_in} of them burn-in."
    section = f"{document.table(header, rows, left=(0, 1))}\n\n{note}"
    if (tables, sweeps, burn_in, chains) == (TABLES, SWEEPS, BURN_IN, CHAINS):
        document.write_section(environments.ROOT / "BENCHMARKS.md", "mixing", section)
    else:
        print(section)


def run_chains(split: Split, noise: str, sweeps: int, burn_in: int, chains: int) -> Mixing:
    """Chains of the default likelihood and rank, one after another, each with its own seed."""
    assert split.test is not None
    chosen = np.sort(np.random.default_rng(1).choice(len(split.test), _PAIRS, replace=False))
    backend, seconds = select("cpu", _THREADS), 0.0
    put = backend.device.put
    users, items, times = (
        None if column is None else put(column[chosen])
        for column in (split.test.users, split.test.items, split.test.times)
    )
    predictions, monitored = np.empty((chains, sweeps, _PAIRS)), []
    with ThreadpoolController().limit(limits=1, user_api="blas"):  # as `recsys_mf.training` does
        for chain in range(chains):
            solver = Gibbs(chains=1, sweeps=sweeps, noise=noise)
            epochs = solver.run(split.train, rng=np.random.default_rng(chain), backend=backend)
            scalars = []
            for sweep in range(sweeps):
                began = time.perf_counter()
                epoch = next(epochs)
                seconds += time.perf_counter() - began
                assert epoch.predictor is not None
                predictions[chain, sweep] = backend.device.get(epoch.predictor()(users, items, times))
                scalars.append({name: values[0] for name, values in epoch.monitored.items()})
            monitored.append(scalars[burn_in:])
    names = monitored[0][0]
    traces = {name: np.array([[scalars[name] for scalars in chain] for chain in monitored]) for name in names}
    return Mixing(seconds, predictions[:, burn_in:], traces)


def _cells(found: Mixing) -> list[str]:
    pairs = np.moveaxis(found.predictions, 2, 0)
    sizes, r_hats = (np.array([measure(draws) for draws in pairs]) for measure in (effective_sample_size, split_r_hat))
    links = [split_r_hat(draws) for name, draws in found.monitored.items() if "links" in name]
    return [
        f"{pairs[0].size}", f"{found.seconds:.1f}", f"{np.median(sizes):.0f}", f"{np.quantile(sizes, 0.05):.0f}",
        f"{np.median(sizes) / found.seconds:.2f}", f"{np.median(r_hats):.3f}", f"{np.quantile(r_hats, 0.95):.3f}",
        f"{split_r_hat(found.monitored['noise']):.2f}", f"{max(links):.2f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
