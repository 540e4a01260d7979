"""Tables: the splits that every system is run on, as dense ids in two Parquet files.

Run in a separate process, so that its memory does not count as memory of the systems:
tables.py SET DATA FOLDER [--validation]. Its last line of output is the number of training rows.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MAKE_SAMPLE = Path(__file__).parent.parent / "make_sample.py"
FRACTION, SEED = 0.1, 0
VALIDATION_SEED = 1


GENERATED = ("ml-25m", "netflix")


def split(name: str, data: Path, folder: Path) -> tuple[pa.Table, pa.Table]:
    """Train and test: the published split `u1`, or a tenth of a table held out as `recsys_mf.splits.hold_out` does.

    If the name is in `GENERATED`, the table is made in the folder.
    """
    if name in GENERATED:
        made = folder / f"{name}.parquet"
        subprocess.run([sys.executable, str(MAKE_SAMPLE), "--like", name, "-o", str(made)], check=True)
        return _parted(pq.read_table(made), SEED)
    if name == "u1":
        return pq.read_table(data / "ml-100k.u1.train.parquet"), pq.read_table(data / "ml-100k.u1.test.parquet")
    return _parted(pq.read_table(data / f"{name}.parquet"), SEED)


def write(name: str, data: Path, folder: Path, *, validation: bool) -> int:
    """Write train.parquet and test.parquet; with `validation`, both are cut from the training rows."""
    train, test = split(name, data, folder)
    if validation:
        train, test = _parted(train, VALIDATION_SEED)
    columns = [c for c in ("user_id", "item_id", "rating", "timestamp") if c in train.column_names]
    train, test = train.select(columns), test.select(columns)
    for column in ("user_id", "item_id"):
        train, test = _dense(train, test, column)
    pq.write_table(train, folder / "train.parquet")
    pq.write_table(test, folder / "test.parquet")
    return len(train)


def _parted(table: pa.Table, seed: int) -> tuple[pa.Table, pa.Table]:
    is_test = np.random.default_rng(seed).random(len(table)) < FRACTION
    return table.filter(pa.array(~is_test)), table.filter(pa.array(is_test))


def _dense(train: pa.Table, test: pa.Table, column: str) -> tuple[pa.Table, pa.Table]:
    """Both tables with the ids of a column numbered from 0: those of train in ascending order, then those of test."""
    seen, inside = (table.column(column).to_numpy() for table in (train, test))
    known = np.unique(seen)
    order = np.concatenate([known, np.setdiff1d(inside, known)])
    by_id = np.argsort(order)

    def numbered(table: pa.Table, ids: np.ndarray) -> pa.Table:
        dense = by_id[np.searchsorted(order[by_id], ids)].astype(np.int32)
        return table.set_column(table.column_names.index(column), column, pa.array(dense))

    return numbered(train, seen), numbered(test, inside)


if __name__ == "__main__":
    set_name, data_folder, target = sys.argv[1:4]
    print(write(set_name, Path(data_folder), Path(target), validation="--validation" in sys.argv))
