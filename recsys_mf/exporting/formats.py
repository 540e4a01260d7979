"""Formats: how rows with their ids become files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    import pyarrow as pa

_GROUP = 1 << 16  # rows of a row group


class Rows(NamedTuple):
    """The rows of one side: an id and a vector float32[d] each."""

    ids: pa.Array
    vectors: NDArray[np.float32]


Sides = Mapping[str, Rows]
"""Rows by the name of their side, "users" and "items"."""


def write_parquet(directory: Path, sides: Sides) -> None:
    """users.parquet and items.parquet, with the columns id and vector, a list of float32.

    A list is what programs take as a vector: DuckDB's list_inner_product, vector indices, np.stack of a pandas column.
    A column per dimension would have to be named one by one in every query.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, rows in sides.items():
        width = rows.vectors.shape[1]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors.reshape(-1)), width)
        table = pa.table({"id": rows.ids, "vector": vectors})
        path = directory / f"{name}.parquet"
        pq.write_table(table, path, compression="zstd", use_dictionary=False, row_group_size=_GROUP)


def write_npz(directory: Path, sides: Sides) -> None:
    """vectors.npz, with the arrays users, user_ids, items and item_ids; nothing in it is pickled."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, rows in sides.items():
        arrays |= {name: rows.vectors, f"{name.removesuffix('s')}_ids": _as_numpy(rows.ids)}
    np.savez(directory / "vectors.npz", allow_pickle=False, **arrays)


def write_faiss(directory: Path, sides: Sides) -> None:
    """items.faiss, a flat index by inner product, whose positions are the rows of items.parquet; and what Parquet has.

    Raises ResourceError if faiss cannot write.
    """
    import faiss

    write_parquet(directory, sides)
    vectors = sides["items"].vectors
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    try:
        faiss.write_index(index, str(directory / "items.faiss"))
    except RuntimeError as error:
        fix = "free some space there"
        raise ResourceError("faiss cannot write the index", seen=str(error).splitlines()[-1], fix=fix) from error


def _check_faiss() -> None:
    """Raise ConfigError if faiss is not installed."""
    if find_spec("faiss") is None:
        fix = "install it with `pip install faiss-cpu`, or choose parquet or npz"
        raise ConfigError("faiss is not installed", where="--format faiss", fix=fix)


@dataclass(frozen=True)
class Format:
    """A way to write rows: the names of its files, how they are written, and what is checked before the work."""

    files: tuple[str, ...]
    write: Callable[[Path, Sides], None]
    check: Callable[[], None] = lambda: None


_TABLES = ("users.parquet", "items.parquet")
FORMATS: Mapping[str, Format] = {
    "parquet": Format(_TABLES, write_parquet),
    "npz": Format(("vectors.npz",), write_npz),
    "faiss": Format((*_TABLES, "items.faiss"), write_faiss, _check_faiss),
}
"""The formats by the names that are typed."""


def _as_numpy(ids: pa.Array) -> NDArray[Any]:
    """Ids as int64 or as text of fixed width. Raises ConfigError for a text that NumPy cannot hold."""
    import pyarrow as pa

    if pa.types.is_integer(ids.type):
        return np.asarray(ids.to_numpy(zero_copy_only=False), np.int64)
    texts = ids.to_pylist()
    wrong = next((text for text in texts if text.endswith("\0")), None)
    if wrong is not None:
        what, fix = "an id ends in a null character, which NumPy leaves out", "choose --format parquet"
        raise ConfigError(what, where="--format npz", seen=repr(wrong), fix=fix)
    return np.array(texts, np.str_)
