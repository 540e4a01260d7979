"""Tensors: a safetensors file as arrays over its bytes, without copying them; and a sealed one, which shows a change.

A file is the length of a header in eight bytes, the header, and the values. The header is JSON: for every array, its
type, its shape, and where its values are. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import hashlib
import math
import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf import strict_json
from recsys_mf.errors import DataError

Bytes = bytes | mmap.mmap

_TYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("u1"),
    **{f"{letter}{8 * size}": np.dtype(f"<{kind}{size}")
       for letter, kind, sizes in (("I", "i", (1, 2, 4, 8)), ("F", "f", (2, 4, 8))) for size in sizes},
}  # fmt: skip
_LENGTH = 8  # bytes of the length of the header
_MAX_HEADER = 100_000_000  # bytes, as in the library


def read_tensors(data: Bytes) -> dict[str, NDArray[Any]]:
    """The arrays of a file by name; they are read-only views of its bytes, which they keep in memory.

    Raises DataError for bytes that are not such a file, also if arrays overlap or leave a gap.
    """
    start = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    if len(data) < _LENGTH or start > min(len(data), _MAX_HEADER):
        raise DataError("the header is longer than the file", seen=f"{len(data):,} bytes")
    header = strict_json.from_text(data[_LENGTH:start])
    if not isinstance(header, dict):
        raise DataError("the header is not a JSON object", seen=type(header).__name__)
    header.pop("__metadata__", None)
    arrays, ends = {}, []
    for name, entry in header.items():
        array, span = _array(data, start, name, entry)
        arrays[name] = array
        ends.append(span)
    at = 0
    for begin, end in sorted(ends):
        if begin != at:
            raise DataError("arrays overlap or leave a gap", where="header", seen=f"an array at byte {begin:,}")
        at = end
    if at != len(data) - start:
        raise DataError("the arrays do not fill the file", seen=f"{at:,} of {len(data) - start:,} bytes")
    return arrays


def sealed_tensors(facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a file of arrays, plain facts (as `facts`, JSON) and the SHA-256 of all of them (as `digest`)."""
    from safetensors.numpy import save

    text = np.frombuffer(strict_json.to_text(dict(facts)).encode(), np.uint8)
    held = {name: np.ascontiguousarray(array) for name, array in arrays.items()} | {"facts": text}
    data: bytes = save(held | {"digest": np.frombuffer(digest(held), np.uint8)})
    return data


def read_sealed(data: Bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The facts and arrays of `sealed_tensors`, read-only. Raises DataError if a byte of them has changed."""
    arrays = read_tensors(data)
    sealed, text = arrays.pop("digest", None), arrays.get("facts")
    if sealed is None or text is None or sealed.tobytes() != digest(arrays):
        raise DataError("changed since it was written")
    del arrays["facts"]
    return strict_json.from_text(text.tobytes()), arrays


def digest(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """SHA-256 of every array with its name, type and shape: equal for arrays that are equal in every bit."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.digest()


def _array(data: Bytes, start: int, name: str, entry: Any) -> tuple[NDArray[Any], tuple[int, int]]:
    """An array, and where its values begin and end after the header."""
    entry = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise DataError("an array of another type", where=name, seen=repr(dtype)[:40])
    if not (_are_counts(shape) and _are_counts(offsets) and len(offsets) == 2):
        raise DataError("an array without a shape or place", where=name)
    begin, end = offsets
    kind, count = _TYPES[dtype], math.prod(shape)
    if not begin <= end <= len(data) - start or end - begin != count * kind.itemsize:
        raise DataError("an array of another size than its place", where=name, seen=shape)
    if not count:
        return np.empty(shape, kind), (begin, end)
    values: NDArray[Any] = np.frombuffer(data, kind, count, start + begin).reshape(shape)
    return values if values.flags.aligned else values.copy(), (begin, end)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)
