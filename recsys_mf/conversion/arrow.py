"""Columns as Arrow: from any container in memory, and decoded to plain types."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.cores import available_threads
from recsys_mf.arrays.mapped import empty
from recsys_mf.arrays.threads import side_by_side
from recsys_mf.conversion.origin import Origin, format_value

if TYPE_CHECKING:
    import pyarrow as pa


def arrow_column(values: Any, origin: Origin) -> pa.ChunkedArray:
    """A column of any container as Arrow, undecoded; NaN of pandas and masked entries are nulls.

    values : Arrow, NumPy (masked too), pandas (nullable, Sparse, categorical too), torch, Polars, or a sequence; [n]
    Raises DataError for values of mixed types, of types that Arrow does not have, and of more than one dimension.
    """
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        return values
    if isinstance(values, pa.Array):
        return pa.chunked_array([values])
    try:
        return _chunked(_plain(values))
    except OverflowError:
        return _huge_integers(values, origin)
    except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
        seen = _types_in(values) or format_value(str(error).splitlines()[0])
        fix = "use one type: all numbers, or all strings"
        raise origin.fault("not a column of values of one type", fix, seen=seen) from None


def _types_in(values: Any) -> str:
    """The types of the elements of a list, at most three, with an example of each; nothing for another container."""
    if not isinstance(values, list | tuple):
        return ""
    examples = {type(value).__name__: value for value in reversed(values)}
    return ", ".join(f"{name} {format_value(value)}" for name, value in sorted(examples.items())[:3])


def _plain(values: Any) -> Any:
    """The values in a container that Arrow converts."""
    if hasattr(values, "detach"):
        return numpy_of(values)
    if type(getattr(values, "dtype", None)).__name__ == "SparseDtype":
        return np.asarray(values)
    if isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.dtype.itemsize > np.dtype(float).itemsize:
        return values.astype(np.float64)
    return values


def numpy_of(tensor: Any) -> NDArray[Any]:
    """A dense torch tensor of any device as NumPy; bfloat16 as float32."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    array: NDArray[Any] = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return array


def _chunked(values: Any) -> pa.ChunkedArray:
    import pyarrow as pa

    of_pandas = type(values).__module__.startswith("pandas.")
    if hasattr(values, "__arrow_c_stream__") and not of_pandas:
        return pa.chunked_array(values)
    if isinstance(values, str | bytes):
        raise TypeError("a single text")
    of_objects = isinstance(values, np.ndarray) and values.dtype == object
    column = pa.array(values, from_pandas=of_pandas or of_objects)
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _huge_integers(values: Any, origin: Origin) -> pa.ChunkedArray:
    """Python integers, some of them beyond 64 bits, as decimals."""
    import pyarrow as pa

    fix = "store them as strings"
    try:
        return pa.chunked_array([pa.array([Decimal(value) if isinstance(value, int) else value for value in values])])
    except (pa.ArrowException, OverflowError) as error:
        raise origin.fault("integers beyond 64 bits", fix, seen=format_value(str(error))) from None


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in a plain type, without storage formats such as dictionaries, run ends, views, UUID and JSON."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        plain = decoded(pa.chunked_array([], kind.value_type)).type
        return _by_chunk(column, plain, _taken_from_dictionary)
    if pa.types.is_run_end_encoded(kind):
        return decoded(_by_chunk(column, kind.value_type, pc.run_end_decode))
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return _by_chunk(column, pa.large_string(), _uuid_texts)
        if kind.extension_name in ("arrow.json", "arrow.bool8"):
            return decoded(_by_chunk(column, kind.storage_type, lambda chunk: chunk.storage))
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if kind == pa.binary_view():
        return column.cast(pa.large_binary())
    return column


def _by_chunk(column: pa.ChunkedArray, kind: pa.DataType, convert: Callable[[Any], Any]) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.chunked_array([convert(chunk) for chunk in column.chunks], kind)


def _taken_from_dictionary(chunk: Any) -> pa.Array:
    import pyarrow as pa

    return decoded(pa.chunked_array([chunk.dictionary])).combine_chunks().take(chunk.indices)


