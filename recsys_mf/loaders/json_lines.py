"""JSON: an object per line (Amazon, Yelp, Goodreads) or one array of objects, compressed or not, in a file or parts."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recsys_mf.errors import DataError
from recsys_mf.loaders.charset import Utf8, found_encoding
from recsys_mf.loaders.parts import HEAD, Part, reading
from recsys_mf.loaders.words import clipped

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK = 1 << 24  # bytes parsed at a time
_ROWS = 1 << 16  # objects of an array in a batch


class JsonSource:
    """A table of JSON objects on disk. A key that an object lacks is a null.

    where : its name, for messages
    parts : the files that make it up, one after another
    encoding : of the text; None to find it (see `charset`)
    """

    typed = True

    def __init__(self, where: str, parts: Sequence[Part], encoding: str | None = None) -> None:
        self.where = where
        self._parts, self._encoding = parts, encoding

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The keys of the first objects of every part, in the order in which they come."""
        return tuple(dict.fromkeys(name for part in self._parts for row in self._first(part) for name in row))

    def read(
        self, names: Sequence[str], texts: Sequence[str] = (), ids: Sequence[str] = ()
    ) -> Iterator[pa.ChunkedArray]:
        """The columns; JSON values have types, so `texts` and `ids` have no effect. Other keys are not read.

        Raises DataError for a column of objects or arrays.
        """

        nested = next(
            (name for name in names if any(isinstance(row.get(name), dict | list) for row in self._sample)), None
        )
        if nested is not None:
            fix = "write each of its values under a key of its own"
            raise DataError(
                "the column holds objects or arrays", where=f"{self.where}, column {clipped(nested)}", fix=fix
            )
        columns: dict[str, list[pa.Array]] = {name: [] for name in names}
        for part in self._parts:
            table = self._fast(part, names) or self._slow(part, names)
            for name in names:
                columns[name].extend(table.column(name).chunks)
        for name in names:
            yield self._joined(name, columns.pop(name))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All columns, with the types that the first objects have."""
        import pyarrow as pa

        schema = pa.Table.from_pylist(self._sample).schema if self._sample else pa.schema([])
        for part in self._parts:
            rows: list[dict[str, Any]] = []
            for _, row in self._objects(part):
                rows.append(row)
                if len(rows) == _ROWS:
                    yield self._batch(rows, schema)
                    rows = []
            if rows:
                yield self._batch(rows, schema)

    def place(self, row: int) -> str:
        """The row and its line in the file."""
        before = 0
        for part in self._parts:
            for number, (line, _) in enumerate(self._objects(part)):
                if before + number == row:
                    return f"row {row} (line {line})" if len(self._parts) == 1 else f"{part.where}, line {line}"
            before += number + 1
        return f"row {row}"

    @cached_property
    def _sample(self) -> list[dict[str, Any]]:
        return [row for part in self._parts for row in self._first(part)]

    def _fast(self, part: Part, names: Sequence[str]) -> pa.Table | None:
        """The columns by Arrow's reader; None if it cannot tell their types or read them."""
        import pyarrow as pa
        import pyarrow.json as arrow

        types = [self._type(name) for name in names]
        if any(kind is None for kind in types) or self._is_array(part):
            return None
        options = arrow.ParseOptions(
            explicit_schema=pa.schema(list(zip(names, types, strict=True))), unexpected_field_behavior="ignore"
        )
        try:
            with self._open(part) as file:
                table = arrow.read_json(file, arrow.ReadOptions(block_size=_BLOCK), options)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
            return None
        return table if set(names) <= set(table.column_names) else None

    def _type(self, name: str) -> Any:
        """The type of a column by its first values; None if they have several."""
        import pyarrow as pa

        kinds = {type(row[name]) for row in self._sample if row.get(name) is not None}
        if kinds == {int, float}:
            return pa.float64()
        known = {str: pa.large_string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
        return known.get(kinds.pop()) if len(kinds) == 1 else None

    def _slow(self, part: Part, names: Sequence[str]) -> pa.Table:
        """The columns by Python's reader, which knows the line of a fault."""
        import pyarrow as pa

        values: dict[str, list[Any]] = {name: [] for name in names}
        lines: list[int] = []
        for line, row in self._objects(part):
            lines.append(line)
            for name in names:
                values[name].append(row.get(name))
        return pa.table({name: self._array(part, name, column, lines) for name, column in values.items()})

    def _array(self, part: Part, name: str, values: list[Any], lines: list[int]) -> pa.Array:
        import pyarrow as pa

        first = next((value for value in values if value is not None), None)
        numbers = isinstance(first, int | float) and not isinstance(first, bool)
        for line, value in zip(lines, values, strict=True):
            alike = (
                isinstance(value, int | float) and not isinstance(value, bool)
                if numbers
                else type(value) is type(first)
            )
            if value is not None and not alike:
                where, seen = f"{part.where}, column {clipped(name)}, line {line}", clipped(repr(value))
                raise DataError(
                    f"not of type {type(first).__name__} like the values before",
                    where=where,
                    seen=seen,
                    fix="use one type",
                )
        try:
            return pa.array(values, pa.float64() if any(isinstance(value, float) for value in values) else None)
        except (OverflowError, pa.ArrowInvalid):
            try:
                return pa.array(values, pa.uint64())
            except (OverflowError, pa.ArrowInvalid):
                where = f"{part.where}, column {clipped(name)}"
                raise DataError("integers beyond 64 bits", where=where, fix="write them as strings") from None

    def _joined(self, name: str, chunks: list[pa.Array]) -> pa.ChunkedArray:
        import pyarrow as pa

        kinds = {chunk.type for chunk in chunks if not pa.types.is_null(chunk.type)}
        kind = kinds.pop() if len(kinds) == 1 else pa.float64() if kinds == {pa.int64(), pa.float64()} else None
        if kind is None and kinds:
            seen = ", ".join(sorted(map(str, kinds)))
            where = f"{self.where}, column {clipped(name)}"
            raise DataError("the parts hold values of different types", where=where, seen=seen, fix="use one type")
        return pa.chunked_array([chunk.cast(kind or pa.null()) for chunk in chunks], kind or pa.null())

    def _batch(self, rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
        import pyarrow as pa

        try:
            return pa.RecordBatch.from_pylist(rows, schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            seen = clipped(str(error))
            raise DataError(
                "a value has another type than those before", where=self.where, seen=seen, fix="use one type"
            ) from None

    def _first(self, part: Part) -> list[dict[str, Any]]:
        """The first objects: as many as the first bytes hold, but at least one."""
        rows: list[dict[str, Any]] = []
        size = 0
        for _, row in self._objects(part):
            rows.append(row)
            size += sum(map(len, row)) + 8 * len(row)
            if size > HEAD // 4:
                break
        return rows

    def _objects(self, part: Part) -> Iterator[tuple[int, dict[str, Any]]]:
        """The line of every object and the object."""
        with reading(part.where), self._open(part) as file:
            text = io.TextIOWrapper(file, "utf-8")
            try:
                if self._is_array(part):
                    yield from self._elements(part, text.read())
                    return
                for number, line in enumerate(text, 1):
                    if line.strip():
                        yield number, self._object(part, number, json.loads(line))
            except json.JSONDecodeError as error:
                line_number = error.lineno if self._is_array(part) else number
                raise DataError(
                    "not JSON", where=f"{part.where}, line {line_number}", seen=f"{error.msg}: {clipped(error.doc)!r}",
                    fix="write one object per line",
                ) from None  # fmt: skip
            except RecursionError:
                raise DataError(
                    "the JSON is nested too deeply", where=part.where, fix="write one flat object per line"
                ) from None
            except UnicodeDecodeError as error:
                seen, fix = f"byte {error.object[error.start]:#04x}", "give the right encoding (--encoding)"
                raise DataError(f"not {error.encoding}", where=part.where, seen=seen, fix=fix) from None

    def _elements(self, part: Part, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
        elements = json.loads(text)
        if elements and all(isinstance(row, list) for row in elements):
            shape = f"{len(elements)} rows × {len(elements[0])} columns"
            fix = "read it with numpy.array(json.load(file)) and give it to recsys_mf.from_matrix"
            raise DataError(f"a matrix of {shape}, not a table of ratings", where=part.where, fix=fix)
        for number, row in enumerate(elements, 1):
            yield number, self._object(part, number, row)

    def _object(self, part: Part, number: int, row: Any) -> dict[str, Any]:
        if not isinstance(row, dict):
            where, seen = f"{part.where}, line {number}", clipped(repr(row))
            raise DataError(
                "not a JSON object", where=where, seen=seen, fix='write one per line: {"user_id": …, "item_id": …}'
            )
        return row

    def _is_array(self, part: Part) -> bool:
        return part.head().lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")

    def _open(self, part: Part) -> Any:
        encoding = self._encoding or found_encoding(part.head())
        return io.BufferedReader(Utf8(part.open(), encoding, lenient=self._encoding is None), HEAD)
