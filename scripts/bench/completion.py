"""`recsys_mf.complete` compared with other imputers, on tables with entries removed at random.

    python scripts/bench/completion.py [--masks 10] [--table iris] [--share 0.2] [--write]

Needs scikit-learn and statsmodels, whose tables are used; fancyimpute, which needs scikit-learn below 1.8, is compared
if it is installed. `--write` puts the table into BENCHMARKS.md, with the versions and the machine. Errors are RMSE of
the removed entries in standard deviations of the complete columns, means over the masks. All programs fill the same
matrices, the others after the columns were standardised, as their manuals advise. `ratio` is our error divided by the
lowest error of the others, `estimate` the error that `complete` itself expects, `spread` the root mean square of error
divided by predicted deviation (1 is right). Seconds are per matrix, with one BLAS thread for all.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from importlib import metadata
from typing import Any

import document
import environments
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import recsys_mf

F64 = NDArray[np.float64]
Imputer = Callable[[F64], F64]

SKLEARN = ("iris", "wine", "diabetes", "breast_cancer")
PLANTED = {
    "planted 200 x 20, rank 3, noise 0.5": (200, 20, 3, 0.5),
    "planted 100 x 40, rank 4, noise 0.2": (100, 40, 4, 0.2),
    "planted 300 x 80, rank 5, noise 0.3": (300, 80, 5, 0.3),
}
TABLES = (*SKLEARN, "grunfeld", *PLANTED)
SHARES = (0.1, 0.2, 0.5)


def read(name: str, seed: int) -> F64:
    """A complete table; a planted one is different for every seed."""
    if name in PLANTED:
        m, n, rank, noise = PLANTED[name]
        rng = np.random.default_rng(seed)
        signal = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))
        return np.asarray(signal / signal.std(axis=0) + noise * rng.standard_normal((m, n)))
    if name in SKLEARN:
        return np.asarray(getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")().data, np.float64)
    frame = getattr(importlib.import_module("statsmodels.api").datasets, name).load_pandas().data
    return np.asarray(frame.select_dtypes("number").to_numpy(np.float64))


def removed(A: F64, share: float, seed: int) -> NDArray[np.bool_]:
    """Entries to remove at random; at least one entry of every row and two of every column stay."""
    rng = np.random.default_rng([1, seed])
    gone = rng.random(A.shape) < share
    for i in np.flatnonzero(gone.all(axis=1)):
        gone[i, rng.integers(A.shape[1])] = False
    for j in np.flatnonzero((~gone).sum(axis=0) < 2):
        gone[rng.permutation(len(A))[:2], j] = False
    return gone


def peers() -> dict[str, Imputer]:
    """The other programs that are installed."""
    importlib.import_module("sklearn.experimental.enable_iterative_imputer")
    impute = importlib.import_module("sklearn.impute")
    found: dict[str, Imputer] = {
        "IterativeImputer": lambda A: impute.IterativeImputer(random_state=0).fit_transform(A),
        "KNNImputer": lambda A: impute.KNNImputer().fit_transform(A),
    }
    with contextlib.suppress(ImportError):
        SoftImpute = importlib.import_module("fancyimpute").SoftImpute
        found["fancyimpute SoftImpute"] = lambda A: SoftImpute(verbose=False).fit_transform(A)
    return found


def standardised(imputer: Imputer) -> Imputer:
    """The imputer on columns of mean 0 and deviation 1."""

    def impute(A: F64) -> F64:
        means, deviations = np.nanmean(A, axis=0), np.nanstd(A, axis=0)
        deviations[deviations == 0] = 1
        filled: F64 = imputer((A - means) / deviations) * deviations + means
        return filled

    return impute


def compare(name: str, share: float, masks: int, others: dict[str, Imputer]) -> dict[str, Any]:
    """Means over masks of a table."""
    figures: dict[str, list[float]] = defaultdict(list)
    chosen: list[str] = []
    for seed in range(masks):
        truth = read(name, seed)
        gone = removed(truth, share, seed)
        A, scale = np.where(gone, np.nan, truth), truth.std(axis=0)
        start = time.perf_counter()
        result = recsys_mf.complete(A)
        figures["complete s"].append(time.perf_counter() - start)
        errors = ((result.filled - truth) / scale)[gone]
        figures["complete"].append(np.sqrt(np.mean(errors**2)))
        figures["estimate"].append(result.error or 0.0)
        figures["spread"].append(np.sqrt(np.mean(((result.filled - truth)[gone] / result.deviations[gone]) ** 2)))
        chosen.append(f"{result.method}{'' if result.rank is None else f' {result.rank}'}")
        for peer, imputer in others.items():
            start = time.perf_counter()
            filled = imputer(A)
            figures[f"{peer} s"].append(time.perf_counter() - start)
            figures[peer].append(np.sqrt(np.mean(((filled - truth) / scale)[gone] ** 2)))
    return {key: float(np.mean(values)) for key, values in figures.items()} | {
        "chosen": max(set(chosen), key=chosen.count)
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=10)
    parser.add_argument("--table", action="append", choices=TABLES)
    parser.add_argument("--share", action="append", type=float)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    try:
        others = {name: standardised(imputer) for name, imputer in peers().items()}
        importlib.import_module("statsmodels.api")
    except ImportError as error:
        raise SystemExit(f"{error.name} is not installed: pip install scikit-learn statsmodels") from None
    if "fancyimpute SoftImpute" not in others:
        print("fancyimpute is not installed (it needs scikit-learn below 1.8), so SoftImpute is not compared\n")
    warnings.simplefilter("ignore")
    header = ["table", "missing", "complete", *others, "ratio", "estimate", "spread", "chosen", "seconds"]
    rows = []
    for name in args.table or TABLES:
        for share in args.share or SHARES:
            with threadpool_limits(limits=1), contextlib.redirect_stdout(io.StringIO()):
                found = compare(name, share, args.masks, others)
            lowest = min(found[peer] for peer in others)
            figures = [found["complete"] / lowest, found["estimate"], found["spread"]]
            seconds = ", ".join(f"{found[f'{program} s']:.2f}" for program in ("complete", *others))
            errors = [f"{found[program]:.4f}" for program in ("complete", *others)]
            ratio, estimate, spread = (f"{figure:.{n}f}" for figure, n in zip(figures, (3, 4, 2), strict=True))
            rows.append([name, f"{share:.0%}", *errors, ratio, estimate, spread, found["chosen"], seconds])
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    table = document.table(header, rows, left=(0, len(header) - 2))
    if not args.write:
        print(table)
        return
    installed = ("scikit-learn", "statsmodels", *(["fancyimpute"] if "fancyimpute SoftImpute" in others else []))
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in installed)
    section = f"{document.machine()}; one thread; {versions}; means of {args.masks} masks.\n\n{table}"
    document.write_section(environments.ROOT / "BENCHMARKS.md", "completion", section)


if __name__ == "__main__":
    main()