_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)
_HYPHENS = (8, 13, 18, 23)


def _uuid_texts(chunk: Any) -> pa.Array:
    """The 36 characters of every UUID of an Arrow array: 8-4-4-4-12 hexadecimal digits in lower case."""
    import pyarrow as pa

    n, storage = len(chunk), chunk.storage
    octets = np.frombuffer(storage.buffers()[1] or b"", np.uint8)[16 * storage.offset :][: 16 * n].reshape(n, 16)
    texts = np.full((n, 36), ord("-"), np.uint8)
    digits = np.setdiff1d(np.arange(36), _HYPHENS)
    texts[:, digits[0::2]], texts[:, digits[1::2]] = _DIGITS[octets >> 4], _DIGITS[octets & 15]
    ends = pa.py_buffer(np.arange(0, 36 * n + 1, 36, dtype=np.int64))
    valid = pa.array(storage.is_valid()).buffers()[1] if storage.null_count else None
    return pa.Array.from_buffers(pa.large_string(), n, [valid, ends, pa.py_buffer(texts)])


def is_text(kind: pa.DataType) -> bool:
    """Whether a decoded column holds text, or bytes that may be text."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind)) or is_binary(kind)


def is_binary(kind: pa.DataType) -> bool:
    """Whether a column holds bytes."""
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def as_text(column: pa.ChunkedArray, origin: Origin) -> pa.ChunkedArray:
    """A column of text or bytes as large_string. Raises DataError for the first value that is not UTF-8."""
    import pyarrow as pa

    def checked(part: pa.ChunkedArray) -> pa.ChunkedArray:
        part.validate(full=True)
        return part.cast(pa.large_string())

    try:
        return checked(column)
    except pa.ArrowInvalid:
        row = first_refused(column, checked)
        raise origin.fault_in(column, row, "not text in UTF-8", "store it as text in UTF-8") from None


def refuse_nulls(column: pa.ChunkedArray, origin: Origin, what: str, fix: str) -> None:
    """Raise DataError if a decoded column has nulls, with the first of them and their number."""
    if column.null_count:
        row = first(column.is_null())
        raise origin.fault(what, fix, row=row, seen=f"null, one of {column.null_count} in the column")


def first(flags: Any) -> int:
    """Position of the first True in an Arrow array or chunked array, -1 if there is none."""
    import pyarrow.compute as pc

    return int(pc.index(flags, True).as_py())


def first_refused(column: pa.ChunkedArray, convert: Callable[[Any], Any]) -> int:
    """The first row that a conversion refuses, by bisection; it must refuse at least one."""
    import pyarrow as pa

    low, high = 0, len(column) - 1
    while low < high:
        middle = (low + high) // 2
        try:
            convert(column.slice(low, middle - low + 1))
            low = middle + 1
        except pa.ArrowInvalid:
            high = middle
    return low


def plain_numbers(column: Any) -> NDArray[Any]:
    """A column of integers or floats without nulls as NumPy, [n]; read-only and not copied if it is one piece.

    Unlike `to_numpy`, it does not import pandas.
    """
    import pyarrow as pa

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    dtype = np.dtype(column.type.to_pandas_dtype())
    parts = [
        np.frombuffer(chunk.buffers()[1], dtype, len(chunk), chunk.offset * dtype.itemsize)
        for chunk in chunks
        if len(chunk)
    ]
    if not parts:
        return np.empty(0, dtype)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def filled(column: pa.ChunkedArray, dtype: Any) -> NDArray[Any]:
    """The column as a NumPy array of this type, chunk by chunk: no second copy."""
    values = empty(len(column), dtype)
    ends = np.cumsum([0, *map(len, column.chunks)])
    tasks = [(chunk, values[end - len(chunk) : end]) for chunk, end in zip(column.chunks, ends[1:], strict=True)]
    side_by_side(_fill, tasks, available_threads())
    return values


def _fill(chunk: Any, part: NDArray[Any]) -> None:
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite
        part[:] = chunk.to_numpy(zero_copy_only=False)
