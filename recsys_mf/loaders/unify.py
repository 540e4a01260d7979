"""One type for a column whose parts have different types, so that no value is lost whichever part comes first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_mf.conversion import Origin, decoded
from recsys_mf.conversion.arrow import as_text, is_text

if TYPE_CHECKING:
    import pyarrow as pa


_INTEGER_DIGITS = 20  # of 64 bits
_DECIMAL_DIGITS = 76  # the most that Arrow's decimals have


def unified_type(
    kinds: Sequence[pa.DataType], paths: Sequence[str], origin: Origin, *, as_text: bool = False
) -> pa.DataType:
    """The type that holds the values of all parts: their type if they share one, else the narrowest without loss.

    kinds, paths : of the parts
    as_text : text may also hold numbers
    Raises DataError with two part files if no type holds the values of both.
    """
    import pyarrow as pa

    if all(kind == kinds[0] for kind in kinds):
        return kinds[0]
    plain = [decoded(pa.chunked_array([], kind)).type for kind in kinds]
    seen = [(kind, path) for kind, path in zip(plain, paths, strict=True) if not pa.types.is_null(kind)]
    found = seen[0][0]
    for kind, path in seen[1:]:
        wider = _wider(found, kind)
        if wider is None and as_text:
            return pa.large_string()
        if wider is None:
            other = next(where for narrow, where in seen if _wider(narrow, kind) is None)
            narrow = next(narrow for narrow, _ in seen if _wider(narrow, kind) is None)
            fix = "write one type, or read ids with --ids string"
            at = ["/".join(Path(part).parts[-2:]) for part in (other, path)]
            raise origin.fault("the parts have different types", fix, seen=f"{narrow} in {at[0]}, {kind} in {at[1]}")
        found = wider
    return reduce(lambda a, b: _wider(a, b) or a, [kind for kind, _ in seen])


def _wider(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """The type that holds the values of both, None if there is none."""
    import pyarrow as pa

    types = pa.types
    if a == b:
        return a
    if is_text(a) and is_text(b):
        return pa.large_string()
    if _is_moment(a) and _is_moment(b):
        zones = [kind.tz for kind in (a, b) if types.is_timestamp(kind) and kind.tz]
        return pa.timestamp("us", "UTC" if zones else None)
    if not (_is_number(a) and _is_number(b)):
        return None
    if types.is_uint64(a) != types.is_uint64(b) and types.is_integer(a) and types.is_integer(b):
        signed = b if types.is_uint64(a) else a
        return pa.uint64() if types.is_unsigned_integer(signed) else pa.decimal128(20, 0)
    if types.is_floating(a) or types.is_floating(b):
        return pa.float64()
    if types.is_decimal(a) or types.is_decimal(b):
        (whole, scale), (other_whole, other_scale) = _digits(a), _digits(b)
        scale = max(scale, other_scale)
        return pa.decimal256(min(max(whole, other_whole) + scale, _DECIMAL_DIGITS), scale)
    schemas = [pa.schema([("values", kind)]) for kind in (a, b)]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def _digits(kind: pa.DataType) -> tuple[int, int]:
    """Digits before and after the point of a type of integers or decimals."""
    import pyarrow as pa

    return (kind.precision - kind.scale, max(kind.scale, 0)) if pa.types.is_decimal(kind) else (_INTEGER_DIGITS, 0)


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_moment(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def unified(
    columns: Sequence[pa.ChunkedArray], kind: pa.DataType, paths: Sequence[str], origin: Origin
) -> pa.ChunkedArray:
    """The columns of the parts, one after another, in the type that `unified_type` found for them.

    Raises DataError with the part file for a value that this type cannot hold.
    """
    import pyarrow as pa

    parts = []
    for column, path in zip(columns, paths, strict=True):
        try:
            parts.append(_cast(column, kind, origin))
        except pa.ArrowInvalid as error:
            fix = "write the parts with one type"
            raise origin.fault(f"a value of {path} cannot be read as {kind}", fix, seen=str(error)[:80]) from None
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], kind)


def _cast(column: pa.ChunkedArray, kind: pa.DataType, origin: Origin) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.type == kind:
        return column
    plain = decoded(column)
    if is_text(plain.type):
        return as_text(plain, origin).cast(kind)
    if pa.types.is_timestamp(kind):
        moments = plain.cast(pa.timestamp("ms")) if pa.types.is_date(plain.type) else plain
        moments = pc.floor_temporal(moments, unit="microsecond") if moments.type.unit == "ns" else moments
        return moments.cast(pa.int64()).cast(pa.timestamp(moments.type.unit, kind.tz)).cast(kind)
    if pa.types.is_floating(kind) and pa.types.is_decimal(plain.type):
        return plain.cast(pa.float64())
    return plain.cast(kind)
